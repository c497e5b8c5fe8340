# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Observations as pod_network_info returns them, of three healthy workers with each backend."""

from __future__ import annotations

import copy
import ipaddress
from typing import Any

from ansible_collections.weft.podnet.plugins.module_utils.core import vtep

BACKENDS = ("bridge", "routes", "vxlan", "flannel")
NAMES = ("worker-1", "worker-2", "worker-3")
UNDERLAY = {4: "172.16.0.{}", 6: "fd00:172:16::{}"}
SUBNET = {4: "10.244.{}.0/24", 6: "fd00:10:244:{}::/64"}
POD_CIDRS = {4: "10.244.0.0/16", 6: "fd00:10:244::/48"}
OVERHEAD = {4: 50, 6: 70}
NOW = 1764214800.0

Json = dict[str, Any]


class World:
    """A cluster as it is observed; a test changes it and asks for the findings."""

    def __init__(self, backend: str, families: tuple[int, ...] = (4,), planned: bool = True) -> None:
        self.backend = backend
        self.families = families
        self.hosts: Json = {name: host(backend, number, families) for number, name in enumerate(NAMES)}
        self.unobserved: dict[str, str] = {}
        self.plan: Json = plan(backend, families) if planned else {}
        self.api: Json = api(families) if backend == "flannel" else {}
        self.workers: list[str] | None = None

    def __getitem__(self, number: int) -> Any:
        """The observation of worker 1, 2 or 3."""
        return self.hosts[f"worker-{number}"]

    def given(self) -> Json:
        """The arguments of findings.diagnose."""
        return {
            "observations": self.hosts, "unobserved": self.unobserved, "plan": self.plan, "api": self.api,
            "workers": self.workers,
        }  # fmt: skip

    def copy(self) -> World:
        return copy.deepcopy(self)


def device(family: int) -> str:
    return vtep.device_name(1, family)


def mac(number: int, family: int = 4) -> str:
    return f"0a:00:00:00:{family:02x}:{number:02x}"


def underlay(number: int, family: int = 4) -> str:
    return UNDERLAY[family].format(number + 3)


def subnet(number: int, family: int = 4) -> str:
    return str(ipaddress.ip_network(SUBNET[family].format(number)))


def first(number: int, family: int = 4, host: int = 0) -> str:
    """The node's pod subnet's own address, or one of its hosts'."""
    return str(ipaddress.ip_network(subnet(number, family)).network_address + host)


def plan(backend: str, families: tuple[int, ...]) -> Json:
    return {
        "backend": backend,
        "control_plane": "control-plane",
        "clients": [],
        "pod_cidrs": [POD_CIDRS[family] for family in families],
        "vxlan": {"vni": 1, "port": 8472, "direct_routing": False},
        "settings": {"podnet_flannel_renew_before": 30},
        "nodes": [
            {
                "name": name,
                "node_name": name,
                "node_ips": [underlay(number, family) for family in families],
                "pod_subnets": [subnet(number, family) for family in families],
                "settings": {"podnet_masquerade": True},
            }
            for number, name in enumerate(NAMES)
        ],
    }


def api(families: tuple[int, ...]) -> Json:
    found: Json = {}
    for number, name in enumerate(NAMES):
        annotations = {"kube-subnet-manager": "true", "backend-type": "vxlan"}
        for family in families:
            public, data = ("public-ip", "backend-data") if family == 4 else ("public-ipv6", "backend-v6-data")
            annotations[public] = underlay(number, family)
            annotations[data] = f'{{"VNI":1,"VtepMAC":"{mac(number, family)}"}}'
        found[name] = {
            "ready": {"status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status"},
            "pod_cidrs": [subnet(number, family) for family in families],
            "addresses": [underlay(number, family) for family in families],
            "annotations": annotations,
            "network_unavailable": False,
        }
    return found


def host(backend: str, number: int, families: tuple[int, ...]) -> Json:
    """The observation of one worker."""
    others = [other for other in range(len(NAMES)) if other != number]
    mesh = backend in ("vxlan", "flannel")
    pod_mtu = 1500 - OVERHEAD[max(families)] if mesh else 1500
    port = {"hairpin": backend != "bridge", "isolated": False, "broadcast_flood": True, "multicast_flood": True}
    seen: Json = {
        "format": 1,
        "hostname": NAMES[number],
        "machine_id": f"3f2a3f2a3f2{number}",
        "boot_id": f"0000{number}",
        "kernel": "6.1.0-18-amd64",
        "os": {"id": "debian", "version": "12", "name": "Debian GNU/Linux 12 (bookworm)"},
        "time": NOW + number,
        "problems": [],
        "links": [
            _link("lo", 1, mtu=65536),
            _link("eth0", 2, mac=f"02:00:00:00:00:{number:02x}"),
            _link("cni0", 3, kind="bridge", mac=f"02:00:00:00:01:{number:02x}", mtu=pod_mtu),
            _link("veth0123abcd", 4, kind="veth", master="cni0", peer_elsewhere=True, mtu=pod_mtu, **port),
            _link("veth4567abcd", 5, kind="veth", master="cni0", peer_elsewhere=True, mtu=pod_mtu, **port),
        ],
        "addresses": [],
        "routes": [_route("default", via="172.16.0.1", dev="eth0", owner="static")],
        "rules": [],
        "missing_rules": [],
        "ways": {},
        "neighbours": [],
        "fdb": [],
        "sysctls": {
            "net.ipv4.ip_forward": _sysctl("1"),
            "net.bridge.bridge-nf-call-iptables": _sysctl("1"),
            "net.bridge.bridge-nf-call-ip6tables": _sysctl("1"),
            "net.ipv4.conf.all.rp_filter": {"now": "0", "boot": "", "file": ""},
            "net.ipv4.conf.eth0.rp_filter": {"now": "0", "boot": "", "file": ""},
        },
        "kernel_modules": {
            "br_netfilter": {"loaded": True, "boot": "/etc/modules-load.d/weft-podnet.conf", "refused": ""},
            "vxlan": {"loaded": mesh, "boot": "", "refused": ""},
        },
        "cni": _cni(backend, number, families, pod_mtu),
        "runtime": {
            "socket": "/run/containerd/containerd.sock",
            "running": True,
            "conf_dir": "/etc/cni/net.d",
            "bin_dir": "/opt/cni/bin",
            "version": "1.6.20",
            "network_ready": True,
            "message": "",
        },
        "kubelet": {"running": True, "node_name": NAMES[number], "pod_cidr": ""},
        "masquerade": _masquerade(backend, number),
        "forward": [
            {
                "place": "iptables (nft): filter, chain FORWARD",
                "policy": "accept",
                "accepts": [POD_CIDRS[4]],
                "owner": "",
                "rejects_before": "",
            }
        ],
        "firewalls": {"ufw": False, "firewalld": False, "closed_udp": []},
        "programs": {"iptables": "/usr/sbin/iptables", "ip6tables": "/usr/sbin/ip6tables", "nft": "/usr/sbin/nft"},
        "services": [{"name": "systemd-networkd", "running": True}],
        "managers": {
            "networkd": {
                "running": True,
                "files": [
                    {
                        "path": "/etc/systemd/network/00-weft-podnet-pods.network",
                        "matches": ["cni0", "veth0123abcd"],
                        "ours": True,
                        "unmanaged": True,
                    },
                    {
                        "path": "/etc/systemd/network/10-eth0.network",
                        "matches": ["eth0"],
                        "ours": False,
                        "unmanaged": False,
                    },
                ],
                "manage_foreign_routes": False,
            },
            "network_manager": {"running": False, "unmanaged": [], "managed": []},
            "netplan": [],
        },
        "flannel": _flannel(number, families) if backend == "flannel" else _no_flannel(),
        "certificates": [
            {
                "path": "/etc/kubernetes/pki/ca.crt",
                "subject": "CN=kubernetes",
                "not_after": "2035-01-01",
                "days_left": 3000,
                "signed_by_ca": True,
            }
        ],
        "kubeconfig": {"path": "", "server": "", "user_certificate": "path", "problems": []},
        "leftovers": [],
        "ours": {
            "units": {"routes": {"weft-podnet-routes-87.service": "active"}}.get(backend, {}),
            "checkpoint_pending": "",
            "run": {"holder": "", "since": 0.0},
            "state_dir": [],
        },
    }
    if backend == "flannel":
        seen["certificates"].append(
            {
                "path": "/etc/kubernetes/pki/flannel.crt",
                "subject": "CN=system:flannel",
                "not_after": "2027-11-01",
                "days_left": 364,
                "signed_by_ca": True,
            }
        )
        seen["kubeconfig"]["path"] = "/etc/kubernetes/flannel.conf"
    for family in families:
        _connect(seen, backend, number, others, family)
    return seen


def drops(*rules: str, after: tuple[str, ...] = ()) -> list[Json]:
    """Rules that drop some packets, and those before them that accept some."""
    return [{"rule": rule, "after": list(after)} for rule in rules]


def link_of(seen: Json, name: str) -> Json:
    return next(each for each in seen["links"] if each["name"] == name)


def _connect(seen: Json, backend: str, number: int, others: list[int], family: int) -> None:
    """What one address family adds."""
    mesh = backend in ("vxlan", "flannel")
    length, single = (24, 32) if family == 4 else (64, 128)
    seen["addresses"] += [
        _address("eth0", f"{underlay(number, family)}/{length}"),
        _address("cni0", f"{first(number, family, 1)}/{length}"),
    ]
    seen["routes"] += [
        _route(UNDERLAY[family].format(0) + "/24" if family == 4 else "fd00:172:16::/64", dev="eth0", owner="kernel"),
        _route(subnet(number, family), dev="cni0", owner="kernel"),
    ]
    if family == 6:
        seen["sysctls"]["net.ipv6.conf.all.forwarding"] = _sysctl("1")
        seen["forward"].append(
            {
                "place": "ip6tables (nft): filter, chain FORWARD",
                "policy": "accept",
                "accepts": [],
                "owner": "",
                "rejects_before": "",
            }
        )
    if mesh:
        seen["links"].append(
            _link(
                device(family),
                6 + family,
                kind="vxlan",
                mac=mac(number, family),
                # flanneld's devices have what it gives pods.
                mtu=1500 - OVERHEAD[family] if backend == "vxlan" else link_of(seen, "cni0")["mtu"],
                vni=1,
                port=8472,
                local=underlay(number, family),
                underlay="eth0",
                learning=False,
                ours=backend == "vxlan",
                tx_checksum=True,
            )
        )
        seen["addresses"].append(_address(device(family), f"{first(number, family)}/{single}"))
        if family == 6:
            # IPv4 has such a route in the table local.
            own = _route(f"{first(number, family)}/{single}", dev=device(family), owner="kernel")
            seen["routes"].append(own)
        if backend == "vxlan":
            seen["ours"]["units"][f"weft-podnet-vxlan-{device(family)}.service"] = "active"
    for other in others:
        reached = underlay(other, family)
        seen["ways"][reached] = {
            "dst": UNDERLAY[family].format(0) + "/24" if family == 4 else "fd00:172:16::/64",
            "via": "",
            "dev": "eth0",
            "local": False,
            "src": underlay(number, family),
            "mtu": 1500,
        }
        seen["neighbours"].append(
            {"dst": reached, "dev": "eth0", "mac": f"02:00:00:00:00:{other:02x}", "state": "reachable"}
        )
        if backend == "routes":
            seen["routes"].append(
                _route(subnet(other, family), via=reached, dev="eth0", owner="weft.podnet", protocol=87)
            )
        if mesh:
            vtep = first(other, family)
            owner = {"flannel": "boot", "vxlan": "weft.podnet"}[backend]
            seen["routes"].append(_route(subnet(other, family), via=vtep, dev=device(family), owner=owner, onlink=True))
            seen["neighbours"].append(
                {"dst": vtep, "dev": device(family), "mac": mac(other, family), "state": "permanent"}
            )
            seen["fdb"].append({"mac": mac(other, family), "dev": device(family), "dst": reached})


def _link(name: str, index: int, **more: Any) -> Json:
    plain = {"kind": "", "mac": "", "mtu": 1500, "up": True, "running": True, "master": "", "peer_elsewhere": False}
    return {"name": name, "index": index, **plain, **more}


def _address(dev: str, address: str) -> Json:
    return {"dev": dev, "address": address, "scope": "global", "dynamic": False, "tentative": False}


def _route(dst: str, **more: Any) -> Json:
    plain = {"via": "", "dev": "", "table": "main", "metric": 0, "protocol": 0, "type": "unicast", "scope": "global"}
    return {"dst": dst, **plain, "onlink": False, "nhid": 0, "src": "", "owner": "", **more}


def _sysctl(value: str) -> Json:
    return {"now": value, "boot": value, "file": "/etc/sysctl.d/zz-weft-podnet.conf"}


def _cni(backend: str, number: int, families: tuple[int, ...], pod_mtu: int) -> Json:
    plain = {"cni_version": "1.0.0", "error": "", "ours": True}
    loopback = {
        **plain,
        "name": "99-loopback.conf",
        "network": "lo",
        "types": ["loopback"],
        "bridge": "",
        "subnets": [],
    }
    bridge = {
        **plain,
        "name": "10-bridge.conf" if backend == "bridge" else "10-bridge.conflist",
        "network": "bridge",
        "types": ["bridge"] if backend == "bridge" else ["bridge", "portmap"],
        "bridge": "cni0",
        "subnets": [subnet(number, family) for family in families],
        "ip_masq": backend == "bridge",
        "mtu": pod_mtu if backend == "vxlan" else 0,
        "hairpin": backend != "bridge",
        "ipam": "host-local",
        "default_route": True,
    }
    flannel = {
        **plain,
        "name": "10-flannel.conflist",
        "network": "cbr0",
        "types": ["flannel", "portmap"],
        "bridge": "",
        "subnets": [],
        "hairpin": True,
        "default_route": True,
    }
    used = flannel if backend == "flannel" else bridge
    addresses = [first(number, 4, 5), first(number, 4, 6)]
    return {
        "conf_dir": "/etc/cni/net.d",
        "bin_dir": "/opt/cni/bin",
        "files": [used, *([] if backend == "flannel" else [loopback])],
        "loaded": used["name"],
        "broken": "",
        "plugins": {
            name: {
                "path": f"/opt/cni/bin/{name}",
                "target": f"/usr/lib/cni/{name}",
                "executable": True,
                "versions": ["0.3.1", "0.4.0", "1.0.0"],
            }
            for name in ("bridge", "host-local", "loopback", "portmap", *(["flannel"] if backend == "flannel" else []))
        },
        "networks": [
            {
                "name": used["network"],
                "directory": f"/var/lib/cni/networks/{used['network']}",
                "configured": True,
                "leases": 2,
                "stale": 0,
                "stale_addresses": [],
                "live": 2,
                "capacity": 253,
                "duplicates": [],
                "addresses": addresses,
            }
        ],
        "pods": [
            {
                "address": address,
                "netns": f"/run/netns/cni-{address}",
                "dev": "eth0",
                "host_dev": link,
                "mtu": pod_mtu,
                "default_route": True,
            }
            for address, link in zip(addresses, ("veth0123abcd", "veth4567abcd"), strict=True)
        ],
        "detached": [],
        "rules": [{"kind": "masquerade", "container": "c" * 64, "network": used["network"], "live": True}]
        if backend == "bridge"
        else [],
    }


def _masquerade(backend: str, number: int) -> list[Json]:
    own, whole = subnet(number), POD_CIDRS[4]
    found: list[Json] = [
        {"place": "iptables (nft): nat, chain KUBE-POSTROUTING", "owner": "kube-proxy", "rules": ["1 rule"]}
    ]
    if backend in ("routes", "vxlan"):
        rules = ["ip daddr 224.0.0.0/4 return", f"ip daddr {whole} return", f"ip saddr {own} masquerade"]
        found.append({"place": "nftables: table ip weft-podnet", "owner": "weft.podnet", "rules": rules})
    if backend == "flannel":
        rules = [f"-s {own} -d {whole} -j RETURN", f"-s {whole} ! -d 224.0.0.0/4 -j MASQUERADE --random-fully"]
        found.append({"place": "iptables (nft): nat, chain FLANNEL-POSTRTG", "owner": "flannel", "rules": rules})
    if backend == "bridge":
        found.append({"place": "iptables (nft): nat, chains CNI-*", "owner": "cni", "rules": ["2 chains"]})
    return found


def net_conf(families: tuple[int, ...]) -> Json:
    conf: Json = {"EnableNFTables": False, "Backend": {"Type": "vxlan"}}
    four = {"Network": POD_CIDRS[4]} if 4 in families else {"EnableIPv4": False}
    six = {"IPv6Network": POD_CIDRS[6], "EnableIPv6": True, "Backend": {"Type": "vxlan", "MTU": 1480}}
    return {**conf, **four, **(six if 6 in families else {})}


def _flannel(number: int, families: tuple[int, ...]) -> Json:
    environment: dict[str, str] = {}
    if 4 in families:
        environment |= {"FLANNEL_NETWORK": POD_CIDRS[4], "FLANNEL_SUBNET": f"{first(number, 4, 1)}/24"}
    if 6 in families:
        environment |= {"FLANNEL_IPV6_NETWORK": POD_CIDRS[6], "FLANNEL_IPV6_SUBNET": f"{first(number, 6, 1)}/64"}
    arguments = [
        "--kube-subnet-mgr",
        "--kubeconfig-file=/etc/kubernetes/flannel.conf",
        "--ip-masq",
        f"--iface={underlay(number, min(families))}",
        *([f"--public-ipv6={underlay(number, 6)}"] if families == (4, 6) else []),
    ]
    return {
        "unit": {
            "exists": True,
            "ours": True,
            "enabled": True,
            "active": "active",
            "type": "notify",
            "start_timeout": 120,
            "node_name": NAMES[number],
            "arguments": arguments,
            "restarts": 0,
            "since": 1764200000.0,
        },
        "processes": [{"pid": 1234, "ours": True, "version": "v0.27.2", "arguments": arguments}],
        "net_conf_path": "/etc/kube-flannel/net-conf.json",
        "net_conf": net_conf(families),
        "net_conf_problems": [],
        "subnet_env": {**environment, "FLANNEL_MTU": str(1500 - OVERHEAD[max(families)]), "FLANNEL_IPMASQ": "true"},
        "journal": [],
        "meanings": [],
    }


def _no_flannel() -> Json:
    unit = {"exists": False, "ours": False, "enabled": False, "active": "inactive"}
    return {"unit": unit, "processes": [], "net_conf": {}, "net_conf_problems": [], "subnet_env": {}, "journal": []}
