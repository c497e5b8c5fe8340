# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pod networks that this host no longer uses have left on it. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from ...core import flanneld as core_flanneld
from .. import calico
from .kernel import Kernel
from .rulesets import Table

BRIDGE = "cni0"


class Kind(NamedTuple):
    """A pod network by what it makes. ``types``: of its CNI plugins; ``links``, ``files``: patterns of names."""

    name: str
    types: tuple[str, ...]
    links: tuple[str, ...]
    files: tuple[str, ...]
    chains: tuple[str, ...] = ()


KINDS = (
    Kind(
        "calico",
        ("calico",),
        (calico.PODS, *calico.TUNNELS),
        ("*calico*",),
        (calico.CHAINS,),
    ),
    Kind("cilium", ("cilium-cni",), ("cilium_*", "lxc*"), ("*cilium*",), ("CILIUM_",)),
    Kind("weave", ("weave-net",), ("weave", "vethwe-*", "vxlan-6784"), ("*weave*",), ("WEAVE",)),
    Kind("canal", ("calico",), (), ("*canal*",)),
    Kind(
        "kube-router",
        ("kube-router",),
        ("kube-bridge", "kube-dummy-if"),
        ("*kuberouter*", "*kube-router*"),
        ("KUBE-ROUTER-",),
    ),
    Kind("antrea", ("antrea",), ("antrea-gw0", "antrea-tun0"), ("*antrea*",)),
)


def observe(
    kernel: Kernel,
    tables: Iterable[Table],
    files: Mapping[str, Collection[str]],
    loaded: str,
    flanneld: bool,
    subnet_file: str,
    meshes: Collection[str],
) -> list[dict[str, str]]:
    """``files``: the CNI configurations and the types of plugins in each; ``loaded``: the one that is used, or "".

    ``flanneld``: does one run, or has a unit that is to run? ``subnet_file``: "" where there is none. ``meshes``: the
    devices that a unit of the collection keeps.
    """
    filters = list(tables)
    unused = [kind for kind in KINDS if not _is_used(kind, loaded, files.get(loaded, ()))]
    found = [entry for kind in unused for entry in _of(kind, kernel, filters, files)]
    if not flanneld:
        found += _of_flannel(kernel, filters, subnet_file, meshes)
    return sorted(found, key=lambda each: (each["of"], each["what"]))


def _is_used(kind: Kind, loaded: str, types: Collection[str]) -> bool:
    """kube-router has the reference plugins, so the file's name counts, too."""
    return bool(set(kind.types) & set(types)) or any(fnmatch.fnmatchcase(loaded, pattern) for pattern in kind.files)


def _of(
    kind: Kind, kernel: Kernel, tables: Iterable[Table], files: Mapping[str, Collection[str]]
) -> Iterable[dict[str, str]]:
    for each in kernel.links:
        name = each.link.name
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in kind.links):
            text = f"{each.link.kind or 'a'} device, {'up' if each.link.up else 'down'}"
            yield _entry(f"device {name}", kind.name, text)
    for name in files:
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in kind.files):
            yield _entry(f"file {name}", kind.name, "a CNI configuration that the runtime does not load first")
    for table in tables:
        chains = [name for name in table.chains if kind.chains and name.startswith(kind.chains)]
        if chains:
            yield _entry(f"{table.place}, chains {chains[0]}", kind.name, f"{len(chains)} chains")


def _of_flannel(
    kernel: Kernel, tables: Iterable[Table], subnet_file: str, meshes: Collection[str]
) -> Iterable[dict[str, str]]:
    for each in kernel.links:
        name = each.link.name
        # Where the kernel keeps no mark with an address (before 5.18), a mesh without peers has only its unit.
        ours = each.link.number in kernel.marked or name in meshes
        if fnmatch.fnmatchcase(name, "flannel*") and not ours:
            yield _entry(f"device {name}", "flannel", "no flanneld runs here that would keep its peers up to date")
    for table in tables:
        for name in core_flanneld.CHAINS:
            if table.is_iptables and name in table.chains:
                yield _entry(f"{table.place}, chain {name}", "flannel", f"{len(table.chains[name].lines)} rules")
        if f"table {table.name}" in core_flanneld.NFT_TABLES:
            yield _entry(table.place, "flannel", f"{sum(len(chain.lines) for chain in table.chains.values())} rules")
    if subnet_file:
        yield _entry(f"file {subnet_file}", "flannel", "flannel's CNI plugin would still give pods addresses of it")


def of_bridge(kernel: Kernel, named: Collection[str]) -> list[dict[str, str]]:
    """The plugins' default bridge, where no configuration names it."""
    if BRIDGE in named or BRIDGE not in kernel.of_kind("bridge"):
        return []
    number = next(number for number, name in kernel.names.items() if name == BRIDGE)
    ports = sum(each.master == number for each in kernel.links)
    have = " ".join(str(each.interface) for each in kernel.addresses if each.number == number)
    return [
        _entry(
            f"device {BRIDGE}", "cni", f"no CNI configuration names this bridge; {ports} ports, {have or 'no address'}"
        )
    ]


def _entry(what: str, of: str, text: str) -> dict[str, Any]:
    return {"what": what, "of": of, "text": text}
