# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What another pod network left on a host, removed where the user names it; never by default.

``flannel``: a flanneld that ran as a DaemonSet or was started by hand, with the state of its pods. ``cni0``: a bridge
that no pod uses any more. ``calico``: a Calico whose DaemonSet was deleted. What still runs, or is still used, is
refused.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..cni import gateway as cni_gateway
from ..core import files, flanneld
from ..core import leftovers as core_leftovers
from ..core.leftovers import Leftover
from ..core.persist import Run
from ..core.problems import Refused
from ..core.resource import Call, Plan, Resource, converging
from ..core.tools import find as find_program
from ..flannel import leftovers as flannel_leftovers
from ..flannel import unit as flannel_unit
from . import calico

BRIDGE = "cni0"
NETWORKS = Path("/sys/class/net")
# flannel's CNI plugin, and host-local for the networks that its documentation and ours name.
STATE = ("/var/lib/cni/flannel", "/var/lib/cni/networks/cbr0")


def _flannel(call: Call, problems: list[str]) -> list[Leftover]:
    running = flannel_leftovers.others()
    if running:
        problems.append(
            f"flannel: flanneld still runs here (process {', '.join(map(str, running))}); stop it first: systemctl "
            "disable --now flanneld, or kubectl --namespace kube-flannel delete daemonset kube-flannel-ds"
        )
    confs = [_settings(path) for path in flanneld.SETTINGS]
    confs.append({"Network": call.params["pod_cidr"], "Backend": {"Type": "host-gw"}})
    found = flannel_leftovers.observe(call.run_command, find_program, confs, cni_gateway.SUBNET_FILE)
    known = {item.text for item in found}
    devices = [f"device {path.name}" for path in sorted(NETWORKS.glob("flannel*"))]
    found += [Leftover(name, [["ip", "link", "del", name[7:]]]) for name in devices if name not in known]
    paths = [
        *_configurations(call, "flannel"),
        *(path for path in map(Path, flanneld.SETTINGS) if os.path.lexists(path)),
    ]
    paths += [path for folder in STATE for path in sorted(Path(folder).glob("*")) if path.is_file()]
    return found + [_file(path) for path in paths]


def _file(path: Path) -> Leftover:
    return Leftover(str(path), [], str(path))


def _settings(path: str) -> dict[str, Any] | None:
    try:
        return flannel_unit.parse_net_conf(files.read_text(path))
    except (OSError, ValueError):
        return None


def _configurations(call: Call, plugin: str) -> list[Path]:
    """The CNI configurations that make pods by this plugin."""
    return [path for path in sorted(Path(call.params["conf_dir"]).glob("*.conf*")) if _calls(path, plugin)]


def _calls(path: Path, plugin: str) -> bool:
    try:
        found = json.loads(files.read_text(path) or "")
        return any(each.get("type") == plugin for each in found.get("plugins", [found]))
    except (OSError, ValueError, AttributeError, TypeError):
        return False


def _cni0(_call: Call, problems: list[str]) -> list[Leftover]:
    if not (NETWORKS / BRIDGE).exists():
        return []
    ports = sorted(path.name for path in (NETWORKS / BRIDGE / "brif").glob("*"))
    if ports:
        problems.append(f"{BRIDGE}: pods still use this bridge ({', '.join(ports)}); remove them first: kubectl drain")
    return [Leftover(f"device {BRIDGE}", [["ip", "link", "del", BRIDGE]])]


def _calico(call: Call, problems: list[str]) -> list[Leftover]:
    problems += calico.in_use()
    paths = [*_configurations(call, "calico"), Path(call.params["conf_dir"], calico.KUBECONFIG)]
    return calico.observe(call.run_command, find_program) + [_file(path) for path in paths if os.path.lexists(path)]


KINDS: Mapping[str, Callable[[Call, list[str]], list[Leftover]]] = {
    "flannel": _flannel,
    "cni0": _cni0,
    "calico": _calico,
}


def plan(call: Call) -> Plan:
    """What there is to remove. Raises Refused where it is in use."""
    problems: list[str] = []
    found = [item for name in call.params["names"] for item in KINDS[name](call, problems)]
    if problems:
        raise Refused(problems)

    @contextlib.contextmanager
    def applied() -> Iterator[dict[str, Any]]:
        _remove(call.run_command, found)
        yield {}

    before = "".join(f"{item.text}\n" for item in found)
    diff = [{"before_header": "left by others", "after_header": "left by others", "before": before, "after": ""}]
    return Plan(bool(found), {"diff": diff if found else []}, applied)


def _remove(run: Run, found: list[Leftover]) -> None:
    core_leftovers.remove(run, found)
    for folder in (
        *STATE,
        calico.STATE,
        *(str(Path(path).parent) for path in flanneld.SETTINGS),
        str(Path(cni_gateway.SUBNET_FILE).parent),
    ):
        files.forget_empty(Path(folder))


RESOURCE = Resource(
    {
        "names": {"type": "list", "elements": "str", "choices": list(KINDS), "required": True},
        "conf_dir": {"type": "path", "default": "/etc/cni/net.d"},
        "pod_cidr": {"type": "str", "required": True},
    },
    converging(plan),
    lock=lambda _options: "foreign",
)
