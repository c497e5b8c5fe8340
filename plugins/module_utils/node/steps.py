# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several concerns of a host in one process: the look that plans them all, and the run that applies them.

A module execution costs half a second, whatever it does, and a node has ten concerns.
"""

from __future__ import annotations

import importlib
from typing import Any

from ..core import files, run_lock
from ..core.output import lines
from ..core.problems import PodnetError, Refused
from ..core.resource import Call, Resource, Step, options

# What the bridge plugin's links have where nothing else is asked for.
ETHERNET_MTU = 1500
# Steps that are no modules: nobody but a run of all concerns needs them.
INTERNAL = (
    "bridge_absent",
    "checkpoint",
    "cni_plugins",
    "flannel_absent",
    "foreign",
    "node_firewall",
    "node_kernel",
    "node_preflight",
    "pod_forward",
    "release_install",
    "vxlan_leftovers",
)
# What a step can be, and the file in module_utils that has it.
MODULES = {
    "bridge_absent": "node.bridge_absent",
    "checkpoint": "node.checkpoint.resource",
    "cni_config": "cni.resource",
    "cni_plugins": "cni.plugins",
    "flannel_absent": "node.flannel_absent",
    "flannel_cert": "pki.resource",
    "flannel_kubeconfig": "pki.credentials",
    "flannel_service": "flannel.resource",
    "foreign": "node.foreign",
    "node_firewall": "node.firewall.resource",
    "node_kernel": "node.kernel",
    "node_preflight": "node.preflight",
    "pod_forward": "masquerade.forward.resource",
    "pod_masquerade": "masquerade.resource",
    "pod_route": "routes.resource",
    "release_install": "releases.resource",
    "vxlan_leftovers": "vxlan.leftovers",
    "vxlan_peer": "vxlan.resource",
}
# If one of these refuses, the others would only report the same problem again.
FIRST = "node_preflight"


def resource(module: str) -> Resource:
    """The concern of a module."""
    # Imported when it is needed: compiling what a run does not use would take longer than the run.
    # The packer of Ansible's modules finds what is imported by name only, so the names are in _packed.
    name = f"ansible_collections.weft.podnet.plugins.module_utils.{MODULES[module]}"
    found: Resource = importlib.import_module(name).RESOURCE
    return found


def concern(module: str) -> str:
    """What a step is about, in one word: routes, vxlan, cni, kernel ..."""
    name = MODULES[module].removesuffix(".resource").rpartition(".")[2]
    words = {"credentials": "pki", "leftovers": "vxlan", "bridge_absent": "cni", "flannel_absent": "flannel"}
    return words.get(name, name)


def _packed() -> None:
    """Never called. Ansible ships the files that are imported anywhere in the code."""
    # pylint: disable=unused-import
    from ..cni import plugins  # noqa: F401
    from ..cni import resource as cni  # noqa: F401
    from ..flannel import resource as flannel  # noqa: F401
    from ..masquerade import resource as masquerade  # noqa: F401
    from ..masquerade.forward import resource as forward  # noqa: F401
    from ..pki import credentials  # noqa: F401
    from ..pki import resource as pki  # noqa: F401
    from ..releases import resource as releases  # noqa: F401
    from ..routes import resource as routes  # noqa: F401
    from ..vxlan import leftovers as vxlan_leftovers  # noqa: F401
    from ..vxlan import resource as vxlan  # noqa: F401
    from . import (
        bridge_absent,  # noqa: F401
        flannel_absent,  # noqa: F401
        foreign,  # noqa: F401
        kernel,  # noqa: F401
        preflight,  # noqa: F401
    )
    from .checkpoint import resource as checkpoint  # noqa: F401
    from .firewall import resource as firewall  # noqa: F401


def run(module: Call) -> dict[str, Any]:
    """The result of all steps. In check mode all problems are found; a real run ends with the first.

    Raises Failed.
    """
    try:
        # A look also says what a run that was killed has left: a host that needs no change would otherwise keep it.
        return {**_run(module), **({"unfinished": _unfinished()} if module.check_mode else {})}
    finally:
        if not module.check_mode and any(step["module"] == "checkpoint" for step in module.params["steps"]):
            # Only here, since a look does without.
            from .checkpoint import watch

            watch.extend()


def _run(module: Call) -> dict[str, Any]:
    results: list[dict[str, Any]] = []
    problems: list[str] = []
    for step in module.params["steps"]:
        if module.check_mode and results and results[-1].get("clears"):
            # Another backend's device and routes are in the place of what would be planned.
            break
        awaited = {name for each in results for name in each.get("packages", [])}
        if module.check_mode and awaited & set(step["packages"]):
            continue
        try:
            results.append({"module": step["module"], **_one(module, step, results)})
        except (PodnetError, OSError) as error:
            problems += [line for line in lines(error) if line not in problems]
        if problems and (step["module"] == FIRST or not module.check_mode):
            break
    diff = [entry for result in results for entry in _entries(result.pop("diff", None))]
    concerns = list(dict.fromkeys(concern(result["module"]) for result in results if result["changed"]))
    outcome = {"changed": bool(concerns), "concerns": concerns, "results": results, "diff": diff}
    if problems:
        raise Failed(problems, outcome)
    return outcome


def _unfinished() -> dict[str, Any]:
    """The run that holds this host, and the checkpoint that is restored unless it is confirmed."""
    # Only here, as the restoration itself imports this file.
    from .checkpoint import pending

    try:
        return {"holder": run_lock.left(), "checkpoint": pending.read()}
    except PodnetError:
        # Whoever takes the host says what is wrong with its files.
        return {"holder": {"live": False}, "checkpoint": ""}


class Failed(Refused):
    """Steps failed; ``outcome`` has what those before them did."""

    def __init__(self, problems: list[str], outcome: dict[str, Any]) -> None:
        super().__init__(problems)
        self.outcome = outcome


def _one(module: Call, step: dict[str, Any], results: list[dict[str, Any]]) -> dict[str, Any]:
    concern = resource(step["module"])
    given = dict(step["args"] or {})
    if step["module"] == "flannel_service" and module.params["psk"]:
        given["psk"] = module.params["psk"]
    try:
        call = Step(module, options(concern.arguments, given, **concern.rules))
    except Refused as refused:
        raise Refused([f"{step['module']}: {line}" for line in refused.problems]) from refused
    if step["mesh_mtu"]:
        meshes = [each["device"]["mtu"] for each in results if each.get("device")]
        _narrow(call.params["config"], meshes or _underlay_mtus(module.params["steps"]))
    try:
        return concern.result(call)
    except OSError as error:
        name = concern.named(call.params, error)
        if not name:
            raise
        raise Refused([f"{name}: {files.explained(error)}"]) from error


def _narrow(config: dict[str, Any], mtus: list[int]) -> None:
    """A packet that fits a pod's interface must fit the mesh, or the links to other nodes."""
    if mtus:
        (config["plugins"][0] if "plugins" in config else config)["mtu"] = min(mtus)


def _underlay_mtus(steps: list[dict[str, Any]]) -> list[int]:
    """The MTUs of the links by which the routes of steps lead to other nodes, where pods would have a larger one.

    What the kernel has learned of a path is left out: it forgets that again. Raises NetlinkError.
    """
    # Only here, since most runs do without.
    from ..netlink import link, route
    from ..netlink.channel import Channel

    args = [step["args"] or {} for step in steps if step["module"] == "pod_route"]
    gateways = {str(each["via"]) for given in args for each in given.get("routes") or [] if each.get("via")}
    if not gateways:
        return []
    with Channel() as channel:
        sizes = {each.name: each.mtu for each in link.links(channel)}
        ways = [route.way(channel, address) for address in sorted(gateways)]
    return [size for way in ways for size in [sizes.get(way.get("dev", ""), 0)] if 0 < size < ETHERNET_MTU]


def _entries(diff: Any) -> list[dict[str, Any]]:
    entries = diff if isinstance(diff, list) else [diff] if diff else []
    return [entry for entry in entries if entry.get("before") != entry.get("after")]
