# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flannel_service, `present`: what differs, and the way there: apply, wait until flanneld works, or go back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..core import boot_units, files, persist
from ..core import leftovers as core_leftovers
from ..core.leftovers import FindCommand, Leftover, LeftoverError
from ..core.persist import ONE_RELOAD, PersistError, Run, systemctl
from ..core.problems import Refused
from ..core.resource import Plan, undone
from . import leftovers as flannel_leftovers
from . import ready as flannel_ready
from . import state as flannel_state
from . import underlay
from . import unit as flannel_unit
from .ready import NotReady, Service
from .state import State
from .unit import UNIT, UNIT_PATH

# Going back waits no longer than this, whatever ready_timeout is.
BACK_SECONDS = 30
FAILURES = (OSError, PersistError, LeftoverError, NotReady)


class Change(NamedTuple):
    """``old``: as found; ``former``: where to go back to, the same unless an earlier run was killed; ``former_conf``:
    what flanneld ran with there; ``stale``: devices to delete before the start; ``meshes``: devices on which a mesh of
    vxlan_peer's is kept; ``outdated``: what of the former backend goes once flanneld is ready; ``diff`` is empty where
    nothing is to do."""

    old: State
    former: State
    wanted: State
    conf: dict[str, Any]
    former_conf: dict[str, Any] | None
    stale: list[str]
    meshes: list[str]
    outdated: list[Leftover]
    restart: bool
    diff: list[dict[str, str]]


def plan(options: Mapping[str, Any], check_mode: bool, run: Run, find: FindCommand) -> Plan:
    """Raises Refused."""
    service = flannel_ready.service(run)
    change = _change(options, service, check_mode, run, find)
    conf = change.conf

    @contextlib.contextmanager
    def applied() -> Iterator[dict[str, Any]]:
        began = time.time()
        former = change.former
        if former is change.old:
            former = former._replace(leftovers=[item.text for item in _left(change, options, run, find)])
        with undone(lambda: _back(change, former, service, options, run, find)):
            _apply(change, former, options, service, run, find, began)
            yield _subnet(options)

    result = {
        "diff": change.diff,
        "restarted": change.restart,
        "digest": change.wanted.digest,
        "net_conf": {**conf, "Backend": {k: v for k, v in conf["Backend"].items() if k != "PSK"}},
        **_subnet(options),
    }
    return Plan(bool(change.diff), result, applied, tidy=flannel_state.drop_former)


def _subnet(options: Mapping[str, Any]) -> dict[str, str]:
    found = flannel_ready.subnet_env(files.read_text(options["subnet_file"]))
    return {"subnet": found.get("FLANNEL_SUBNET") or found.get("FLANNEL_IPV6_SUBNET", "")}


def _change(options: Mapping[str, Any], service: Service, check_mode: bool, run: Run, find: FindCommand) -> Change:
    version = 4 if options["net_conf"].get("EnableIPv4", True) else 6
    underlay_mtu = underlay.mtu(options, version) if flannel_unit.wants_mtu(options["net_conf"]) else 0
    conf = flannel_unit.net_conf(options, flannel_leftovers.nft_of_kube_proxy(run, find), underlay_mtu)
    found_unit = persist.unit_text(UNIT_PATH)
    record = flannel_unit.record(found_unit)
    former_path = record.net_conf_path if record else options["net_conf_path"]
    foreign = found_unit is not None and record is None
    paths = [options["net_conf_path"], former_path, *([flannel_state.UNIT_ORIGINAL] if foreign else []), UNIT_PATH]
    destinations = {**(record.links if record else {}), **options["binaries"]}
    old = flannel_state.observe(dict.fromkeys(paths), destinations, service)
    wanted = _wanted(options, conf, old, run, find)
    problems = flannel_state.adoption_problems(old, wanted, service, options["adopt"])
    problems += [] if check_mode else _missing(options)
    problems += [
        f"process {pid} is a flanneld that {UNIT} does not run; two on one node undo each other's work: stop it first "
        "(where it belongs to a DaemonSet, delete that)"
        for pid in flannel_leftovers.others()
    ]
    if service.started and not options["backend_change"]:
        problems += [
            f"net_conf: Backend: {change} while flanneld runs; pods can't reach other nodes until all workers "
            "have changed. To accept that, set backend_change: true (podnet_flannel_backend_change in the playbooks)"
            for change in flannel_unit.disagreements(old.conf(former_path), conf)
        ]
    if problems:
        raise Refused(problems)
    former = flannel_state.read_former() or old
    differs = service.digest != wanted.digest
    restart = differs or bool(flannel_ready.missing(service, conf, options["subnet_file"]))
    old_conf = former.conf(former_path) if former.unit is not None else None
    stale = flannel_unit.stale_devices(old_conf, conf) if differs else []
    meshes = [name for name in flannel_unit.devices(conf) if boot_units.has_mesh(name)]
    # A mesh's device has a MAC that flanneld would not take for its own. Where flanneld runs, the device is flanneld's.
    stale += [name for name in meshes if not service.started and name not in stale]
    stale = [name for name in stale if Path("/sys/class/net", name).exists()]
    outdated = flannel_leftovers.of_other_settings(run, find, old_conf, conf)
    diff = flannel_state.diff(old, wanted, stale, restart)
    if outdated:
        before = "".join(f"{item.text}\n" for item in outdated)
        diff.append(flannel_state.entry("left by flanneld's former settings", before, ""))
    path = options["net_conf_path"]
    if flannel_unit.has_secret(conf) and flannel_state.readable_by_others(path):
        diff.append(flannel_state.entry(f"{path}, mode", "others can read a secret\n", "0600\n"))
    return Change(old, former, wanted, conf, old_conf, stale, meshes, outdated, restart, diff)


def _wanted(options: Mapping[str, Any], conf: dict[str, Any], old: State, run: Run, find: FindCommand) -> State:
    path = options["net_conf_path"]
    texts: dict[str, str | None] = dict.fromkeys(old.files)
    # The same in meaning stays as it is written.
    texts[path] = old.files[path] if old.conf(path) == conf else flannel_unit.net_conf_text(conf)
    if flannel_state.UNIT_ORIGINAL in texts:
        texts[flannel_state.UNIT_ORIGINAL] = old.files[flannel_state.UNIT_ORIGINAL] or old.unit
    modprobe = _modprobe(run, find)
    kubeconfig = files.read_text(options["kubeconfig"]) or ""
    identity = flannel_unit.kubeconfig_identity(kubeconfig) + _digest_of(flannel_unit.authority_path(kubeconfig))
    binary = _digest_of(options["binaries"].get(options["flanneld"], options["flanneld"]))
    digest = flannel_unit.state_digest(conf, flannel_unit.unit_text(options, conf, "", modprobe), binary, identity)
    texts[UNIT_PATH] = flannel_unit.unit_text(options, conf, digest, modprobe)
    links = {destination: options["binaries"].get(destination) for destination in old.links}
    return State(texts, links, True, True, digest, [])


def _digest_of(path: str) -> str:
    """Of a file's content; "" where there is none."""
    return files.sha256_of(path) if path and Path(path).is_file() else ""


def _modprobe(run: Run, find: FindCommand) -> str:
    """modprobe's path where the plain iptables is the legacy variant, which loads its modules by itself."""
    iptables = find("iptables")
    if not iptables:
        return ""
    _code, out, _err = run([iptables, "--version"])
    return (find("modprobe") or "") if "nf_tables" not in out else ""


def _missing(options: Mapping[str, Any]) -> list[str]:
    found = [
        f"binaries: {destination}: there is no file {source} on this host; install the release first"
        for destination, source in options["binaries"].items()
        if not Path(source).is_file()
    ]
    flanneld = options["flanneld"]
    if flanneld not in options["binaries"] and not Path(flanneld).is_file():
        found.append(
            f"flanneld: there is no program {flanneld} on this host; install it, or name its source in binaries"
        )
    if not Path(options["kubeconfig"]).is_file():
        found.append(f"kubeconfig: there is no file {options['kubeconfig']} on this host; make it first")
    return found


def _apply(
    change: Change,
    former: State,
    options: Mapping[str, Any],
    service: Service,
    run: Run,
    find: FindCommand,
    began: float,
) -> None:
    """Raises Refused, with what flanneld itself says."""
    try:
        flannel_state.keep_former(former)
        _put(change.wanted, run)
        if change.restart:
            boot_units.rest(run, change.meshes)
            start(run, change.stale)
            flannel_ready.wait(run, change.conf, options["subnet_file"], service, options["ready_timeout"])
        _remove_outdated(change, run, find)
    except NotReady as error:
        told = [str(error)]
        journal = flannel_ready.journal(run, began)
        told += ["its journal says:", *(f"  {line}" for line in journal)] if journal else []
        told += [f"that means: {meaning}" for meaning in flannel_ready.meanings(journal)]
        raise Refused(told) from error


def _remove_outdated(change: Change, run: Run, find: FindCommand) -> None:
    """Remove what the former settings left. flanneld has replaced some of it by now. Raises LeftoverError."""

    def left() -> list[Leftover]:
        return flannel_leftovers.of_other_settings(run, find, change.former_conf, change.conf)

    core_leftovers.remove(run, left())
    stubborn = left()
    if stubborn:
        names = ", ".join(item.text for item in stubborn)
        raise LeftoverError(f"of flanneld's former settings there is still: {names}; another program creates it again")


def _text(error: BaseException) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'}: {error.strerror or error}"
    return str(error)


def _put(state: State, run: Run) -> None:
    written = flannel_state.write(state)
    if state.enabled:
        systemctl(run, "enable", *ONE_RELOAD, UNIT)
    if written or state.enabled:
        systemctl(run, "daemon-reload")


def start(run: Run, stale: list[str]) -> None:
    """Queue flanneld's restart; devices that it would not change are deleted while it is down."""
    if stale:
        systemctl(run, "stop", UNIT)
        flannel_leftovers.delete_devices(run, stale)
    # If it has failed before, this resets systemd's restart counter.
    run(["systemctl", "reset-failed", UNIT])
    systemctl(run, "restart", "--no-block", UNIT)


def _left(change: Change, options: Mapping[str, Any], run: Run, find: FindCommand) -> list[Leftover]:
    return flannel_leftovers.observe(run, find, [change.conf], options["subnet_file"])


def _back(
    change: Change, former: State, before: Service, options: Mapping[str, Any], run: Run, find: FindCommand
) -> str:
    """Restore the former state; the text says how that went. ``before``: the service as the plan found it."""
    path = options["net_conf_path"]
    try:
        service = flannel_ready.service(run)
        if not former.started and service.load == "loaded":
            systemctl(run, "stop", UNIT)
        if not former.enabled and service.load == "loaded":
            systemctl(run, "disable", "--quiet", UNIT)
        _put(former, run)
        if not former.started:
            run(["systemctl", "reset-failed", UNIT])
            new = [item for item in _left(change, options, run, find) if item.text not in former.leftovers]
            core_leftovers.remove(run, new)
            forget_folders(path, options["subnet_file"])
            # First remove what flanneld made in a mesh's place: the units only add, and replace nothing.
            meshes = boot_units.resting(run, change.meshes)
            flannel_leftovers.delete_devices(run, meshes)
            boot_units.replay(run, meshes)
            flannel_state.drop_former()
            mesh = f", and the mesh on {', '.join(meshes)} is back" if meshes else ""
            return f"everything is as it was before: flanneld was not running{mesh}"
        kept = service.started and (service.invocation, service.digest) == (before.invocation, former.digest)
        if kept or (former.files, former.links) == (change.wanted.files, change.wanted.links):
            flannel_state.drop_former()
            return "the configuration is unchanged"
        conf = former.conf(_conf_path(former, path))
        start(run, flannel_unit.stale_devices(change.conf, conf))
        flannel_state.drop_former()
        if conf is not None:
            flannel_ready.wait(run, conf, options["subnet_file"], service, BACK_SECONDS)
    except NotReady as error:
        return f"the former files and links are restored, but flanneld fails with them, too: {error}"
    except FAILURES as error:
        return f"the former state could not be restored: {_text(error)}; fix this and run again"
    return "the former state is back, and flanneld runs with it"


def _conf_path(state: State, path: str) -> str:
    record = flannel_unit.record(state.unit)
    return record.net_conf_path if record else path


def forget_folders(*paths: str) -> None:
    """Remove the folders named flannel that held these files, where nothing is left in them."""
    for folder in {Path(path).parent for path in paths if path}:
        if folder.name == "flannel":
            files.forget_empty(folder)
