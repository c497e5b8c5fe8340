# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules and sysctls of a node's kernel: the running values, the files for the next boot, and what differs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..core import files, persist
from ..core.problems import Refused
from . import router_advertisements, sysctl_files, unmanaged

MODULES_FILE = "/etc/modules-load.d/weft-podnet.conf"
# systemd-sysctl reads the files by name; the last one to set a key wins. This one comes after 99-sysctl.conf, which
# is a link to /etc/sysctl.conf.
SYSCTL_FILE = "/etc/sysctl.d/99-weft-podnet.conf"
# The file's former path; removed with the first change.
FORMER_FILE = "/etc/sysctl.d/90-weft-podnet.conf"
HEADER = "# Written by weft.podnet (node_kernel); changes are overwritten.\n"
# What shows that a module is at work, for those that /sys/module does not name where they are built in.
AT_WORK = {"br_netfilter": "/proc/sys/net/bridge", "tun": "/dev/net/tun"}
NAME = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")


class Plan(NamedTuple):
    """``running`` holds (now, wanted) of each sysctl that differs; now is None where its module is yet to be loaded."""

    bundle: persist.Bundle
    kept: persist.Difference
    running: dict[str, tuple[str | None, str]]
    former: persist.Difference
    warnings: list[str]

    @property
    def changed(self) -> bool:
        return bool(self.kept or self.running or self.former)

    def as_diff(self) -> list[dict[str, str]]:
        """Ansible's ``diff``: the files, and the running kernel's values."""
        entries = [*self.kept.as_diff(), *self.former.as_diff()]
        if not self.running:
            return entries
        header = "running kernel"
        before = "".join(f"{name} = {now}\n" for name, (now, _new) in self.running.items() if now is not None)
        after = "".join(f"{name} = {new}\n" for name, (_now, new) in self.running.items())
        return [
            *entries,
            {"before_header": header, "after_header": header, "before": before, "after": after},
        ]


def problems(modules: Iterable[str], sysctls: Mapping[str, object], links: Iterable[str] = ()) -> list[str]:
    """What is wrong with the module's options, a line each."""
    found = [
        f"unmanaged: found {name!r}, expected a link's name or a pattern such as flannel*"
        for name in links
        if not re.fullmatch(r"[A-Za-z0-9_.*?@:+-]{1,15}", name)
    ]
    found += [
        f"{option}: found {name!r}, expected a name such as {example}"
        for option, names, example in (
            ("modules", modules, "br_netfilter"),
            ("sysctls", sysctls, "net.ipv4.ip_forward"),
        )
        for name in names
        if not NAME.fullmatch(name) or ".." in name
    ]
    return found + [
        f"sysctls: {name}: found {value!r}, expected one line of plain text or a number"
        for name, value in sysctls.items()
        if isinstance(value, (dict, list)) or value is None or "\n" in str(value) or not str(value).isascii()
    ]


def are_kept() -> bool:
    """Do this host's files keep settings that site.yml wrote?"""
    return any(os.path.lexists(path) for path in (MODULES_FILE, SYSCTL_FILE, FORMER_FILE))


def path_of(name: str, root: str = "/proc/sys") -> Path:
    """Where a sysctl is found. Dots separate its parts, unless slashes do (an interface's name may hold a dot)."""
    return Path(root, name if "/" in name else name.replace(".", "/"))


def plan(
    modules: Iterable[str], sysctls: Mapping[str, object], present: bool, run: persist.Run, names: Sequence[str] = ()
) -> Plan:
    """Reads only. ``names`` are links that network managers must leave alone.

    Without ``present`` the files are to be removed; the running kernel keeps its values. Raises OSError."""
    wanted = {name: _text(value) for name, value in sysctls.items()}
    # Before forwarding is turned on.
    wanted = {**router_advertisements.accepted(wanted, SYSCTL_FILE), **wanted} if present else wanted
    texts = {
        MODULES_FILE: "".join([HEADER, *(f"{name}\n" for name in modules)]),
        SYSCTL_FILE: "".join([HEADER, *(f"{name} = {value}\n" for name, value in wanted.items())]),
    }
    if names or not present:
        texts.update(unmanaged.texts(names, everywhere=not present))
    bundle = persist.Bundle(texts)
    found = {name: _read(name) for name in wanted} if present else {}
    running = {name: (now, wanted[name]) for name, now in found.items() if now != wanted[name]}
    former = persist.difference(persist.Bundle({FORMER_FILE: ""}), run, present=False)
    overridden = sysctl_files.overridden(wanted, SYSCTL_FILE) if present else []
    told = {sysctl_files.key(name): value for name, value in wanted.items()}
    warnings = [sysctl_files.problem(found, told[found.key]) for found in overridden]
    warnings += unmanaged.earlier(names) if names else []
    return Plan(bundle, persist.difference(bundle, run, present), running, former, warnings)


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else " ".join(str(value).split())


def _read(name: str) -> str | None:
    found = files.read_text(path_of(name))
    return None if found is None else " ".join(found.split())


def apply(change: Plan, modules: Iterable[str], run: persist.Run) -> None:
    """The files first, so that a run that is killed leaves a host that is right after its next boot.

    If the kernel refuses, the previous files and values are restored. Raises Refused, PersistError.
    """
    undo: dict[str, str] = {}
    loaded: list[str] = []
    with persist.Staged(run) as staged:
        staged.put(change.bundle, change.kept)
        staged.commit()
        try:
            if any(now is None for now, _wanted in change.running.values()):
                _load(modules, run, loaded)
            for name, (_now, value) in change.running.items():
                before = _read(name)
                _set(name, value)
                if before is not None:
                    undo[name] = before
        except Refused as refused:
            raise Refused([*refused.problems, *_back(undo, loaded, run), staged.restore()]) from refused
    files.remove(FORMER_FILE)
    if set(change.kept.after) & {unmanaged.NETWORK_FILE, unmanaged.MANAGER_FILE}:
        for service in unmanaged.SERVICES:
            # If one does not run, systemctl fails, and nothing needs to reload.
            run(["systemctl", "reload", service])


def _load(modules: Iterable[str], run: persist.Run, loaded: list[str]) -> None:
    """Load what is not there; ``loaded`` gets their names, also where this raises Refused."""
    for name in modules:
        there = is_loaded(name)
        code, out, err = run(["modprobe", name])
        if code:
            raise Refused([f"modules: {name} can't be loaded: {(err or out).strip()}"])
        if not there:
            loaded.append(name)


def is_loaded(name: str, root: str = "/") -> bool:
    """Is this kernel module at work, loaded or built in?"""
    places = (f"/sys/module/{name.replace('-', '_')}", AT_WORK.get(name, "/sys/module/-"))
    return any(Path(root, path[1:]).exists() for path in places)


def is_unloaded(name: str, root: str = "/") -> bool:
    """Has this kernel it as a module that is not loaded, for certain? To ask anything of it would load it."""
    builtin = Path(root, "lib/modules", os.uname().release, "modules.builtin")
    texts = []
    for path in (Path(root, "proc/modules"), builtin):
        try:
            texts.append(files.read_text(path))
        except OSError:
            return False
    loaded, inside = texts
    if loaded is None or inside is None:
        return False
    return not re.search(rf"^{name} ", loaded, re.MULTILINE) and f"/{name}.ko" not in inside


def _set(name: str, value: str) -> None:
    try:
        with path_of(name).open("r+", encoding="ascii") as stream:
            stream.write(f"{value}\n")
    except FileNotFoundError as error:
        raise Refused([f"sysctls: this kernel has no {name}; which module brings it?"]) from error
    except OSError as error:
        raise Refused([f"sysctls: {name} can't be set to {value}: {error.strerror}"]) from error


def _back(undo: Mapping[str, str], loaded: Iterable[str], run: persist.Run) -> list[str]:
    """Restore the previous values and unload the new modules; returns what failed, a line each."""
    lost = []
    for name, value in undo.items():
        try:
            _set(name, value)
        except Refused as refused:
            lost += refused.problems
    for name in loaded:
        # One that is in use by now stays: the kernel refuses to unload it, and it does no harm.
        run(["modprobe", "-r", name])
    return lost


def remove(change: Plan, run: persist.Run) -> None:
    """Raises PersistError."""
    persist.remove(change.bundle, run)
    files.remove(FORMER_FILE)
    files.forget_empty(Path(unmanaged.NETWORKD_FILE).parent)
