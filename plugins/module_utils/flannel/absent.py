# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flannel_service, `absent`: removes what came with the unit and what flanneld left, and the unit itself last.

So the next run completes one that was killed half-way.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..core import boot_units, persist
from ..core import leftovers as core_leftovers
from ..core.leftovers import FindCommand, Leftover
from ..core.persist import ONE_RELOAD, Run, systemctl
from ..core.resource import Plan, undone
from . import change as flannel_change
from . import leftovers as flannel_leftovers
from . import ready as flannel_ready
from . import state as flannel_state
from . import unit as flannel_unit
from .state import FILE, ORIGINAL, State
from .unit import UNIT, UNIT_PATH

RELEASES = "/opt/weft-podnet/"


def plan(options: Mapping[str, Any], check_mode: bool, run: Run, find: FindCommand) -> Plan:
    """What goes; a removal that fails is continued by a later run."""
    service = flannel_ready.service(run)
    found_unit = persist.unit_text(UNIT_PATH)
    if found_unit is not None and not flannel_unit.is_ours(found_unit):
        return Plan(
            False,
            {"diff": [], "restarted": False, "foreign": True},
            warnings=[f"{UNIT_PATH} was not written by this collection; it and its flanneld stay as they are"],
        )
    record = flannel_unit.record(found_unit)
    former = flannel_state.read_former()
    paths = [record.net_conf_path] if record else []
    # A first run that was killed has no unit yet.
    paths += [path for path, text in former.files.items() if text is None and path != UNIT_PATH] if former else []
    links = {**(record.links if record else {}), **options["binaries"]}
    old = flannel_state.observe(dict.fromkeys([*paths, UNIT_PATH]), links, service)
    wanted = flannel_state.nothing(old)._replace(links={path: _after(path, old, links) for path in links})
    subnet_file = record.subnet_file if record else options["subnet_file"]
    confs = [*(old.conf(path) for path in paths), options["net_conf"]]
    left, warnings = _left(run, find, confs, subnet_file)
    diff = flannel_state.diff(old, wanted, [], False)
    if left:
        before = "".join(f"{item.text}\n" for item in left)
        diff.append(flannel_state.entry("left by flanneld", before, ""))
    kept = flannel_state.UNIT_ORIGINAL
    if diff and Path(kept).exists():
        warnings.append(f"{kept} holds the original unit; restore it by hand if it is wanted")

    @contextlib.contextmanager
    def applied() -> Iterator[dict[str, Any]]:
        with undone(lambda: "fix this and run again; the rest stays until then"):
            _remove(wanted, left, old.unit is not None, run)
            yield {}

    def tidy() -> None:
        flannel_change.forget_folders(*paths, subnet_file)
        flannel_state.drop_former()

    result = {"diff": diff, "restarted": False, "foreign": bool(flannel_leftovers.others())}
    return Plan(bool(diff), result, applied, tidy, warnings)


def _after(path: str, old: State, links: Mapping[str, str]) -> str | None:
    """What is at a destination afterwards: an adopted original, nothing, or what is not ours."""
    target = old.links[path]
    if target in (None, FILE) or not (target == links[path] or str(target).startswith(RELEASES)):
        return target
    return FILE if Path(f"{path}{ORIGINAL}").exists() else None


def _left(
    run: Run, find: FindCommand, confs: list[dict[str, Any] | None], subnet_file: str
) -> tuple[list[Leftover], list[str]]:
    others = flannel_leftovers.others()
    if others:
        pids = ", ".join(map(str, others))
        return [], [f"another flanneld runs here (process {pids}); devices, chains and {subnet_file} stay for it"]
    left = flannel_leftovers.observe(run, find, confs, subnet_file)
    return [item for item in left if not _of_the_mesh(item)], []


def _of_the_mesh(item: Leftover) -> bool:
    """vxlan_peer's device has the same name; where its unit exists, vxlan_peer has taken the device over."""
    kind, _space, name = item.text.partition(" ")
    return kind == "device" and boot_units.has_mesh(name)


def _remove(wanted: State, left: list[Leftover], loaded: bool, run: Run) -> None:
    if loaded:
        systemctl(run, "disable", *ONE_RELOAD, "--now", UNIT)
        run(["systemctl", "reset-failed", UNIT])
    core_leftovers.remove(run, left)
    if flannel_state.write(wanted) or loaded:
        systemctl(run, "daemon-reload")
