# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flanneld's files, links and service on a host: observed, compared with what is wanted, and written."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..core import documents, files, persist
from ..core.persist import STATE_DIR
from . import unit as flannel_unit
from .ready import Service
from .unit import UNIT, UNIT_PATH

# In place of a link's target: a file or folder that is no link.
FILE = "(a foreign file)"
ORIGINAL = files.ORIGINAL
UNIT_ORIGINAL = f"{UNIT_PATH}{ORIGINAL}"
# The state before a change that is under way. A killed run leaves it, and the next one can restore it.
FORMER = f"{STATE_DIR}/flannel-former.json"

ADOPT = "set adopt: true (podnet_flannel_adopt in the playbooks)"


class State(NamedTuple):
    """``files``: path -> text, None for none. ``links``: path -> target, None for none. ``digest``: of the process.

    ``leftovers``: what flanneld's traces were before (see flannel_leftovers), kept for the way back.
    """

    files: dict[str, str | None]
    links: dict[str, str | None]
    enabled: bool
    started: bool
    digest: str
    leftovers: list[str]

    @property
    def unit(self) -> str | None:
        return self.files[UNIT_PATH]

    def conf(self, path: str) -> dict[str, Any] | None:
        return flannel_unit.parse_net_conf(self.files.get(path))


def observe(paths: Iterable[str], destinations: Iterable[str], service: Service) -> State:
    """The state of these files and links."""
    found = {path: persist.unit_text(path) for path in paths}
    links = {destination: _target(Path(destination)) for destination in destinations}
    return State(found, links, service.enabled == "enabled", service.started, service.digest, [])


def _target(path: Path) -> str | None:
    if path.is_symlink():
        return str(path.readlink())
    return FILE if path.exists() else None


def nothing(state: State) -> State:
    """The same places with nothing in them."""
    return State(dict.fromkeys(state.files), dict.fromkeys(state.links), False, False, "", [])


def adoption_problems(state: State, wanted: State, service: Service, adopt: bool) -> list[str]:
    """Foreign objects that are in the way, a line each."""
    found = []
    if service.load == "masked":
        return [f"{UNIT}: is masked on this host; allow it by: systemctl unmask {UNIT}"]
    if not adopt:
        if state.unit is not None and not flannel_unit.is_ours(state.unit):
            found.append(
                f"{UNIT_PATH}: was not written by this collection; {ADOPT} to keep it as {UNIT_ORIGINAL} "
                "and replace it, or remove it"
            )
        elif service.fragment and service.fragment != UNIT_PATH:
            found.append(
                f"{service.fragment}: another package installs a {UNIT}; {ADOPT} to override it with ours, "
                "or remove the package"
            )
    for destination, target in state.links.items():
        if target != FILE or not wanted.links.get(destination):
            continue
        original = f"{destination}{ORIGINAL}"
        if Path(destination).is_dir():
            found.append(f"{destination}: is a folder, expected a file, a link or nothing")
        elif not adopt:
            found.append(
                f"{destination}: was not installed by this collection; {ADOPT} to keep it as {original}, "
                "or move it away"
            )
        elif os.path.lexists(original) and not Path(original).samefile(destination):
            found.append(f"{original}: is there already, so {destination} can't be kept; move one of them away")
    return found


def write(wanted: State) -> bool:
    """Write or remove files and links, the unit last. True where the unit changed. Raises OSError."""
    for destination, target in wanted.links.items():
        _link(Path(destination), target)
    for path, text in wanted.files.items():
        if path != UNIT_PATH:
            _file(path, text)
    return _file(UNIT_PATH, wanted.unit)


def _file(path: str, text: str | None) -> bool:
    if text is None:
        return files.remove(path)
    secret = flannel_unit.has_secret(flannel_unit.parse_net_conf(text))
    mode = 0o600 if secret else 0o644
    if files.read_text(path) == text and not (secret and readable_by_others(path)):
        return False
    files.write_atomic(path, text, mode)
    return True


def readable_by_others(path: str) -> bool:
    return Path(path).exists() and bool(Path(path).stat().st_mode & 0o077)


def _link(path: Path, target: str | None) -> None:
    original = Path(f"{path}{ORIGINAL}")
    found = _target(path)
    if found == target:
        return
    if target is None:
        path.unlink()
    elif target == FILE:
        # The way back: what was there before.
        if original.exists():
            original.replace(path)
    else:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if found == FILE and not original.exists():
            # Under both names first, so that there is a program at any moment.
            os.link(path, original)
        files.turn_link(path, target)


def keep_former(state: State) -> None:
    """Remember the state before the change. Raises OSError."""
    if files.read_text(FORMER) is None:
        files.write_atomic(FORMER, json.dumps(state._asdict()), 0o600)


def read_former() -> State | None:
    """The state that an earlier run, killed half-way, has recorded."""
    try:
        state = State(**documents.from_json(files.read_text(FORMER) or ""))
        # Version 0.1.0 wrote another text in parentheses for FILE.
        links = {path: FILE if target and target.startswith("(") else target for path, target in state.links.items()}
        return state._replace(links=links)
    except (ValueError, TypeError, AttributeError):
        return None


def drop_former() -> None:
    files.remove(FORMER)
    files.forget_empty(Path(STATE_DIR))


def diff(old: State, new: State, stale: Iterable[str], restart: bool) -> list[dict[str, str]]:
    """Ansible's ``diff``: an entry for each file that differs, one for the links, one for the service."""
    entries = []
    for path, text in new.files.items():
        if old.files.get(path) != text:
            before, after = (files.shown(flannel_unit.masked(each or "")) for each in (old.files.get(path), text))
            entries.append(entry(path, before, after))
    before, after = (_links_text(state.links, other.links) for state, other in ((old, new), (new, old)))
    if before != after:
        entries.append(entry("links", before, after))
    devices = "".join(f"device {name}\n" for name in stale)
    before, after = _service_text(old) + devices, _service_text(new)
    if restart and before == after:
        before = f"{before.rstrip()}, not ready\n"
    if before != after:
        entries.append(entry(UNIT, before, after))
    return entries


def entry(name: str, before: str, after: str) -> dict[str, str]:
    return {"before_header": name, "after_header": name, "before": before, "after": after}


def _links_text(links: Mapping[str, str | None], others: Mapping[str, str | None]) -> str:
    lines = []
    for path, target in sorted(links.items()):
        if target != others.get(path) and target is not None:
            lines.append(f"{path}: {target}\n" if target == FILE else f"{path} -> {target}\n")
            # An adopted file lives on beside the link.
        elif target != others.get(path):
            continue
        if others.get(path) == FILE and target not in (FILE, None):
            lines.append(f"{path}{ORIGINAL}: {FILE}\n")
    return "".join(lines)


def _service_text(state: State) -> str:
    if state.unit is None:
        return ""
    enabled = "enabled" if state.enabled else "disabled"
    running = f"running {state.digest or '(started by something else)'}" if state.started else "not running"
    return f"flanneld: {enabled}, {running}\n"
