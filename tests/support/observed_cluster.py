# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Observations of whole clusters, as pod_network_info returns them, of each way to connect nodes. All are healthy.

Worker N (from 1) has the underlay address 172.16.0.N+2 or fd00:16::N+2, the pod subnet 10.244.N-1.0/24 or
fd00:10:244:N-1::/64, and two pods, .5 and .6, whose links are vethN5 and vethN6.
"""

from __future__ import annotations

from typing import Any

BACKENDS = ("routes", "vxlan", "flannel", "host-gw", "ipip", "wireguard")
TUNNEL_MTU = {"vxlan": 1450, "flannel": 1450, "ipip": 1480, "wireguard": 1420}
Observation = dict[str, Any]


def cluster(backend: str, workers: int = 2, version: int = 4) -> dict[str, Observation]:
    """What all workers show, by their names."""
    return {name(number): worker(backend, number, workers, version) for number in range(1, workers + 1)}


def name(number: int) -> str:
    return f"worker-{number}"


def node(number: int, version: int = 4) -> str:
    return f"172.16.0.{number + 2}" if version == 4 else f"fd00:16::{number + 2}"


def base(number: int, version: int = 4) -> str:
    """The first address of a worker's pod subnet."""
    return f"10.244.{number - 1}.0" if version == 4 else f"fd00:10:244:{number - 1}::"


def subnet(number: int, version: int = 4) -> str:
    return f"{base(number, version)}/{24 if version == 4 else 64}"


def pod(number: int, last: int = 5, version: int = 4) -> str:
    return f"10.244.{number - 1}.{last}" if version == 4 else f"fd00:10:244:{number - 1}::{last}"


def mac(number: int) -> str:
    return f"02:00:00:00:00:{number:02x}"


def device(backend: str, version: int = 4) -> str:
    """The tunnel's device, "" where packets are routed."""
    if backend in ("vxlan", "flannel"):
        return "flannel.1" if version == 4 else "flannel-v6.1"
    return {"ipip": "flannel.ipip", "wireguard": "flannel-wg"}.get(backend, "")


def worker(backend: str, number: int, workers: int, version: int) -> Observation:
    """What one of these workers shows."""
    four, whole = version == 4, 32 if version == 4 else 128
    peers = [peer for peer in range(1, workers + 1) if peer != number]
    tunnel, mtu = device(backend, version), TUNNEL_MTU.get(backend, 1500)
    pod_network = "10.244.0.0/16" if four else "fd00:10:244::/56"
    gateway = pod(number, 1, version)
    underlay = "172.16.0.0/24" if four else "fd00:16::/64"
    router = "172.16.0.1" if four else "fd00:16::1"
    flannel = backend in ("flannel", "host-gw", "ipip", "wireguard")
    links: list[Observation] = [
        {"name": "lo", "kind": "", "mac": "00:00:00:00:00:00", "mtu": 65536, "up": True, "running": True, "master": ""},
        {
            "name": "eth0",
            "kind": "",
            "mac": f"52:54:00:00:00:{number:02x}",
            "mtu": 1500,
            "up": True,
            "running": True,
            "master": "",
        },
        {
            "name": "cni0",
            "kind": "bridge",
            "mac": "0a:00:00:00:00:01",
            "mtu": mtu,
            "up": True,
            "running": True,
            "master": "",
        },
    ]
    links += [
        {
            "name": f"veth{number}{last}",
            "kind": "veth",
            "mac": f"0e:00:00:00:0{number}:0{last}",
            "mtu": mtu,
            "up": True,
            "running": True,
            "master": "cni0",
            "hairpin": True,
            "isolated": False,
            "peer_elsewhere": True,
        }
        for last in (5, 6)
    ]
    addresses = [
        {"dev": "eth0", "address": f"{node(number, version)}/{24 if four else 64}", "scope": "global"},
        {"dev": "cni0", "address": f"{gateway}/{24 if four else 64}", "scope": "global"},
    ]
    routes = [
        {"dst": "default", "via": router, "dev": "eth0", "table": "main", "metric": 0 if four else 1024},
        {"dst": underlay, "via": "", "dev": "eth0", "table": "main", "src": node(number, version) if four else ""},
        {"dst": subnet(number, version), "via": "", "dev": "cni0", "table": "main", "src": gateway if four else ""},
    ]
    if tunnel:
        extra: Observation = {}
        if tunnel in ("flannel.1", "flannel-v6.1"):
            extra = {"vni": 1, "port": 8472, "local": node(number, version), "underlay": "eth0", "learning": False}
        kind = backend if backend in ("ipip", "wireguard") else "vxlan"
        links.append(
            {
                "name": tunnel,
                "kind": kind,
                "mac": mac(number),
                "mtu": mtu,
                "up": True,
                "running": True,
                "master": "",
                **extra,
            }
        )
        addresses.append({"dev": tunnel, "address": f"{base(number, version)}/{whole}", "scope": "global"})
    for peer in peers:
        via, dev, onlink = node(peer, version), tunnel or "eth0", bool(tunnel)
        if tunnel in ("flannel.1", "flannel-v6.1"):
            via = base(peer, version)
        if backend == "wireguard":
            continue
        routes.append(
            {"dst": subnet(peer, version), "via": via, "dev": dev, "table": "main", "onlink": onlink, "type": "unicast"}
        )
    if backend == "wireguard":
        routes.append({"dst": pod_network, "via": "", "dev": tunnel, "table": "main", "scope": "link"})
    vtep = tunnel in ("flannel.1", "flannel-v6.1")
    four_or_six = "ip" if four else "ip6"
    masquerade: Observation = {
        "place": f"nftables: table {four_or_six} weft-podnet",
        "owner": "weft.podnet",
        "rules": [
            f"{four_or_six} daddr {pod_network} return",
            f"{four_or_six} saddr {subnet(number, version)} masquerade fully-random",
        ],
    }
    if flannel:
        masquerade = {
            "place": f"{'iptables' if four else 'ip6tables'} (nft): nat, chain FLANNEL-POSTRTG",
            "owner": "flannel",
            "rules": flannel_rules(subnet(number, version), pod_network, "224.0.0.0/4" if four else "ff00::/8"),
        }
    return {
        "format": 1,
        "hostname": name(number),
        "links": links,
        "addresses": addresses,
        "routes": routes,
        "rules": [],
        "ways": {},
        "neighbours": [
            {"dst": base(peer, version), "dev": tunnel, "mac": mac(peer), "state": "permanent"}
            for peer in peers
            if vtep
        ],
        "fdb": [{"mac": mac(peer), "dev": tunnel, "dst": node(peer, version)} for peer in peers if vtep],
        "sysctls": {
            "net.ipv4.ip_forward": {"now": "1", "boot": "1", "file": ""},
            "net.ipv6.conf.all.forwarding": {"now": "1", "boot": "1", "file": ""},
            "net.bridge.bridge-nf-call-iptables": {"now": "1", "boot": "1", "file": ""},
            "net.bridge.bridge-nf-call-ip6tables": {"now": "1", "boot": "1", "file": ""},
            "net.ipv4.conf.all.rp_filter": {"now": "0", "boot": "0", "file": ""},
        },
        "kernel_modules": {"br_netfilter": {"loaded": True, "boot": ""}},
        "cni": {
            "files": [
                {
                    "name": "10-flannel.conflist" if flannel else "10-podnet.conflist",
                    "network": "cbr0" if flannel else "podnet",
                    "types": ["flannel" if flannel else "bridge", "portmap"],
                    "error": "",
                    "bridge": "cni0",
                    "subnets": [] if flannel else [subnet(number, version)],
                    "ip_masq": False,
                    "mtu": mtu,
                    "hairpin": True,
                }
            ],
            "networks": [
                {"name": "podnet", "addresses": [pod(number, last, version) for last in (5, 6)], "stale_addresses": []}
            ],
            "pods": [
                {
                    "address": pod(number, last, version),
                    "netns": f"/run/netns/cni-{number}{last}",
                    "dev": "eth0",
                    "host_dev": f"veth{number}{last}",
                    "mtu": mtu,
                    "default_route": True,
                }
                for last in (5, 6)
            ],
            "detached": [],
            "rules": [],
        },
        "masquerade": [masquerade],
        "forward": [
            {
                "place": f"{'iptables' if four else 'ip6tables'} (nft): filter, chain FORWARD",
                "policy": "drop",
                "accepts": [pod_network],
                "rejects_before": "",
            }
        ],
        "redirects": [],
        "ipsec": [],
        "firewalls": {"ufw": False, "firewalld": False},
        "flannel": {
            "net_conf": {"Network" if four else "IPv6Network": pod_network},
            "subnet_env": {"FLANNEL_NETWORK" if four else "FLANNEL_IPV6_NETWORK": pod_network},
        }
        if flannel
        else {},
    }


def flannel_rules(own: str, whole: str, multicast: str) -> list[str]:
    """What flanneld --ip-masq keeps, as iptables-save prints it (flannel pkg/trafficmngr/iptables)."""
    start, comment = "-A FLANNEL-POSTRTG", '-m comment --comment "flanneld masq"'
    return [
        f"{start} -m mark --mark 0x4000/0x4000 {comment} -j RETURN",
        f"{start} -s {own} -d {whole} {comment} -j RETURN",
        f"{start} -s {whole} -d {own} {comment} -j RETURN",
        f"{start} ! -s {whole} -d {own} {comment} -j RETURN",
        f"{start} -s {whole} ! -d {multicast} {comment} -j MASQUERADE --random-fully",
        f"{start} ! -s {whole} -d {whole} {comment} -j MASQUERADE --random-fully",
    ]


def link(observation: Observation, device_name: str) -> Observation:
    """One of its links, to be changed."""
    found: Observation = next(each for each in observation["links"] if each["name"] == device_name)
    return found


def route(observation: Observation, dst: str) -> Observation:
    """One of its routes, to be changed."""
    found: Observation = next(each for each in observation["routes"] if each["dst"] == dst)
    return found
