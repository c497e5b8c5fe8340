# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What explain says against what the kernel does: packets between pods in network namespaces, whole and broken.

Every break is made on real objects. A packet must be lost where explain says so, the largest packet must be
the one that it names, and the command that it prints must repair the break.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.node.info import forwarding, ipsec, rulesets, translation
from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis.explain import explain
from support.lab import until
from support.netns import Namespace

PORT = 9898
HEADERS = 28
# A virtual device takes a VLAN's tag on top of its MTU (is_skb_forwardable).
SLACK = 4
WAIT = 0.4
# Of linux/in.h; Python 3.11 has no names for them.
IP_MTU_DISCOVER, IP_PMTUDISC_PROBE = 10, 3
# (worker, its pods' last bytes)
WORKERS = {"worker-1": (5, 6), "worker-2": (5,), "worker-3": (5,)}


class Cluster(NamedTuple):
    """Hosts and pods by name and by address; ``mesh`` says whether a VXLAN mesh connects them."""

    hosts: dict[str, Namespace]
    pods: dict[str, Namespace]
    mesh: bool


def node(name: str) -> str:
    return f"172.31.0.{10 + int(name[-1])}"


def pod(name: str, last: int = 5) -> str:
    return f"10.244.{name[-1]}.{last}"


def mac(name: str) -> str:
    return f"02:00:00:00:00:0{name[-1]}"


def port(name: str, last: int) -> str:
    return f"veth{name[-1]}{last}"


HOW = ("mesh", "routes")


@pytest.fixture(params=HOW)
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Three hosts on one switch, with a bridge and pods each, connected as flanneld or plain routes connect them."""
    mesh = request.param == "mesh"
    mtu = "1450" if mesh else "1500"
    with contextlib.ExitStack() as stack:
        switch = stack.enter_context(Namespace())
        switch.ip("link", "add", "sw", "type", "bridge")
        switch.ip("link", "set", "sw", "up")
        hosts = {name: stack.enter_context(Namespace()) for name in WORKERS}
        pods = {}
        for name, host in hosts.items():
            switch.ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", host.name)
            switch.ip("link", "set", name, "master", "sw", "up")
            host.ip("addr", "add", f"{node(name)}/24", "dev", "eth0")
            host.ip("link", "set", "eth0", "up")
            host.ip("link", "add", "cni0", "mtu", mtu, "type", "bridge")
            host.ip("addr", "add", f"{pod(name, 1)}/24", "dev", "cni0")
            host.ip("link", "set", "cni0", "up")
            write(host, "net/ipv4/ip_forward", "1")
            for last in WORKERS[name]:
                one = stack.enter_context(Namespace())
                pods[pod(name, last)] = one
                dev = port(name, last)
                host.ip(
                    "link",
                    "add",
                    dev,
                    "mtu",
                    mtu,
                    "type",
                    "veth",
                    "peer",
                    "name",
                    "eth0",
                    "mtu",
                    mtu,
                    "netns",
                    one.name,
                )
                host.ip("link", "set", dev, "master", "cni0", "up")
                one.ip("addr", "add", f"{pod(name, last)}/24", "dev", "eth0")
                one.ip("link", "set", "eth0", "up")
                one.ip("route", "add", "default", "via", pod(name, 1))
        for name, host in hosts.items():
            if mesh:
                how = f"type vxlan id 1 dev eth0 local {node(name)} dstport 8472 nolearning"
                host.ip("link", "add", "flannel.1", "address", mac(name), "mtu", mtu, *how.split())
                host.ip("addr", "add", f"{pod(name, 0)}/32", "dev", "flannel.1")
                host.ip("link", "set", "flannel.1", "up")
            for other in hosts.keys() - {name}:
                if mesh:
                    host.ip(*f"neigh replace {pod(other, 0)} lladdr {mac(other)} dev flannel.1 nud permanent".split())
                    host.bridge(*f"fdb replace {mac(other)} dev flannel.1 dst {node(other)} self permanent".split())
                    host.ip(*f"route add {pod(other, 0)}/24 via {pod(other, 0)} dev flannel.1 onlink".split())
                else:
                    host.ip(*f"route add {pod(other, 0)}/24 via {node(other)}".split())
        yield Cluster(hosts, pods, mesh)


def write(host: Namespace, path: str, value: str) -> None:
    host.run("sh", "-c", f"echo {value} >/proc/sys/{path}")


def read(host: Namespace, path: str) -> str:
    return host.run("cat", f"/proc/sys/{path}").strip()


def observation(cluster: Cluster, name: str) -> dict[str, Any]:
    """What pod_network_info returns, as far as these tests have it."""
    host = cluster.hosts[name]
    listed = rulesets.from_nft(host.run("nft", "--stateless", "list", "ruleset").splitlines())
    tables, _saved, frames = rulesets.merged(rulesets.NOTHING, listed)
    links = []
    for row in host.ip_json("-d", "link"):
        info = row.get("linkinfo", {})
        data, slave = info.get("info_data", {}), info.get("info_slave_data", {})
        links.append(
            {
                "name": row["ifname"],
                "kind": info.get("info_kind", ""),
                "mac": row.get("address", ""),
                "mtu": row["mtu"],
                "up": "UP" in row["flags"],
                "running": row["operstate"] in ("UP", "UNKNOWN"),
                "master": row.get("master", ""),
                **({"hairpin": slave["hairpin"], "isolated": slave["isolated"]} if slave else {}),
                **(
                    {"vni": data["id"], "port": data["port"], "local": data["local"], "underlay": data["link"]}
                    if info.get("info_kind") == "vxlan"
                    else {}
                ),
            }
        )
    addresses = [
        {"dev": row["ifname"], "address": f"{each['local']}/{each['prefixlen']}", "scope": each["scope"]}
        for row in host.ip_json("addr")
        for each in row["addr_info"]
    ]
    routes = [
        {
            "dst": row["dst"],
            "via": row.get("gateway", ""),
            "dev": row.get("dev", ""),
            "table": str(row.get("table", "main")),
            "metric": row.get("metric", 0),
            "type": row.get("type", "unicast"),
            "onlink": "onlink" in row.get("flags", []),
            "src": row.get("prefsrc", ""),
        }
        for row in host.ip_json("-4", "-d", "route", "show", "table", "all")
        if row.get("table") != "local"
    ]
    neighbours = [
        {"dst": row["dst"], "dev": row["dev"], "mac": row.get("lladdr", ""), "state": row["state"][0].lower()}
        for row in host.ip_json("-4", "neigh")
    ]
    fdb = [
        {"mac": row["mac"], "dev": row["ifname"], "dst": row["dst"]}
        for row in loads(host.bridge("-j", "fdb"))
        if "dst" in row
    ]
    rules = [
        {
            "priority": row["priority"],
            "from": f"{row['src']}/{row.get('srclen', 32)}" if row["src"] != "all" else "",
            "to": row.get("dst", ""),
            "table": str(row.get("table", "main")),
            "fwmark": row.get("fwmark", 0),
            "action": row.get("action", ""),
        }
        for row in host.ip_json("-4", "rule")
        if row["priority"] not in (0, 32766, 32767)
    ]
    return {
        "links": links,
        "addresses": addresses,
        "routes": routes,
        "neighbours": neighbours,
        "fdb": fdb,
        "rules": rules,
        "sysctls": {
            "net.ipv4.ip_forward": {"now": read(host, "net/ipv4/ip_forward")},
            "net.ipv4.conf.all.rp_filter": {"now": read(host, "net/ipv4/conf/all/rp_filter")},
            "net.bridge.bridge-nf-call-iptables": {"now": read(host, "net/bridge/bridge-nf-call-iptables")},
        },
        "kernel_modules": {"br_netfilter": {"loaded": True}},
        "cni": {
            "files": [
                {
                    "name": "10-test.conflist",
                    "network": "test",
                    "bridge": "cni0",
                    "subnets": [f"{pod(name, 0)}/24"],
                    "ip_masq": False,
                }
            ],
            "pods": [
                {
                    "address": pod(name, last),
                    "netns": str(cluster.pods[pod(name, last)].path),
                    "dev": "eth0",
                    "host_dev": port(name, last),
                    "mtu": cluster.pods[pod(name, last)].ip_json("link", "show", "eth0")[0]["mtu"],
                    "default_route": bool(cluster.pods[pod(name, last)].ip_json("route", "show", "default")),
                }
                for last in WORKERS[name]
            ],
            "detached": [],
            "networks": [],
            "rules": [],
        },
        "forward": forwarding.places(tables, lambda _device: []),
        "frame_filters": forwarding.of_frames(frames),
        "redirects": translation.redirects(tables),
        "ipsec": ipsec.read(host.run("ip", "xfrm", "policy").splitlines()),
        "masquerade": [{"place": "nftables: table ip test", "owner": "other", "rules": table(host, "post")}],
        "firewalls": {},
        "flannel": {},
    }


def table(host: Namespace, chain: str) -> list[str]:
    """The rules of a chain of these tests' own table; none where it is not there."""
    if "table ip test" not in host.run("nft", "list", "tables"):
        return []
    lines = [line.strip() for line in host.run("nft", "list", "table", "ip", "test").splitlines()]
    start = lines.index(f"chain {chain} {{") if f"chain {chain} {{" in lines else len(lines)
    return [line for line in lines[start : start + 9] if line.startswith("ip ")]


def loads(text: str) -> list[dict[str, Any]]:
    return list(json.loads(text)) if text.strip() else []


def found(cluster: Cluster, source: str, target: str) -> dict[str, Any]:
    return explain({name: observation(cluster, name) for name in cluster.hosts}, source, target)


def arrives(cluster: Cluster, source: str, target: str, size: int = HEADERS + 1, by: str = "") -> str | None:
    """The source that the target sees of a packet of this size that no one may split; None for one that is lost.

    ``by``: the address that it is sent to, where that is another one.
    """
    there = {**cluster.pods, **{node(name): host for name, host in cluster.hosts.items()}}

    def listening() -> socket.socket:
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.bind((target, PORT))
        opened.settimeout(WAIT)
        return opened

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            out.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
            # A packet larger than the sender's own device does not leave it.
            with contextlib.suppress(OSError):
                out.sendto(b"x" * (size - HEADERS), (by or target, PORT))

    with there[target].call(listening) as receiver:
        there[source].call(send)
        try:
            return str(receiver.recvfrom(65535)[1][0])
        except TimeoutError:
            return None


ONE, TWO, THREE = pod("worker-1"), pod("worker-2"), pod("worker-3")


def agrees(cluster: Cluster, source: str, target: str) -> dict[str, Any]:
    """explain's answer, after the kernel's was found to be the same."""
    answer = found(cluster, source, target)
    assert not answer["problems"], answer["text"]
    there = answer["there"]
    if there["outcome"] != "arrives":
        assert arrives(cluster, source, target) is None, answer["text"]
    else:
        # A link that has just been set up takes a moment.
        assert until(lambda: arrives(cluster, source, target) is not None, 20), answer["text"]
        largest = there["largest"]
        assert arrives(cluster, source, target, largest) is not None, answer["text"]
        assert arrives(cluster, source, target, largest + 1 + SLACK) is None, answer["text"]
    return answer


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (ONE, TWO),
        (ONE, pod("worker-1", 6)),
        (THREE, ONE),
        (ONE, node("worker-2")),
        (node("worker-1"), TWO),
        (ONE, node("worker-1")),
    ],
)
def test_a_whole_cluster(cluster: Cluster, source: str, target: str) -> None:
    answer = agrees(cluster, source, target)
    assert answer["ok"] or target == node("worker-2"), answer["text"]


BRIDGES = "nft table bridge x { chain f { type filter hook"
# (mesh, routes or both; on which host; the command; the host and hop where the way ends; is the fix as printed enough?)
BREAKS = [
    ("both", "worker-1", "ip route del 10.244.2.0/24", "worker-1", "route", True),
    ("both", "worker-1", "ip route replace blackhole 10.244.2.5/32", "worker-1", "route", True),
    ("both", "worker-1", "ip route add unreachable 10.244.2.5/32", "worker-1", "route", True),
    ("routes", "worker-1", "ip route replace 10.244.2.0/24 via 172.31.0.99", "worker-1", "next hop", True),
    ("mesh", "worker-1", "ip neigh del 10.244.2.0 dev flannel.1", "worker-1", "neighbour", True),
    (
        "mesh",
        "worker-1",
        "ip neigh replace 10.244.2.0 lladdr 02:00:00:00:00:99 dev flannel.1 nud permanent",
        "worker-1",
        "fdb",
        False,
    ),
    (
        "mesh",
        "worker-1",
        "bridge fdb del 02:00:00:00:00:02 dev flannel.1 dst 172.31.0.12 self",
        "worker-1",
        "fdb",
        True,
    ),
    (
        "mesh",
        "worker-1",
        "bridge fdb replace 02:00:00:00:00:02 dev flannel.1 dst 172.31.0.13 self permanent",
        "worker-3",
        "decapsulation",
        True,
    ),
    (
        "mesh",
        "worker-1",
        "bridge fdb replace 02:00:00:00:00:02 dev flannel.1 dst 172.31.0.99 self permanent",
        "worker-1",
        "underlay",
        True,
    ),
    ("mesh", "worker-2", "ip link set flannel.1 address 02:00:00:00:00:77", "worker-2", "decapsulation", True),
    ("mesh", "worker-2", "ip link set flannel.1 down", "worker-2", "decapsulation", True),
    ("mesh", "worker-1", "ip link set flannel.1 down", "worker-1", "route", False),
    ("mesh", "worker-2", "ip link del flannel.1", "worker-2", "decapsulation", False),
    ("both", "worker-1", "ip link set eth0 down", "worker-1", "", False),
    ("routes", "worker-2", "ip link set cni0 down", "worker-2", "route", True),
    ("both", "worker-1", "sysctl -qw net.ipv4.ip_forward=0", "worker-1", "forwarding", True),
    ("mesh", "worker-2", "sysctl -qw net.ipv4.ip_forward=0", "worker-2", "forwarding", True),
    ("mesh", "worker-2", "ip link set veth25 nomaster", "worker-2", "veth", True),
    ("mesh", "worker-2", "ip link set veth25 down", "worker-2", "veth", True),
    ("mesh", "worker-1", "ip link set veth15 down", "worker-1", "veth", True),
    ("mesh", "worker-2", "ip addr del 10.244.2.1/24 dev cni0", "worker-2", "route", False),
    ("both", "worker-1", "ip addr add 10.244.2.5/32 dev eth0", "worker-1", "node", True),
    ("both", "worker-2", "ip addr add 10.244.1.5/32 dev eth0", "worker-2", "rp_filter", False),
    ("both", "worker-1", f"{BRIDGES} input priority 0; drop; }}; }}", "worker-1", "netfilter", True),
    (
        "both",
        "worker-2",
        f"{BRIDGES} output priority 0; ip saddr 10.244.1.0/24 drop; }}; }}",
        "worker-2",
        "netfilter",
        True,
    ),
    (
        "both",
        "worker-1",
        f'{BRIDGES} prerouting priority 0; iifname "veth15" drop; }}; }}',
        "worker-1",
        "netfilter",
        True,
    ),
    (
        "both",
        "worker-1",
        "nft table inet x { chain f { type filter hook forward priority 0; ct state new ip daddr 10.244.2.5 drop; }; }",
        "worker-1",
        "netfilter",
        True,
    ),
    (
        "routes",
        "worker-1",
        "ip neigh replace 172.31.0.12 lladdr 02:00:00:00:00:77 dev eth0 nud permanent",
        "worker-1",
        "next hop",
        True,
    ),
    ("routes", "worker-1", "ip rule add priority 100 from 10.244.1.0/24 blackhole", "worker-1", "route", False),
]


@pytest.mark.parametrize(
    ("cluster", "host", "words", "ends", "kind", "heals"),
    [
        pytest.param(how, *rest, id=f"{how}-{rest[1]}")
        for where, *rest in BREAKS
        for how in (HOW if where == "both" else (where,))
    ],
    indirect=["cluster"],
)
def test_a_break_is_where_explain_says_and_the_fix_heals_it(
    cluster: Cluster, host: str, words: str, ends: str, kind: str, heals: bool
) -> None:
    cluster.hosts[host].run(*words.split())
    answer = agrees(cluster, ONE, TWO)
    last = answer["there"]["hops"][-1]
    assert answer["there"]["outcome"] == "stops", answer["text"]
    assert last["host"] == ends and last["kind"] == (kind or last["kind"]), answer["text"]
    if heals:
        repair(cluster, last)
        assert agrees(cluster, ONE, TWO)["there"]["outcome"] == "arrives"


def repair(cluster: Cluster, hop: dict[str, str]) -> None:
    """Type what explain printed."""
    host, fix = hop["host"], hop["fix"]
    if fix.startswith("on "):
        host, _colon, fix = fix.removeprefix("on ").partition(": ")
    assert fix
    for one in fix.split("; "):
        cluster.hosts[host].run(*shlex.split(one))


@pytest.mark.parametrize("cluster", ["mesh"], indirect=True)
def test_a_wrong_mac_that_the_fdb_knows_too(cluster: Cluster) -> None:
    host = cluster.hosts["worker-1"]
    host.ip(*["neigh", "replace", "10.244.2.0", "lladdr", "02:00:00:00:00:99", "dev", "flannel.1", "nud", "permanent"])
    host.bridge(*f"fdb append 02:00:00:00:00:99 dev flannel.1 dst {node('worker-2')} self permanent".split())
    hop = agrees(cluster, ONE, TWO)["there"]["hops"][-1]
    assert (hop["host"], hop["kind"]) == ("worker-2", "decapsulation")
    repair(cluster, hop)
    assert agrees(cluster, ONE, TWO)["there"]["outcome"] == "arrives"


@pytest.mark.parametrize("cluster", ["routes"], indirect=True)
def test_a_next_hop_that_is_another_node(cluster: Cluster) -> None:
    cluster.hosts["worker-1"].ip("route", "replace", "10.244.2.0/24", "via", node("worker-3"))
    assert "a detour" in agrees(cluster, ONE, TWO)["text"]
    cluster.hosts["worker-3"].ip("route", "del", "10.244.2.0/24")
    assert agrees(cluster, ONE, TWO)["there"]["hops"][-1]["host"] == "worker-3"
    cluster.hosts["worker-3"].ip("route", "add", "10.244.2.0/24", "via", node("worker-1"))
    assert "has been here before" in agrees(cluster, ONE, TWO)["text"]


def test_a_strict_check_of_the_source(cluster: Cluster) -> None:
    host = cluster.hosts["worker-2"]
    host.ip("link", "add", "other", "type", "bridge")
    host.ip("link", "set", "other", "up")
    host.ip("route", "replace", f"{ONE}/32", "dev", "other")
    assert agrees(cluster, ONE, TWO)["there"]["outcome"] == "arrives"
    write(host, "net/ipv4/conf/all/rp_filter", "1")
    hop = agrees(cluster, ONE, TWO)["there"]["hops"][-1]
    assert hop["kind"] == "rp_filter"
    repair(cluster, hop)
    answer = agrees(cluster, ONE, TWO)
    assert answer["there"]["outcome"] == "arrives"
    assert answer["back"]["outcome"] == "stops" and answer["back"]["hops"][-1]["host"] == "worker-2"


@pytest.mark.parametrize(
    "rule",
    ["ip saddr 10.244.1.0/24 masquerade", "ip saddr 10.244.1.0/24 ip daddr != 10.244.1.0/24 snat to 172.31.0.11"],
)
def test_a_source_that_is_translated(cluster: Cluster, rule: str) -> None:
    host = cluster.hosts["worker-1"]
    made = "chain ip test post { type nat hook postrouting priority 100; }"
    host.run("nft", f"add table ip test; add {made}; add rule ip test post {rule}")
    answer = agrees(cluster, ONE, TWO)
    became = arrives(cluster, ONE, TWO)
    assert became != ONE and f"the source {ONE} becomes {became}" in answer["text"]
    assert not answer["ok"] and answer["back"]["outcome"] == "arrives"
    host.run("nft", "insert rule ip test post ip daddr 10.244.0.0/16 return")
    assert agrees(cluster, ONE, TWO)["ok"] and arrives(cluster, ONE, TWO) == ONE


def test_a_chain_that_drops_what_is_forwarded(cluster: Cluster) -> None:
    """Also inside the bridge, but only where the bridge calls it."""
    host, neighbour = cluster.hosts["worker-1"], pod("worker-1", 6)
    write(host, "net/bridge/bridge-nf-call-iptables", "0")
    made = "chain ip test forward { type filter hook forward priority 0; policy drop; }"
    host.run("nft", f"add table ip test; add {made}")
    assert agrees(cluster, ONE, neighbour)["ok"]
    write(host, "net/bridge/bridge-nf-call-iptables", "1")
    for target in (neighbour, TWO):
        hop = agrees(cluster, ONE, target)["there"]["hops"][-1]
        assert (hop["host"], hop["kind"]) == ("worker-1", "netfilter")
    repair(cluster, hop)
    for target in (neighbour, TWO):
        agrees(cluster, ONE, target)
    assert agrees(cluster, ONE, neighbour)["ok"]


BEFORE_THE_ROUTE = (
    ("worker-1", "redirect", "nft add rule ip test nat ip daddr 10.244.0.0/16 dnat to 198.51.100.1"),
    ("worker-1", "netfilter", "nft add rule ip test raw ip daddr 10.244.0.0/16 drop"),
    ("worker-1", "ipsec", "ip xfrm policy add src 10.244.0.0/16 dst 10.0.0.0/8 dir out action block"),
    ("worker-2", "ipsec", "ip xfrm policy add src 10.244.0.0/16 dst 10.0.0.0/8 dir fwd action block"),
    (
        "worker-1",
        "ipsec",
        "ip xfrm policy add src 10.244.0.0/16 dst 10.0.0.0/8 dir out "
        "tmpl src 172.31.0.11 dst 203.0.113.9 proto esp mode tunnel",
    ),
)
CHAINS = (
    "nat { type nat hook prerouting priority -100; }",
    "raw { type filter hook prerouting priority -300; }",
)


@pytest.mark.parametrize(("where", "kind", "command"), BEFORE_THE_ROUTE)
def test_what_takes_a_packet_before_its_route(cluster: Cluster, where: str, kind: str, command: str) -> None:
    host = cluster.hosts[where]
    host.run("nft", "add table ip test; " + "; ".join(f"add chain ip test {chain}" for chain in CHAINS))
    assert agrees(cluster, ONE, TWO)["ok"]
    host.run("sh", "-c", command)
    hop = agrees(cluster, ONE, TWO)["there"]["hops"][-1]
    assert (hop["host"], hop["kind"]) == (where, kind)


SERVICE = "10.96.0.1"


@pytest.mark.parametrize("cluster", ["mesh"], indirect=True)
@pytest.mark.parametrize("calls", [True, False])
@pytest.mark.parametrize("hairpin", [True, False])
def test_a_pod_that_reaches_itself_by_a_service(cluster: Cluster, calls: bool, hairpin: bool) -> None:
    """The bridge needs hairpin only where it calls the packet filters, and translates the destination itself."""
    host = cluster.hosts["worker-1"]
    write(host, "net/bridge/bridge-nf-call-iptables", str(int(calls)))
    host.bridge("link", "set", "dev", "veth15", "hairpin", "on" if hairpin else "off")
    for words in (
        "add table ip svc",
        "add chain ip svc pre { type nat hook prerouting priority -100; }",
        "add chain ip svc post { type nat hook postrouting priority 100; }",
        f"add rule ip svc pre ip daddr {SERVICE} dnat to {ONE}",
        f"add rule ip svc post ip saddr {ONE} ip daddr {ONE} masquerade",
    ):
        host.run("nft", words)
    answer = found(cluster, ONE, ONE)
    reached = arrives(cluster, ONE, ONE, by=SERVICE) is not None
    assert reached == (answer["there"]["outcome"] == "arrives") == (hairpin or not calls), answer["text"]
    if not reached:
        repair(cluster, answer["there"]["hops"][-1])
        assert arrives(cluster, ONE, ONE, by=SERVICE)


@pytest.mark.parametrize(
    ("host", "dev", "mtu"),
    [
        ("worker-1", "eth0", 1300),
        ("worker-2", "eth0", 1300),
        ("worker-2", "cni0", 1300),
        ("worker-2", "veth25", 1300),
        ("worker-1", "veth15", 1300),
    ],
)
def test_the_largest_packet(cluster: Cluster, host: str, dev: str, mtu: int) -> None:
    """Packets between pods of two nodes and back, with one smaller device somewhere."""
    cluster.hosts[host].ip("link", "set", dev, "mtu", str(mtu))
    agrees(cluster, ONE, TWO)
    agrees(cluster, TWO, ONE)


def test_isolated_ports_and_a_small_port(cluster: Cluster) -> None:
    host = cluster.hosts["worker-1"]
    neighbour = pod("worker-1", 6)
    host.bridge("link", "set", "dev", "veth15", "isolated", "on")
    assert agrees(cluster, ONE, neighbour)["ok"]
    host.bridge("link", "set", "dev", "veth16", "isolated", "on")
    hop = agrees(cluster, ONE, neighbour)["there"]["hops"][-1]
    repair(cluster, hop)
    assert agrees(cluster, ONE, neighbour)["ok"]
    host.ip("link", "set", "veth16", "mtu", "1300")
    assert agrees(cluster, ONE, neighbour)["there"]["largest"] == 1300


def test_a_rule_with_a_table_of_its_own(cluster: Cluster) -> None:
    host = cluster.hosts["worker-1"]
    host.ip("rule", "add", "priority", "100", "from", "10.244.1.0/24", "lookup", "100")
    assert agrees(cluster, ONE, TWO)["there"]["outcome"] == "arrives"
    host.ip("route", "add", "default", "via", node("worker-3"), "table", "100")
    assert "worker-3" in {hop["host"] for hop in agrees(cluster, ONE, TWO)["there"]["hops"]}
