# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What restores our kernel state after a reboot: our files and systemd units, kept as one bundle.

A bundle is compared with the host like everything else here: observe, compute the difference, apply it. systemd is
called through ``systemctl`` (the standard library has no D-Bus binding). None of our processes stays resident.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from . import files
from .problems import PodnetError

STATE_DIR = "/etc/weft-podnet"
UNIT_DIR = "/etc/systemd/system"
NETWORK_MANAGER_DIR = "/etc/NetworkManager"

# What `systemctl is-active` prints for a unit that works, or is between two rounds.
RUNNING = ("active", "activating", "deactivating", "reloading")

# For `systemctl enable` and `disable`, which by themselves make systemd read all units again: the caller does so once.
ONE_RELOAD = ("--quiet", "--no-reload")

# AnsibleModule.run_command's shape: (argv) -> (return code, standard output, standard error)
Run = Callable[[list[str]], tuple[int, str, str]]


def systemd_runs() -> bool:
    """Is systemd this host's service manager (sd_booted(3))?"""
    return Path("/run/systemd/system").is_dir()


class PersistError(PodnetError):
    """systemd refuses, or a file can't be written; the text is for the user."""


def network_manager_file(name: str) -> str:
    """Where NetworkManager finds a setting for links that it must leave alone.

    It reads files by name, and ``unmanaged-devices=`` in an administrator's discards what came before.
    """
    return f"{NETWORK_MANAGER_DIR}/conf.d/zz-{name}.conf"


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


def is_masked(path: str | Path) -> bool:
    """`systemctl mask` puts a link to /dev/null in a unit's place."""
    return os.path.realpath(path) == os.devnull


def unit_text(path: str | Path) -> str | None:
    """A unit's or another file's text, None for none; "" for a unit that is masked. Raises FileError."""
    return "" if is_masked(path) else files.read_text(path)


def enabled_link(unit: str) -> Path:
    """The link that `systemctl enable` makes for our units, all of which are WantedBy=multi-user.target."""
    return Path(UNIT_DIR) / "multi-user.target.wants" / unit


def _unit_state(unit: str, run: Run) -> str:
    enabled = "enabled" if enabled_link(unit).is_symlink() else "disabled"
    code, out, _err = run(["systemctl", "is-active", unit])
    active = out.strip() or "inactive"
    # A unit that ends one of its rounds, or begins the next, is doing its work.
    works = code == 0 or active in RUNNING
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
    """The difference between the host and the bundle (or its absence). Reads only."""
    before: dict[str, str] = {}
    after: dict[str, str] = {}
    for path, text in bundle.files.items():
        wanted = text if present else None
        if path.startswith(UNIT_DIR) and is_masked(path):
            raise PersistError(f"{path}: is masked on this host; allow it by: systemctl unmask {Path(path).name}")
        found = files.read_text(path, files.BATCH_LIMIT)
        if found != wanted:
            before[path], after[path] = files.shown(found or ""), wanted or ""
    _units(bundle, run, present, before, after)
    return Difference(before, after)


class Staged:
    """Bundles that are prepared as a whole, then committed: files, then units; and that can be taken back.

    Preparation writes all files under temporary names, so a full or read-only disk shows before anything has changed.
    What belongs to the same change, such as routes in the kernel, is done between preparation and commit. As a context
    manager it brings files and units back if the body raises after the commit.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._files = files.Staged()
        self._paths: list[str] = []
        self._start: list[tuple[str, bool]] = []
        self._stop: list[str] = []
        self._before: dict[str, tuple[bool, bool, bool]] = {}
        self._begun = False

    def __enter__(self) -> Staged:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.restore()
        self._files.discard()
        files.forget_empty(Path(STATE_DIR))

    def put(self, bundle: Bundle, changes: Difference, wait: bool = True) -> None:
        """Prepare the files that differ, and the (re)start of the units concerned. Raises PersistError.

        Without ``wait``, systemd starts them in its own time: a unit that waits for a link's event may meet one during
        its first round, which systemctl would take for a failure, while systemd simply begins the next round.
        """
        written = [path for path in bundle.files if path in changes.after]
        for path in written:
            self._prepare(path, bundle.files[path])
        for unit in bundle.units:
            if written or unit in changes.after:
                self._remember(unit)
                self._start.append((unit, wait))

    def take(self, bundle: Bundle) -> None:
        """Prepare the removal of the files, and the end of the units. Raises PersistError."""
        for path in bundle.files:
            self._prepare(path, None)
        for unit in bundle.units:
            if Path(UNIT_DIR, unit).exists() or enabled_link(unit).is_symlink():
                self._remember(unit)
                self._stop.append(unit)

    def _prepare(self, path: str, text: str | None) -> None:
        try:
            if text is None:
                there = self._files.remove(path)
            else:
                self._files.write(path, text)
                there = True
        except OSError as error:
            raise PersistError(str(error)) from error
        if there:
            self._paths.append(path)

    def _remember(self, unit: str) -> None:
        there = os.path.lexists(Path(UNIT_DIR, unit))
        active = there and self._run(["systemctl", "is-active", unit])[1].strip() in RUNNING
        self._before[unit] = (there, enabled_link(unit).is_symlink(), active)

    def commit(self) -> None:
        """Put files and units in place. Raises PersistError, after having restored what was there."""
        self._begun = True
        try:
            for unit in self._stop:
                systemctl(self._run, "disable", *ONE_RELOAD, "--now", unit)
                # A failed unit would stay in systemd's list as "not found", and the system would stay degraded.
                self._run(["systemctl", "reset-failed", unit])
            self._files.commit()
            if self._start:
                systemctl(self._run, "enable", *ONE_RELOAD, *(unit for unit, _wait in self._start))
            for step in self._reload():
                systemctl(self._run, *step)
            for unit, wait in self._start:
                systemctl(self._run, "restart", *([] if wait else ["--no-block"]), unit)
        except (OSError, PersistError) as error:
            raise PersistError(f"{error}; {self.restore()}") from error

    def _reload(self) -> list[list[str]]:
        """What makes systemd read its units again, where any of them is concerned."""
        concerned = self._before or any(path.startswith(UNIT_DIR) for path in self._paths)
        return [["daemon-reload"]] if concerned else []

    def restore(self) -> str:
        """Restore the files and units of before the commit; says how that went."""
        if not self._begun:
            return "no file is changed"
        self._begun = False
        for unit, (there, _enabled, _active) in self._before.items():
            if not there:
                self._run(["systemctl", "disable", *ONE_RELOAD, "--now", unit])
                self._run(["systemctl", "reset-failed", unit])
        lost = self._files.restore()
        links, states = [], []
        for unit, (there, enabled, active) in self._before.items():
            if there:
                links.append(["enable" if enabled else "disable", *ONE_RELOAD, unit])
                states.append(["restart", "--no-block", unit] if active else ["stop", unit])
        for step in [*links, *self._reload(), *states]:
            try:
                systemctl(self._run, *step)
            except PersistError as error:
                lost.append(str(error))
        if lost:
            return f"not all previous files and units could be restored: {'; '.join(lost)}"
        return "the previous files and units are restored"


class Kept(NamedTuple):
    """A bundle for the next boot, what earlier runs may have left beside it, and how the host differs from both."""

    bundle: Bundle
    obsolete: Bundle
    to_put: Difference
    to_take: Difference

    def __bool__(self) -> bool:
        return bool(self.to_put or self.to_take)

    def prepare(self, staged: Staged) -> None:
        """Raises PersistError."""
        if self.to_put:
            staged.put(self.bundle, self.to_put)
        if self.to_take:
            staged.take(self.obsolete)

    def as_diff(self) -> list[dict[str, str]]:
        """Ansible's ``diff``, one entry per file or unit."""
        return [*self.to_put.as_diff(), *self.to_take.as_diff()]


def kept(bundle: Bundle, everything: Bundle, run: Run, wanted: bool = True) -> Kept:
    """What of ``everything`` that a concern ever keeps is in ``bundle`` now. Without ``wanted``, nothing is touched.

    Raises PersistError.
    """
    if not wanted:
        return Kept(Bundle({}), Bundle({}), Difference({}, {}), Difference({}, {}))
    rest = {path: text for path, text in everything.files.items() if path not in bundle.files}
    obsolete = Bundle(rest, () if bundle.units else everything.units)
    return Kept(bundle, obsolete, difference(bundle, run), difference(obsolete, run, present=False))


def apply(bundle: Bundle, run: Run, changes: Difference, wait: bool = True) -> None:
    """Write the files that differ, then enable and (re)start the units concerned, or change nothing.

    See Staged.put. Raises PersistError.
    """
    with Staged(run) as staged:
        staged.put(bundle, changes, wait)
        staged.commit()


def remove(bundle: Bundle, run: Run) -> None:
    """Stop and disable the units, remove the files, and our directory once it is empty. Raises PersistError."""
    with Staged(run) as staged:
        staged.take(bundle)
        staged.commit()


def systemctl(run: Run, *arguments: str) -> None:
    """Raises PersistError."""
    code, out, err = run(["systemctl", *arguments])
    if code:
        raise PersistError(f"systemctl {' '.join(arguments)}: {(err or out).strip()}")
