# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Calico leaves on a host when its DaemonSet is deleted. Calico has no command that removes all of it.

The names are those of its sources: chains and comments felix/rules/rule_defs.go, sets felix/ipsets, tables
felix/nftables. Until the host is rebooted, the programs of the eBPF data plane stay on the devices, as do the policy
rule and the table of routes of WireGuard.
"""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any

from ..core import leftovers, processes
from ..core.leftovers import FindCommand, Leftover
from ..core.persist import Run

NETWORKS = Path("/sys/class/net")
DAEMONS = ("calico-node", "calico-felix")
PODS = "cali*"
TUNNELS = ("vxlan.calico", "vxlan-v6.calico", "wireguard.cali", "wg-v6.cali")
# The kernel's own device for IP in IP, which can't be deleted; Calico gives it an address.
IPIP = "tunl0"
CHAINS = "cali-"
COMMENT = "cali:"
SETS = ("cali4", "cali6")
NFT_TABLES = ("table ip calico", "table ip6 calico", "table arp calico-arp")
# Felix numbers its routes 80. Those of BGP have the number of BIRD, which a host may run for other purposes.
FELIX, BIRD = "80", "bird"
BIRDS = ("bird", "bird6")
STATE = "/var/lib/calico"
# The kubeconfig of its CNI plugin, beside the configuration.
KUBECONFIG = "calico-kubeconfig"


def in_use() -> list[str]:
    """Why none of it can go yet, a line each."""
    problems = []
    for daemon, running in processes.by_name(DAEMONS).items():
        problems.append(
            f"calico: {daemon} still runs here (process {', '.join(map(str, running))}); delete its DaemonSet first"
        )
    pods = sorted(path.name for path in NETWORKS.glob(PODS))
    if pods:
        some = ", ".join(pods[:3]) + (", ..." if len(pods) > 3 else "")
        problems.append(f"calico: pods still use its links ({some}); remove them first: kubectl drain")
    return problems


def observe(run: Run, find: FindCommand) -> list[Leftover]:
    """Devices, routes, chains, tables and sets, in the order of their removal. Reads only."""
    found = [
        Leftover(f"device {name}", [["ip", "link", "del", name]]) for name in TUNNELS if (NETWORKS / name).exists()
    ]
    shown = {version: _shown(run, version) for version in ("-4", "-6")}
    found += [item for version, listed in shown.items() for item in routes(version, listed)]
    found += _ipip(run, [route["dst"] for listed in shown.values() for _protocol, route in listed if _is_block(route)])
    found += leftovers.iptables_chains(run, find, lambda name: name.startswith(CHAINS), COMMENT)
    found += leftovers.nftables_tables(run, find, NFT_TABLES) + _sets(run, find)
    return found + [Leftover(str(path), [], str(path)) for path in sorted(Path(STATE).glob("*")) if path.is_file()]


def _shown(run: Run, version: str) -> list[tuple[str, dict[str, Any]]]:
    """(protocol, route) of Felix and of BIRD in the main table."""
    command = ["ip", version, "-json", "route", "show", "table", "main", "proto"]
    protocols = (FELIX, BIRD)
    return [
        (each, route) for each in protocols for route in json.loads(leftovers.output(run, [*command, each]) or "[]")
    ]


def _is_block(route: dict[str, Any]) -> bool:
    """A block of addresses of this node's pods: what no pod has is discarded."""
    return route.get("type") == "blackhole"


def routes(version: str, shown: list[tuple[str, dict[str, Any]]]) -> list[Leftover]:
    """Felix's, and those of a BIRD that no longer runs which have the size of this node's own blocks, or one address.

    Routes on a tunnel go with its device. Pure but for the processes.
    """
    sizes = {_size(route) for protocol, route in shown if protocol == BIRD and _is_block(route)}
    sizes |= {"32", "128"} if sizes else set()
    keeps = bool(processes.by_name(BIRDS))
    found = []
    for protocol, route in shown:
        calicos = protocol == FELIX or (not keeps and _size(route) in sizes)
        if calicos and route["dst"] != "default" and route.get("dev") not in TUNNELS:
            place = _place(route)
            command = ["ip", version, "route", "del", *place, "proto", protocol]
            found.append(Leftover(f"route {' '.join(place)} proto {protocol}", [command]))
    return found


def _size(route: dict[str, Any]) -> str:
    destination = str(route["dst"])
    return destination.partition("/")[2] or ("128" if ":" in destination else "32")


def _place(route: dict[str, Any]) -> list[str]:
    kind = [str(route["type"])] if route.get("type", "unicast") != "unicast" else []
    keys = (("gateway", "via"), ("dev", "dev"))
    hops = [word for key, option in keys if key in route for word in (option, str(route[key]))]
    # A blackhole of IPv6 is shown on a device that it can't be deleted by.
    return [*kind, str(route["dst"]), *([] if kind else hops)]


def _ipip(run: Run, blocks: list[str]) -> list[Leftover]:
    """The addresses that are in a block of this node; any other may be a load balancer's."""
    networks = [ipaddress.ip_network(block) for block in blocks]
    shown = json.loads(leftovers.output(run, ["ip", "-json", "address", "show", "dev", IPIP]) or "[]")
    have = [(entry["local"], entry["prefixlen"]) for link in shown for entry in link.get("addr_info", [])]
    found = []
    for local, length in have:
        if any(ipaddress.ip_address(local) in network for network in networks):
            command = ["ip", "address", "del", f"{local}/{length}", "dev", IPIP]
            found.append(Leftover(f"address {local} of {IPIP}", [command]))
    return found


def _sets(run: Run, find: FindCommand) -> list[Leftover]:
    """Sets of addresses, which rules refer to and which so go last."""
    ipset = find("ipset")
    if not ipset:
        return []
    names = leftovers.output(run, [ipset, "list", "-name"]).split()
    return [Leftover(f"ipset {name}", [[ipset, "destroy", name]]) for name in names if name.startswith(SETS)]
