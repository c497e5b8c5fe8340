# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which packets of pods are masqueraded, and that policy as nftables and iptables text. Pure: no host is asked.

The policy is one ordered list of rules per address family: excluded destinations return, then sources that are pods of
this node are masqueraded. Rules are plain prefixes, one a line, so both backends have the same rules, nft and iptables
print them as they were written, and a diff shows exactly the rule that is missing.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..core import iptables, networks
from ..core.networks import Network
from ..core.problems import Refused

TABLE = "weft-podnet"
CHAIN = "WEFT-PODNET"
# The comment needs no quotes, so iptables-save prints it as it is written here.
JUMP = f"POSTROUTING -m comment --comment weft-podnet -j {CHAIN}"
MULTICAST: dict[int, Network] = {4: ipaddress.IPv4Network("224.0.0.0/4"), 6: ipaddress.IPv6Network("ff00::/8")}
NFT_FAMILY = {4: "ip", 6: "ip6"}

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "pod_subnets": {"type": "list", "elements": "str", "default": []},
    "cluster_cidrs": {"type": "list", "elements": "str", "default": []},
    "exclude": {"type": "list", "elements": "str", "default": []},
    "backend": {"type": "str", "choices": ["auto", "nftables", "iptables"], "default": "auto"},
    "persist": {"type": "bool", "default": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


class Rule(NamedTuple):
    """Packets whose destination ("return") or source ("masquerade") lies in ``network``."""

    verdict: str
    network: Network


# Rules by IP version, in order; a version without pods of this node is not in it.
Policy = dict[int, tuple[Rule, ...]]


def policy(params: Mapping[str, Any]) -> Policy:
    """Read the module's options (ARGUMENT_SPEC); state=absent is the empty policy. Raises Refused with all problems.

    The order and the overlaps of the user's lists make no difference to the result.
    """
    if params["state"] == "absent":
        return {}
    problems: list[str] = []
    pods = _networks("pod_subnets", params["pod_subnets"], problems)
    cluster = _networks("cluster_cidrs", params["cluster_cidrs"], problems)
    exclude = _networks("exclude", params["exclude"], problems)
    for option, meaning in (("pod_subnets", "this node's pod subnets"), ("cluster_cidrs", "the cluster's pod CIDRs")):
        if not params[option]:
            problems.append(f"{option}: the list is empty; give {meaning}, such as 10.244.0.0/16")
    if len(cluster) == len(params["cluster_cidrs"]) > 0:
        problems += [text for index, pod in pods.items() for text in _outside(index, pod, list(cluster.values()))]
    if problems:
        raise Refused(problems)
    result: Policy = {}
    for version, multicast in MULTICAST.items():
        sources = _collapsed(pods.values(), version)
        spared = _collapsed([multicast, *cluster.values(), *exclude.values()], version)
        if sources:
            result[version] = (
                *(Rule("return", network) for network in spared),
                *(Rule("masquerade", network) for network in sources),
            )
    return result


def _networks(option: str, values: Sequence[str], problems: list[str]) -> dict[int, Network]:
    """The networks by their place in the list; invalid ones are left out and added to ``problems``."""
    found: dict[int, Network] = {}
    # What is excluded lies beyond the pod network and may be any address, single ones too.
    read = _excluded if option == "exclude" else networks.read_pod_cidr
    for index, value in enumerate(values):
        network = networks.collect(read, value, f"{option}[{index}]", problems)
        if network is not None:
            found[index] = network
    return found


def _excluded(value: Any) -> Network:
    network = networks.read_network(value)
    if network.prefixlen == 0:
        raise networks.Unfit(f"{network} is every address; expected a range of the cluster or of a site")
    return network


def _outside(index: int, pod: Network, cluster: Sequence[Network]) -> list[str]:
    where = f"pod_subnets[{index}]: {pod}"
    family = [network for network in cluster if network.version == pod.version]
    if not family:
        return [f"{where} is IPv{pod.version}, but cluster_cidrs has no IPv{pod.version} range; add the cluster's own"]
    if not any(_within(pod, network) for network in family):
        ranges = ", ".join(map(str, family))
        return [
            f"{where} lies outside of cluster_cidrs ({ranges}), so pods would be masqueraded towards it; "
            "correct the subnet, or add the range that it belongs to"
        ]
    return []


def _within(inner: Network, outer: Network) -> bool:
    return outer.prefixlen <= inner.prefixlen and inner.network_address in outer


def _collapsed(networks: Any, version: int) -> list[Network]:
    return list(ipaddress.collapse_addresses(network for network in networks if network.version == version))


def nft_table(version: int, rules: Sequence[Rule]) -> list[str]:
    """The lines of our table for one family, as `nft list table` prints them (the same from nft 0.9.8 to 1.1)."""
    family = NFT_FAMILY[version]
    return [
        f"table {family} {TABLE} {{",
        "\tchain postrouting {",
        "\t\ttype nat hook postrouting priority srcnat; policy accept;",
        *(f"\t\t{_nft_rule(family, rule)}" for rule in rules),
        "\t}",
        "}",
    ]


def _nft_rule(family: str, rule: Rule) -> str:
    # nft prints a range of one address without its length.
    shown = text(rule.network)
    if rule.network.prefixlen == rule.network.max_prefixlen:
        shown = shown.split("/")[0]
    if rule.verdict == "return":
        return f"{family} daddr {shown} return"
    return f"{family} saddr {shown} masquerade fully-random"


def text(network: Network) -> str:
    """The network in the C library's notation, which nft and iptables use too (Python's differs for ::ffff:1.2.3.4)."""
    family = socket.AF_INET if network.version == 4 else socket.AF_INET6
    return f"{socket.inet_ntop(family, network.network_address.packed)}/{network.prefixlen}"


def nft_replacement(version: int, table: Sequence[str]) -> list[str]:
    """nft commands that put ``table`` in the place of whatever our table holds, or make it; within one transaction."""
    name = f"{NFT_FAMILY[version]} {TABLE}"
    return [f"table {name}", f"delete table {name}", *table]


def iptables_chain(rules: Sequence[Rule]) -> list[str]:
    """The lines of our chain in the nat table, as iptables-save prints them (without counters)."""
    targets = {"return": ("-d", "RETURN"), "masquerade": ("-s", "MASQUERADE --random-fully")}
    lines = [f":{CHAIN} -"]
    for rule in rules:
        side, target = targets[rule.verdict]
        lines.append(f"-A {CHAIN} {side} {text(rule.network)} -j {target}")
    return lines


def iptables_state(rules: Sequence[Rule]) -> list[str]:
    """Our chain and the jump to it: all that we keep in the nat table."""
    chain, *lines = iptables_chain(rules)
    return [chain, f"-A {JUMP}", *lines]


def iptables_transaction(observed: Sequence[str], wanted: Sequence[str]) -> str:
    """Input for `iptables-restore --noflush` that turns our part of the nat table into ``wanted`` ([]: nothing)."""
    return iptables.transaction("nat", CHAIN, JUMP, observed, wanted)
