# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in for flanneld against the kernel and the API server's stand-in: what the captured flanneld left."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from standins.release import flannel_cni, flanneld
from support.flanneld_standin import (
    CLUSTER,
    IPTABLES,
    PREFIX,
    RULES,
    SERVER,
    SUBNET_ENV,
    Cluster,
    Node,
    eventually,
    register_nodes,
    start_both,
    two_nodes,
)
from support.flanneld_standin import mac as _mac
from support.flanneld_standin import rules as _rules
from support.netns import Namespace
from support.vxlan import kernel, lines

# Captured from flanneld v0.28.9 (vxlan and host-gw on n1); the link as far as kernels and iproute2 agree.
LINK = [
    "flannel.1: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1450 qdisc noqueue state UNKNOWN mode DEFAULT group default",
    "link/ether MAC brd ff:ff:ff:ff:ff:ff promiscuity 0 allmulti 0 minmtu 68 maxmtu 65535",
    "vxlan id 1 local 172.31.0.11 dev eth0 srcport 0 0 dstport 8472 nolearning ttl auto ageing 300 udpcsum "
    "noudp6zerocsumtx noudp6zerocsumrx",
]
NFTABLES = """\
table ip flannel-ipv4 {
    comment "rules for flannel-ipv4"
    chain postrtg {
        comment "chain to manage traffic masquerading by flannel"
        type nat hook postrouting priority srcnat; policy accept;
        meta mark 0x00004000 return
        ip saddr 10.244.0.0/24 ip daddr 10.244.0.0/16 return
        ip saddr 10.244.0.0/16 ip daddr 10.244.0.0/24 return
        ip saddr != 10.244.0.0/24 ip daddr 10.244.0.0/16 return
        ip saddr 10.244.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random
        ip saddr != 10.244.0.0/16 ip daddr 10.244.0.0/16 masquerade fully-random
    }

    chain forward {
        comment "chain to accept flannel traffic"
        type filter hook forward priority filter; policy accept;
        ip saddr 10.244.0.0/16 accept
        ip daddr 10.244.0.0/16 accept
    }
}
table ip6 flannel-ipv6 {
    comment "rules for flannel-ipv6"
}
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with two_nodes(tmp_path) as cluster:
        yield cluster


@pytest.fixture
def joined(cluster: Cluster) -> Cluster:
    return register_nodes(cluster)


def test_vxlan_is_flannelds(joined: Cluster) -> None:
    first, second = joined.nodes
    before = set(kernel(first.host)["route"])
    start_both(joined, {"Network": CLUSTER, "Backend": {"Type": "vxlan"}, "Unknown": 1})
    eventually(lambda: len(kernel(first.host)["fdb"]) == 2)
    found, other = kernel(first.host), kernel(second.host)
    mac, peer = (_mac(node.host) for node in joined.nodes)
    assert [line.partition(" addrgenmode")[0] for line in found["link"]] == [line.replace("MAC", mac) for line in LINK]
    assert first.host.ip_json("link", "show", "flannel.1")[0].get("txqlen", 0) == 0
    assert found["address"] == ["10.244.0.0/32"] and other["address"] == ["10.244.1.0/32"]
    assert set(found["route"]) - before == {
        "10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink",
        "10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink",
    }
    assert found["neigh"] == [f"10.244.1.0 lladdr {peer} PERMANENT", "10.244.2.0 lladdr 0a:fd:7a:fd:24:2e PERMANENT"]
    assert set(found["fdb"]) == {
        f"{peer} dst 172.31.0.12 self permanent",
        "0a:fd:7a:fd:24:2e dst 172.31.0.13 self permanent",
    }
    assert first.host.run("cat", "/proc/sys/net/ipv6/conf/flannel.1/accept_ra").strip() == "0"
    assert _rules(first.host) == IPTABLES
    assert first.env_file.read_text() == SUBNET_ENV and first.env_file.stat().st_mode & 0o777 == 0o644
    assert _says_hello(joined, "10.244.0.1", "10.244.1.1")

    node = joined.admin("GET", "/api/v1/nodes/n1")
    assert {key: value for key, value in node["metadata"]["annotations"].items() if key.startswith(PREFIX)} == {
        f"{PREFIX}/backend-data": f'{{"VNI":1,"VtepMAC":"{mac}"}}',
        f"{PREFIX}/backend-type": "vxlan",
        f"{PREFIX}/kube-subnet-manager": "true",
        f"{PREFIX}/public-ip": "172.31.0.11",
    }
    (condition,) = node["status"]["conditions"]
    assert [condition[key] for key in ("type", "status", "reason")] == ["NetworkUnavailable", "False", "FlannelIsUp"]
    calls = [call for call in joined.calls() if call["sourceIPs"] == ["172.31.0.11"]]
    assert [call["verb"] for call in calls if call["verb"] != "watch"] == ["list", "get", "get", "patch", "patch"]
    assert {call["verb"] for call in calls} == {"list", "watch", "get", "patch"}
    assert all(call["userAgent"].startswith("flanneld/") and call["responseStatus"]["code"] == 200 for call in calls)


def test_host_gw(joined: Cluster) -> None:
    first, second = joined.nodes
    conf = {"Network": CLUSTER, "Backend": {"Type": "host-gw"}}
    flags = ("--iface=eth9", "--iface-can-reach", SERVER, "--healthz-port=8081", "--healthz-ip=127.0.0.1")
    second.start(conf, "--iface-regex=^172", wait=False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notice:
        notice.bind(str(joined.folder / "notify"))
        notice.settimeout(10)
        first.start(conf, *flags, NOTIFY_SOCKET=str(joined.folder / "notify"))
        assert notice.recv(64) == b"READY=1"
    second.wait()
    health = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8081/healthz').read().decode())"
    assert first.host.run(sys.executable, "-c", health) == "flanneld is running\n"
    assert Path(f"/proc/{_daemon(first)}/comm").read_text() == "flanneld\n"
    eventually(lambda: "10.244.1.0/24 via 172.31.0.12 dev eth0" in kernel(first.host)["route"], first.said)
    assert kernel(first.host)["link"] == [] and not any("10.244.2.0" in line for line in kernel(first.host)["route"])
    assert first.env_file.read_text() == SUBNET_ENV.replace("1450", "1500")
    annotations = joined.admin("GET", "/api/v1/nodes/n1")["metadata"]["annotations"]
    assert annotations[f"{PREFIX}/backend-data"] == "null" and annotations[f"{PREFIX}/backend-type"] == "host-gw"
    assert _says_hello(joined, "10.244.0.1", "10.244.1.1")


def test_direct_routing_and_nftables(joined: Cluster) -> None:
    backend = {"Type": "vxlan", "VNI": 4096, "DirectRouting": True}
    # What was there before with another MTU is compatible, and stays as it is.
    first = joined.nodes[0]
    options = "mtu 1300 type vxlan id 4096 dev eth0 local 172.31.0.11 dstport 8472 nolearning"
    first.host.ip("link", "add", "flannel.4096", *options.split())
    start_both(joined, {"Network": CLUSTER, "EnableNFTables": True, "Backend": backend})
    eventually(lambda: "10.244.2.0/24 via 172.31.0.13 dev eth0" in kernel(first.host)["route"], first.said)
    eventually(lambda: "10.244.1.0/24 via 172.31.0.12 dev eth0" in kernel(first.host)["route"], first.said)
    found = kernel(first.host, "flannel.4096")
    assert (found["neigh"], found["fdb"], found["address"]) == ([], [], ["10.244.0.0/32"])
    assert "mtu 1300" in found["link"][0] and "FLANNEL_MTU=1450" in first.env_file.read_text()
    # One chain may be listed before the other.
    listed = first.host.run("nft", "-s", "list", "ruleset")
    assert sorted(listed.expandtabs(4).splitlines()) == sorted(NFTABLES.splitlines())
    assert _rules(first.host) == ""


DUAL = {"Network": CLUSTER, "IPv6Network": "fd00:10:244::/48", "EnableIPv6": True, "Backend": {"Type": "vxlan"}}


def dual(cluster: Cluster, version: str) -> None:
    """Both nodes with both families, and flanneld in this version."""
    cluster.allow(RULES)
    for number, node in enumerate(cluster.nodes, start=1):
        node.binary.write_bytes(flanneld(version))
        node.host.address("eth0", f"fd00::1{number}/64")
        cluster.register(node.name, f"10.244.{number - 1}.0/24", six=f"fd00:10:244:{number - 1}::/64")


@pytest.mark.parametrize("version", ["v0.27.2", "v0.28.9"])
def test_dual_stack(cluster: Cluster, version: str) -> None:
    """An IPv4 address by --iface and an IPv6 one by --public-ipv6 do in every version."""
    dual(cluster, version)
    for number, node in enumerate(cluster.nodes, start=1):
        node.start(DUAL, f"--iface=172.31.0.1{number}", f"--public-ipv6=fd00::1{number}", wait=False)
    for node in cluster.nodes:
        node.wait()
    first, second = (node.host for node in cluster.nodes)
    eventually(lambda: len(kernel(first, "flannel-v6.1")["fdb"]) == 1, cluster.nodes[0].said)
    four, six = kernel(first), kernel(first, "flannel-v6.1")
    peer = str(second.ip_json("link", "show", "flannel-v6.1")[0]["address"])
    assert "10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink" in four["route"] and len(four["fdb"]) == 1
    route = "fd00:10:244:1::/64 via fd00:10:244:1:: dev flannel-v6.1 metric 1024 onlink pref medium"
    # flanneld asks for 1450 here too; the kernel gives what IPv6's longer headers leave.
    assert route in six["route6"] and six["address"] == ["fd00:10:244::/128"] and "mtu 1430" in six["link"][0]
    assert six["neigh"] == [f"fd00:10:244:1:: lladdr {peer} PERMANENT"]
    assert six["fdb"] == [f"{peer} dst fd00::12 self permanent"]
    expected = IPTABLES.replace("10.244.0.0/16", "fd00:10:244::/48").replace("10.244.0.0/24", "fd00:10:244::/64")
    assert _rules(first) == IPTABLES and _rules(first, "ip6tables") == expected.replace("224.0.0.0/4", "ff00::/8")
    more = "FLANNEL_IPV6_NETWORK=fd00:10:244::/48\nFLANNEL_IPV6_SUBNET=fd00:10:244::1/64\nFLANNEL_MTU"
    assert cluster.nodes[0].env_file.read_text() == SUBNET_ENV.replace("FLANNEL_MTU", more)
    annotations = cluster.admin("GET", "/api/v1/nodes/n2")["metadata"]["annotations"]
    assert annotations[f"{PREFIX}/backend-v6-data"] == f'{{"VNI":1,"VtepMAC":"{peer}"}}'
    assert annotations[f"{PREFIX}/public-ipv6"] == "fd00::12"
    assert _says_hello(cluster, "fd00:10:244::1", "fd00:10:244:1::1")


@pytest.mark.parametrize("kind", ["vxlan", "host-gw"])
def test_ipv6_alone(cluster: Cluster, kind: str) -> None:
    """As flannel's kube.go and hostgw.go: of IPv4, host-gw publishes an address of zeros, and vxlan nothing."""
    cluster.allow(RULES)
    conf = {key: DUAL[key] for key in ("IPv6Network", "EnableIPv6")}
    for number, node in enumerate(cluster.nodes, start=1):
        node.host.address("eth0", f"fd00::1{number}/64")
        cluster.register(node.name, f"fd00:10:244:{number - 1}::/64")
        node.start({**conf, "EnableIPv4": False, "Backend": {"Type": kind}}, f"--iface=fd00::1{number}", wait=False)
    for node in cluster.nodes:
        node.wait()
    first, second = (node.host for node in cluster.nodes)
    by = "fd00:10:244:1:: dev flannel-v6.1" if kind == "vxlan" else "fd00::12 dev eth0"
    eventually(lambda: f"fd00:10:244:1::/64 via {by}" in first.ip("-6", "route"), cluster.nodes[0].said)
    mtu = 1450 if kind == "vxlan" else 1500
    lines = ["FLANNEL_IPV6_NETWORK=fd00:10:244::/48", "FLANNEL_IPV6_SUBNET=fd00:10:244::1/64", f"FLANNEL_MTU={mtu}"]
    assert cluster.nodes[0].env_file.read_text() == "\n".join([*lines, "FLANNEL_IPMASQ=true", ""])
    annotations = cluster.admin("GET", "/api/v1/nodes/n2")["metadata"]["annotations"]
    four = {annotations.get(f"{PREFIX}/{name}") for name in ("backend-data", "public-ip")}
    assert four == ({None} if kind == "vxlan" else {"null", "0.0.0.0"})
    assert annotations[f"{PREFIX}/public-ipv6"] == "fd00::12"
    assert _rules(first) == "" and "fd00:10:244::/64" in _rules(first, "ip6tables")
    assert _says_hello(cluster, "fd00:10:244::1", "fd00:10:244:1::1")


@pytest.mark.parametrize(
    ("version", "flags", "said"),
    [
        ("v0.27.2", ["--iface=172.31.0.11"], "Error registering network: Link not found"),
        ("v0.28.9", ["--iface=172.31.0.11"], "Using interface with name eth0 and v6 address fd00::11"),
        ("v0.27.2", ["--iface=eth0"], "Using interface with name eth0 and v6 address fd00::11"),
        ("v0.28.9", ["--iface=fd00::11"], "nil pointer dereference"),
        ("v0.27.2", ["--iface=172.31.0.11", "--public-ipv6=fd00::99"], "No interface with given IPv6 found"),
    ],
)
def test_an_address_of_one_family(cluster: Cluster, version: str, flags: list[str], said: str) -> None:
    """As flannel's own ipmatch.LookupExtIface: before v0.27.4 it looks for both addresses or for none."""
    dual(cluster, version)
    node = cluster.nodes[0]
    node.start(DUAL, *flags, wait=False)
    eventually(lambda: said in node.said(), node.said)


def test_the_cni_plugin_makes_a_pods_interface(tmp_path: Path) -> None:
    plugin = tmp_path / "flannel"
    plugin.write_bytes(flannel_cni("v1.7.1-flannel2"))
    plugin.chmod(0o755)
    conf = {
        "cniVersion": "1.0.0",
        "name": f"fl-{os.getpid()}",
        "type": "flannel",
        "subnetFile": str(tmp_path / "subnet.env"),
        "dataDir": str(tmp_path / "data"),
        "ipam": {"dataDir": str(tmp_path / "networks")},
        "delegate": {"hairpinMode": True, "isDefaultGateway": True},
    }

    def call(host: Namespace, verb: str, pod: Namespace) -> subprocess.CompletedProcess[str]:
        environ = {"PATH": os.environ["PATH"], "CNI_COMMAND": verb, "CNI_CONTAINERID": "pod-a", "CNI_IFNAME": "eth0"}
        environ |= {"CNI_NETNS": str(pod.path), "CNI_PATH": f"{tmp_path}:/usr/lib/cni"}
        words = ["ip", "netns", "exec", host.name, str(plugin)]
        return subprocess.run(words, input=json.dumps(conf), env=environ, capture_output=True, text=True, check=False)

    with Namespace() as host, Namespace() as pod:
        refused = call(host, "ADD", pod)
        said = f"failed to load flannel 'subnet.env' file: open {tmp_path / 'subnet.env'}: no such file or directory"
        assert refused.returncode == 1 and json.loads(refused.stdout)["msg"].startswith(said)
        (tmp_path / "subnet.env").write_text(SUBNET_ENV)
        added = call(host, "ADD", pod)
        assert added.returncode == 0, added.stdout
        result = json.loads(added.stdout)
        assert result["cniVersion"] == "1.0.0" and result["ips"][0]["address"] == "10.244.0.2/24"
        assert "cni0" in json.dumps(result["interfaces"]) and "mtu 1450" in pod.ip("link", "show", "eth0")
        assert lines(pod.ip("route")) == [
            "10.244.0.0/16 via 10.244.0.1 dev eth0",
            "10.244.0.0/24 dev eth0 proto kernel scope link src 10.244.0.2",
            "default via 10.244.0.1 dev eth0",
        ]
        assert call(host, "CHECK", pod).returncode == 0
        assert call(host, "DEL", pod).returncode == 0 and "eth0" not in pod.ip("link")
        assert list((tmp_path / "data").iterdir()) == [] and call(host, "DEL", pod).returncode == 0


def _daemon(node: Node) -> int:
    """``ip netns exec`` becomes what it starts."""
    assert node.process is not None
    return node.process.pid


def _says_hello(cluster: Cluster, one: str, other: str) -> bool:
    """A TCP connection from the one node's pod network to the other's, by addresses such as cni0 has."""
    for node, address in zip(cluster.nodes, (one, other), strict=True):
        node.host.ip("link", "add", "cni0", "type", "bridge")
        length, nodad = (64, ["nodad"]) if ":" in address else (24, [])
        node.host.ip("addr", "add", f"{address}/{length}", "dev", "cni0", *nodad)
        node.host.ip("link", "set", "cni0", "up")
    first, second = (node.host for node in cluster.nodes)
    family = socket.AF_INET6 if ":" in other else socket.AF_INET
    with second.call(lambda: socket.create_server((other, 5000), family=family)) as listener:
        listener.settimeout(5)
        with first.call(lambda: socket.create_connection((other, 5000), 5, source_address=(one, 0))) as client:
            server, address = listener.accept()
            with server:
                client.sendall(b"hello")
                return server.recv(16) == b"hello" and address[0] == one
