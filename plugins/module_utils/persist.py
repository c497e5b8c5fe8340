# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What brings our kernel state back after a reboot: files of ours and systemd units of ours, kept as one bundle.

A bundle is compared with the host like everything else here: observe, tell the difference, apply it. systemd is asked
through ``systemctl`` (its D-Bus interface has no binding in the standard library); nothing of ours stays resident.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ansible_collections.weft.podnet.plugins.module_utils import files

STATE_DIR = "/etc/weft-podnet"
UNIT_DIR = "/etc/systemd/system"

# AnsibleModule.run_command's shape: (argv) -> (return code, standard output, standard error)
Run = Callable[[list[str]], tuple[int, str, str]]


def systemd_runs() -> bool:
    """Is systemd this host's service manager (sd_booted(3))?"""
    return Path("/run/systemd/system").is_dir()


class PersistError(Exception):
    """systemd refuses, or a file can't be written; the text is for the user."""


class Bundle(NamedTuple):
    """Files by absolute path (unit files among them) and the units to enable at boot and to keep running now."""

    files: dict[str, str]
    units: tuple[str, ...] = ()


class Difference(NamedTuple):
    """``before`` and ``after`` hold only what differs: path -> text ("" for none), unit -> "enabled, active"."""

    before: dict[str, str]
    after: dict[str, str]

    def as_diff(self) -> list[dict[str, str]]:
        """Ansible's ``diff``, one entry per file or unit."""
        return [
            {"before_header": name, "after_header": name, "before": self.before[name], "after": self.after[name]}
            for name in self.after
        ]

    def __bool__(self) -> bool:
        return self.before != self.after


def enabled_link(unit: str) -> Path:
    """The link that `systemctl enable` makes for our units, all of which are WantedBy=multi-user.target."""
    return Path(UNIT_DIR) / "multi-user.target.wants" / unit


def _unit_state(unit: str, run: Run) -> str:
    enabled = "enabled" if enabled_link(unit).is_symlink() else "disabled"
    code, out, _err = run(["systemctl", "is-active", unit])
    active = out.strip() or "inactive"
    # A unit that ends one of its rounds, or begins the next, is doing its work.
    works = code == 0 or active in ("activating", "deactivating")
    return f"{enabled}, {'active' if works else active}"


def _units(bundle: Bundle, run: Run, present: bool, before: dict[str, str], after: dict[str, str]) -> None:
    for unit in bundle.units:
        if present:
            found, wanted = _unit_state(unit, run), "enabled, active"
        else:
            found, wanted = "enabled" if enabled_link(unit).is_symlink() else "disabled", "disabled"
        if found != wanted:
            before[unit], after[unit] = f"{found}\n", f"{wanted}\n"


def difference(bundle: Bundle, run: Run, present: bool = True) -> Difference:
    """What stands between the host and the bundle (or its absence). Reads only."""
    before: dict[str, str] = {}
    after: dict[str, str] = {}
    for path, text in bundle.files.items():
        wanted = text if present else None
        found = files.read_text(path)
        if found != wanted:
            before[path], after[path] = found or "", wanted or ""
    _units(bundle, run, present, before, after)
    return Difference(before, after)


def systemctl(run: Run, *arguments: str) -> None:
    """Raises PersistError."""
    code, out, err = run(["systemctl", *arguments])
    if code:
        raise PersistError(f"systemctl {' '.join(arguments)}: {(err or out).strip()}")


def apply(bundle: Bundle, run: Run, changes: Difference, wait: bool = True) -> None:
    """Write the files that differ, then enable and (re)start the units concerned. Raises PersistError.

    Without ``wait``, systemd starts them in its own time: a unit that waits for a link's event may meet one during its
    first round, which systemctl would take for a failure, while systemd simply begins the next round.
    """
    written = [path for path in bundle.files if path in changes.after]
    try:
        for path in written:
            files.write_atomic(path, bundle.files[path])
    except OSError as error:
        raise PersistError(f"{error.filename or path}: {error.strerror}") from error
    if any(path.startswith(UNIT_DIR) for path in written):
        systemctl(run, "daemon-reload")
    for unit in bundle.units:
        if written or unit in changes.after:
            systemctl(run, "enable", "--quiet", unit)
            systemctl(run, "restart", *([] if wait else ["--no-block"]), unit)


def remove(bundle: Bundle, run: Run) -> None:
    """Stop and disable the units, remove the files, and our directory once it is empty. Raises PersistError."""
    for unit in bundle.units:
        if Path(UNIT_DIR, unit).exists() or enabled_link(unit).is_symlink():
            systemctl(run, "disable", "--quiet", "--now", unit)
            # One that has failed would stay in systemd's list, "not found", and the system degraded.
            run(["systemctl", "reset-failed", unit])
    removed = [path for path in bundle.files if files.remove(path)]
    if any(path.startswith(UNIT_DIR) for path in removed):
        systemctl(run, "daemon-reload")
    if Path(STATE_DIR).is_dir() and not any(Path(STATE_DIR).iterdir()):
        Path(STATE_DIR).rmdir()
