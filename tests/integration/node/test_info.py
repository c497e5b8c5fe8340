# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pod_network_info on hosts of network namespaces: each value compared, hostile files, and nothing is changed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.weft.podnet.plugins.module_utils.pki import certs as pki_certs
from support.cni import PLUGINS, Node
from support.lab import until
from support.modules import CHECKOUT, run_module
from support.mounts import Mounts
from support.netns import Namespace, connect
from support.observations import drops
from support.pki import CA
from support.vxlan import mesh

POD_NETWORK = {
    "cniVersion": "1.0.0",
    "name": "podnet",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipMasq": True,
            "hairpinMode": True,
            "mtu": 1450,
            "ipam": {"type": "host-local", "subnet": "10.99.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]},
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}
FILTERS = """
table inet guard {
  chain forward {
    type filter hook forward priority 10; policy drop;
    ct state established,related accept
    ip saddr 10.99.0.0/16 accept
    ip daddr 10.99.0.0/16 accept comment "drop"
    iifname "eth9" drop
    jump late
  }
  chain late {
    counter reject with icmpx admin-prohibited
  }
}
table ip weft-podnet {
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip daddr 10.99.0.0/16 return
    ip saddr 10.99.0.0/24 masquerade fully-random
  }
}
"""
HOUR = 3600


class Host:
    """A node with a pod made by the real bridge plugin, a mesh, routes and rules of several kinds."""

    def __init__(self, mounts: Mounts, host: Namespace, pod: Namespace, state: Path) -> None:
        self.mounts, self.host, self.pod, self.state = mounts, host, pod, state
        self.etc = mounts.path("/etc")
        self.conf = self.etc / "cni/net.d"
        self.netns = host.path

    def info(self, check: bool = False, **args: Any) -> dict[str, Any]:
        result = self.mounts.run("pod_network_info", self.netns, check, bin_dir=str(PLUGINS), **args)
        assert not result["failed"] and result["changed"] is False, result
        return dict(result["host"])

    def put(self, path: str, text: str | bytes) -> Path:
        place = self.mounts.path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text.encode() if isinstance(text, str) else text)
        return place

    def everything(self) -> dict[str, Any]:
        """The full state of the network, and the hashes of all files that a run could touch."""
        found: dict[str, Any] = {}
        for words in (
            ("link", "show"),
            ("address", "show"),
            *((version, "route", "show", "table", "all") for version in ("-4", "-6")),
            *((version, "rule", "show") for version in ("-4", "-6")),
            ("neigh", "show", "nud", "all"),
            ("nexthop", "show"),
            ("netns", "list-id"),
        ):
            # Timers run, and neighbours age, whoever looks.
            text = re.sub(r"\w+_timer +\S+|\b(REACHABLE|STALE|DELAY|PROBE)\b", "", self.host.ip("-d", *words))
            # The kernel's own entries for multicast go when they have not been used for a while.
            found[" ".join(words)] = sorted(line for line in text.splitlines() if "NOARP" not in line)
        found["fdb"] = sorted(self.host.bridge("-d", "fdb", "show").splitlines())
        found["bridge"] = self.host.bridge("-d", "link", "show")
        found["nft"] = self.host.run("nft", "-s", "list", "ruleset")
        for name in ("ip_tables_names", "ip6_tables_names"):
            found[name] = self.host.run("sh", "-c", f"cat /proc/net/{name} 2>/dev/null || true")
        for folder in ("/etc", "/run", "/var/lib/cni"):
            root = self.mounts.path(folder)
            for path in sorted([root, *root.rglob("*")]) if root.exists() else []:
                if path.is_file() and not path.is_symlink():
                    found[str(path)] = (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
                else:
                    found[str(path)] = path.lstat().st_mode if os.path.lexists(path) else None
        return found


def lease(folder: Path, address: str, container: str, age: float) -> None:
    path = folder / address
    path.write_text(f"{container}\r\neth0")
    moment = time.time() - age
    os.utime(path, (moment, moment))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Host]:
    with (
        Namespace() as host,
        Namespace() as peer,
        Namespace() as pod,
        Mounts(tmp_path) as mounts,
    ):
        state = tmp_path / "cni-state"
        state.mkdir()
        mounts.sh(f"mkdir -p /var/lib/cni && mount --bind {state} /var/lib/cni")
        mounts.sh("rm -rf /etc/cni /etc/sysctl.d /etc/modules-load.d && mkdir -p /etc/cni/net.d /etc/sysctl.d")
        connect(host, "172.31.0.11/24", peer, "172.31.0.12/24")
        host.ip("route", "add", "default", "via", "172.31.0.1", "mtu", "1400")
        made = Host(mounts, host, pod, state)
        made.put("/etc/cni/net.d/10-bridge.conflist", json.dumps(POD_NETWORK))
        made.put("/etc/cni/net.d/20-torn.conf", '{"type": "bri')
        made.put("/etc/modules-load.d/weft-podnet.conf", "br_netfilter\n")
        # The plugins themselves look for their leases where the test's own mounts are not.
        given = json.loads(json.dumps(POD_NETWORK))
        given["plugins"][0]["ipam"]["dataDir"] = str(state / "networks")
        (state / "networks").mkdir()
        Node.plugin(_Plugged(host, pod), "ADD", given)
        host.bridge("link", "set", "dev", veth(host), "isolated", "on", "mcast_flood", "off")
        # The runtime was killed before it took this one off its network.
        lease(state / "networks/podnet", "10.99.0.7", "lost", HOUR)
        (state / "networks/gone").mkdir()
        lease(state / "networks/gone", "10.98.0.2", "old", HOUR)
        yield made


class _Plugged(Node):
    """Only what ``Node.plugin`` needs."""

    def __init__(self, host: Namespace, pod: Namespace) -> None:
        self.host, self.pod = host, pod


def veth(host: Namespace) -> str:
    """The host's end of the pod's link."""
    (name,) = [link["ifname"] for link in host.ip_json("link", "show", "master", "cni0")]
    return str(name)


def only(found: list[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    """The one entry with these values."""
    fitting = [each for each in found if all(each.get(key) == value for key, value in wanted.items())]
    assert len(fitting) == 1, (wanted, found)
    return fitting[0]


def test_links_routes_and_peers(node: Host) -> None:
    host = node.host
    assert mesh(host)["changed"]
    host.ip("link", "add", "vx9", "type", "vxlan", "id", "9", "local", "172.31.0.11", "dstport", "4789")
    # What IPv6 sends by itself goes there: nobody answers, which would show a few seconds later.
    host.ip("neigh", "add", "172.31.0.77", "lladdr", "02:00:00:00:00:77", "dev", "eth0", "nud", "permanent")
    host.ip("link", "set", "vx9", "up")
    host.bridge("fdb", "append", "00:00:00:00:00:00", "dev", "vx9", "dst", "172.31.0.77")
    host.ip("neigh", "add", "10.9.9.9", "lladdr", "02:00:00:00:00:09", "dev", "vx9", "nud", "permanent")
    host.ip("route", "add", "10.50.0.0/16", "via", "172.31.0.12", "proto", "static", "metric", "7")
    host.ip("route", "add", "blackhole", "10.51.0.0/16", "proto", "186")
    host.ip(
        *("route", "add", "10.52.0.0/16", "table", "100", "proto", "200"),
        *("nexthop", "via", "172.31.0.12", "weight", "1", "nexthop", "via", "172.31.0.13", "weight", "1"),
    )
    host.ip("route", "add", "10.53.0.0/16", "via", "172.31.0.12", "proto", "87", "src", "172.31.0.11")
    host.ip("rule", "add", "from", "10.99.0.0/24", "fwmark", "0x20/0xff", "lookup", "100", "priority", "99")
    host.ip("-6", "rule", "add", "to", "fd00::/8", "iif", "eth0", "unreachable", "priority", "5")
    host.ip("neigh", "add", "172.31.0.99", "dev", "eth0", "nud", "failed")
    host.ip("neigh", "add", "172.31.0.12", "lladdr", "02:00:00:00:00:12", "dev", "eth0", "nud", "stale")

    found = node.info(ways=["172.31.0.12", "172.31.0.11", "10.51.0.1", "1.2.3.4", "fd77::1"])
    links, end = {link["name"]: link for link in found["links"]}, veth(host)
    shown = {link["ifname"]: link for link in host.ip_json("-d", "link", "show")}
    for name, link in links.items():
        assert (link["mac"], link["mtu"]) == (
            shown[name]["address"] if name != "lo" else link["mac"],
            shown[name]["mtu"],
        )
        assert link["up"] == ("UP" in shown[name]["flags"]) and link["index"] == shown[name]["ifindex"]
    assert set(links) == set(shown) and links["cni0"]["kind"] == "bridge"
    port = {
        "kind": "veth",
        "master": "cni0",
        "hairpin": True,
        "isolated": True,
        "port_state": "forwarding",
        "broadcast_flood": True,
        "multicast_flood": False,
        "peer_elsewhere": True,
    }
    assert {key: links[end][key] for key in port} == port
    assert "hairpin" not in links["eth0"] and not links["eth0"]["master"]
    tunnel = {"kind": "vxlan", "vni": 1, "port": 8472, "local": "172.31.0.11", "underlay": "eth0", "learning": False}
    assert links["flannel.1"].items() >= {**tunnel, "ours": True, "tx_checksum": True}.items()
    assert links["vx9"].items() >= {"vni": 9, "port": 4789, "underlay": "", "learning": True, "ours": False}.items()
    assert found["fdb"] == [
        {"mac": "5e:0a:77:82:8c:24", "dev": "flannel.1", "dst": "172.31.0.12"},
        {"mac": "00:00:00:00:00:00", "dev": "vx9", "dst": "172.31.0.77"},
    ]
    assert found["neighbours"] == [
        {"dst": "172.31.0.12", "dev": "eth0", "mac": "02:00:00:00:00:12", "state": "stale"},
        {"dst": "172.31.0.77", "dev": "eth0", "mac": "02:00:00:00:00:77", "state": "permanent"},
        {"dst": "172.31.0.99", "dev": "eth0", "mac": "", "state": "failed"},
        {"dst": "10.244.1.0", "dev": "flannel.1", "mac": "5e:0a:77:82:8c:24", "state": "permanent"},
        {"dst": "10.9.9.9", "dev": "vx9", "mac": "02:00:00:00:00:09", "state": "permanent"},
    ]
    assert only(found["addresses"], dev="eth0", address="172.31.0.11/24") == {
        "dev": "eth0",
        "address": "172.31.0.11/24",
        "scope": "global",
        "dynamic": False,
        "tentative": False,
    }
    routes = {route["dst"]: route for route in found["routes"] if route["version"] == 4}
    standard = {"table": "main", "type": "unicast", "metric": 0, "onlink": False, "nhid": 0, "src": "", "version": 4}
    assert routes["10.50.0.0/16"] == {
        **standard,
        "dst": "10.50.0.0/16",
        "via": "172.31.0.12",
        "dev": "eth0",
        "metric": 7,
        "protocol": 4,
        "scope": "global",
        "owner": "static",
    }
    assert routes["10.51.0.0/16"].items() >= {"type": "blackhole", "via": "", "dev": "", "owner": "bgp"}.items()
    several = {"table": "100", "via": "172.31.0.12", "dev": "eth0", "protocol": 200, "owner": "200"}
    several["hops"] = [{"via": "172.31.0.12", "dev": "eth0"}, {"via": "172.31.0.13", "dev": "eth0"}]
    assert routes["10.52.0.0/16"].items() >= several.items()
    assert routes["10.53.0.0/16"].items() >= {"owner": "weft.podnet", "src": "172.31.0.11"}.items()
    peer = {"via": "10.244.1.0", "dev": "flannel.1", "owner": "weft.podnet", "onlink": True}
    assert routes["10.244.1.0/24"].items() >= peer.items() and routes["10.244.1.0/24"]["nhid"] > 0
    assert routes["172.31.0.0/24"].items() >= {"owner": "kernel", "scope": "link", "src": "172.31.0.11"}.items()
    assert routes["default"].items() >= {"via": "172.31.0.1", "owner": "boot"}.items()
    assert [(rule["version"], rule["priority"], rule["action"]) for rule in found["rules"]] == [
        (4, 99, "lookup"),
        (6, 5, "unreachable"),
    ]
    assert found["rules"][0].items() >= {"from": "10.99.0.0/24", "to": "", "table": "100"}.items()
    assert (found["rules"][0]["fwmark"], found["rules"][0]["fwmask"]) == (32, 255)
    assert found["rules"][1].items() >= {"to": "fd00::/8", "iif": "eth0", "table": ""}.items()
    assert found["missing_rules"] == []
    # One that is moved is there; one for some packets alone is not.
    host.ip("rule", "add", "priority", "100", "lookup", "local")
    host.ip("rule", "del", "priority", "0")
    host.ip("-6", "rule", "del", "priority", "32766")
    host.ip("-6", "rule", "add", "priority", "200", "to", "fd00::/8", "lookup", "main")
    assert node.info()["missing_rules"] == [{"version": 6, "table": "main"}]
    ways = found["ways"]
    mine = {"dst": "172.31.0.0/24", "via": "", "dev": "eth0", "local": False, "src": "172.31.0.11", "mtu": 1500}
    assert ways["172.31.0.12"] == mine
    assert ways["172.31.0.11"]["local"] and ways["1.2.3.4"]["dst"] == "default"
    assert ways["1.2.3.4"]["via"] == "172.31.0.1" and ways["1.2.3.4"]["mtu"] == 1400
    assert "blackhole" in ways["10.51.0.1"]["error"] and ways["fd77::1"]["error"]
    assert found["leftovers"] == []
    assert [problem for problem in found["problems"] if "20-torn" not in problem] == []


def test_cni(node: Host) -> None:
    node.put("/etc/cni/net.d/15-flannel.conflist", json.dumps({"name": "cbr0", "plugins": [{"type": "flannel"}]}))
    node.put("/etc/cni/net.d/readme.txt", "no configuration")
    (address,) = [each["addr_info"][0]["local"] for each in node.pod.ip_json("-4", "addr", "show", "eth0")]
    found = node.info()["cni"]
    assert found["conf_dir"] == "/etc/cni/net.d" and found["bin_dir"] == str(PLUGINS)
    assert [each["name"] for each in found["files"]] == ["10-bridge.conflist", "15-flannel.conflist", "20-torn.conf"]
    assert found["files"][0] == {
        "name": "10-bridge.conflist",
        "network": "podnet",
        "types": ["bridge", "portmap"],
        "cni_version": "1.0.0",
        "error": "",
        "ours": True,
        "bridge": "cni0",
        "subnets": ["10.99.0.0/24"],
        "ip_masq": True,
        "mtu": 1450,
        "hairpin": True,
        "ipam": "host-local",
        "default_route": True,
        "chained": POD_NETWORK["plugins"][1:],
    }
    # What flanneld alone decides is left out where it has not written subnet.env.
    assert "ip_masq" not in found["files"][1] and found["files"][1]["subnets"] == []
    assert "no JSON" in found["files"][2]["error"]
    assert found["loaded"] == "10-bridge.conflist" and found["broken"] == ""
    assert set(found["plugins"]) == {"bridge", "flannel", "host-local", "portmap"}
    assert "1.0.0" in found["plugins"]["bridge"]["versions"]
    missing = {"path": "", "target": "", "executable": False, "versions": []}
    assert found["plugins"]["flannel"] == missing
    podnet = only(found["networks"], name="podnet")
    assert podnet == {
        "name": "podnet",
        "directory": "/var/lib/cni/networks/podnet",
        "configured": True,
        "unwritable": "",
        "leases": 2,
        "stale": 1,
        "stale_addresses": ["10.99.0.7"],
        "live": 1,
        "capacity": 253,
        "duplicates": [],
        "addresses": [address],
    }
    assert only(found["networks"], name="gone").items() >= {"configured": False, "stale": 1, "live": 0}.items()
    assert found["pods"] == [
        {
            "address": address,
            "netns": str(node.pod.path),
            "dev": "eth0",
            "host_dev": veth(node.host),
            "mtu": 1450,
            "default_route": True,
        }
    ]
    assert found["detached"] == []
    masquerade = {"kind": "masquerade", "container": node.pod.name, "network": "podnet", "live": True}
    assert masquerade in found["rules"]


def test_a_pod_without_a_bridge_and_two_pods_of_one_address(node: Host) -> None:
    end = veth(node.host)
    node.host.ip("link", "set", end, "nomaster")
    (address,) = [each["addr_info"][0]["local"] for each in node.pod.ip_json("-4", "addr", "show", "eth0")]
    with Namespace() as twin, Namespace() as nested:
        # A host in a container with a pod network of the same addresses, as a node of kind has it.
        nested.ip("link", "add", "cni0", "type", "bridge")
        nested.ip("addr", "add", f"{address}/24", "dev", "cni0")
        node.host.ip("link", "add", "veth0000beef", "type", "veth", "peer", "name", "eth0", "netns", twin.name)
        twin.ip("addr", "add", f"{address}/24", "dev", "eth0")
        found = node.info()["cni"]
    assert end in found["detached"] and only(found["networks"], name="podnet")["duplicates"] == [address]
    assert {pod["host_dev"] for pod in found["pods"]} == {end, "veth0000beef"}


def test_a_pod_that_is_not_as_its_plugin_made_it(node: Host) -> None:
    pod = node.pod
    pod.ip("addr", "add", "fd00:99::2/64", "dev", "eth0", "nodad")
    pod.ip("link", "add", "tun9", "type", "bridge")
    pod.ip("link", "set", "tun9", "up")
    pod.ip("route", "replace", "default", "dev", "tun9")
    pod.ip("link", "set", "eth0", "arp", "off")
    four, six = sorted(node.info()["cni"]["pods"], key=lambda each: ":" in each["address"])
    # By another link, and by none.
    assert "default_route" not in four and six["default_route"] is False
    assert four["arp"] is six["arp"] is False and "up" not in four
    pod.ip("link", "set", "eth0", "down")
    (four,) = node.info()["cni"]["pods"]
    assert four["up"] is False


def test_static_entries_of_the_bridge(node: Host) -> None:
    host, port = node.host, veth(node.host)
    host.ip("link", "add", "veth0000beef", "type", "veth", "peer", "name", "other")
    host.ip("link", "set", "veth0000beef", "master", "cni0", "up")
    (link,) = node.pod.ip_json("link", "show", "eth0")
    mac = link["address"]

    def seen() -> tuple[dict[str, Any], dict[str, Any]]:
        found = node.info()
        rows = (found["cni"]["pods"][0], only(found["links"], name="cni0"))
        pod, bridge = ({key: each[key] for key in each if key.startswith("fdb_")} for each in rows)
        return pod, bridge

    # Where the pod is, whoever says so.
    host.bridge("fdb", "replace", mac, "dev", port, "master", "static")
    assert seen() == ({}, {})
    # Without "sticky", the entry moves with the pod's next frame.
    host.bridge("fdb", "replace", mac, "dev", "veth0000beef", "master", "static", "sticky")
    assert seen() == ({"fdb_mac": mac, "fdb_dev": "veth0000beef", "fdb_local": False}, {})
    host.bridge("fdb", "del", mac, "dev", "veth0000beef", "master")
    host.bridge("fdb", "replace", mac, "dev", port, "master", "permanent")
    assert seen() == ({"fdb_mac": mac, "fdb_dev": port, "fdb_local": True}, {})
    host.bridge("fdb", "del", mac, "dev", port, "master")
    # Without "master", it is an entry of the bridge as a device.
    host.bridge("fdb", "replace", mac, "dev", "cni0")
    assert seen() == ({"fdb_mac": mac, "fdb_dev": "cni0", "fdb_local": True}, {})
    host.bridge("fdb", "del", mac, "dev", "cni0", "self")
    (link,) = host.ip_json("link", "show", "cni0")
    own = link["address"]
    host.bridge("fdb", "replace", own, "dev", port, "master", "static")
    assert seen() == ({}, {"fdb_mac": own, "fdb_dev": port, "fdb_local": False})
    host.bridge("fdb", "replace", own, "dev", "cni0", "self")
    assert seen() == ({}, {})


def test_an_address_that_another_host_has(node: Host) -> None:
    host, pod = node.host, node.pod
    pod.ip("addr", "add", "fd00:99::1/64", "dev", "eth0", "nodad")
    host.run("sysctl", "-qw", "net.ipv6.conf.cni0.disable_ipv6=0", "net.ipv6.conf.cni0.accept_dad=1")
    host.ip("addr", "add", "fd00:99::1/64", "dev", "cni0")
    host.ip("addr", "add", "fd00:99::3/64", "dev", "cni0", "nodad")

    def judged() -> dict[str, Any]:
        return {each["address"]: each for each in node.info()["addresses"]}

    assert until(lambda: judged()["fd00:99::1/64"].get("duplicate") is True, 20)
    assert "duplicate" not in judged()["fd00:99::3/64"]


def test_packet_filters(node: Host) -> None:
    host = node.host
    host.run("sh", "-c", f"nft -f - <<'END'\n{FILTERS}\nEND")
    host.run("iptables-nft", "-P", "FORWARD", "DROP")
    host.run("iptables-nft", "-N", "DOCKER-USER")
    for rule in (
        "FORWARD -j DOCKER-USER",
        "FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "FORWARD -i cni0 -j ACCEPT",
        "FORWARD -o cni0 -m comment --comment x -j ACCEPT",
        "FORWARD -j REJECT",
        "FORWARD -s 10.1.0.0/16 -j ACCEPT",
        "FORWARD -d 10.1.0.0/16 -j ACCEPT",
    ):
        host.run("iptables-nft", "-A", *rule.split())
    host.run("iptables-nft", "-t", "nat", "-N", "FLANNEL-POSTRTG")
    for rule in (
        "FLANNEL-POSTRTG -s 10.99.0.0/16 -d 10.99.0.0/16 -j RETURN",
        "FLANNEL-POSTRTG -s 10.99.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE --random-fully",
        "POSTROUTING -j FLANNEL-POSTRTG",
        "POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
    ):
        host.run("iptables-nft", "-t", "nat", "-A", *rule.split())
    host.run("iptables-legacy", "-P", "FORWARD", "ACCEPT")
    host.run("iptables-legacy", "-A", "FORWARD", "-s", "10.3.0.0/16", "-j", "DROP")
    found = node.info()
    assert found["forward"] == [
        {
            "place": "iptables (legacy): filter, chain FORWARD",
            "hook": "forward",
            "policy": "accept",
            "accepts": [],
            "owner": "",
            "rejects_before": "",
            "drops": drops("-s 10.3.0.0/16 -j DROP"),
            "may_accept": [],
        },
        {
            "place": "iptables (nft): filter, chain FORWARD",
            "hook": "forward",
            "policy": "drop",
            "accepts": ["10.99.0.0/24"],
            "owner": "docker",
            "rejects_before": "-j REJECT --reject-with icmp-port-unreachable",
            "drops": [],
            "may_accept": [],
        },
        {
            "place": "nftables: table inet guard, chain forward",
            "hook": "forward",
            "policy": "drop",
            "accepts": ["10.99.0.0/16"],
            "owner": "",
            "rejects_before": "counter reject with icmpx admin-prohibited",
            "drops": drops(
                'iifname "eth9" drop',
                after=("ip saddr 10.99.0.0/16 accept", "ip daddr 10.99.0.0/16 accept"),
            ),
            "may_accept": [],
        },
    ]
    places = {place["place"]: place for place in found["masquerade"]}
    assert places["nftables: table ip weft-podnet"] == {
        "place": "nftables: table ip weft-podnet",
        "owner": "weft.podnet",
        "rules": ["ip daddr 10.99.0.0/16 return", "ip saddr 10.99.0.0/24 masquerade fully-random"],
    }
    flannel = places["iptables (nft): nat, chain FLANNEL-POSTRTG"]
    assert flannel["owner"] == "flannel" and len(flannel["rules"]) == 2
    assert (
        places["iptables (nft): nat, chain POSTROUTING"].items()
        >= {
            "owner": "docker",
            "rules": ["-s 172.17.0.0/16 ! -o docker0 -j MASQUERADE"],
        }.items()
    )
    assert places["iptables (nft): nat, chains CNI-*"].items() >= {"owner": "cni", "rules": ["1 chains"]}.items()
    assert found["firewalls"] == {"ufw": False, "firewalld": False, "closed_udp": []}
    assert only(found["leftovers"], of="flannel")["what"] == "iptables (nft): nat, chain FLANNEL-POSTRTG"


def test_a_port_of_a_tunnel_that_is_yet_to_be_made(node: Host) -> None:
    node.host.run("iptables", "-A", "INPUT", "-i", "eth0", "-p", "udp", "--dport", "8472", "-j", "DROP")
    place = "iptables (nft): filter, chain INPUT"

    def closed(port: int, way: str) -> Any:
        return node.info(ways=[way], tunnel_ports=[port])["firewalls"]["closed_udp"]

    assert closed(8472, "172.31.0.12") == [{"port": 8472, "place": place, "out": False, "peer": ""}]
    assert closed(4789, "172.31.0.12") == closed(8472, "127.0.0.1") == []
    # That of a device is there once.
    node.host.ip("link", "add", "flannel.1", "type", "vxlan", "id", "1", "dev", "eth0", "dstport", "8472")
    assert closed(8472, "172.31.0.12") == node.info()["firewalls"]["closed_udp"] == closed(8472, "127.0.0.1") != []


def test_switches_and_managers(node: Host) -> None:
    host = node.host
    host.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    host.ip("link", "add", "flannel.7", "type", "vxlan", "id", "7", "dev", "eth0", "dstport", "8472")
    node.put("/etc/sysctl.d/99-podnet.conf", "net.ipv4.ip_forward = 1\n")
    node.put("/etc/sysctl.d/zz-hardening.conf", "net/ipv4/ip_forward=0\nnet.ipv4.conf.*.rp_filter = 2\n")
    node.put("/etc/systemd/network/10-all.network", "[Match]\nType=ether\n\n[Network]\nDHCP=yes\n")
    host.ip("link", "property", "add", "dev", "flannel.7", "altname", "tunnel-of-pods")
    node.put("/etc/systemd/network/06-alt.network", "[Match]\nName=tunnel-*\n")
    node.put("/etc/systemd/network/05-cni.network", "[Match]\nName=cni*\n\n[Link]\nUnmanaged=yes\n")
    node.put("/etc/systemd/networkd.conf.d/x.conf", "[Network]\nManageForeignRoutes=no\n")
    node.put("/etc/NetworkManager/conf.d/a.conf", "[keyfile]\nunmanaged-devices=interface-name:flannel*;mac:02:00\n")
    for name, text in (
        ("systemd-networkd.service", "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\n"),
        ("ufw.service", "LoadState=loaded\nActiveState=inactive\nUnitFileState=disabled\n"),
        (
            "flanneld.service",
            "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\nNRestarts=0\nMainPID=0\nType=notify\n"
            "TimeoutStartUSec=10min\nEnvironment=ETCD_PASSWORD=secret NODE_NAME=worker-1\n"
            "ExecStart={ path=/usr/local/bin/flanneld ; argv[]=/usr/local/bin/flanneld --kube-subnet-mgr "
            "--net-config-path=/etc/flannel/net-conf.json --etcd-password=secret ; ignore_errors=no }\n",
        ),
    ):
        (node.mounts.units / f"show-{name}").write_text(text)
    node.put(
        "/etc/flannel/net-conf.json",
        '{"Network": "10.99.0.0/16", "EnableIPV7": true, "Backend": {"type": "wireguard", "psk": "secret", "VNI": 3}}',
    )
    found = node.info()
    assert "secret" not in json.dumps(found)
    sysctls = found["sysctls"]
    forwarding = {"now": "1", "boot": "0", "file": "/etc/sysctl.d/zz-hardening.conf"}
    assert sysctls["net.ipv4.ip_forward"] == forwarding
    reverse = host.run("sysctl", "-n", "net.ipv4.conf.flannel/7.rp_filter").strip()
    pattern = {"now": reverse, "boot": "2", "file": "/etc/sysctl.d/zz-hardening.conf"}
    assert sysctls["net.ipv4.conf.flannel/7.rp_filter"] == pattern
    assert {"net.ipv4.conf.cni0.proxy_arp", "net.ipv6.conf.eth0.accept_ra"} <= set(sysctls)
    module = found["kernel_modules"]["br_netfilter"]
    assert module["boot"] == "/etc/modules-load.d/weft-podnet.conf" and module["refused"] == ""
    files = {Path(each["path"]).name: each for each in found["managers"]["networkd"]["files"]}
    assert files["05-cni.network"].items() >= {"matches": ["cni0"], "unmanaged": True, "ours": False}.items()
    assert files["06-alt.network"]["matches"] == ["flannel.7"]
    # A bridge and a tunnel have types of their own, a pod's veth is "ether".
    assert (
        files["10-all.network"]["matches"] == sorted(["eth0", veth(host)]) and not files["10-all.network"]["unmanaged"]
    )
    assert found["managers"]["networkd"]["running"] and found["managers"]["networkd"]["manage_foreign_routes"] is False
    assert found["managers"]["network_manager"]["unmanaged"] == ["interface-name:flannel*", "mac:02:00"]
    assert only(found["services"], name="systemd-networkd") == {
        "name": "systemd-networkd",
        "running": True,
        "enabled": True,
    }
    assert only(found["services"], name="ufw")["running"] is False
    flannel = found["flannel"]
    assert flannel["unit"] == {
        "exists": True,
        "ours": False,
        "enabled": True,
        "active": "active",
        "type": "notify",
        "start_timeout": 600,
        "node_name": "worker-1",
        "arguments": ["--kube-subnet-mgr", "--net-config-path=/etc/flannel/net-conf.json", "--etcd-password=***"],
        "restarts": 0,
        "since": 0.0,
    }
    assert flannel["net_conf"]["Backend"] == {"type": "wireguard", "psk": "***", "VNI": 3}
    assert flannel["net_conf_problems"] == ["unknown key EnableIPV7", "unknown key Backend.VNI"]
    assert found["kubeconfig"]["problems"] == ["/etc/kubernetes/flannel.conf: there is no such file"]


@contextlib.contextmanager
def daemon(node: Host, program: Path, *words: str, user: int = 0, **env: str) -> Iterator[int]:
    """A process of this name and command line on the host."""
    program.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(shutil.which("perl") or "", program)
    process = subprocess.Popen(
        [
            *("nsenter", f"--net={node.host.path}", f"--mount=/proc/{node.mounts.pid}/ns/mnt"),
            *("setpriv", f"--reuid={user}", "--clear-groups", "--"),
            *(str(program), "-e", "$| = 1; print 1; sleep", "--", *words),
        ],
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout and process.stdout.read(1)
        yield process.pid
    finally:
        process.kill()
        process.communicate()


def listen(path: Path) -> socket.socket:
    found = socket.socket(socket.AF_UNIX)
    found.bind(str(path))
    found.listen()
    return found


def test_daemons_by_their_processes(node: Host, tmp_path: Path) -> None:
    node.put("/etc/containerd/mine.toml", 'imports = ["conf.d/*.toml"]\n  conf_dir = "/a"\n # bin_dir = "/b"\n')
    node.put("/etc/containerd/conf.d/x.toml", "conf_dir = '/etc/cni/other.d'\n")
    node.put("/etc/kubelet.yaml", "kind: KubeletConfiguration\npodCIDR: 10.99.0.0/24\n")
    node.put("/etc/kubelet.conf", "clusters:\n- cluster:\n    server: https://api.example.com:6443\n")
    node.put("/etc/proxy.yaml", 'kind: KubeProxyConfiguration\nclusterCIDR: "10.99.0.0/16,fd00::/48"\n')
    conf = tmp_path / "net-conf.json"
    conf.write_text('{"Network": "10.99.0.0/16", "Backend": {"Type": "vxlan"}}')
    folder = tmp_path / "v0.27.2"
    path = tmp_path / "containerd.sock"
    with contextlib.ExitStack() as stack:
        stack.callback(node.host.call(lambda: listen(path)).close)
        words = (f"--net-config-path={conf}", "-etcd-password=secret")
        pid = stack.enter_context(daemon(node, folder / "flanneld", *words, NODE_NAME="worker-9"))
        for name, *given in (
            ("containerd", "--config", "/etc/containerd/mine.toml"),
            ("kubelet", "--config=/etc/kubelet.yaml", "--hostname-override=worker-9", "--kubeconfig=/etc/kubelet.conf"),
            ("kube-proxy", "--config=/etc/proxy.yaml", "--cluster-cidr=10.1.0.0/16"),
        ):
            stack.enter_context(daemon(node, folder / name, *given))
        found = node.info(socket=str(path))
        silent = node.info(socket=f"{path}.other")["runtime"]
    (process,) = found["flannel"]["processes"]
    assert (process["pid"], process["version"], process["ours"]) == (pid, "v0.27.2", False)
    assert "secret" not in json.dumps(found) and found["flannel"]["unit"]["node_name"] == "worker-9"
    assert found["flannel"]["net_conf"]["Network"] == "10.99.0.0/16" and found["flannel"]["net_conf_path"] == str(conf)
    assert found["runtime"] == {
        "socket": str(path),
        "running": True,
        "conf_dir": "/etc/cni/other.d",
        "bin_dir": "/opt/cni/bin",
        "version": "v0.27.2",
        "config": "/etc/containerd/mine.toml",
        "without_cri": False,
        "network_ready": None,
        "message": "",
    }
    assert found["cni"]["conf_dir"] == "/etc/cni/other.d" and silent["running"] is False
    assert found["kubelet"] == {
        "running": True,
        "node_name": "worker-9",
        "pod_cidr": "10.99.0.0/24",
        "server": "https://api.example.com:6443",
    }
    assert found["kube_proxy"] == {"running": True, "cluster_cidrs": ["10.99.0.0/16", "fd00::/48"]}
    assert only(found["services"], name="kube-proxy")["running"]


def test_a_users_process_by_a_daemons_name_decides_nothing(node: Host, tmp_path: Path) -> None:
    """Root must not start what a user started, nor plugins in a folder that the user's command line leads to."""
    node.put("/etc/evil.toml", 'conf_dir = "/tmp/evil"\nbin_dir = "/tmp/evil"\n')
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    with contextlib.ExitStack() as stack:
        for name in ("containerd", "kubelet", "kube-proxy", "flanneld"):
            stack.enter_context(daemon(node, tmp_path / "home" / name, "--config=/etc/evil.toml", user=65534))
        theirs = node.info(socket="/run/containerd/containerd.sock")
        stack.enter_context(daemon(node, tmp_path / "root" / "flanneld"))
        both = node.info()
    assert (theirs["runtime"]["conf_dir"], theirs["runtime"]["version"]) == ("/etc/cni/net.d", "")
    assert theirs["cni"]["conf_dir"] == "/etc/cni/net.d" and not theirs["kubelet"]["running"]
    assert theirs["flannel"]["processes"] == [] and not theirs["kube_proxy"]["running"]
    # Perl's own version, as root's daemon is asked.
    assert [bool(each["version"]) for each in both["flannel"]["processes"]] == [True]


def test_other_networks_leave_things_behind(node: Host) -> None:
    host = node.host
    host.ip("link", "add", "vxlan.calico", "type", "vxlan", "id", "4096", "dev", "eth0", "dstport", "4789")
    host.ip("link", "add", "flannel.1", "type", "vxlan", "id", "1", "dev", "eth0", "dstport", "8472")
    host.run("nft", "add", "table", "ip", "flannel-ipv4")
    (node.conf / "10-bridge.conflist").unlink()
    node.put("/etc/cni/net.d/10-calico.conflist", json.dumps({"name": "k8s", "plugins": [{"type": "calico"}]}))
    node.put("/etc/cni/net.d/05-cilium.conf", json.dumps({"name": "cilium", "type": "cilium-cni"}))
    found = {(each["of"], each["what"]) for each in node.info()["leftovers"]}
    # cilium's configuration is the one that is loaded.
    assert found == {
        ("calico", "device vxlan.calico"),
        ("calico", "file 10-calico.conflist"),
        ("flannel", "device flannel.1"),
        ("flannel", "nftables: table ip flannel-ipv4"),
        ("cni", "device cni0"),
    }


def test_nothing_is_changed(node: Host, tmp_path: Path) -> None:
    assert mesh(node.host)["changed"]
    node.host.run("sh", "-c", f"nft -f - <<'END'\n{FILTERS}\nEND")
    node.put("/etc/sysctl.d/99-podnet.conf", "net.ipv4.ip_forward = 1\n")
    for name in ("eth0", "cni0", "flannel.1"):
        node.host.settle(name)
    # A folder for locks that no other test uses. What `ip netns` keeps in there is hidden by it.
    node.mounts.sh("mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system")
    with daemon(node, tmp_path / "sleeper") as pid:
        node.netns = Path(f"/proc/{pid}/ns/net")
        before = node.everything()
        first = node.info(ways=["172.31.0.12"])
        checked = node.info(check=True, ways=["172.31.0.12"])
        assert node.everything() == before
    # Iptables' locks, our own, and legacy tables: where there was none, there is none.
    assert before["ip_tables_names"] == before["ip6_tables_names"] == ""
    assert [str(path) for path in node.mounts.path("/run").rglob("*") if "systemd" not in path.parts] == []
    # Connections come and go.
    varying = {"time": 0, "connections": {}}
    assert {**first, **varying} == {**checked, **varying}


def test_hostile_files_are_problems(node: Host) -> None:
    for path in (
        "/etc/cni/net.d/00-fifo.conf",
        "/etc/sysctl.d/00-fifo.conf",
        "/etc/systemd/network/00-fifo.network",
        "/etc/flannel/net-conf.json",
        "/etc/kubernetes/pki/flannel.crt",
        "/etc/kubernetes/flannel.conf",
        "/etc/machine-id",
        "/etc/iproute2/rt_protos",
        "/etc/containerd/config.toml",
        "/etc/systemd/networkd.conf",
        "/etc/NetworkManager/NetworkManager.conf",
    ):
        place = node.mounts.path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        os.mkfifo(place)
    node.put("/etc/cni/net.d/01-bytes.conf", b'{"type": "\xff\xfe", "name": "\xff"}')
    node.put("/etc/cni/net.d/02-deep.conf", "[" * 100000)
    node.put("/etc/cni/net.d/03-odd.conf", '{"type": "bridge", "name": 7, "ipam": [], "mtu": "x"}')
    node.put(
        "/etc/cni/net.d/04-odder.conflist",
        '{"name": "\\u202e/../x", "plugins": [{"type": "flannel", "delegate": 1}, {"type": "bridge", "ipam": {"type":'
        ' "host-local", "dataDir": "/\\u0000", "ranges": [1, [{"subnet": "x"}], [[]]], "routes": 3}}]}',
    )
    node.put("/etc/kubernetes/pki/ca.crt", "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n")
    (node.state / "networks/podnet/10.99.0.9").mkdir()
    os.mkfifo(node.state / "networks/podnet/10.99.0.8")
    node.host.ip("link", "add", os.fsdecode(b"bad\xff\xe2\x80\xae"), "type", "bridge")
    found = node.info()
    text = "\n".join(found["problems"])
    for part in (
        "00-fifo.conf: found a FIFO",
        "00-fifo.network: found a FIFO",
        "net-conf.json: found a FIFO",
        "flannel.crt: found a FIFO",
        "machine-id: found a FIFO",
        "config.toml: found a FIFO",
        "NetworkManager.conf: found a FIFO",
        "ca.crt: holds a certificate that can't be read",
    ):
        assert part in text, text
    assert "Traceback" not in text and found["machine_id"] == ""
    assert found["cni"]["broken"].startswith("00-fifo.conf: it can't be read") and found["cni"]["loaded"] == ""
    assert {link["name"] for link in found["links"] if link["kind"] == "bridge"} == {"cni0", "bad\\xff\\u202e"}
    # A lease that can't be read still has its address.
    assert {"10.99.0.8", "10.99.0.9"} <= set(only(found["cni"]["networks"], name="podnet")["addresses"])


def unlike(documented: dict[str, Any], value: Any, where: str) -> Iterator[str]:
    """How a value differs from its documentation: keys that are missing, unknown, or of another type."""
    types: dict[str, Any] = {"str": str, "int": int, "float": (int, float), "bool": bool, "list": list, "dict": dict}
    wanted = documented["type"]
    if where != "host.runtime.network_ready" and not (
        isinstance(value, types[wanted]) and (wanted == "bool") == isinstance(value, bool)
    ):
        yield f"{where}: {value!r} is no {wanted}"
    contains: dict[str, Any] = documented.get("contains", {})
    for entry in [] if not contains else value if wanted == "list" else [value]:
        # A broken file has less.
        required = {key for key, each in contains.items() if "returned" not in each and not entry.get("error")}
        yield from (f"{where}.{key}: missing" for key in required - set(entry))
        yield from (f"{where}.{key}: not documented" for key in set(entry) - set(contains))
        for key in set(entry) & set(contains):
            yield from unlike(contains[key], entry[key], f"{where}.{key}")


def test_the_documentation_is_complete(node: Host) -> None:
    assert mesh(node.host)["changed"]
    node.host.run("sh", "-c", f"nft -f - <<'END'\n{FILTERS}\nEND")
    node.host.run("nft", "add table ip proxy; add chain ip proxy pre { type nat hook prerouting priority -100; }")
    node.host.run("nft", "add rule ip proxy pre tcp dport 80 redirect to :3128")
    node.host.run("nft", "table bridge b { chain f { type filter hook forward priority 0; drop; }; }")
    node.host.run("nft", "table ip h { chain i { type filter hook input priority 0; ip saddr 10.3.0.0/16 drop; }; }")
    node.host.ip("rule", "add", "from", "10.99.0.0/24", "lookup", "100")
    node.host.ip("-6", "rule", "del", "priority", "32766")
    policy = "xfrm policy add src 10.99.0.0/24 dst 10.0.0.0/8 dir out tmpl dst 203.0.113.9 proto esp mode tunnel"
    node.host.ip(*policy.split())
    (pod,), (bridge,) = node.pod.ip_json("link", "show", "eth0"), node.host.ip_json("link", "show", "cni0")
    node.host.bridge("fdb", "replace", pod["address"], "dev", veth(node.host), "master", "permanent")
    node.host.bridge("fdb", "replace", bridge["address"], "dev", veth(node.host), "master", "static")
    node.put("/etc/kubernetes/pki/ca.crt", pki_certs.to_pem(CA.certificate))
    node.put("/etc/systemd/network/10-all.network", "[Match]\nName=*\nHost=x\n")
    node.host.ip("link", "add", "cilium_net", "type", "bridge")
    (node.mounts.units / "show-docker.service").write_text("LoadState=loaded\nActiveState=active\n")
    text = (CHECKOUT / "plugins/modules/pod_network_info.py").read_text().split('RETURN = r"""')[1].split('"""')[0]
    documented = yaml.safe_load(text)["host"]
    found = node.info(ways=["172.31.0.12"])
    assert list(unlike(documented, found, "host")) == []
    # Each list that is described has had an entry to compare.
    empty = [key for key, each in documented["contains"].items() if each.get("contains") and not found[key]]
    assert empty == []
    with Namespace() as bare:
        assert list(unlike(documented, run_module("pod_network_info", {}, netns=bare.path)["host"], "host")) == []


def test_a_bare_host(tmp_path: Path) -> None:
    """No CNI, no systemd, no programs; the folder of CNI is a file."""
    with Namespace() as host, Mounts(tmp_path) as mounts:
        mounts.sh("rm -rf /etc/cni && touch /etc/cni && umount /run/systemd")
        for program in ("/usr/sbin/nft", "/usr/sbin/xtables-nft-multi", "/usr/sbin/xtables-legacy-multi"):
            mounts.sh(f"mount --bind /dev/null {program}")
        found = mounts.run("pod_network_info", host.path)["host"]
    assert found["links"][0]["name"] == "lo" and found["cni"]["files"] == [] and found["services"] == []
    assert any("systemd does not run here" in problem for problem in found["problems"])
    assert any(problem.startswith("cni: /etc/cni") for problem in found["problems"])
    assert any("the program nft is missing" in problem for problem in found["problems"])
    assert found["programs"]["nft"] == "" and found["forward"] == []


def test_a_long_list_is_cut(node: Host) -> None:
    batch = "".join(f"route add 10.{100 + n // 250}.{n % 250}.0/24 dev eth0\n" for n in range(2100))
    node.host.run("sh", "-c", f"ip -batch - <<'END'\n{batch}END")
    found = node.info()
    assert len(found["routes"]) == 2000 and found["truncated"]["routes"] > 2100


def test_without_root() -> None:
    refused = run_module("pod_network_info", {}, root=False)
    assert refused["failed"] and "needs root" in refused["msg"]


def test_what_a_named_set_holds_and_what_filters_frames(node: Host) -> None:
    """Tables as administrators and their tools make them, arptables among them."""
    elements = "10.244.0.0/16, 192.0.2.1"
    node.host.run(
        "nft", f"table inet f {{ set bad {{ type ipv4_addr; flags interval; elements = {{ {elements} }}; }}; }}"
    )
    node.host.run("nft", "add chain inet f guard { type filter hook forward priority 0; }")
    node.host.run("nft", "add rule inet f guard ip saddr @bad drop")
    node.host.run("arptables", "-A", "INPUT", "-j", "DROP")
    found = node.info()
    place = only(found["forward"], place="nftables: table inet f, chain guard")
    assert place["drops"] == drops("ip saddr { 10.244.0.0/16 } drop", "ip saddr @bad drop")
    place = only(found["frame_filters"], place="nftables: table arp filter, chain INPUT")
    assert place["everything"].endswith("drop") and place["hook"] == "input"
    node.host.ip("link", "set", "eth0", "arp", "off")
    assert only(node.info()["links"], name="eth0")["arp"] is False


def test_a_failed_neighbour_that_answers_again() -> None:
    """Nothing was sent to it in between, so the kernel has not noticed."""
    with Namespace() as node, Namespace() as peer:
        connect(node, "172.16.0.3/24", peer, "172.16.0.4/24")
        for space, address in ((node, "fd00::3"), (peer, "fd00::4")):
            space.ip("address", "add", f"{address}/64", "dev", "eth0", "nodad")
        ways = ["172.16.0.4", "fd00::4", "172.16.0.9", "fd00::9"]
        for address in ways:
            node.ip("neigh", "replace", address, "dev", "eth0", "nud", "failed")
        found = run_module("pod_network_info", {"ways": ways}, netns=node.path)["host"]["neighbours"]
        states = {each["dst"]: each["state"] for each in found if each["dst"] in ways}
        assert all(states[address] in ("reachable", "stale", "delay", "probe") for address in ways[:2]), states
        assert [states[address] for address in ways[2:]] == ["failed", "failed"]
