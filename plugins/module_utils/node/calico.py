# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Calico leaves on a host when its DaemonSet is deleted. It has no clean-up of its own for all of it.

The names are those of its sources: chains and comments felix/rules/rule_defs.go, sets felix/ipsets, tables
felix/nftables. With the eBPF data plane, programs stay on the devices until the host is rebooted.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..core import leftovers, processes
from ..core.leftovers import FindCommand, Leftover
from ..core.persist import Run

NETWORKS = Path("/sys/class/net")
DAEMON = "calico-node"
PODS = "cali*"
TUNNELS = ("vxlan.calico", "vxlan-v6.calico", "wireguard.cali", "wg-v6.cali")
# The kernel's own device for IP in IP, which can't be deleted; Calico gives it an address.
IPIP = "tunl0"
CHAINS = "cali-"
COMMENT = "cali:"
SETS = ("cali40", "cali60")
NFT_TABLES = ("table ip calico", "table ip6 calico", "table arp calico-arp")
# Felix numbers its routes 80; those of BGP have the number of BIRD, which a host may run for other purposes.
FELIX, BIRD = "80", "bird"
STATE = "/var/lib/calico"
# What its CNI plugin asks the API server by, beside the configuration.
KUBECONFIG = "calico-kubeconfig"


def in_use() -> list[str]:
    """Why none of it can go yet, a line each."""
    problems = []
    running = processes.by_name((DAEMON,)).get(DAEMON, [])
    if running:
        problems.append(
            f"calico: {DAEMON} still runs here (process {', '.join(map(str, running))}); delete its DaemonSet first"
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
    found += [item for version in ("-4", "-6") for item in routes(run, version)]
    found += _ipip(run)
    found += leftovers.iptables_chains(run, find, lambda name: name.startswith(CHAINS), COMMENT)
    found += leftovers.nftables_tables(run, find, NFT_TABLES) + _sets(run, find)
    return found + [Leftover(str(path), [], str(path)) for path in sorted(Path(STATE).glob("*")) if path.is_file()]


def routes(run: Run, version: str) -> list[Leftover]:
    """Those of Felix, and those of a BIRD that no longer runs."""
    protocols = [FELIX, *([] if processes.by_name((BIRD,)) else [BIRD])]
    return [item for protocol in protocols for item in _routes_of(run, version, protocol)]


def _routes_of(run: Run, version: str, protocol: str) -> list[Leftover]:
    text = leftovers.output(run, ["ip", version, "-json", "route", "show", "table", "main", "proto", protocol])
    found = []
    for route in json.loads(text or "[]"):
        if route.get("dev") not in TUNNELS:
            place = _place(route)
            command = ["ip", version, "route", "del", *place, "proto", protocol]
            found.append(Leftover(f"route {' '.join(place)} proto {protocol}", [command]))
    return found


def _place(route: dict[str, Any]) -> list[str]:
    kind = [str(route["type"])] if route.get("type", "unicast") != "unicast" else []
    keys = (("gateway", "via"), ("dev", "dev"))
    hops = [word for key, option in keys if key in route for word in (option, str(route[key]))]
    # A blackhole of IPv6 is shown on a device that it can't be deleted by.
    return [*kind, str(route["dst"]), *([] if kind else hops)]


def _ipip(run: Run) -> list[Leftover]:
    addresses = leftovers.output(run, ["ip", "-json", "address", "show", "dev", IPIP])
    have = [entry["local"] for link in json.loads(addresses or "[]") for entry in link.get("addr_info", [])]
    if not have:
        return []
    commands = [["ip", "address", "flush", "dev", IPIP], ["ip", "link", "set", IPIP, "down"]]
    return [Leftover(f"addresses of {IPIP}: {', '.join(have)}", commands)]


def _sets(run: Run, find: FindCommand) -> list[Leftover]:
    """Sets of addresses, which rules refer to and which so go last."""
    ipset = find("ipset")
    if not ipset:
        return []
    names = leftovers.output(run, [ipset, "list", "-name"]).split()
    return [Leftover(f"ipset {name}", [[ipset, "destroy", name]]) for name in names if name.startswith(SETS)]
