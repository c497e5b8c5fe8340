# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A packet followed through healthy clusters of every kind, and through one break after the other."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.weft.podnet.plugins.filter import explain as filters
from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis.explain import check, explain
from support import observed_cluster as observed
from support.observations import drops
from support.observed_cluster import Observation, base, cluster, link, mac, name, node, pod, route, subnet

Seen = dict[str, Observation]
OUTSIDE = {4: "198.51.100.7", 6: "2001:db8::7"}
# flannel's ipip backend knows IPv4 only.
KINDS = [(backend, version) for backend in observed.BACKENDS for version in (4, 6) if (backend, version) != ("ipip", 6)]


def explained(seen: Seen, source: str = pod(1), target: str = pod(2), **given: Any) -> dict[str, Any]:
    return explain(seen, source, target, **given)


def stop(way: dict[str, Any]) -> tuple[str, str]:
    """The host and the kind of the hop at which a way ends."""
    assert way["outcome"] == "stops", way["conclusion"]
    return way["hops"][-1]["host"], way["hops"][-1]["kind"]


def broken(way: dict[str, Any]) -> list[dict[str, Any]]:
    return [hop for hop in way["hops"] if hop["verdict"] == "broken"]


def kinds(way: dict[str, Any]) -> list[tuple[str, str]]:
    return [(hop["host"], hop["kind"]) for hop in way["hops"]]


def without(rows: list[Observation], **match: Any) -> list[Observation]:
    """The rows that do not have these values; at least one does, or the test would test nothing."""
    left = [row for row in rows if any(row.get(key) != value for key, value in match.items())]
    assert len(left) < len(rows)
    return left


def test_a_wider_local_route_counts_beside_policy_rules_alone() -> None:
    """Without any, the kernel looks for the longest prefix in the tables local and main at once."""
    seen = cluster("routes", 2)
    wide = {"dst": "10.0.0.0/8", "type": "local", "table": "local", "dev": "lo", "via": ""}
    seen["worker-1"]["routes"].append(wide)
    assert explain(seen, pod(1), pod(2))["ok"]
    seen["worker-1"]["rules"].append({"priority": 100, "from": "192.0.2.0/24", "to": "", "table": "vpn"})
    assert stop(explain(seen, pod(1), pod(2))["there"]) == ("worker-1", "node")


@pytest.mark.parametrize(("backend", "version"), KINDS)
@pytest.mark.parametrize("workers", [2, 3])
def test_a_healthy_cluster_has_no_break_anywhere(backend: str, version: int, workers: int) -> None:
    seen = cluster(backend, workers, version)
    ends = [pod(1, 5, version), pod(1, 6, version), pod(workers, 5, version), node(1, version), name(1), name(2)]
    for source, target in itertools.product(ends, [*ends, OUTSIDE[version]]):
        found = explain(seen, source, target)
        assert not found["problems"]
        assert found["ok"], found["text"]
        itself = {source, target} <= {node(1, version), name(1)} or source == target == name(2)
        assert found["there"]["largest"] > 0 or itself, found["text"]
        unknown = [hop for hop in found["there"]["hops"] if hop["verdict"] == "unknown"]
        # What a WireGuard peer may send and receive is a matter of keys, which nothing reads.
        assert not unknown or backend == "wireguard", found["text"]


def test_the_way_by_a_mesh_is_shown_with_the_kernels_objects() -> None:
    there = explained(cluster("flannel"))["there"]
    assert [
        (hop["kind"], hop["object"]) for hop in there["hops"] if hop["kind"] not in ("forwarding", "netfilter")
    ] == [
        ("pod", "10.244.0.5 dev eth0 mtu 1450"),
        ("bridge", "cni0 port veth15 mtu 1450"),
        ("route", "10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink"),
        ("vxlan", "flannel.1 vxlan id 1 local 172.16.0.3 dev eth0 dstport 8472 mtu 1450"),
        ("neighbour", "10.244.1.0 dev flannel.1 lladdr 02:00:00:00:00:02 PERMANENT"),
        ("fdb", "02:00:00:00:00:02 dev flannel.1 dst 172.16.0.4"),
        ("underlay", "UDP port 8472 172.16.0.3 > 172.16.0.4 by 172.16.0.0/24 dev eth0 src 172.16.0.3 (mtu 1500)"),
        ("underlay", "eth0 mtu 1500"),
        ("decapsulation", "flannel.1 vxlan id 1 local 172.16.0.4 dev eth0 dstport 8472 mtu 1450"),
        ("route", "10.244.1.0/24 dev cni0 src 10.244.1.1"),
        ("bridge", "cni0 port veth25 mtu 1450"),
        ("pod", "10.244.1.5 dev eth0 mtu 1450"),
    ]
    assert all(hop["look"] for hop in there["hops"])
    assert there["conclusion"] == ["=> reaches it with up to 1450 bytes"]


def test_a_pod_without_a_mac_of_its_own_is_reached_by_chance() -> None:
    seen = cluster("vxlan")
    macs_of_both_ends(seen)
    found = explained(seen)
    assert not found["ok"]
    assert [(hop["host"], hop["object"]) for hop in broken(found["there"])] == [
        ("worker-1", "eth0 02:00:00:00:00:0a"),
        ("worker-2", "eth0 02:00:00:00:00:0a"),
    ]


def test_a_pod_reaches_its_neighbour_without_a_route() -> None:
    seen = cluster("vxlan")
    seen["worker-1"]["routes"] = []
    found = explained(seen, pod(1), pod(1, 6))
    assert found["ok"], found["text"]
    assert "route" not in [kind for _host, kind in kinds(found["there"])]


# One break each: (backends, what breaks it, the host and hop where the way there ends, words of the reason, the fix).
def no_route(seen: Seen) -> None:
    seen["worker-1"]["routes"] = [row for row in seen["worker-1"]["routes"] if row["dst"] not in ("default", subnet(2))]


def default_route_instead(seen: Seen) -> None:
    seen["worker-1"]["routes"] = without(seen["worker-1"]["routes"], dst=subnet(2))


def blackhole(seen: Seen) -> None:
    seen["worker-1"]["routes"].append({"dst": subnet(2), "type": "blackhole", "table": "main", "dev": "", "metric": 0})
    seen["worker-1"]["routes"] = [
        row for row in seen["worker-1"]["routes"] if row["dst"] != subnet(2) or row.get("type") == "blackhole"
    ]


def narrower_unreachable(seen: Seen) -> None:
    seen["worker-1"]["routes"].append({"dst": f"{pod(2)}/32", "type": "unreachable", "table": "main", "dev": "lo"})


def next_hop_of_nobody(seen: Seen) -> None:
    route(seen["worker-1"], subnet(2))["via"] = "172.16.0.99"


def next_hop_that_fails(seen: Seen) -> None:
    seen["worker-1"]["neighbours"].append({"dst": node(2), "dev": "eth0", "mac": "", "state": "failed"})


def next_hop_is_itself(seen: Seen) -> None:
    route(seen["worker-1"], subnet(2))["via"] = node(1)


def neighbour_missing(seen: Seen) -> None:
    seen["worker-1"]["neighbours"] = without(seen["worker-1"]["neighbours"], dst=base(2))


def neighbour_failed(seen: Seen) -> None:
    seen["worker-1"]["neighbours"] = [{"dst": base(2), "dev": "flannel.1", "mac": "", "state": "failed"}]


def neighbour_wrong(seen: Seen) -> None:
    seen["worker-1"]["neighbours"][0]["mac"] = "02:00:00:00:00:99"
    seen["worker-1"]["fdb"].append({"mac": "02:00:00:00:00:99", "dev": "flannel.1", "dst": node(2)})


def device_got_another_mac(seen: Seen) -> None:
    link(seen["worker-2"], "flannel.1")["mac"] = "02:00:00:00:00:77"


def fdb_missing(seen: Seen) -> None:
    seen["worker-1"]["fdb"] = without(seen["worker-1"]["fdb"], mac=mac(2))


def fdb_to_itself(seen: Seen) -> None:
    seen["worker-1"]["fdb"][0]["dst"] = node(1)


def fdb_to_nobody(seen: Seen) -> None:
    seen["worker-1"]["fdb"][0]["dst"] = "172.16.0.99"


def tunnel_down(seen: Seen) -> None:
    link(seen["worker-1"], "flannel.1").update(up=False, running=False)
    no_route(seen)


def tunnel_down_there(seen: Seen) -> None:
    link(seen["worker-2"], "flannel.1").update(up=False, running=False)


def tunnel_gone_there(seen: Seen) -> None:
    seen["worker-2"]["links"] = without(seen["worker-2"]["links"], name="flannel.1")


def other_vni(seen: Seen) -> None:
    link(seen["worker-2"], "flannel.1")["vni"] = 2


def other_port(seen: Seen) -> None:
    link(seen["worker-2"], "flannel.1")["port"] = 4789


def lost_vtep_address(seen: Seen) -> None:
    link(seen["worker-1"], "flannel.1")["local"] = "172.16.0.33"


def underlay_without_carrier(seen: Seen) -> None:
    link(seen["worker-1"], "eth0")["running"] = False


def underlay_down_there(seen: Seen) -> None:
    link(seen["worker-2"], "eth0")["up"] = False


def no_underlay_route(seen: Seen) -> None:
    seen["worker-1"]["routes"] = [row for row in seen["worker-1"]["routes"] if row["dev"] != "eth0"]


def forward_drops(seen: Seen) -> None:
    seen["worker-1"]["forward"][0]["accepts"] = []


def forward_rejects_there(seen: Seen) -> None:
    place = {"place": "nftables: table inet firewalld, chain filter_FORWARD", "policy": "accept", "accepts": []}
    seen["worker-2"]["forward"].append({**place, "rejects_before": "reject with icmpx admin-prohibited"})


def redirected(seen: Seen) -> None:
    place = "iptables (nft): nat, chain PREROUTING"
    seen["worker-1"]["redirects"] = [{"place": place, "rules": ["-d 10.0.0.0/8 -j DNAT --to-destination 198.51.100.1"]}]


def redirected_after_a_log(seen: Seen) -> None:
    place = "iptables (nft): mangle, chain PREROUTING"
    rules = ["-j LOG --log-prefix x", "-d 10.0.0.0/8 -j TPROXY --on-port 1500 --on-ip 127.0.0.1 --tproxy-mark 0x1/0x1"]
    seen["worker-1"]["redirects"] = [{"place": place, "rules": rules}]


def frames_dropped(seen: Seen) -> None:
    place = {"place": "nftables: table bridge x, chain f", "hook": "input", "everything": ""}
    seen["worker-1"]["frame_filters"] = [{**place, "drops": drops("ip saddr 10.244.0.0/16 drop")}]


def static_neighbour(seen: Seen) -> None:
    entry = {"dst": "172.16.0.4", "dev": "eth0", "mac": "02:00:00:00:00:77", "state": "permanent"}
    others = [each for each in seen["worker-1"]["neighbours"] if each["dst"] != entry["dst"]]
    seen["worker-1"]["neighbours"] = [entry, *others]


def redirected_by_nftables(seen: Seen) -> None:
    place = "nftables: table ip proxy, chain pre"
    rules = ["ip daddr 203.0.113.0/24 return", "ip daddr 10.0.0.0/8 dnat to 198.51.100.1"]
    seen["worker-1"]["redirects"] = [{"place": place, "rules": rules}]


def vpn(seen: Seen) -> None:
    policy = {"from": "10.244.0.0/16", "to": "10.0.0.0/8", "dir": "out", "priority": 9, "block": False}
    seen["worker-1"]["ipsec"] = [{**policy, "to": "10.9.0.0/16", "tunnel": ""}, {**policy, "tunnel": "203.0.113.9"}]


def ipsec_drops_there(seen: Seen) -> None:
    policy = {"from": "10.244.0.0/16", "to": "10.0.0.0/8", "dir": "fwd", "priority": 9, "block": True, "tunnel": ""}
    seen["worker-2"]["ipsec"] = [policy]


def dropped_before_the_route(seen: Seen) -> None:
    place = {"place": "iptables (nft): raw, chain PREROUTING", "policy": "accept", "accepts": []}
    seen["worker-1"]["forward"].append({**place, "rejects_before": "", "drops": drops("-i cni0 -d 10.0.0.0/8 -j DROP")})


def not_forwarding(seen: Seen) -> None:
    seen["worker-1"]["sysctls"]["net.ipv4.ip_forward"]["now"] = "0"


def not_forwarding_from_the_bridge(seen: Seen) -> None:
    seen["worker-1"]["sysctls"]["net.ipv4.conf.cni0.forwarding"] = {"now": "0"}


def not_forwarding_there(seen: Seen) -> None:
    seen["worker-2"]["sysctls"]["net.ipv4.ip_forward"]["now"] = "0"


def detached(seen: Seen) -> None:
    link(seen["worker-1"], "veth15")["master"] = ""
    seen["worker-1"]["cni"]["detached"] = ["veth15"]


def detached_there(seen: Seen) -> None:
    link(seen["worker-2"], "veth25")["master"] = ""
    seen["worker-2"]["cni"]["detached"] = ["veth25"]


def on_another_bridge_there(seen: Seen) -> None:
    link(seen["worker-2"], "veth25")["master"] = "docker0"


def veth_down(seen: Seen) -> None:
    link(seen["worker-1"], "veth15")["up"] = False


def bridge_down(seen: Seen) -> None:
    link(seen["worker-1"], "cni0")["up"] = False


def pods_link_without_carrier(seen: Seen) -> None:
    link(seen["worker-2"], "veth25")["running"] = False


def no_default_route(seen: Seen) -> None:
    seen["worker-1"]["cni"]["pods"][0]["default_route"] = False


def link_down_inside(seen: Seen) -> None:
    seen["worker-1"]["cni"]["pods"][0].update(up=False, default_route=False)


def link_without_arp_inside(seen: Seen) -> None:
    seen["worker-2"]["cni"]["pods"][0]["arp"] = False


def gateway_of_another_host(seen: Seen) -> None:
    for each in seen["worker-1"]["addresses"]:
        each["tentative"] = each["dev"] == "cni0"


def port_locked(seen: Seen) -> None:
    link(seen["worker-1"], "veth15")["locked"] = True


def port_not_findable(seen: Seen) -> None:
    link(seen["worker-2"], "veth25")["findable"] = False


def frames_to_another_port(seen: Seen) -> None:
    astray = {"fdb_mac": "02:00:00:00:02:05", "fdb_dev": "veth26", "fdb_local": False}
    next(each for each in seen["worker-2"]["cni"]["pods"] if each["address"] == pod(2)).update(astray)


def frames_that_the_bridge_takes(seen: Seen) -> None:
    astray = {"fdb_mac": "02:00:00:00:02:05", "fdb_dev": "cni0", "fdb_local": True}
    next(each for each in seen["worker-2"]["cni"]["pods"] if each["address"] == pod(2)).update(astray)


def gateway_behind_a_port(seen: Seen) -> None:
    link(seen["worker-1"], "cni0").update(fdb_mac="02:00:00:00:01:01", fdb_dev="veth16", fdb_local=False)


def next_hop_is_not_asked_for(seen: Seen) -> None:
    seen["worker-1"]["neighbours"].append({"dst": node(2), "dev": "eth0", "mac": "", "state": "failed"})
    seen["worker-1"]["sysctls"]["net.ipv4.neigh.eth0.mcast_solicit"] = {"now": "0"}


def pod_is_not_asked_for(seen: Seen) -> None:
    seen["worker-2"]["neighbours"].append({"dst": pod(2), "dev": "cni0", "mac": "", "state": "failed"})
    seen["worker-2"]["sysctls"]["net.ipv4.neigh.cni0.mcast_solicit"] = {"now": "0"}


def macs_of_both_ends(seen: Seen) -> None:
    for name_ in ("worker-1", "worker-2"):
        seen[name_]["cni"]["pods"][0]["mac"] = "02:00:00:00:00:0a"


def blackhole_of_the_tunnel(seen: Seen) -> None:
    link(seen["worker-1"], "flannel.1")["qdisc"] = "blackhole"


def queue_for_nothing(seen: Seen) -> None:
    link(seen["worker-1"], "eth0").update(qdisc="pfifo", qdisc_limit=0)


def goto_past_the_main_table(seen: Seen) -> None:
    rule = {"priority": 100, "from": "", "to": subnet(2), "table": "", "action": "goto", "goto": 32767}
    seen["worker-1"]["rules"].append(rule)


def entry_with_a_vni(seen: Seen) -> None:
    for each in seen["worker-1"]["fdb"]:
        each["vni"] = 77


def bridge_with_another_address(seen: Seen) -> None:
    seen["worker-1"]["addresses"] = without(seen["worker-1"]["addresses"], dev="cni0")
    seen["worker-1"]["addresses"].append({"dev": "cni0", "address": "10.244.9.1/24", "scope": "global"})


def pod_gone(seen: Seen) -> None:
    seen["worker-2"]["cni"]["pods"] = without(seen["worker-2"]["cni"]["pods"], address=pod(2))
    seen["worker-2"]["cni"]["networks"][0].update(addresses=[pod(2, 6)], stale_addresses=[pod(2)])


def sender_gone(seen: Seen) -> None:
    seen["worker-1"]["cni"]["pods"] = without(seen["worker-1"]["cni"]["pods"], address=pod(1))


def no_route_to_own_pods(seen: Seen) -> None:
    seen["worker-2"]["routes"] = [row for row in seen["worker-2"]["routes"] if row["dst"] not in ("default", subnet(2))]


def own_pods_led_away(seen: Seen) -> None:
    seen["worker-2"]["routes"].append({"dst": f"{pod(2)}/32", "via": node(1), "dev": "eth0", "table": "main"})


def address_taken(seen: Seen) -> None:
    seen["worker-1"]["addresses"].append({"dev": "eth0", "address": f"{pod(2)}/24", "scope": "global"})


def taken_by_a_route(seen: Seen) -> None:
    taken = {"dst": subnet(2), "type": "local", "table": "local", "dev": "lo", "via": ""}
    seen["worker-1"]["routes"].append(taken)


def same_subnet(seen: Seen) -> None:
    seen["worker-1"]["addresses"].append({"dev": "cni0", "address": "10.244.1.1/24", "scope": "global"})
    route(seen["worker-1"], subnet(2)).update(via="", dev="cni0", onlink=False)


def strict_source_check(seen: Seen) -> None:
    seen["worker-2"]["sysctls"]["net.ipv4.conf.all.rp_filter"]["now"] = "1"
    seen["worker-2"]["routes"] = without(seen["worker-2"]["routes"], dst=subnet(1))
    seen["worker-2"]["routes"].append({"dst": subnet(1), "via": "172.16.9.9", "dev": "eth1", "table": "main"})


def source_is_theirs(seen: Seen) -> None:
    seen["worker-2"]["addresses"].append({"dev": "eth0", "address": f"{pod(1)}/32", "scope": "global"})


def policy_route(seen: Seen) -> None:
    seen["worker-1"]["rules"] = [{"priority": 100, "from": subnet(1), "to": "", "table": "vpn", "fwmark": 0}]
    seen["worker-1"]["routes"].append({"dst": "default", "via": "172.16.0.1", "dev": "eth0", "table": "vpn"})


def marked(seen: Seen) -> None:
    rules = ["-s 10.244.0.0/16 -j MARK --set-xmark 0x17/0xffffffff"]
    seen["worker-1"]["redirects"] = [{"place": "iptables (nft): mangle, chain PREROUTING", "rules": rules}]
    seen["worker-1"]["rules"] = [
        {"priority": 99, "from": "", "to": "", "table": "", "action": "prohibit", "fwmark": 6, "fwmask": 15},
        {"priority": 100, "from": "", "to": "", "table": "", "action": "prohibit", "fwmark": 7, "fwmask": 15},
    ]


def marked_and_redirected(seen: Seen) -> None:
    marked(seen)
    rules = ["ip daddr 10.0.0.0/8 meta mark set 0x00000007 dnat to 198.51.100.1"]
    seen["worker-1"]["redirects"] = [{"place": "nftables: table ip x, chain p", "rules": rules}]


def marked_and_accepted(seen: Seen) -> None:
    marked(seen)
    rules = ["ip daddr 10.0.0.0/8 meta mark set 0x00000007 accept", "meta mark set 0x00000000"]
    seen["worker-1"]["redirects"] = [{"place": "nftables: table ip x, chain p", "rules": rules}]


def policy_refuses(seen: Seen) -> None:
    seen["worker-1"]["rules"] = [{"priority": 100, "from": "", "to": subnet(2), "table": "main", "action": "prohibit"}]


MESH = ("vxlan", "flannel")
DIRECT = ("routes", "host-gw")
EACH = MESH + DIRECT
BREAKS: list[tuple[tuple[str, ...], Callable[[Seen], None], str, str, str, str]] = [
    (
        MESH,
        no_route,
        "worker-1",
        "route",
        "no route leads there",
        "ip route replace 10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink",
    ),
    (
        DIRECT,
        no_route,
        "worker-1",
        "route",
        "no route leads there",
        "ip route replace 10.244.1.0/24 via 172.16.0.4 dev eth0",
    ),
    (
        EACH,
        default_route_instead,
        "worker-1",
        "route",
        "no route to the pods of worker-2",
        "ip route replace 10.244.1.0/24 via",
    ),
    (EACH, blackhole, "worker-1", "route", "refuses", "ip route del blackhole 10.244.1.0/24"),
    (
        EACH,
        narrower_unreachable,
        "worker-1",
        "route",
        "refuses what is sent to 10.244.1.5/32",
        "ip route del unreachable 10.244.1.5/32",
    ),
    (
        DIRECT,
        next_hop_of_nobody,
        "worker-1",
        "next hop",
        "no host of the inventory has 172.16.0.99",
        "via 172.16.0.4 dev eth0",
    ),
    (DIRECT, next_hop_that_fails, "worker-1", "next hop", "worker-2, which has it, does not answer", ""),
    (DIRECT, next_hop_is_itself, "worker-1", "next hop", "an address of worker-1 itself", ""),
    (
        MESH,
        neighbour_missing,
        "worker-1",
        "neighbour",
        "does not know the VTEP's MAC",
        f"ip neigh replace 10.244.1.0 lladdr {mac(2)} dev flannel.1 nud permanent",
    ),
    (
        MESH,
        neighbour_failed,
        "worker-1",
        "neighbour",
        "does not know the VTEP's MAC",
        f"ip neigh replace 10.244.1.0 lladdr {mac(2)} dev flannel.1",
    ),
    (
        MESH,
        neighbour_wrong,
        "worker-2",
        "decapsulation",
        "worker-1's neighbour entry has a wrong MAC",
        f"on worker-1: ip neigh replace 10.244.1.0 lladdr {mac(2)}",
    ),
    (
        MESH,
        device_got_another_mac,
        "worker-2",
        "decapsulation",
        "flannel.1 here has 02:00:00:00:00:77",
        "bridge fdb replace 02:00:00:00:00:77 dev flannel.1 dst 172.16.0.4 self permanent",
    ),
    (
        MESH,
        fdb_missing,
        "worker-1",
        "fdb",
        "does not know where the VTEP",
        f"bridge fdb replace {mac(2)} dev flannel.1 dst 172.16.0.4 self permanent",
    ),
    (
        MESH,
        fdb_to_itself,
        "worker-1",
        "fdb",
        "leads back to worker-1 itself",
        f"bridge fdb replace {mac(2)} dev flannel.1 dst 172.16.0.4",
    ),
    (
        MESH,
        fdb_to_nobody,
        "worker-1",
        "underlay",
        "no host of the inventory has 172.16.0.99",
        f"bridge fdb replace {mac(2)} dev flannel.1 dst 172.16.0.4",
    ),
    (MESH, tunnel_down, "worker-1", "route", "flannel.1 is down", "ip link set flannel.1 up"),
    (MESH, tunnel_down_there, "worker-2", "decapsulation", "the device is down", "ip link set flannel.1 up"),
    (MESH, tunnel_gone_there, "worker-2", "decapsulation", "worker-2 has no VXLAN device", ""),
    (MESH, other_vni, "worker-2", "decapsulation", "its VNI is 2, the sender's 1", ""),
    (MESH, other_port, "worker-2", "decapsulation", "its UDP port is 4789, the sender's 8472", ""),
    (MESH, lost_vtep_address, "worker-1", "underlay", "172.16.0.33, which is no address of worker-1", ""),
    (MESH, underlay_without_carrier, "worker-1", "underlay", "no carrier", ""),
    (DIRECT, underlay_without_carrier, "worker-1", "link", "no carrier", ""),
    (MESH, underlay_down_there, "worker-2", "underlay", "the device is down", "ip link set eth0 up"),
    (DIRECT, underlay_down_there, "worker-2", "link", "the device is down", "ip link set eth0 up"),
    (MESH, no_underlay_route, "worker-1", "underlay", "no route leads to 172.16.0.4 by eth0", ""),
    (EACH, forward_drops, "worker-1", "netfilter", "policy is drop", "iptables-nft -I FORWARD -s 10.244.0.0/"),
    (
        EACH,
        forward_rejects_there,
        "worker-2",
        "netfilter",
        "'reject with icmpx admin-prohibited' comes first",
        "nft insert rule inet firewalld filter_FORWARD ip saddr 10.244.",
    ),
    (EACH, redirected, "worker-1", "redirect", "gets another destination", ""),
    (EACH, redirected_by_nftables, "worker-1", "redirect", "gets another destination", ""),
    (EACH, redirected_after_a_log, "worker-1", "redirect", "gets another destination", ""),
    (EACH, frames_dropped, "worker-1", "netfilter", "dropped in the bridge", "nft insert rule bridge x f accept"),
    (EACH, static_neighbour, "worker-1", "next hop", "a static entry", "ip neigh del 172.16.0.4 dev eth0"),
    (EACH, vpn, "worker-1", "ipsec", "goes encrypted to 203.0.113.9", ""),
    (EACH, ipsec_drops_there, "worker-2", "ipsec", "drops the packet", ""),
    (
        EACH,
        dropped_before_the_route,
        "worker-1",
        "netfilter",
        "drops this packet",
        "iptables-nft -t raw -I PREROUTING -s 10.244.0.0/",
    ),
    (EACH, not_forwarding, "worker-1", "forwarding", "forwards nothing", "sysctl -w net.ipv4.ip_forward=1"),
    (
        EACH,
        not_forwarding_from_the_bridge,
        "worker-1",
        "forwarding",
        "comes in by cni0",
        "sysctl -w net.ipv4.conf.cni0.forwarding=1",
    ),
    (EACH, not_forwarding_there, "worker-2", "forwarding", "forwards nothing", "sysctl -w net.ipv4.ip_forward=1"),
    (EACH, detached_there, "worker-2", "veth", "no port of cni0", "ip link set veth25 master cni0"),
    (
        EACH,
        on_another_bridge_there,
        "worker-2",
        "veth",
        "a port of docker0, not of cni0",
        "ip link set veth25 master cni0",
    ),
    (EACH, veth_down, "worker-1", "veth", "the device is down", "ip link set veth15 up"),
    (EACH, bridge_down, "worker-1", "bridge", "the device is down", "ip link set cni0 up"),
    (EACH, pods_link_without_carrier, "worker-2", "veth", "no carrier", ""),
    (EACH, no_default_route, "worker-1", "pod", "no default route", "isDefaultGateway"),
    (EACH, port_locked, "worker-1", "bridge", "the port is locked", "bridge link set dev veth15 locked off"),
    (EACH, port_not_findable, "worker-2", "bridge", "learns no MACs", "learning on flood on"),
    (
        EACH,
        frames_to_another_port,
        "worker-2",
        "bridge",
        "a static entry",
        "bridge fdb del 02:00:00:00:02:05 dev veth26",
    ),
    (
        EACH,
        gateway_behind_a_port,
        "worker-1",
        "bridge",
        "the pod's gateway",
        "bridge fdb replace 02:00:00:00:01:01 dev",
    ),
    (
        EACH,
        frames_that_the_bridge_takes,
        "worker-2",
        "bridge",
        "a static entry",
        "fdb del 02:00:00:00:02:05 dev cni0 self",
    ),
    (EACH, next_hop_is_not_asked_for, "worker-1", "neighbour", "asks for none", "neigh.eth0.mcast_solicit=3"),
    (EACH, pod_is_not_asked_for, "worker-2", "neighbour", "asks for none", "neigh.cni0.mcast_solicit=3"),
    (MESH, blackhole_of_the_tunnel, "worker-1", "link", "drops everything", "tc qdisc del dev flannel.1 root"),
    (("routes",), queue_for_nothing, "worker-1", "link", "holds no packet", "tc qdisc del dev eth0 root"),
    (MESH, queue_for_nothing, "worker-1", "underlay", "holds no packet", "tc qdisc del dev eth0 root"),
    (EACH, goto_past_the_main_table, "worker-1", "route", "past the rule for the table main", ""),
    (MESH, entry_with_a_vni, "worker-1", "fdb", "its own vni 77", "bridge fdb replace"),
    (EACH, link_down_inside, "worker-1", "pod", "down inside of the pod", "delete the pod"),
    (EACH, link_without_arp_inside, "worker-2", "pod", "NOARP", "ip link set eth0 arp on"),
    (EACH, gateway_of_another_host, "worker-1", "bridge", "duplicate address detection failed", ""),
    (
        EACH,
        bridge_with_another_address,
        "worker-1",
        "bridge",
        "no address in the subnet of 10.244.0.5",
        "ip address add",
    ),
    (EACH, pod_gone, "worker-2", "pod", "lease of a pod that is gone", ""),
    (EACH, sender_gone, "worker-1", "pod", "no live pod of worker-1 has this address", ""),
    (EACH, no_route_to_own_pods, "worker-2", "route", "no route leads there", ""),
    (EACH, own_pods_led_away, "worker-2", "route", "leads away", "ip route del 10.244.1.5/32 via 172.16.0.3 dev eth0"),
    (
        EACH,
        address_taken,
        "worker-1",
        "node",
        "never sends to the pod with it on worker-2",
        "ip address del 10.244.1.5 dev eth0",
    ),
    (
        EACH,
        taken_by_a_route,
        "worker-1",
        "node",
        "a route makes worker-1 take the address for its own",
        "ip route del local 10.244.1.0/24 dev lo",
    ),
    (EACH, same_subnet, "worker-1", "bridge", "the pod lives on worker-2", ""),
    (EACH, strict_source_check, "worker-2", "rp_filter", "leads by eth1", "sysctl -w net.ipv4.conf.all.rp_filter=2"),
    (EACH, source_is_theirs, "worker-2", "rp_filter", "martian", ""),
    (EACH, policy_route, "worker-1", "route", "(table vpn, by an ip rule)", "table vpn"),
    (EACH, policy_refuses, "worker-1", "route", "ip rule 100: prohibit", ""),
    (EACH, marked, "worker-1", "route", "ip rule 100: prohibit", ""),
    (EACH, marked_and_accepted, "worker-1", "route", "ip rule 100: prohibit", ""),
    (EACH, marked_and_redirected, "worker-1", "redirect", "it gets another destination here", ""),
]


@pytest.mark.parametrize(
    ("backend", "breaks", "host", "kind", "why", "fix"),
    [
        pytest.param(backend, breaks, *expected, id=f"{backend}-{breaks.__name__}")
        for backends, breaks, *expected in BREAKS
        for backend in backends
    ],
)
def test_the_way_ends_where_it_is_broken(
    backend: str, breaks: Callable[[Seen], None], host: str, kind: str, why: str, fix: str
) -> None:
    seen = cluster(backend)
    breaks(seen)
    found = explained(seen)
    assert not found["ok"]
    assert stop(found["there"]) == (host, kind), found["text"]
    last = found["there"]["hops"][-1]
    assert why in last["why"]
    assert fix in last["fix"] and bool(fix) == bool(last["fix"])
    assert f"=> stops at {host}, {kind}: " in found["text"]
    # Only the last hop is broken: the others are as they were.
    assert broken(found["there"]) == [last]


def test_with_a_third_node_an_fdb_entry_leads_to_the_wrong_one() -> None:
    seen = cluster("vxlan", 3)
    seen["worker-1"]["fdb"][0]["dst"] = node(3)
    there = explained(seen)["there"]
    assert stop(there) == ("worker-3", "decapsulation")
    assert "worker-2 has that MAC: worker-1's FDB entry leads to the wrong node" in there["hops"][-1]["why"]
    assert f"bridge fdb replace {mac(2)} dev flannel.1 dst {node(2)} self permanent" in there["hops"][-1]["fix"]


def test_a_next_hop_that_is_another_node_passes_the_packet_on() -> None:
    """The kernel of the third node forwards it, since it has the route; where it has none, the way ends there."""
    seen = cluster("routes", 3)
    route(seen["worker-1"], subnet(2))["via"] = node(3)
    found = explained(seen)
    assert found["ok"] and ("worker-3", "route") in kinds(found["there"])
    assert "a detour: the pod lives on worker-2" in found["text"]
    seen["worker-3"]["routes"] = without(seen["worker-3"]["routes"], dst=subnet(2))
    assert stop(explained(seen)["there"]) == ("worker-3", "route")


def test_two_nodes_that_send_a_packet_to_each_other() -> None:
    seen = cluster("routes", 3)
    route(seen["worker-1"], subnet(3))["via"] = node(2)
    route(seen["worker-2"], subnet(3))["via"] = node(1)
    there = explained(seen, pod(1), pod(3))["there"]
    assert stop(there)[1] == "route"
    assert "has been here before" in there["hops"][-1]["why"]


@pytest.mark.parametrize("backend", EACH)
def test_the_way_back_is_followed_on_its_own(backend: str) -> None:
    seen = cluster(backend)
    seen["worker-2"]["routes"] = without(seen["worker-2"]["routes"], dst=subnet(1))
    found = explained(seen)
    assert found["there"]["outcome"] == "arrives" and not found["ok"]
    assert stop(found["back"]) == ("worker-2", "route")
    assert "no route to the pods of worker-1" in found["back"]["conclusion"][0]
    # The way there being broken as well hides nothing.
    not_forwarding(seen)
    both = explained(seen)
    assert stop(both["there"]) == ("worker-1", "forwarding") and stop(both["back"]) == ("worker-2", "route")


@pytest.mark.parametrize(
    ("place", "rule", "fix"),
    [
        ("nftables: table ip nat", "ip saddr 10.244.0.0/16 masquerade", ""),
        ("nftables: table ip nat", 'oifname != "lo" masquerade', ""),
        (
            "iptables (legacy): nat, chain POSTROUTING",
            "-A POSTROUTING -s 10.244.0.0/24 ! -o cni0 -j MASQUERADE",
            "iptables-legacy -t nat -I POSTROUTING -s 10.244.0.0/24 -d 10.244.0.0/16 -j RETURN",
        ),
    ],
)
@pytest.mark.parametrize("backend", EACH)
def test_a_source_that_is_translated_between_pods(backend: str, place: str, rule: str, fix: str) -> None:
    seen = cluster(backend)
    seen["worker-1"]["masquerade"].insert(0, {"place": place, "owner": "other", "rules": [rule]})
    found = explained(seen)
    assert found["there"]["outcome"] == "arrives" and not found["ok"]
    (hop,) = broken(found["there"])
    became = base(1) if backend in MESH else node(1)
    assert (hop["host"], hop["kind"]) == ("worker-1", "masquerade")
    assert f"the source 10.244.0.5 becomes {became}: pods must reach each other without translation" in hop["why"]
    assert hop["object"] == f"{place}: {rule}"
    # The answer goes to what the receiver saw, and connection tracking restores the rest.
    assert found["back"]["outcome"] == "arrives"
    assert ("worker-1", "masquerade") in kinds(found["back"])
    assert kinds(found["back"])[-1] == ("worker-1", "pod")


def test_the_bridge_plugins_own_masquerading() -> None:
    seen = cluster("routes")
    seen["worker-1"]["cni"]["files"][0]["ip_masq"] = True
    (hop,) = broken(explained(seen)["there"])
    assert hop["object"] == 'CNI configuration 10-podnet.conflist: "ipMasq": true'
    assert '"ipMasq": false' in hop["fix"]
    assert explained(seen, pod(1), pod(1, 6))["ok"], "its own subnet is spared"
    # The file has changed since the pods were made: whose the rules are is not in an observation.
    seen["worker-1"]["cni"]["files"][0]["ip_masq"] = False
    seen["worker-1"]["cni"]["rules"] = [{"kind": "masquerade", "container": "c1", "network": "podnet", "live": True}]
    found = explained(seen)
    assert [hop["kind"] for hop in found["there"]["hops"] if hop["verdict"] == "unknown"] == ["masquerade"]
    assert "not known: worker-1, masquerade" in found["text"]


def test_a_rule_that_is_not_understood_is_no_guess() -> None:
    seen = cluster("vxlan")
    rule = "ip saddr 10.244.0.0/16 tcp dport @ports masquerade"
    seen["worker-1"]["masquerade"].insert(0, {"place": "nftables: table ip site", "owner": "other", "rules": [rule]})
    found = explained(seen)
    (hop,) = [hop for hop in found["there"]["hops"] if hop["verdict"] == "unknown"]
    assert hop["kind"] == "masquerade" and rule in hop["object"]
    assert found["there"]["outcome"] == "arrives"


def test_out_of_the_cluster_only_with_the_nodes_address() -> None:
    seen = cluster("vxlan")
    found = explained(seen, pod(1), OUTSIDE[4])
    assert found["ok"] and "=> leaves the cluster" in found["text"]
    assert kinds(found["back"])[-1] == ("worker-1", "pod")
    seen["worker-1"]["masquerade"] = []
    found = explained(seen, pod(1), OUTSIDE[4])
    assert not found["ok"] and found["there"]["outcome"] == "arrives"
    assert stop(found["back"]) == ("", "outside")
    assert "since no rule masquerades it" in found["text"]
    del seen["worker-1"]["masquerade"]
    assert explained(seen, pod(1), OUTSIDE[4])["back"]["outcome"] == "unknown"


@pytest.mark.parametrize("backend", EACH)
def test_a_receiver_with_a_smaller_mtu_on_the_underlay(backend: str) -> None:
    seen = cluster(backend)
    link(seen["worker-2"], "eth0")["mtu"] = 1400
    found = explained(seen)
    (hop,) = broken(found["there"])
    added = 50 if backend in MESH else 0
    assert hop["host"] == "worker-2" and hop["object"] == "eth0 mtu 1400"
    assert f"packets of {1401 - added} to {1500 - added} bytes are dropped here, and nobody hears of it" in hop["why"]
    assert hop["fix"] == "ip link set eth0 mtu 1500"
    assert found["there"]["largest"] == 1400 - added and not found["ok"]
    # In the other direction the sender gets an ICMP error (routes), or the packet is fragmented (mesh).
    assert not broken(found["back"])
    assert ("fragments" if backend in MESH else "'packet too big'") in found["text"]


def test_a_port_and_a_pod_with_a_smaller_mtu() -> None:
    seen = cluster("vxlan")
    link(seen["worker-1"], "veth16")["mtu"] = 1300
    (hop,) = broken(explained(seen, pod(1), pod(1, 6))["there"])
    assert hop["object"] == "cni0 port veth16 mtu 1300" and "1301 to 1450 bytes" in hop["why"]
    assert hop["fix"] == "ip link set veth16 mtu 1450"
    seen = cluster("vxlan")
    seen["worker-2"]["cni"]["pods"][0]["mtu"] = 1200
    found = explained(seen)
    (hop,) = broken(found["there"])
    assert (hop["host"], hop["kind"]) == ("worker-2", "pod") and "1201 to 1450 bytes" in hop["why"]
    assert found["back"]["largest"] == 1200 and not broken(found["back"])


def test_a_pod_with_a_larger_mtu_than_the_mesh_is_told() -> None:
    seen = cluster("vxlan")
    for name_ in ("veth15", "cni0"):
        link(seen["worker-1"], name_)["mtu"] = 1500
    seen["worker-1"]["cni"]["pods"][0]["mtu"] = 1500
    found = explained(seen)
    assert found["there"]["largest"] == 1450 and not broken(found["there"])
    assert "larger packets (up to 1500 bytes) are answered with 'packet too big'" in found["text"]


@pytest.mark.parametrize("backend", EACH)
def test_a_pod_whose_link_lost_its_bridge(backend: str) -> None:
    """With IPv4 it still sends, as ARP answers on any device; nothing comes back, and nobody beside it is reached."""
    seen = cluster(backend)
    detached(seen)
    found = explained(seen)
    (hop,) = broken(found["there"])
    assert found["there"]["outcome"] == "arrives" and not found["ok"]
    assert (hop["host"], hop["object"], hop["fix"]) == ("worker-1", "veth15", "ip link set veth15 master cni0")
    assert stop(found["back"]) == ("worker-1", "veth")
    assert stop(explained(seen, pod(1), pod(1, 6))["there"]) == ("worker-1", "veth")
    six = cluster(backend, version=6)
    detached(six)
    assert stop(explain(six, pod(1, version=6), pod(2, version=6))["there"]) == ("worker-1", "veth")


def test_a_pod_that_did_not_answer_when_it_was_last_asked_for() -> None:
    """The entry may be older than the pod."""
    seen = cluster("vxlan")
    seen["worker-2"]["neighbours"].append({"dst": pod(2), "dev": "cni0", "mac": "", "state": "failed"})
    found = explained(seen)
    assert found["ok"] and "not known: worker-2, neighbour: the pod did not answer" in found["text"]


def test_isolated_ports_of_a_bridge() -> None:
    seen = cluster("vxlan")
    link(seen["worker-1"], "veth15")["isolated"] = True
    assert explained(seen, pod(1), pod(1, 6))["ok"], "one isolated port reaches the others"
    link(seen["worker-1"], "veth16")["isolated"] = True
    found = explained(seen, pod(1), pod(1, 6))
    assert stop(found["there"]) == ("worker-1", "bridge")
    assert found["there"]["hops"][-1]["fix"] == "bridge link set dev veth16 isolated off"
    assert explained(seen)["ok"], "the host is no isolated port"


def test_filters_inside_a_bridge_count_only_where_the_bridge_calls_them() -> None:
    seen = cluster("vxlan")
    seen["worker-1"]["forward"][0]["accepts"] = []
    assert stop(explained(seen, pod(1), pod(1, 6))["there"]) == ("worker-1", "netfilter")
    seen["worker-1"]["sysctls"]["net.bridge.bridge-nf-call-iptables"]["now"] = "0"
    assert explained(seen, pod(1), pod(1, 6))["ok"]
    del seen["worker-1"]["sysctls"]["net.bridge.bridge-nf-call-iptables"]
    doubts = [hop for hop in explained(seen, pod(1), pod(1, 6))["there"]["hops"] if hop["verdict"] == "unknown"]
    assert [hop["object"] for hop in doubts] == ["net.bridge.bridge-nf-call-iptables"]
    seen["worker-1"]["kernel_modules"]["br_netfilter"]["loaded"] = False
    assert explained(seen, pod(1), pod(1, 6))["ok"]


def test_a_pod_that_reaches_itself_by_a_service() -> None:
    seen = cluster("vxlan")
    link(seen["worker-1"], "veth15")["hairpin"] = False
    found = explained(seen, pod(1), pod(1))
    assert stop(found["there"]) == ("worker-1", "bridge")
    assert found["there"]["hops"][-1]["fix"] == "bridge link set dev veth15 hairpin on"
    assert found["back"] == {}
    assert explained(seen)["ok"], "other pods need no hairpin"
    seen["worker-1"]["sysctls"]["net.bridge.bridge-nf-call-iptables"]["now"] = "0"
    assert explained(seen, pod(1), pod(1))["ok"], "the host routes it back"
    del link(seen["worker-1"], "veth15")["hairpin"]
    seen["worker-1"]["sysctls"]["net.bridge.bridge-nf-call-iptables"]["now"] = "1"
    assert explained(seen, pod(1), pod(1))["there"]["outcome"] == "unknown"


def test_one_address_of_two_pods() -> None:
    seen = cluster("vxlan", 3)
    twin = {**seen["worker-3"]["cni"]["pods"][0], "address": pod(2)}
    seen["worker-3"]["cni"]["pods"].append(twin)
    found = explained(seen)
    assert not found["ok"] and found["there"]["outcome"] == "arrives"
    assert "a pod on worker-3 has the same address" in broken(found["there"])[0]["why"]
    assert "a pod on worker-3 has the same address" in broken(explained(seen, pod(2), pod(1))["there"])[0]["why"]


def test_carriers_that_say_nothing() -> None:
    """A bridge without pods has none, and of a tunnel the kernel does not know."""
    seen = cluster("vxlan")
    link(seen["worker-2"], "flannel.1")["running"] = False
    link(seen["worker-2"], "cni0")["running"] = False
    assert explained(seen)["ok"]
    seen["worker-2"]["cni"]["pods"] = []
    assert stop(explained(seen)["there"]) == ("worker-2", "pod")


def test_a_configuration_that_the_runtime_does_not_use() -> None:
    seen = cluster("routes")
    cni = seen["worker-1"]["cni"]
    cni["files"].append({**cni["files"][0], "name": "20-old.conf", "ip_masq": True})
    cni["loaded"] = "10-podnet.conflist"
    assert explained(seen)["ok"]
    cni["loaded"] = "20-old.conf"
    assert not explained(seen)["ok"]


def test_a_plugin_without_a_bridge() -> None:
    """ptp, or calico: a route to the pod by its own link."""
    seen = cluster("routes")
    for number in (1, 2):
        one = seen[name(number)]
        one["links"] = without(one["links"], name="cni0")
        one["addresses"] = without(one["addresses"], dev="cni0")
        one["routes"] = [row for row in one["routes"] if row["dev"] != "cni0"]
        one["cni"]["files"][0].update(bridge="", types=["ptp"])
        for last in (5, 6):
            link(one, f"veth{number}{last}")["master"] = ""
            one["routes"].append(
                {"dst": f"{pod(number, last)}/32", "via": "", "dev": f"veth{number}{last}", "table": "main"}
            )
    for target in (pod(2), pod(1, 6), node(2)):
        found = explained(seen, pod(1), target)
        assert found["ok"], found["text"]
    link(seen["worker-2"], "veth25")["up"] = False
    assert stop(explained(seen)["there"]) == ("worker-2", "link")


def test_a_docker_bridge_is_no_pod_network() -> None:
    seen = cluster("vxlan")
    seen["worker-1"]["links"] += [
        {"name": "docker0", "kind": "bridge", "mtu": 1500, "up": True, "running": True, "master": ""},
        {"name": "vethd", "kind": "veth", "mtu": 1500, "up": True, "running": True, "master": "docker0"},
    ]
    seen["worker-1"]["addresses"].append({"dev": "docker0", "address": "172.17.0.1/16", "scope": "global"})
    seen["worker-1"]["routes"].append({"dst": "172.17.0.0/16", "via": "", "dev": "docker0", "table": "main"})
    there = explained(seen, pod(1), "172.17.0.2")["there"]
    assert there["outcome"] == "unknown"
    assert "no CNI configuration has it" in there["conclusion"][0]


def test_an_underlay_that_is_a_bridge() -> None:
    seen = cluster("vxlan")
    one = seen["worker-1"]
    for rows in (one["addresses"], one["routes"]):
        for row in rows:
            row["dev"] = "br0" if row["dev"] == "eth0" else row["dev"]
    link(one, "eth0")["master"] = "br0"
    one["links"].append({"name": "br0", "kind": "bridge", "mtu": 1500, "up": True, "running": True, "master": ""})
    link(one, "flannel.1")["underlay"] = "br0"
    for target in (pod(2), node(2), OUTSIDE[4]):
        assert explained(seen, pod(1), target)["ok"]


def test_hosts_in_different_networks_behind_a_router() -> None:
    seen = cluster("vxlan")
    two = seen["worker-2"]
    two["addresses"][0]["address"] = "172.31.7.4/24"
    route(two, "172.16.0.0/24").update(dst="172.31.7.0/24", src="172.31.7.4")
    route(two, "default")["via"] = "172.31.7.1"
    link(two, "flannel.1")["local"] = "172.31.7.4"
    seen["worker-1"]["fdb"][0]["dst"] = "172.31.7.4"
    for source, target in ((pod(1), pod(2)), (name(1), name(2)), (pod(1), "172.31.7.4")):
        found = explained(seen, source, target)
        assert found["ok"], found["text"]
    # A public address in front of it, as flannel's --public-ip: nothing shows who has it.
    seen["worker-1"]["fdb"][0]["dst"] = "203.0.113.9"
    assert explained(seen)["there"]["outcome"] == "unknown"


def test_a_firewall_that_runs_is_said_to_be_unknown() -> None:
    seen = cluster("vxlan")
    seen["worker-2"]["firewalls"]["ufw"] = True
    found = explained(seen)
    assert found["ok"], "the way goes on"
    seen["worker-2"]["firewalls"]["closed_udp"] = []
    assert "firewall" not in explained(seen)["text"]
    seen["worker-2"]["firewalls"]["closed_udp"] = [{"port": 8472, "place": "iptables (nft): filter, chain INPUT"}]
    closed = explained(seen)
    assert not closed["ok"] and "ufw allow 8472/udp" in closed["text"], closed["text"]
    assert "not known: worker-2, firewall: it runs; whether it lets UDP port 8472 in on eth0" in found["text"]


def test_a_firewall_that_lets_nothing_out() -> None:
    seen = cluster("vxlan")
    place = "iptables (nft): filter, chain OUTPUT"
    seen["worker-1"]["firewalls"]["closed_udp"] = [{"port": 8472, "place": place, "out": True}]
    found = explained(seen)
    assert stop(found["there"]) == ("worker-1", "firewall")
    assert "iptables-nft -I OUTPUT -p udp --dport 8472 -j ACCEPT" in found["text"], found["text"]
    # What comes in is let in.
    assert found["back"]["outcome"] == "arrives"


@pytest.mark.parametrize(("host", "out", "peer"), [("worker-1", True, "172.16.0.4"), ("worker-2", False, "172.16.0.3")])
def test_a_firewall_that_closes_the_port_for_one_host(host: str, out: bool, peer: str) -> None:
    seen = cluster("vxlan")
    closed = {"port": 8472, "place": "iptables (nft): filter, chain X", "out": out, "peer": peer}
    seen[host]["firewalls"]["closed_udp"] = [closed]
    assert stop(explained(seen)["there"]) == (host, "firewall")
    seen[host]["firewalls"]["closed_udp"] = [{**closed, "peer": "172.16.0.5"}]
    assert explained(seen)["there"]["outcome"] == "arrives"


def test_a_host_without_an_observation() -> None:
    seen = cluster("vxlan", 3)
    del seen["worker-2"]
    unseen = {"worker-2": "Failed to connect to the host via ssh"}
    found = explained(seen, unseen=unseen)
    assert found["there"]["outcome"] == "unknown" and not found["ok"]
    assert kinds(found["there"])[-1] == ("worker-1", "underlay")
    assert "worker-2 could not be observed (Failed to connect" in found["text"]
    assert found["back"] == {}
    for source, target in (("worker-2", pod(1)), (pod(1), "worker-2"), (pod(2), pod(1))):
        other = explained(seen, source, target, unseen=unseen)
        assert not other["problems"] and not other["ok"] and "worker-2 could not be observed" in other["text"]
    assert explained(seen, pod(1), pod(3), unseen=unseen)["ok"], "it is not on the way"


def test_out_of_the_cluster_while_a_host_is_not_observed() -> None:
    seen = cluster("vxlan")
    unseen = {"control-plane": "no route to host"}
    assert explained(seen, pod(1), OUTSIDE[4], unseen=unseen)["ok"], "a router is no host of the inventory"
    # A neighbour that no observed host is may be the one that was not.
    assert explained(seen, pod(1), "172.16.0.2", unseen=unseen)["there"]["outcome"] == "unknown"
    assert "leaves the cluster" in explained(seen, pod(1), "172.16.0.2")["text"]


def test_what_an_observation_has_only_in_part() -> None:
    seen = cluster("vxlan")
    one = seen["worker-1"]
    one["truncated"] = {"routes": 9000, "neighbours": 9000, "fdb": 9000}
    one["routes"] = without(one["routes"], dst="default")
    for section, key in (("fdb", "mac"), ("neighbours", "dst"), ("routes", "dst")):
        one[section] = [row for row in one[section] if row[key] not in (mac(2), base(2), subnet(2))]
        there = explained(seen)["there"]
        assert there["outcome"] == "unknown" and "only some of" in there["conclusion"][0]
    # The kernel was asked for this address, which is as good as all of its routes.
    one["ways"] = {pod(2): {"dst": subnet(2), "via": base(2), "dev": "flannel.1", "local": False}}
    assert kinds(explained(seen)["there"])[-1] == ("worker-1", "neighbour")


@pytest.mark.parametrize(
    ("section", "problem", "kind"),
    [
        ("routes", "routes: Operation not permitted", "route"),
        ("links", "kernel: can't be read (OSError)", "veth"),
        ("neighbours", "neighbours: x", "neighbour"),
        ("fdb", "fdb: x", "fdb"),
        ("forward", "packet filters: nft list ruleset: x", "netfilter"),
        ("masquerade", "masquerade: x", "masquerade"),
    ],
)
def test_a_section_that_could_not_be_read_is_not_an_empty_one(section: str, problem: str, kind: str) -> None:
    seen = cluster("vxlan")
    seen["worker-1"].update({section: [], "problems": [problem]})
    there = explained(seen)["there"]
    assert ("worker-1", kind) in [(hop["host"], hop["kind"]) for hop in there["hops"] if hop["verdict"] == "unknown"]
    assert not broken(there)


def test_nothing_of_a_host_that_breaks_a_terminal_or_a_shell() -> None:
    seen = cluster("vxlan")
    evil = "v;rm -rf /\x1b[2J"
    link(seen["worker-1"], "veth15").update(name=evil, up=False)
    seen["worker-1"]["cni"]["pods"][0]["host_dev"] = evil
    found = explained(seen)
    assert stop(found["there"]) == ("worker-1", "veth")
    assert found["there"]["hops"][-1]["fix"] == "ip link set 'v;rm -rf /\\x1b[2J' up"
    assert "\x1b" not in found["text"]


@pytest.mark.parametrize(
    ("source", "target", "problems"),
    [
        (None, "", ["from: missing", "to: missing"]),
        (
            "10.244.0.300",
            "worker-9",
            ["from: expected an IP address", "to: 'worker-9' is neither an IP address nor a host"],
        ),
        ("10.244.0.0/24", 7, ["from: expected an IP address", "to: expected an IP address"]),
        ("224.0.0.1", "fe80::1", ["from: 224.0.0.1 is multicast", "to: fe80::1 is link-local"]),
        (pod(1), pod(2, version=6), ["from: 10.244.0.5 is IPv4, and to: fd00:10:244:1::5 is IPv6"]),
        ("worker-1", "", ["to: missing"]),
    ],
)
def test_ends_that_are_none_are_refused_together(source: Any, target: Any, problems: list[str]) -> None:
    seen = cluster("routes")
    found = check(list(seen), source, target)
    assert [each[: len(start)] for each, start in zip(found["problems"], problems, strict=True)] == problems
    assert explain(seen, source, target)["problems"] == found["problems"]


def test_the_ends_before_any_host_is_asked() -> None:
    assert check(["worker-1"], " worker-1 ", pod(2)) == {"problems": [], "ways": [pod(2)]}
    assert "did you mean worker-1?" in check(["worker-1"], "woker-1", pod(2))["problems"][0]


@pytest.mark.parametrize(
    ("source", "target", "problem"),
    [
        ("198.51.100.7", pod(2), "from: 198.51.100.7 belongs to no observed host or pod"),
        ("worker-1", pod(2, version=6), "from: worker-1 has no IPv6 address"),
    ],
)
def test_ends_that_make_no_packet(source: str, target: str, problem: str) -> None:
    found = explained(cluster("routes"), source, target)
    assert found["problems"] and found["problems"][0].startswith(problem)
    assert not found["ok"] and found["there"] == {}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all keys and items in a structure."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, each in items for found in ((*path, key), *places(each, (*path, key)))]


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_whatever_is_missing_or_malformed_never_raises(data: st.DataObject) -> None:
    backend, version = data.draw(st.sampled_from(KINDS))
    seen: Any = copy.deepcopy(cluster(backend, 2, version))
    for _turn in range(data.draw(st.integers(1, 4))):
        all_places = places(seen)
        path = data.draw(st.sampled_from(all_places)) if all_places else ()
        holder = seen
        for key in path[:-1]:
            holder = holder[key]
        if path and len(path) > 1:
            if data.draw(st.booleans()):
                del holder[path[-1]]
            else:
                odd = st.one_of(
                    st.none(), st.integers(), st.booleans(), st.text(max_size=8), st.just([]), st.just({}), st.just([7])
                )
                holder[path[-1]] = data.draw(odd)
    ends = [pod(1, 5, version), pod(2, 5, version), pod(1, 6, version), "worker-1", "worker-2", OUTSIDE[version]]
    found = explain(seen, data.draw(st.sampled_from(ends)), data.draw(st.sampled_from(ends)))
    assert isinstance(found["text"], str) and found["lines"]
    assert found["ok"] in (True, False)
    for way in (found["there"], found["back"]):
        assert not way or way["outcome"] in ("arrives", "stops", "unknown")


def test_the_filter_takes_results_in_the_order_of_the_hosts() -> None:
    seen = cluster("vxlan", 3)
    results: list[dict[str, Any]] = [{"changed": False, "host": seen[host]} for host in ("worker-1", "worker-2")]
    found = filters.explain(list(seen), pod(1), pod(2), [*results, {"unreachable": True, "msg": "no route to host"}])
    assert found["ok"]
    found = filters.explain(list(seen), pod(1), pod(3), [*results, {"unreachable": True, "msg": "no route to host"}])
    assert "worker-3 could not be observed (no route to host)" in found["text"]
    found = filters.explain(list(seen), pod(1), pod(3), [*results, {}])
    assert "worker-3 could not be observed (not asked in this run)" in found["text"]
    assert filters.explain(list(seen), "worker-1", pod(3)) == {"problems": [], "ways": [pod(3)]}


@pytest.mark.parametrize(
    ("backend", "kept", "fix"),
    [
        ("vxlan", "weft-podnet-vxlan-flannel.1", "systemctl restart --no-block weft-podnet-vxlan-flannel.1.service"),
        ("routes", "weft-podnet-routes-87", "ip route replace 10.244.1.0/24 via 172.16.0.4 dev eth0 proto 87"),
    ],
)
def test_a_fix_is_by_the_unit_that_keeps_the_routes(backend: str, kept: str, fix: str) -> None:
    seen = cluster(backend, 2)
    no_route(seen)
    seen["worker-1"]["ours"] = {"units": {f"{kept}.service": "active"}}
    (hop,) = broken(explain(seen, pod(1, 5), pod(2, 5))["there"])
    assert hop["fix"] == fix
