# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the pods of a cluster get: their networks, CNI, and the translation of their addresses. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.weft.podnet.plugins.module_utils.core import networks
from ansible_collections.weft.podnet.plugins.module_utils.core.networks import Network
from ansible_collections.weft.podnet.plugins.module_utils.core.problems import named

from .. import cluster as diagnosis
from ..cluster import Node, lowered
from .survey import RELEASED, Survey, families, plugin

MULTICAST = {4: "224.0.0.0/4", 6: "ff00::/8"}
# A destination that a rule spares, in both languages: what returns, and what is masqueraded but for it.
SPARED = re.compile(
    r"(?:daddr|-d) ([0-9a-f.:]+(?:/\d+)?) .*\b(?:return|RETURN)\b|(?:daddr !=|! -d) ([0-9a-f.:]+(?:/\d+)?)(?: |$)"
)
SOURCE = re.compile(r"(?:saddr|(?<!! )-s) ([0-9a-f.:]+/\d+)\b")
TRANSLATES = re.compile(r"\b(?:masquerade|snat|MASQUERADE|SNAT)\b")
LISTS = ("bridge", "flannel", "portmap")
# A list's file and network as site.yml writes them.
NETWORKS = {"flannel": "cbr0"}


def cidrs(survey: Survey, backend: str) -> dict[str, list[str]]:
    """The cluster's pod network by worker, as each of them shows it; [] for one that does not show it."""
    found = {node.name: _shown(survey, node, backend) for node in survey.nodes}
    everywhere = [subnet for subnets in survey.subnets.values() for subnet in subnets]
    wanted = families(everywhere)
    for version in wanted:
        if any(version in shown for shown in found.values()):
            continue
        spanned = span([each for each in everywhere if each.version == version])
        survey.remark(
            None,
            f"podnet_pod_cidr: no host shows the cluster's. {spanned} is the smallest network that has the pod subnets "
            "of all workers; before you add one, set what kube-controller-manager has (--cluster-cidr)",
        )
        for shown in found.values():
            shown[version] = spanned
    # Of two families, a worker that shows only one says nothing about both.
    return {
        name: [str(shown[version]) for version in wanted] if shown.keys() >= set(wanted) else []
        for name, shown in found.items()
    }


def _shown(survey: Survey, node: Node, backend: str) -> dict[int, Network]:
    """By IP version."""
    if backend == "flannel":
        conf = lowered(node.host.flannel.net_conf)
        given = [
            conf.get("network") if conf.get("enableipv4", True) else None,
            conf.get("ipv6network") if conf.get("enableipv6") else None,
        ]
        environment = node.host.flannel.subnet_env
        written = diagnosis.networks(environment.get(f"FLANNEL_{key}NETWORK") for key in ("", "IPV6_"))
        return {each.version: each for each in diagnosis.networks(given) or written}
    found = {}
    pods = [subnet for subnets in survey.subnets.values() for subnet in subnets]
    for version in families(pods):
        mine = [subnet for subnet in pods if subnet.version == version]
        wide = next((each for each in _candidates(survey, node) if _fits(survey, each, mine)), None)
        if wide is not None:
            found[version] = wide
    return found


def _candidates(survey: Survey, node: Node) -> Iterator[Network]:
    """Networks that may be the cluster's, the surest first; of one source, the smallest first."""
    yield from diagnosis.networks(node.host.kube_proxy.cluster_cidrs)
    owners = sorted({place.owner for place in node.host.masquerade}, key=lambda owner: owner != "weft.podnet")
    for owner in owners:
        spared = {each for place in survey.masquerades(node, owner) for each in _spared(place.rules)}
        yield from sorted(spared, key=lambda each: -each.prefixlen)
    accepted = {each for place in node.host.forward for each in diagnosis.networks(place.accepts)}
    yield from sorted(accepted, key=lambda each: -each.prefixlen)


def _spared(rules: Iterable[str]) -> list[Network]:
    found = [match[1] or match[2] for match in map(SPARED.search, rules) if match]
    # nft prints a single address without its length.
    wide = map(diagnosis.prefix, found)
    return [each for each in wide if each is not None and str(each) != MULTICAST[each.version]]


def _fits(survey: Survey, wide: Network, pods: Sequence[Network]) -> bool:
    """Does it hold the pods of all workers, and none of the workers' own addresses?"""
    inside = all(diagnosis.covers(wide, subnet) for subnet in pods)
    return inside and not any(each.version == wide.version and each in wide for each in survey.owners)


def span(subnets: Sequence[Network]) -> Network:
    """The smallest network that holds all of these, which are of one family."""
    first = min(int(each.network_address) for each in subnets)
    last = max(int(each.broadcast_address) for each in subnets)
    length = subnets[0].max_prefixlen - (first ^ last).bit_length()
    return ipaddress.ip_network((subnets[0].network_address, length), strict=False)


def mask_sizes(survey: Survey, node: Node) -> None:
    """How large the workers' parts are. The lock file keeps those there are; others get this size."""
    for subnet in survey.subnets[node.name]:
        suffix = "_ipv6" if subnet.version == 6 else ""
        survey.set(node, **{f"node_cidr_mask_size{suffix}": subnet.prefixlen})


def cni(survey: Survey, node: Node, backend: str) -> None:
    """The variables of a worker's CNI configuration and plugins."""
    loaded = node.loaded
    if not loaded:
        why = node.host.cni.broken or "it has none"
        survey.remark(node, f"the runtime loads no CNI configuration ({why}); site.yml writes one")
    elif backend == "flannel" and plugin(loaded) != "flannel":
        survey.remark(
            node, f"its pods' network is {loaded.network} of {loaded.name}; site.yml writes 10-flannel.conflist"
        )
    elif not loaded.ours:
        wanted = NETWORKS.get(backend, "bridge")
        called = "" if loaded.network == wanted else f", and its network is {wanted} instead of {loaded.network}"
        survey.remark(
            node,
            f"{loaded.name} was not written by the collection; site.yml writes a file of its own{called}. Pods that "
            "run keep the network that they were made with (podnet_live_pods says what becomes of them)",
        )
    if loaded and loaded.bridge and loaded.bridge != "cni0" and backend == "flannel":
        survey.remark(node, f"its pods' bridge is {loaded.bridge}; with flannel, site.yml uses cni0")
    elif loaded and loaded.bridge:
        survey.set(node, bridge_name=loaded.bridge)
    folders = {"cni_conf_dir": node.host.cni.conf_dir, "cni_bin_dir": node.host.cni.bin_dir}
    survey.set(node, **{name: path for name, path in folders.items() if path.startswith("/")})
    if loaded and loaded.ipam not in ("", "host-local"):
        survey.remark(node, f"its pods get their addresses from {loaded.ipam}; site.yml uses host-local")
    if loaded and loaded.appended:
        survey.remark(node, f"the runtime adds {', '.join(loaded.appended)} to {loaded.name}; site.yml leaves them")
    _chained(survey, node)
    _source(survey, node)
    socket = node.host.runtime.socket
    if node.host.runtime.running and "containerd" in socket:
        survey.set(node, verify_containerd_socket=socket)
    elif node.host.runtime.running:
        survey.remark(
            node, f"its runtime listens on {socket}; verify.yml makes its pods with containerd: podnet_verify: false"
        )


def _chained(survey: Survey, node: Node) -> None:
    """Plugins that run after those of site.yml's own lists."""
    if not node.loaded:
        return
    described: list[Mapping[str, Any]] = [each for each in node.loaded.chained if each.get("type") not in LISTS]
    bare = [str(each["type"]) for each in described if len(each) == 1]
    if bare:
        survey.remark(
            node,
            f"podnet_cni_chained_plugins: {', '.join(bare)} in {node.loaded.name} may have settings that are not read "
            "here; add them",
        )
    if described:
        survey.set(node, cni_chained_plugins=[dict(each) for each in described])


def _source(survey: Survey, node: Node) -> None:
    """Where its plugins come from: a release of the collection's, files that were put there, or the distribution."""
    plugins = node.host.cni.plugins
    released = [
        match[2]
        for match in (RELEASED.match(each.target) for name, each in plugins.items() if name != "flannel")
        if match and match[1] == "cni_plugins"
    ]
    if released:
        survey.set(node, cni_plugins_source="release", cni_plugins_version=released[0])
        return
    needed = ("bridge", "host-local", "loopback", "portmap")
    there = [plugins[name] for name in needed if name in plugins and plugins[name].executable]
    if len(there) == len(needed) and all(each.target == each.path for each in there):
        survey.set(node, cni_plugins_source="none")


def masquerade(survey: Survey, node: Node, backend: str) -> None:
    """The variables of a worker's masquerading; flanneld's own is flannel.py's concern."""
    if not node.host.whole("masquerade"):
        survey.remark(node, "podnet_masquerade: its packet filters could not be read")
        return
    if backend == "bridge":
        if node.loaded and node.loaded.ip_masq is False:
            survey.remark(node, f"ipMasq is off in {node.loaded.name}; with the backend bridge, site.yml turns it on")
        return
    own = survey.masquerades(node, "weft.podnet")
    survey.set(node, masquerade=bool(own) or bool(node.loaded and node.loaded.ip_masq) or _translated(survey, node))
    places = sorted({place.place for place in own})
    if any("(nft)" in place for place in places):
        # By itself, the collection takes nftables where the host has no rules of iptables-legacy.
        survey.set(node, masquerade_backend="iptables")
    elif places and any("(legacy)" in place.place for place in node.host.masquerade):
        survey.set(node, masquerade_backend="nftables")
    cluster = [diagnosis.network(each) for each in survey.values.get(node.name, {}).get("podnet_pod_cidr", [])]
    spared = [each for place in own for each in _spared(place.rules)]
    exclude = [str(each) for each in spared if each not in cluster]
    if exclude:
        survey.set(node, masquerade_exclude=list(dict.fromkeys(exclude)))


def _translated(survey: Survey, node: Node) -> bool:
    """Is there a rule of anybody else's that translates what the worker's pods send out of the cluster?"""
    pods = survey.subnets[node.name]
    for place in node.host.masquerade:
        for rule in place.rules if place.owner in ("other", "flannel", "firewalld") else ():
            if not TRANSLATES.search(rule):
                continue
            sources = diagnosis.networks(SOURCE.findall(rule))
            if not sources or any(diagnosis.covers(wide, pod) for wide in sources for pod in pods):
                return True
    return False


def subnets(survey: Survey, node: Node, backend: str) -> list[str]:
    """A worker's pod subnets for the lock file, [] where they are not the collection's to allot."""
    found = survey.subnets[node.name]
    if not found:
        survey.remark(
            node,
            "its pod subnet cannot be found, neither in a CNI configuration nor on the other workers; "
            + (
                "its Node in the Kubernetes API has it"
                if backend == "flannel"
                else "site.yml would allot it a free one"
            ),
        )
    elif not node.own_subnets:
        survey.remark(node, f"it has no CNI configuration; the other workers send {', '.join(map(str, found))} to it")
    for subnet in found:
        try:
            networks.read_pod_subnet(str(subnet))
        except networks.Unfit as unfit:
            survey.problems.append(f"{node.name}: pod subnet {subnet}: {unfit}")
    elsewhere = sorted(
        each.node.name
        for each in survey.ways_to(node)
        if each.way.reached is not None and survey.owners.get(each.way.reached) not in (None, node.name)
    )
    if elsewhere:
        survey.remark(node, f"{named(elsewhere)} sends packets for its pods to another worker; site.yml corrects that")
    return [] if backend == "flannel" else list(map(str, found))
