# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pod_probe does in each of its states, one verification on a host at a time."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

from ..core import lock
from ..core.problems import PodnetError
from . import agent, host_port, on_node, service
from . import host as probe_host
from . import pods as probe_pods
from . import removal as probe_removal
from .pods import ProbeError

LOCK = "verify"
LONGEST_WAIT = 120
# Seconds for the process on the node itself, which starts while the pods are made.
READY = 5
# runc's word for a container whose init was gone before it was started. Seen once in hundreds, under load, and not with
# the next container.
STILLBORN = "cannot start a stopped process"


def _alone() -> AbstractContextManager[None]:
    """One verification works on a host at a time. The process on the node does not wait, as it is to answer others."""
    return lock.hold(LOCK, 0) if on_node.is_here() else lock.hold(LOCK)


def started(params: dict[str, Any], check: bool, called: agent.Called) -> dict[str, Any]:
    """Make the pods as soon as no other verification is at work.

    Takes the module's arguments and returns its result, with ``problems``: what of an earlier verification is still
    there. ``called`` answers later calls of the module, in the process that stays on the node. Raises ProbeError,
    LockError and OSError, as ``probed`` and ``absent`` do; its own errors have the observation of the host as well.
    """
    seen: dict[str, Any] = {}
    try:
        return _started(params, check, seen, called)
    except PodnetError as error:
        if not check:
            error.found = {"host": seen or _observation(params)}
        raise


def _started(params: dict[str, Any], check: bool, seen: dict[str, Any], called: agent.Called) -> dict[str, Any]:
    socket = params["socket"]
    probe_pods.preflight(socket)
    if check:
        remains = [f"remove {name}, left by an earlier verification" for name in probe_removal.remains(socket)]
        return {"would": [*remains, f"make {params['pods']} probe pods"]}
    deadline = time.monotonic() + LONGEST_WAIT
    while True:
        with _alone():
            run, silent = probe_pods.current_run()
            if not run or silent > params["patience"]:
                return _make(params, seen, called)
        if time.monotonic() > deadline:
            raise ProbeError(
                f"another verification (run {run}) has been at work on this host for {LONGEST_WAIT} s and was heard of "
                f"{silent:.0f} s ago; try again when it is done, or remove its pods (pod_probe, state: absent)"
            )
        time.sleep(0.2)


def _observation(params: dict[str, Any]) -> dict[str, Any]:
    # Imported here, as it takes a while and only this state needs it.
    from ..node.info import resource as info

    return info.observe({"conf_dir": None, "bin_dir": None, "socket": params["socket"], "ways": params["ways"]})


def _make(params: dict[str, Any], seen: dict[str, Any], called: agent.Called) -> dict[str, Any]:
    # Containers whose folder is gone are from before a reboot. They are in nobody's way, and go with this run's pods.
    problems = probe_removal.remove_all(params["socket"], containers=probe_pods.HOME.exists())
    # Before the pods: their plugin makes the bridge, and turns forwarding on.
    seen.update(_observation(params))
    run = uuid.uuid4().hex
    try:
        pods, node = _pods(run, params, seen, called)
    except ProbeError as error:
        if STILLBORN not in str(error):
            raise
        pods, node = _pods(run, params, seen, called)
    targets = [
        {
            "node": params["node"], "pod": pod["name"], "id": pod["id"],
            "address": address.split("/")[0], "port": params["port"],
        }
        for pod in pods
        for address in pod["given"]
    ]  # fmt: skip
    return {"run": run, "pods": pods, "targets": targets, "node": node, "host": seen, "problems": problems}


def _pods(
    run: str, params: dict[str, Any], seen: dict[str, Any], called: agent.Called
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The pods, and what they reach outside of their network."""
    port = params["port"]
    try:
        probe_pods.touch_run(run)
        mounts = probe_pods.build_rootfs()
        node = on_node.start(port, called)
        started = [probe_pods.start(params["socket"], number, port, mounts) for number in range(1, params["pods"] + 1)]
        pods = [probe_pods.describe(pod) for pod in started]
        service.start([address.split("/")[0] for address in pods[0]["given"]], port)
        if host_port.offered(seen):
            first = started[0]
            pods[0].update(
                host_port.add(f"{probe_pods.CNI_PREFIX}{first.container}", str(first.folder / "netns"), port)
            )
        if "id" in node and not on_node.ready(READY):
            node = {"problem": "its process does not answer"}
        probe_pods.touch_run(run)
    except BaseException:
        # The caller gets no run to hand to state absent, so nothing may stay.
        probe_removal.remove_all(params["socket"])
        raise
    return pods, node


def probed(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Try every target from every pod of this host, and say what the host's routing thinks of them."""
    targets, timeout, tries = params["targets"], params["timeout"], params["tries"]
    if check:
        return {"would": [f"request {len(targets)} targets from every probe pod of this host"]}
    with _alone():
        run = _own_run(params)
        with ThreadPoolExecutor(1) as pool:
            own = _of_node(targets, (agent.POD, on_node.KIND))
            from_node = pool.submit(agent.probe, own, timeout, tries)
            pods = probe_pods.probe(targets, timeout, tries, service.targets)
        probe_pods.touch_run(run)
    failed = any("error" in result for pod in pods for result in pod["results"])
    routing = probe_host.diagnose([t["address"] for t in targets], failed)
    return {"pods": pods, "from_node": from_node.result(), "routing": routing}


def _own_run(params: dict[str, Any]) -> str:
    """The run that the pods on this host belong to, which shows that it lives. Raises ProbeError for another one."""
    run = probe_pods.current_run()[0]
    if not run or (params["run"] and run != params["run"]):
        raise ProbeError(
            "the probe pods of this verification are gone: "
            + (f"another one (run {run}) took this host over" if run else "somebody removed them")
            + "; run it again when no other is at work"
        )
    probe_pods.touch_run(run)
    return run


def measured(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Send to the first pod of each node of the targets, one after the other, as fast as TCP goes."""
    targets = [each for each in _of_node(params["targets"], (agent.POD,)) if each["node"] != params["node"]]
    if check:
        return {"would": [f"send to {len(targets)} pods of other nodes for {params['seconds']:g} s each"]}
    with _alone():
        run = _own_run(params)
        throughput = []
        for target in targets:
            met = probe_pods.stream(target, params["seconds"], params["timeout"])
            throughput.append({"node": target["node"], "address": target["address"], **met})
            probe_pods.touch_run(run)
    return {"throughput": throughput}


def requested(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Try one pod of each node from a host that has no pods itself."""
    if check:
        return {"would": ["request one probe pod of each node"]}
    return {"from_node": agent.probe(_of_node(params["targets"], (agent.POD,)), params["timeout"], params["tries"])}


def _of_node(targets: list[dict[str, Any]], kinds: tuple[str, ...]) -> list[dict[str, Any]]:
    """What a host itself tries: what a first pod tries thoroughly."""
    asked = probe_pods.asked("", targets, True)
    return [each for each in asked if each.get("kind", agent.POD) in kinds and each.get("thorough", True)]


def absent(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Remove the pods and all that was made for them."""
    socket = params["socket"]
    if check:
        return {"would": [f"remove {name}" for name in probe_removal.remains(socket)]}
    with _alone():
        run = probe_pods.current_run()[0]
        if params["run"] and run and run != params["run"]:
            return {}
        heard = probe_pods.heard()
        problems = probe_removal.remove_all(socket)
    if problems:
        raise ProbeError("not everything of the probe pods could be removed: " + "; ".join(problems))
    return {"heard": heard}
