# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One CNI configuration on a host: from what is observed to a plan and its diff."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..core import files
from . import config as cni
from . import gateway as cni_gateway
from . import host as cni_host
from . import leftovers as cni_leftovers
from .pods import rules as pod_rules

# What to do about live pods, and what becomes of those that a change leaves alone.
WAYS_OUT = (
    "Drain the node first (kubectl drain NODE --ignore-daemonsets), or set allow_live_pods: true (in the playbooks "
    "podnet_live_pods: keep, or recreate to have the Node drained by them)"
)
KEPT = "Until they are deleted, they keep running on the former configuration"


def file_mode(value: Any) -> int | None:
    """An octal text, or the number YAML makes of an unquoted one, as a mode that lets the owner read; else None."""
    try:
        mode = value if isinstance(value, int) and not isinstance(value, bool) else int(str(value), 8)
    except ValueError:
        return None
    return mode if 0o400 <= mode <= 0o777 and mode & 0o400 else None


class Spec(NamedTuple):
    """The module's arguments, checked. ``config`` is None where only a removal is asked for; -1 leaves an id alone.

    ``replaces`` are names of files that go once this one is there; ``foreign``: what becomes of foreign files that the
    runtime would load in its place: "keep", "refuse" or "remove".
    """

    name: str
    present: bool
    config: dict[str, Any] | None
    conf_dir: str
    exclusive: list[str] | None
    backup: bool
    mode: int
    uid: int
    gid: int
    allow_live_pods: bool
    leftovers: bool
    replaces: tuple[str, ...] = ()
    foreign: str = "keep"

    @property
    def path(self) -> str:
        return str(Path(self.conf_dir) / self.name)

    @property
    def is_loopback(self) -> bool:
        """A runtime brings its own loopback network, and reads such a file at most where it is alone."""
        return (self.config or {}).get("type") == "loopback"

    @property
    def names(self) -> tuple[str, ...]:
        """Every file that is this configuration: its own, and those whose place it takes."""
        return (self.name, *self.replaces)


class Plan(NamedTuple):
    """``text`` is to be written unless None, ``others`` (file names) and our own file are to be removed.

    Of the others, a copy of ``set_aside`` is kept under a name that no runtime reads. ``affected``: what live
    pods lose, which are problems or warnings as well. ``hairpin``: ports of live pods that are to get that mode.
    """

    text: str | None
    attributes: cni_host.Attributes
    remove_own: bool
    others: tuple[str, ...]
    set_aside: tuple[str, ...]
    leftovers: cni_leftovers.Leftovers
    affected: list[str]
    problems: list[str]
    warnings: list[str]
    diff: list[dict[str, str]]
    hairpin: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        return bool(self.diff)


def plan(wish: Spec, host: cni_host.Observed, root: str = cni_host.STATE_ROOT) -> Plan:
    """What to do. Raises OSError (the directories of leases are read for ``leftovers``)."""
    before = host.files.get(wish.name)
    exists = wish.name in host.files
    attributes = _attributes(wish, host.own)
    text = _text(wish, before, exists, attributes != host.own)
    set_aside = _in_front(wish, host) if wish.foreign == "remove" else ()
    others = tuple(dict.fromkeys((*_unwanted(wish, host), *set_aside)))
    after = _after(wish, host, text, others)
    affected, warnings = _affected(wish, host, after)
    affected += [] if affected else _stranded(wish, host)
    bridge, unfit = _unfit_bridge(wish, host)
    problems = [] if wish.allow_live_pods else [f"{text}. {WAYS_OUT}" for text in affected or unfit]
    if wish.allow_live_pods:
        warnings += [f"{text}. {KEPT}" for text in affected]
        warnings += [f"{text}. Once its pods are gone, run again, or delete the bridge" for text in unfit]
    loading = _loading(wish, after)
    problems += loading if wish.foreign == "refuse" else []
    warnings += loading if wish.foreign != "refuse" else []
    leftovers, notes = _leftovers(wish, host, after, root)
    if bridge:
        leftovers = leftovers._replace(bridge=bridge)
    warnings += notes
    hairpin = _without_hairpin(wish, host)
    return Plan(
        text=text,
        attributes=attributes,
        remove_own=not wish.present and (exists or (wish.leftovers and host.leaving is not None)),
        others=others,
        set_aside=set_aside,
        leftovers=leftovers,
        affected=affected + unfit,
        problems=problems,
        warnings=warnings,
        diff=_diff(wish, host, text, attributes, others, leftovers, hairpin),
        hairpin=hairpin,
    )


def _attributes(wish: Spec, own: cni_host.Attributes | None) -> cni_host.Attributes:
    uid = wish.uid if wish.uid >= 0 else own.uid if own else os.geteuid()
    gid = wish.gid if wish.gid >= 0 else own.gid if own else os.getegid()
    return cni_host.Attributes(wish.mode, uid, gid)


def _text(wish: Spec, before: str | None, exists: bool, attributes_differ: bool) -> str | None:
    """The text to write, None where the file is right as it is; one that only looks different keeps its look."""
    if not wish.present or wish.config is None:
        return None
    same = False
    if exists and before is not None:
        with contextlib.suppress(ValueError, RecursionError):
            same = cni.same_meaning(json.loads(before), wish.config)
    if same:
        return before if attributes_differ else None
    return cni.render(wish.config)


def _unwanted(wish: Spec, host: cni_host.Observed) -> tuple[str, ...]:
    replaced = [name for name in host.files if name in wish.replaces]
    if wish.exclusive is None:
        return tuple(replaced)
    stay = [wish.name, *wish.exclusive]
    return tuple(
        name
        for name in host.files
        if name in replaced or not any(fnmatch.fnmatchcase(name, pattern) for pattern in stay)
    )


def _in_front(wish: Spec, host: cni_host.Observed) -> tuple[str, ...]:
    """Foreign files that the runtime considers before this one."""
    if not wish.present or wish.is_loopback:
        return ()
    order = cni.runtime_order({*host.files, wish.name})
    return tuple(name for name in order[: order.index(wish.name)] if name not in wish.replaces)


def _after(wish: Spec, host: cni_host.Observed, text: str | None, others: tuple[str, ...]) -> dict[str, str | None]:
    """The directory's files once the plan is applied."""
    after = {name: each for name, each in host.files.items() if name not in others and name != wish.name}
    if wish.present:
        after[wish.name] = host.files.get(wish.name) if text is None else text
    return after


def _config(wish: Spec, host: cni_host.Observed) -> dict[str, Any] | None:
    """The configuration that a task is about: the one to write, or that of the file to remove."""
    here = [name for name in wish.names if name in host.files]
    if wish.present or (not here and host.leaving is None):
        return wish.config
    name = here[0] if here else wish.name
    try:
        return cni.parse(name, host.files.get(name, host.leaving))
    except cni.Broken:
        return wish.config


def _affected(wish: Spec, host: cni_host.Observed, after: Mapping[str, str | None]) -> tuple[list[str], list[str]]:
    """Networks that lose their configuration: (a text for each with live pods, a text for each with leaked leases)."""
    networks = cni_host.networks_of(host.files)
    remaining = cni_host.networks_of(after)
    was, will = cni.loaded(host.files), cni.loaded(after)
    lost = {name: network for name, network in networks.items() if network not in remaining.values()}
    if was.name and (will.name is None or networks[was.name] != remaining[will.name]):
        lost[was.name] = networks[was.name]
    live, leaked = [], []
    for name, network in lost.items():
        found = host.live[network]
        what = (
            "changed" if name == wish.name and wish.present else "removed" if name not in after else "no longer loaded"
        )
        ports = found.bridge.ports if found.bridge else ()
        if found.leases and (ports or network.bridge is None):
            live.append(_live_text(name, network, found, what))
        elif not wish.present and not wish.leftovers and (found.leases or found.stale):
            leaked.append(
                f"{len(found.leases) + len(found.stale)} leases in {found.kept_in} belong to no pod: {network.bridge} "
                "has no port. Their addresses stay taken; state=absent with leftovers=true removes them"
            )
    return live, leaked


def _live_text(name: str, network: cni.Network, found: cni_host.Live, what: str) -> str:
    some = ", ".join(found.leases[:3]) + (", ..." if len(found.leases) > 3 else "")
    ports = f"; {network.bridge} has {len(found.bridge.ports)} ports" if found.bridge else ""
    return (
        f"{name}: pods of network '{network.name}' are live ({len(found.leases)} in {found.kept_in}: {some}{ports}). "
        f"When its configuration is {what}, new pods get addresses that are in use, and the leases and rules of the "
        "old ones are never released"
    )


def _stranded(wish: Spec, host: cni_host.Observed) -> list[str]:
    """What live pods would lose although their network stays: plugins set it up when a pod starts, and never later."""
    if not wish.present or wish.config is None:
        return []
    live = host.live.get(cni.network(wish.config))
    if live is None or not (live.bridge and live.bridge.ports) or not live.leases:
        return []
    count = f"{len(live.leases)} pods of network '{cni.network(wish.config).name}' are live"
    was = [cni.masquerades(cni.parse(name, host.files[name])) for name in _readable(wish, host)]
    texts = []
    if was and was[0] is False and cni.masquerades(wish.config):
        texts.append(
            f"{wish.name}: {count}, and ipMasq is turned on, which the plugin does for pods that start later: "
            "the live ones would have no way out of the cluster"
        )
    ports = [each for each in host.rules if each.kind == "host port" and each.container in live.containers]
    if ports and not cni.host_ports(wish.config):
        texts.append(
            f"{wish.name}: {count}, {len({each.container for each in ports})} of them with host ports, which they lose "
            "without the plugin portmap"
        )
    return texts


def _readable(wish: Spec, host: cni_host.Observed) -> list[str]:
    """Of the files that are this configuration, those on the host that a runtime could load, in its order."""
    readable = cni_host.networks_of(host.files)
    return [name for name in cni.runtime_order(wish.names) if name in readable]


def _unfit_bridge(wish: Spec, host: cni_host.Observed) -> tuple[str | None, list[str]]:
    """A bridge that can't serve the wished configuration: (its name where it can go, a text where pods are on it)."""
    if not wish.present or wish.config is None:
        return None, []
    network = cni.network(wish.config)
    live = host.live.get(network)
    bridge = live.bridge if live else None
    wrong = cni_gateway.in_the_way(bridge.addresses, host.gateways) if bridge else []
    if bridge is None or not wrong:
        return None, []
    if not bridge.ports:
        return network.bridge, []
    have, want = (", ".join(map(str, addresses)) for addresses in (wrong, host.gateways))
    return None, [
        f"{wish.name}: {network.bridge} has the address {have} and {len(bridge.ports)} ports, while this configuration "
        f"gives it {want}: no new pod would start"
    ]


def _leftovers(
    wish: Spec, host: cni_host.Observed, after: Mapping[str, str | None], root: str
) -> tuple[cni_leftovers.Leftovers, list[str]]:
    if wish.present:
        return _of_pods(wish, host)
    if not wish.leftovers:
        return cni_leftovers.NONE, []
    config = _config(wish, host)
    if config is None and (wish.name in host.files or host.leaving is not None):
        return cni_leftovers.NONE, [f"{wish.path} is broken: what its plugins left is unknown and stays; give config"]
    if config is None:
        return cni_leftovers.NONE, []
    network = cni.network(config)
    others = cni_host.networks_of(after).values()
    found = cni_leftovers.find(network, host.live[network], others, root)
    if all(other.name != network.name for other in others):
        found = found._replace(rules=host.rules)
    return found, list(found.warnings)


def _of_pods(wish: Spec, host: cni_host.Observed) -> tuple[cni_leftovers.Leftovers, list[str]]:
    """What plugins keep for pods that are gone, or made for live ones by a configuration that this one replaces."""
    network = cni.network(wish.config or {})
    live = host.live.get(network)
    if wish.config is None or live is None:
        return cni_leftovers.NONE, []
    makes = (cni.masquerades(wish.config), cni.host_ports(wish.config))
    rules = pod_rules.unwanted(host.rules, live.containers, *makes)
    notes = []
    if live.stale:
        some = ", ".join(lease.address for lease in live.stale[:3]) + (", ..." if len(live.stale) > 3 else "")
        notes.append(
            f"network '{network.name}' on {os.uname().nodename}: {len(live.stale)} leases in {live.kept_in} belong to "
            f"no pod and are released: {some}"
        )
    return cni_leftovers.NONE._replace(leases=live.stale, rules=tuple(rules)), notes


def _without_hairpin(wish: Spec, host: cni_host.Observed) -> tuple[str, ...]:
    """Ports of live pods that the plugin attached before this configuration asked for hairpin mode."""
    if not wish.present or wish.config is None or not cni.hairpin(wish.config):
        return ()
    live = host.live.get(cni.network(wish.config))
    return live.bridge.without_hairpin if live and live.bridge else ()


def _loading(wish: Spec, after: Mapping[str, str | None]) -> list[str]:
    """Why the runtime will not load this configuration, and what to do about it; empty where it will."""
    if not wish.present or wish.is_loopback:
        return []
    will = cni.loaded(after)
    here = os.uname().nodename
    way_out = (
        "Remove it, or set foreign: remove, which keeps a copy, or foreign: keep where it is meant to be the first "
        "(podnet_cni_foreign in the playbooks)"
    )
    if will.broken:
        first, _colon, why = will.broken.partition(": ")
        path = Path(wish.conf_dir) / first
        return [f"containerd on {here} loads no configuration at all, because of {path}: {why}. {way_out}"]
    if will.name and will.name != wish.name:
        path, other = Path(wish.conf_dir) / will.name, cni.network(will.config or {}).name
        return [
            f"containerd on {here} loads {path} (network '{other}'), not {wish.name}: it takes the first by name. "
            f"{way_out}"
        ]
    return []


def _diff(
    wish: Spec,
    host: cni_host.Observed,
    text: str | None,
    attributes: cni_host.Attributes,
    others: tuple[str, ...],
    leftovers: cni_leftovers.Leftovers,
    hairpin: tuple[str, ...],
) -> list[dict[str, str]]:
    entries = []
    found = host.files.get(wish.name, "")
    before = "unreadable\n" if found is None else found
    if text is not None and text != before:
        entries.append(_entry(wish.path, before, text))
    if text is not None and host.own and attributes != host.own:
        entries.append(_entry(f"{wish.path} (attributes)", f"{host.own}\n", f"{attributes}\n"))
    if not wish.present and wish.name in host.files:
        entries.append(_entry(wish.path, before, ""))
    if not wish.present and wish.leftovers and wish.name not in host.files and host.leaving is not None:
        entries.append(_entry(str(cni_host.leaving_path(wish.conf_dir, wish.name)), host.leaving, ""))
    for name in others:
        entries.append(_entry(str(Path(wish.conf_dir) / name), host.files[name] or "unreadable\n", ""))
    if leftovers.names():
        entries.append(_entry("left by CNI plugins", "".join(f"{name}\n" for name in leftovers.names()), ""))
    if hairpin:
        off, on = ["".join(f"{port} {mode}\n" for port in hairpin) for mode in ("off", "on")]
        entries.append(_entry("hairpin mode of live pods' bridge ports", off, on))
    return entries


def _entry(header: str, before: str, after: str) -> dict[str, str]:
    before, after = files.shown(before), files.shown(after)
    return {"before_header": header, "after_header": header, "before": before, "after": after}


def plugin_problems(wish: Spec, bin_dir: str) -> list[str]:
    """What the binaries lack that the wished configuration needs."""
    if not wish.present or wish.config is None:
        return []
    version = str(cni.get(wish.config, "cniVersion", "0.1.0"))
    return cni_host.plugin_problems(cni.required_plugins(wish.config), bin_dir, version)


def report(wish: Spec, host: cni_host.Observed, plan_: Plan) -> dict[str, Any]:
    """The module's return values, as they are once the plan is applied."""
    config = _config(wish, host) or {}
    network = cni.network(config)
    will = cni.loaded(_after(wish, host, plan_.text, plan_.others))
    live = host.live.get(network)
    own = [wish.path] if plan_.remove_own else []
    return {
        "path": wish.path,
        "network": network.name,
        "loaded": str(Path(wish.conf_dir) / will.name) if will.name else None,
        "loaded_is_ours": will.name == wish.name,
        "plugins": cni.required_plugins(config),
        "leases": len(live.leases) if live else 0,
        "affected": plan_.affected,
        "removed": own + [str(Path(wish.conf_dir) / name) for name in plan_.others] + plan_.leftovers.names(),
    }
