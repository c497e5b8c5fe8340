# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The step ``checkpoint`` of node_steps: take one before a change, confirm it afterwards, go back to one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...core import persist, run_lock
from ...core.problems import Refused
from ...core.resource import Call, Resource
from ...routes import way_back
from .. import router_advertisements
from ..settings import path_of
from . import contact, network, restore, saved, store, watch

CONFIRMED = "confirmed"


def _run() -> str:
    """Which run this is; "" for a module that belongs to none."""
    found = run_lock.parse(os.environ.get(run_lock.RUN, ""))
    return " ".join((found.id, found.machine, found.boot)) if found else ""


def _state(options: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint holds besides files."""
    peer = way_back.ssh_peer()
    asked = [*options["contacts"], *([str(peer)] if peer else [])]
    contacts = contact.reached(asked, options["api"], contact.FIRST_PATIENCE)
    who = run_lock.parse(os.environ.get(run_lock.RUN, ""))
    names = list(options["sysctls"])
    if router_advertisements.FORWARDING in names:
        names += map(router_advertisements.name_of, router_advertisements.learning())
    sysctls = {str(path_of(name)): path_of(name) for name in names}
    return {
        "taken": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "who": who.who if who else "",
        "run": _run(),
        "conf_dir": options["conf_dir"],
        "bin_dir": options["bin_dir"],
        "folders": saved.folders(options["conf_dir"], options["bin_dir"]),
        "vni": options["vni"],
        "keep": options["keep"],
        "units": restore.units(),
        "sysctls": {name: path.read_text(encoding="ascii") for name, path in sysctls.items() if path.exists()},
        "network": network.observe(),
        "contacts": contacts,
        "ways": contact.ways(each for each in contacts if each != options["api"]),
        "api": options["api"],
    }


def _take(call: Call) -> dict[str, Any]:
    """Several modules of a run share its first checkpoint; what a killed run left pending is still the way back."""
    options = call.params
    if not persist.systemd_runs():
        raise Refused(["this host does not run systemd, whose timer would restore it; set podnet_confirm: false"])
    path = watch.pending()
    newest = store.paths()[:1]
    if not path and newest and _run() and store.read(newest[0]).state["run"] == _run():
        path = newest[0] if store.outcome(newest[0]) in ("", CONFIRMED) else ""
    if not path:
        path = store.write(saved.observe(options["conf_dir"], options["bin_dir"]), _state(options)).path
    watch.arm(path, options["timeout"], call.run_command)
    return {"changed": False, "checkpoint": Path(path).name}


def _confirm(call: Call) -> dict[str, Any]:
    """``released``: was this the run's last step on this host, whose hold ends with it?"""
    found = _confirmed(call)
    run = run_lock.parse(os.environ.get(run_lock.RUN, ""))
    if run and call.params["last"]:
        run_lock.release(run)
    return {**found, "released": bool(run and call.params["last"])}


def _confirmed(call: Call) -> dict[str, Any]:
    path = watch.pending()
    if not path:
        newest = store.paths()[:1]
        said = store.outcome(newest[0]) if newest else ""
        if said not in ("", CONFIRMED):
            raise Refused([f"this host was {said}; its journal has the reason (journalctl --unit {watch.UNIT})"])
        return {"changed": False}
    checkpoint = store.read(path)
    state = checkpoint.state
    silent = _cut_off(state, call.warn)
    if silent:
        restore.everything(checkpoint, _concern(), call.warn)
        store.conclude(path, f"restored at {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}")
    elif not state["keep"]:
        store.forget()
    elif saved.observe(state["conf_dir"], state["bin_dir"]) == checkpoint.files:
        # A run that failed before it changed anything must not push out those that one may want to go back to.
        store.remove(path)
    else:
        store.conclude(path, CONFIRMED)
    watch.disarm(call.run_command)
    if silent:
        raise Refused(
            [
                f"after the change this host no longer reached {', '.join(silent)}, which answered before; the "
                f"checkpoint {Path(path).name} is restored"
            ]
        )
    return {"changed": False}


def _cut_off(state: Mapping[str, Any], warn: Callable[[str], None]) -> list[str]:
    """Whom this host no longer reaches for a reason of its own; [] where it is not cut off.

    One that went down meanwhile is no reason to take a change back: the way to it is the same, and all others answer.
    """
    # Whoever asks has come back by itself.
    peer = str(way_back.ssh_peer())
    asked = [each for each in state["contacts"] if each not in (state["api"], peer)]
    api = state["api"] if state["api"] in state["contacts"] else ""
    reached = contact.reached(asked, api, contact.PATIENCE)
    silent = [each for each in [*asked, *([api] if api else [])] if each not in reached]
    now = contact.ways(each for each in silent if each != api)
    turned = [each for each, way in now.items() if way != state["ways"].get(each)]
    if silent and (reached or len(asked) == 1) and not turned and api not in silent:
        warn(
            f"{', '.join(silent)} answered before the change and no longer does; the way there is the same: is it down?"
        )
        return []
    return silent


def _restore(call: Call) -> dict[str, Any]:
    """Go back to an earlier checkpoint, without those of this very run."""
    found = [store.read(path) for path in store.paths()]
    earlier = [checkpoint for checkpoint in found if not _run() or checkpoint.state["run"] != _run()]
    number = call.params["number"]
    if not 1 <= number <= len(earlier):
        known = "; ".join(
            f"{place}: {each.state['taken']}{f' (a run of {who})' if (who := each.state['who']) else ''}"
            for place, each in enumerate(earlier, 1)
        )
        raise Refused([f"there is no checkpoint {number} on this host; it has {known or 'none'}"])
    checkpoint = earlier[number - 1]
    now = saved.observe(checkpoint.state["conf_dir"], checkpoint.state["bin_dir"])
    diff = saved.as_diff(now, checkpoint.files)
    if diff and not call.check_mode:
        restore.everything(checkpoint, _concern(), lambda _line: None, cut_off=False)
    return {"changed": bool(diff), "diff": diff, "checkpoint": checkpoint.name}


def _forget(call: Call) -> dict[str, Any]:
    there = Path(store.ROOT).exists()
    if there and not call.check_mode:
        store.forget()
    return {"changed": there}


def _concern() -> Callable[[str], Resource]:
    from .. import steps

    return steps.resource


def _dismiss(call: Call) -> dict[str, Any]:
    """What a killed run left to be restored is not: a run without checkpoints takes its place."""
    path = watch.pending()
    if path and not call.check_mode:
        store.conclude(path, CONFIRMED)
        watch.disarm(call.run_command)
    return {"changed": False}


STATES = {"taken": _take, CONFIRMED: _confirm, "dismissed": _dismiss, "restored": _restore, "absent": _forget}


def converge(call: Call) -> dict[str, Any]:
    state = call.params["state"]
    if call.check_mode and state in ("taken", CONFIRMED):
        return {"changed": False}
    return STATES[state](call)


RESOURCE = Resource(
    {
        "state": {"type": "str", "choices": list(STATES), "default": "taken"},
        "timeout": {"type": "int", "default": 60},
        "contacts": {"type": "list", "elements": "str", "default": []},
        "api": {"type": "str", "default": ""},
        "vni": {"type": "int", "default": 1},
        "sysctls": {"type": "list", "elements": "str", "default": []},
        "conf_dir": {"type": "path", "default": "/etc/cni/net.d"},
        "bin_dir": {"type": "path", "default": "/opt/cni/bin"},
        "keep": {"type": "bool", "default": True},
        "last": {"type": "bool", "default": False},
        "number": {"type": "int", "default": 1},
    },
    converge,
    lock=lambda _options: watch.LOCK,
)
