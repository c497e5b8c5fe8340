# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a host back to a checkpoint: everything that a run owns; and where that is not enough, all of its network.

What the run owns is removed by the concerns themselves. Then the files are restored, and the units that restore our
state at boot rebuild it in the kernel. So a restored host is one that has just booted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...core import files, persist, tools
from ...core.output import lines
from ...core.problems import PodnetError
from ...core.resource import Resource, Step, options
from ...flannel import unit as flannel_unit
from .. import flannel_absent
from . import contact, network, saved, store

COMMAND_TIMEOUT = 60
UNITS = ("weft-podnet-*.service", "flanneld.service")
RELOADS = {
    "/etc/systemd/network": ["systemctl", "try-reload-or-restart", "systemd-networkd"],
    "/etc/NetworkManager/": ["systemctl", "try-reload-or-restart", "NetworkManager"],
    "/etc/firewalld/": ["firewall-cmd", "--reload"],
    "/etc/ufw/": ["ufw", "reload"],
}
FLANNELD = f"{persist.UNIT_DIR}/{flannel_unit.UNIT}"


class Host:
    """The caller of a concern outside of a module."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.params: dict[str, Any] = {}
        self.check_mode = False
        self.warn = say

    def run_command(self, args: Any, data: str | None = None, **_kwargs: Any) -> tuple[int, str, str]:
        words = [word.decode() if isinstance(word, bytes) else str(word) for word in args]
        done = tools.call([tools.find(words[0]) or words[0], *words[1:]], data, COMMAND_TIMEOUT)
        return done.returncode, done.stdout, done.stderr


def units() -> dict[str, bool]:
    """Our units on this host, and flanneld's: which of them run."""
    found = [path.name for pattern in UNITS for path in sorted(Path(persist.UNIT_DIR).glob(pattern))]
    host = Host(lambda _line: None)
    return {unit: host.run_command(["systemctl", "is-active", unit])[1].strip() in persist.RUNNING for unit in found}


def everything(
    checkpoint: store.Checkpoint, concern: Callable[[str], Resource], say: Callable[[str], None], cut_off: bool = True
) -> bool:
    """Restore the checkpoint; True where the host reaches whom it reached before. ``say`` takes a line for each step.

    ``concern`` finds the concern of a step of node_steps. With ``cut_off``, what the run does not own is restored as
    well where the host is still cut off. Raises nothing: a step that fails is said, and the next one is done.
    """
    whole = _own(checkpoint, concern, say)
    silent = _silent(checkpoint)
    if silent and cut_off:
        say(f"no answer from {', '.join(silent)}: links, routes, policy rules and packet filters are restored as well")
        with _said(say):
            for line in network.restore(checkpoint.state["network"]):
                say(line)
    if not whole:
        # On a host that was cut off, a concern may refuse to touch what looks like the way back. And what a unit of the
        # collection restored in the meantime, as it does when a device goes, is gone for good once its files are.
        _own(checkpoint, concern, say)
    if not whole or silent:
        silent = _silent(checkpoint)
    if silent:
        say(f"no answer from {', '.join(silent)}")
    return not silent


def _own(checkpoint: store.Checkpoint, concern: Callable[[str], Resource], say: Callable[[str], None]) -> bool:
    """Restore what a run owns; False where a step failed."""
    host = Host(say)
    whole = _take_away(checkpoint, concern, host)
    differing: list[str] = []
    try:
        now = saved.observe(checkpoint.state["conf_dir"], checkpoint.state["bin_dir"])
        differing = saved.restore(checkpoint.files, now)
    except OSError as error:
        say(str(files.explained(error)))
        whole = False
    for folder in saved.folders(checkpoint.state["conf_dir"], checkpoint.state["bin_dir"]):
        if folder not in checkpoint.state["folders"]:
            files.forget_empty(Path(folder))
    for path in differing:
        say(f"file restored: {path}")
    _restart(checkpoint, differing, host)
    return whole


def _silent(checkpoint: store.Checkpoint) -> list[str]:
    state = checkpoint.state
    reached = contact.reached(
        [each for each in state["contacts"] if each != state["api"]], state["api"], contact.PATIENCE
    )
    return [each for each in state["contacts"] if each not in reached]


def _take_away(checkpoint: store.Checkpoint, concern: Callable[[str], Resource], host: Host) -> bool:
    """Remove what the concerns own, from the pods outward; False where one refuses."""
    whole = True
    steps: list[tuple[str, dict[str, Any]]] = [
        ("pod_masquerade", {"state": "absent"}),
        ("pod_forward", {"state": "absent"}),
        ("vxlan_leftovers", {"vni": checkpoint.state["vni"]}),
        ("pod_route", {"routes": [], "purge": True}),
    ]
    with _said(host.warn):
        # A flanneld that we did not set up stays.
        if FLANNELD not in checkpoint.files and flannel_absent.is_there():
            steps.insert(0, ("flannel_service", {"state": "absent"}))
    for name, given in steps:
        try:
            found = concern(name)
            if found.result(Step(host, options(found.arguments, given, **found.rules)))["changed"]:
                host.warn(f"{name}: removed")
        except (PodnetError, OSError) as error:
            host.warn("\n".join(lines(error)))
            whole = False
    return whole


def _restart(checkpoint: store.Checkpoint, differing: list[str], host: Host) -> None:
    """What the files say becomes what runs."""
    for path, value in checkpoint.state["sysctls"].items():
        with _said(host.warn):
            if Path(path).exists() and Path(path).read_text(encoding="ascii") != value:
                Path(path).write_text(value, encoding="ascii")
                host.warn(f"{path} set to {value.strip()}")
    running = [unit for unit, active in checkpoint.state["units"].items() if active]
    commands = [["systemctl", "daemon-reload"], ["systemctl", "reset-failed", "weft-podnet-*"]]
    # Routes that lead through a mesh need its device.
    commands += [["systemctl", "restart", unit] for unit in sorted(running, reverse=True)]
    for start, words in RELOADS.items():
        if any(path.startswith(start) for path in differing):
            commands.append(words)
    for words in commands:
        host.run_command(words)


@contextlib.contextmanager
def _said(say: Callable[[str], None]) -> Any:
    try:
        yield
    except (PodnetError, OSError) as error:
        say("\n".join(lines(error)))
