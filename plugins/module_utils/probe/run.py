# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pod_probe does in each of its states, one verification on a host at a time."""

from __future__ import annotations

import time
import uuid
from typing import Any

from ..core import lock
from . import host as probe_host
from . import pods as probe_pods
from . import removal as probe_removal
from .pods import ProbeError

LOCK = "verify"
LONGEST_WAIT = 120
# runc's word for a container whose init was gone before it was started. Seen once in hundreds, under load, and not with
# the next container.
STILLBORN = "cannot start a stopped process"


def started(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Make the pods as soon as no other verification is at work.

    Takes the module's arguments and returns its result, with ``problems``: what of an earlier verification is still
    there. Raises ProbeError, LockError and OSError, as ``probed`` and ``absent`` do.
    """
    socket = params["socket"]
    probe_pods.preflight(socket)
    if check:
        remains = [f"remove {name}, left by an earlier verification" for name in probe_removal.remains(socket)]
        return {"would": [*remains, f"make {params['pods']} probe pods"]}
    deadline = time.monotonic() + LONGEST_WAIT
    while True:
        with lock.hold(LOCK):
            run, silent = probe_pods.current_run()
            if not run or silent > params["patience"]:
                return _make(params)
        if time.monotonic() > deadline:
            raise ProbeError(
                f"another verification (run {run}) has been at work on this host for {LONGEST_WAIT} s and was heard of "
                f"{silent:.0f} s ago; try again when it is done, or remove its pods (pod_probe, state: absent)"
            )
        time.sleep(0.2)


def _make(params: dict[str, Any]) -> dict[str, Any]:
    problems = probe_removal.remove_all(params["socket"])
    forwarding, detached = probe_host.forwarding(), probe_host.detached()
    run = uuid.uuid4().hex
    try:
        pods = _pods(run, params)
    except ProbeError as error:
        if STILLBORN not in str(error):
            raise
        pods = _pods(run, params)
    targets = [
        {
            "node": params["node"], "pod": pod["name"], "id": pod["id"],
            "address": address.split("/")[0], "port": params["port"],
        }
        for pod in pods
        for address in pod["given"]
    ]  # fmt: skip
    return {
        "run": run,
        "pods": pods,
        "targets": targets,
        "forwarding": forwarding,
        "detached": detached,
        "problems": problems,
    }


def _pods(run: str, params: dict[str, Any]) -> list[dict[str, Any]]:
    try:
        probe_pods.touch_run(run)
        pods = probe_pods.make(params["socket"], params["pods"], params["port"])
        probe_pods.touch_run(run)
    except BaseException:
        # The caller gets no run to hand to state absent, so nothing may stay.
        probe_removal.remove_all(params["socket"])
        raise
    return pods


def probed(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Request every target from every pod of this host, and say what the host's routing thinks of them."""
    if check:
        return {"would": [f"request {len(params['targets'])} targets from every probe pod of this host"]}
    with lock.hold(LOCK):
        run = probe_pods.current_run()[0]
        if not run or (params["run"] and run != params["run"]):
            raise ProbeError(
                "the probe pods of this verification are gone: "
                + (f"another one (run {run}) took this host over" if run else "somebody removed them")
                + "; run it again when no other is at work"
            )
        probe_pods.touch_run(run)
        pods = probe_pods.probe(params["targets"], params["timeout"], params["tries"])
        probe_pods.touch_run(run)
    failed = any("error" in result for pod in pods for result in pod["results"])
    return {"pods": pods, "host": probe_host.diagnose([t["address"] for t in params["targets"]], failed)}


def absent(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Remove the pods and all that was made for them."""
    socket = params["socket"]
    if check:
        return {"would": [f"remove {name}" for name in probe_removal.remains(socket)]}
    with lock.hold(LOCK):
        run = probe_pods.current_run()[0]
        if params["run"] and run and run != params["run"]:
            return {}
        problems = probe_removal.remove_all(socket)
    if problems:
        raise ProbeError("not everything of the probe pods could be removed: " + "; ".join(problems))
    return {}
