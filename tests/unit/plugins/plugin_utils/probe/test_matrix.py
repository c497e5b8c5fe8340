# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdict on a verification: each rule of the networking model, each reason, each scope."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.weft.podnet.plugins.plugin_utils.probe import sample
from ansible_collections.weft.podnet.plugins.plugin_utils.probe.advice import Carrier
from ansible_collections.weft.podnet.plugins.plugin_utils.probe.matrix import matrix

NODES = [
    {"name": "w1", "node_ips": ["172.16.0.3"], "pod_subnets": ["10.244.0.0/24"]},
    {"name": "w2", "node_ips": ["172.16.0.4"], "pod_subnets": ["10.244.1.0/24"]},
]
DEFAULT = {"dst": "default", "via": "172.16.0.1", "dev": "eth0", "local": False}


def address(node: int, pod: int) -> str:
    return f"10.244.{node - 1}.{pod + 1}"


def healthy(nodes: int = 2, pods: int = 2) -> list[dict[str, Any]]:
    """What the module returns on every host of a network that works."""
    everyone = [(node, pod) for node in range(1, nodes + 1) for pod in range(1, pods + 1)]
    return [
        {
            "pods": [
                {
                    "name": f"p{pod}",
                    "id": f"{node}-{pod}",
                    "network": "bridge",
                    "given": [f"{address(node, pod)}/24"],
                    "seen": [address(node, pod)],
                    "results": [
                        {"to": f"{n}-{p}", "address": address(n, p), "ms": 0.4, "source": address(node, pod)}
                        for n, p in everyone
                        if (n, p) != (node, pod)
                    ],
                }
                for pod in range(1, pods + 1)
            ],
            "routing": {
                "ways": {
                    address(n, p): {
                        "dst": f"10.244.{n - 1}.0/24",
                        "via": "" if n == node else f"172.16.0.{n + 2}",
                        "dev": "cni0" if n == node else "eth0",
                        "local": False,
                    }
                    for n, p in everyone
                },
                "forwarding": {"4": True},
                "forward_policy": {},
                "bridge_calls": {"4": True},
                "addresses": [f"172.16.0.{node + 2}", f"10.244.{node - 1}.1"],
            },
        }
        for node in range(1, nodes + 1)
    ]


def judge(
    probed: list[dict[str, Any]], nodes: Any = tuple(NODES), scope: str = "cluster", carrier: Carrier | None = None
) -> dict[str, Any]:
    hosts = [f"w{number}" for number in range(1, len(probed) + 1)]
    return matrix(hosts, [{}] * len(hosts), probed, nodes, scope, carrier=carrier)


def cut(probed: list[dict[str, Any]], error: str = "no answer within 3 s") -> list[dict[str, Any]]:
    """Every request between nodes goes unanswered."""
    for number, host in enumerate(probed, 1):
        for pod in host["pods"]:
            pod["results"] = [
                r if r["to"].startswith(f"{number}-") else {"to": r["to"], "address": r["address"], "error": error}
                for r in pod["results"]
            ]
    return probed


def ways(probed: list[dict[str, Any]], here: int, there: int, **way: Any) -> None:
    """What host ``here`` says about the way to the pods of ``there``."""
    for pod in probed[there - 1]["pods"]:
        target = pod["given"][0].split("/")[0]
        probed[here - 1]["routing"]["ways"][target] = way


def test_a_network_that_works() -> None:
    result = judge(healthy())
    assert result["ok"]
    assert result["pairs"] == {"tried": 12, "promised": 12, "passed": 12}
    assert result["failures"] == result["expected"] == []
    assert result["lines"][:3] == [
        "from \\ to  w1         w2",
        "w1         ok 0.4 ms  ok 0.4 ms",
        "w2         ok 0.4 ms  ok 0.4 ms",
    ]


def test_no_routes_names_both_directions() -> None:
    probed = cut(healthy())
    ways(probed, 1, 2, **DEFAULT)
    ways(probed, 2, 1, error="Network is unreachable")
    result = judge(probed)
    assert not result["ok"]
    assert result["failures"] == [
        "w1 <-> w2: 8 pairs not reached (no answer within 3 s); "
        "w1 has no route to 10.244.1.0/24 (w2's pods): the packet leaves by the default route via 172.16.0.1 dev eth0; "
        "w2 has no route to 10.244.0.0/24 (w1's pods): Network is unreachable"
    ]


def test_scope_node_takes_the_same_for_expected() -> None:
    probed = cut(healthy())
    ways(probed, 1, 2, **DEFAULT)
    ways(probed, 2, 1, **DEFAULT)
    result = judge(probed, scope="node")
    assert result["ok"]
    assert result["pairs"] == {"tried": 12, "promised": 4, "passed": 4}
    assert len(result["expected"]) == 1
    assert "w1 has no route to 10.244.1.0/24" in result["expected"][0]
    assert result["lines"][1].split("  ")[-1] == "-"


@pytest.mark.parametrize("scope", ["cluster", "node"])
def test_a_pod_of_the_same_node_is_always_promised(scope: str) -> None:
    probed = healthy()
    probed[0]["pods"][0]["results"][0] = {"to": "1-2", "address": address(1, 2), "error": "Connection refused"}
    probed[0]["routing"]["forward_policy"] = {"4": "DROP"}
    result = judge(probed, scope=scope)
    assert not result["ok"]
    assert result["failures"][0].startswith("on w1: 1 pair not reached (Connection refused); w1: the FORWARD policy is")


def test_rule_one_an_address_of_its_own() -> None:
    probed = healthy()
    probed[1]["pods"][0]["given"] = ["10.244.0.2/24"]
    probed[1]["pods"][0]["seen"] = ["10.244.0.2"]
    failures = "\n".join(judge(probed)["failures"])
    assert "w1's pod p1 and w2's pod p1 have the same address 10.244.0.2" in failures
    assert "w2's pod p1 has 10.244.0.2, which is outside w2's pod subnet 10.244.1.0/24" in failures


def test_rule_two_no_translation_of_the_source() -> None:
    probed = healthy()
    for pod in probed[0]["pods"]:
        for result in pod["results"]:
            if result["to"].startswith("2-"):
                result["client"] = "172.16.0.3"
    result = judge(probed)
    assert result["failures"] == [
        "w1 -> w2: 4 pairs reached, but not as the networking model wants; w2's server saw 172.16.0.3, not the own "
        "address of w1's pod (10.244.0.2, 10.244.0.3): traffic between pods is translated (ipMasq: true, or a "
        "masquerade rule)"
    ]
    assert judge(probed, scope="node")["ok"]


def test_rule_three_the_address_the_pod_sees() -> None:
    probed = healthy()
    probed[0]["pods"][0]["seen"] = ["192.168.7.7"]
    failures = "\n".join(judge(probed)["failures"])
    assert "w1's pod p1 was given 10.244.0.2 but sees 192.168.7.7 on its own interface" in failures


def test_rule_three_no_translation_of_the_destination() -> None:
    probed = healthy()
    probed[0]["pods"][0]["results"][1]["reached"] = "10.99.0.1"
    assert "was requested as 10.244.1.2 but was reached as 10.99.0.1" in judge(probed)["failures"][0]


def test_an_answer_from_a_stranger() -> None:
    probed = healthy()
    probed[0]["pods"][0]["results"][1]["identity"] = "2-2"
    assert "was answered by w2's pod p2: the address is used twice" in judge(probed)["failures"][0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"forwarding": {"4": False}}, "w1: net.ipv4.ip_forward is 0"),
        ({"forward_policy": {"4": "DROP"}}, "w1: the FORWARD policy is DROP"),
    ],
)
def test_switches_of_a_host(change: dict[str, Any], reason: str) -> None:
    probed = cut(healthy())
    probed[0]["routing"].update(change)
    assert reason in judge(probed)["failures"][0]


@pytest.mark.parametrize("nodes", [NODES, []])
def test_a_route_to_the_wrong_host(nodes: list[dict[str, Any]]) -> None:
    probed = cut(healthy())
    ways(probed, 1, 2, dst="10.244.1.0/24", via="172.16.0.9", dev="eth0", local=False)
    failure = judge(probed, nodes)["failures"][0]
    assert "w1's route to 10.244.1.0/24 goes via 172.16.0.9, which is no address of w2" in failure


def test_an_overlay_gateway_is_no_wrong_host() -> None:
    probed = cut(healthy())
    ways(probed, 1, 2, dst="10.244.1.0/24", via="10.244.1.0", dev="flannel.1", local=False)
    failure = judge(probed)["failures"][0]
    assert "both nodes' routes look right" in failure and "the packets of flannel.1, UDP port 8472 unless" in failure
    assert "tcpdump -ni any 'udp dst port 8472 and src host 172.16.0.3' on w2" in failure
    planned = judge(probed, carrier=Carrier("vxlan", "", (4789,)))["failures"][0]
    assert "'udp dst port 4789 and src host 172.16.0.3' on w2" in planned


def test_routes_without_a_tunnel_have_nothing_to_do_with_its_port() -> None:
    failure = judge(cut(healthy()))["failures"][0]
    assert "packets with pod addresses (clouds that check source addresses do that)" in failure and "UDP" not in failure
    assert "tcpdump -ni any 'src net 10.244.0.0/24 and dst net 10.244.1.0/24' on w2" in failure


def test_the_ip_version_that_fails_is_the_one_to_look_at() -> None:
    """Of two, and without a plan: then a node has the address by which the other one sends to it."""
    probed = healthy()
    for number, host in enumerate(probed, 1):
        for pod in host["pods"]:
            last = pod["id"][-1]
            pod["given"].append(f"fd00:{number}::{last}/64")
            pod["seen"].append(f"fd00:{number}::{last}")
            pod["results"] += [
                {**each, "address": f"fd00:{each['to'][0]}::{each['to'][-1]}", "source": f"fd00:{number}::{last}"}
                for each in pod["results"]
            ]
            for each in pod["results"]:
                if each["to"][0] != str(number) and ":" in each["address"]:
                    del each["ms"]
                    each["error"] = "no answer within 3 s"
        for there in {1, 2} - {number}:
            way = {"dst": f"fd00:{there}::/64", "via": f"fd00:172::{there}", "dev": "eth0", "local": False}
            host["routing"]["ways"].update({f"fd00:{there}::{last}": way for last in (1, 2)})
        host["routing"]["addresses"].append(f"fd00:172::{number}")
    failure = judge(probed, nodes=())["failures"][0]
    assert "(w1: fd00:2::/64 via fd00:172::2 dev eth0, w2: fd00:1::/64 via fd00:172::1 dev eth0)" in failure
    assert "from w1 (fd00:172::1) to w2 (fd00:172::2)" in failure
    assert "'src net fd00:1::/64 and dst net fd00:2::/64' on w2" in failure


def test_where_packets_of_one_direction_get_lost_that_one_is_looked_at() -> None:
    probed = cut(healthy())
    removed = [{"heard": {"1-1": ["2-1"]}}, {"heard": {"2-1": []}}]
    assert "from w1 (172.16.0.3) to w2 (172.16.0.4)" in found_with(probed, removed=removed)["failures"][0]
    removed = [{"heard": {"1-1": []}}, {"heard": {"2-1": ["1-1"]}}]
    assert "from w2 (172.16.0.4) to w1 (172.16.0.3)" in found_with(probed, removed=removed)["failures"][0]


def test_a_node_whose_requests_are_answered_has_looked_up_no_routes() -> None:
    probed = healthy()
    probed[0] = cut(healthy())[0]
    probed[1]["routing"]["ways"] = {}
    failure = judge(probed)["failures"][0]
    assert "w2: its own requests are answered" in failure and "w1: 10.244.1.0/24 via 172.16.0.4" in failure


def test_a_route_that_leads_a_nodes_own_pods_away() -> None:
    probed = cut(healthy())
    ways(probed, 1, 1, dst="10.244.0.0/24", via="172.16.0.4", dev="eth0", local=False)
    failure = judge(probed)["failures"][0]
    assert "w1's route to its own pods (10.244.0.0/24) leads away, via 172.16.0.4 dev eth0" in failure
    assert "ip route del 10.244.0.0/24 via 172.16.0.4" in failure and "look right" not in failure


def test_one_subnet_on_two_nodes() -> None:
    probed = healthy()
    probed[1] = copy.deepcopy(probed[0])
    for pod in probed[1]["pods"]:
        pod["id"] = pod["id"].replace("1-", "2-")
    cut(probed)
    text = judge(probed, [])["text"]
    assert "w1 and w2 share pod subnet 10.244.0.0/24" in text


def test_a_host_without_pods_fails_and_says_why() -> None:
    started: list[dict[str, Any]] = [{"run": "x"}, {"failed": True, "msg": "there is no CNI configuration"}]
    probed = healthy()
    for pod in probed[0]["pods"]:
        pod["results"] = [result for result in pod["results"] if result["to"].startswith("1-")]
    result = matrix(["w1", "w2"], started, [probed[0], {"skipped": True}], NODES, "cluster")
    assert result["failures"] == ["w2 has no probe pods: there is no CNI configuration"]
    assert "no pods" in result["lines"][1]


def test_hosts_without_pods_for_one_reason_are_one_failure() -> None:
    names = [f"w{number}" for number in range(1, 8)]
    result = matrix(names, [{"failed": True, "msg": "no CNI"}] * 7, [{}] * 7)
    assert result["failures"] == ["w1, w2, w3 and 4 more have no probe pods: no CNI"]


def test_nothing_tried_proves_nothing() -> None:
    result = judge(healthy(nodes=1, pods=1))
    assert not result["ok"]
    assert "nothing was proved" in result["failures"][0]


def test_a_pair_that_nobody_tried_is_not_taken_for_good() -> None:
    probed = healthy()
    probed[0]["pods"][0]["results"].pop()
    assert "it was not tried" in judge(probed)["failures"][0]


def test_a_large_cluster_shows_only_the_troubled() -> None:
    probed = healthy(nodes=20)
    assert judge(probed, [])["lines"][0] == "and 20 more nodes where every pair passes"
    probed[4]["pods"][0]["results"] = [
        {"to": r["to"], "address": r["address"], "error": "no answer"} if r["to"].startswith("7-") else r
        for r in probed[4]["pods"][0]["results"]
    ]
    lines = judge(probed, [])["lines"]
    assert lines[0].split()[3:] == ["w5", "w7"]
    assert "and 18 more nodes where every pair passes" in lines


def test_an_unknown_scope_is_refused() -> None:
    with pytest.raises(ValueError, match="cluster, node"):
        judge(healthy(), scope="world")


def finding(rule: str, host: str, about: str = "", severity: str = "error") -> dict[str, Any]:
    return {
        "rule": rule, "severity": severity, "title": f"Title of {rule}", "host": host, "about": about,
        "evidence": f"evidence of {rule}", "effect": "", "fix": f"mend {rule}", "site": "", "source": "",
    }  # fmt: skip


def found_with(probed: list[dict[str, Any]], *findings: dict[str, Any], **given: Any) -> dict[str, Any]:
    hosts = [f"w{number}" for number in range(1, len(probed) + 1)]
    return matrix(hosts, [{}] * len(hosts), probed, NODES, findings=findings, **given)


def test_what_the_next_boot_takes_away_is_a_warning_with_its_fix() -> None:
    found = found_with(healthy(), finding("forwarding-off-at-boot", "w2", severity="warning"))
    assert found["ok"] and [each["rule"] for each in found["findings"]] == ["forwarding-off-at-boot"]
    assert found["lines"][-3:] == [
        "WARNING w2: Title of forwarding-off-at-boot [forwarding-off-at-boot]",
        "  found:  evidence of forwarding-off-at-boot",
        "  fix:    mend forwarding-off-at-boot",
    ]


def test_a_cause_and_its_fix_come_before_what_they_lead_to() -> None:
    found = found_with(cut(healthy()), finding("fdb-missing", "w1", "w2"))
    where = [found["text"].index(text) for text in ("of 12 promised", "ERROR w1", "  fix:", "FAIL w1 <-> w2")]
    assert where == sorted(where)
    assert found["summary"] == "w1: Title of fdb-missing"


def test_errors_come_before_warnings_that_make_it_fail_too() -> None:
    probed = cut(healthy())
    off = [finding("hairpin-off", f"w{number}", severity="warning") for number in (1, 2)]
    found = found_with(probed, *off, finding("fdb-missing", "w1", "w2"))
    assert [each["rule"] for each in found["findings"]] == ["fdb-missing", "hairpin-off", "hairpin-off"]
    assert found["summary"] == "w1: Title of fdb-missing; w1, w2: Title of hairpin-off"
    # Only one of them makes it fail.
    probed[1]["routing"]["bridge_calls"] = {"4": False}
    lines = found_with(probed, *off)["lines"]
    assert [line for line in lines if "[hairpin-off]" in line] == [
        "FAIL w1: Title of hairpin-off [hairpin-off]", "WARNING w2: Title of hairpin-off [hairpin-off]",
    ]  # fmt: skip


def test_what_a_live_pod_meets_is_no_reason_for_what_new_ones_meet() -> None:
    found = found_with(cut(healthy()), finding("bridge-entry-wrong", "w1"))
    assert "look for a firewall" in found["text"]
    assert found["summary"].startswith("w1: Title of bridge-entry-wrong; w1 <-> w2: 8 pairs not reached")


def test_a_warning_is_no_cause_for_the_summary() -> None:
    found = found_with(cut(healthy()), finding("link-shaped", "w1", severity="warning"))
    assert found["summary"] == "w1 <-> w2: 8 pairs not reached (no answer within 3 s)"
    assert "look for a firewall" not in found["text"]


def test_the_summary_counts_what_is_no_matter_of_two_nodes() -> None:
    probed = cut(healthy())
    for pod in probed[0]["pods"]:
        pod["itself"] = [{"address": "10.0.0.1", "error": "no answer within 3 s"}]
    assert found_with(probed, finding("fdb-missing", "w1"))["summary"] == "w1: Title of fdb-missing; 1 more"


def test_the_summary_names_what_no_cause_is_about() -> None:
    hosts = ["w1", "w2"]
    started = [{}, {"failed": True, "msg": "no CNI"}]
    off = [finding("hairpin-off", "w1", severity="warning")]
    found = matrix(hosts, started, [healthy(nodes=1)[0], {}], NODES, findings=off)
    assert found["summary"] == "w1: Title of hairpin-off; w2 has no probe pods: no CNI"


def test_the_summary_has_the_first_failures_where_no_finding_is_a_cause() -> None:
    warned = finding("forwarding-off-at-boot", "w2", severity="warning")
    assert found_with(cut(healthy()), warned)["summary"] == "w1 <-> w2: 8 pairs not reached (no answer within 3 s)"
    causes = [finding(f"cause-{number}", "w1", "w2") for number in range(5)]
    assert found_with(cut(healthy()), *causes)["summary"].endswith("w1: Title of cause-2; 2 more")
    assert found_with(healthy())["summary"] == ""


def test_notes_stay_unsaid() -> None:
    found = found_with(healthy(), finding("route-by-hand", "w2", severity="note"))
    assert found["findings"] == [] and "route-by-hand" not in found["text"]


def test_live_pods_with_one_address_fail_though_new_pods_reach_each_other() -> None:
    found = found_with(healthy(), finding("pod-address-duplicate", "w2", "w1"))
    assert not found["ok"] and found["failures"] == [
        "w2: Title of pod-address-duplicate; evidence of pod-address-duplicate"
    ]
    assert found["lines"][-3:] == [
        "FAIL w2: Title of pod-address-duplicate [pod-address-duplicate]",
        "  found:  evidence of pod-address-duplicate",
        "  fix:    mend pod-address-duplicate",
    ]


@pytest.mark.parametrize(("calls", "ok"), [({"4": True}, False), ({"4": False}, True), ({}, True)])
def test_hairpin_of_live_pods_counts_where_the_bridge_shows_packets_to_iptables(
    calls: dict[str, bool], ok: bool
) -> None:
    probed = healthy()
    probed[0]["routing"]["bridge_calls"] = calls
    found = found_with(probed, finding("hairpin-off", "w1", severity="warning"))
    assert found["ok"] is ok and found["findings"]
    assert found_with(probed, finding("hairpin-off", "w1", severity="warning"), scope="node")["ok"]


def test_a_cause_that_is_known_takes_the_place_of_a_guess() -> None:
    probed = cut(healthy())
    for here, there in ((1, 2), (2, 1)):
        ways(probed, here, there, dst=f"10.244.{there - 1}.0/24", via=f"172.16.0.{there + 2}", dev="eth0", local=False)
    assert "look for a firewall" in found_with(probed)["text"]
    known = found_with(probed, finding("fdb-missing", "w1", "w2"), finding("leases-stale", "w3", severity="warning"))
    assert "look for a firewall" not in known["text"] and "fix:    mend fdb-missing" in known["text"]
    # What is wrong elsewhere is counted only.
    assert "leases-stale" not in known["text"] and "and 1 more findings" in known["text"]


def test_rules_that_may_drop_the_packets_take_the_place_of_a_guess() -> None:
    probed = cut(healthy())
    note = finding("filter-may-drop-pods", "w2", severity="note")
    text = found_with(probed, note, finding("route-by-hand", "w1", severity="note"))["text"]
    assert "rules that may drop the packets, see [filter-may-drop-pods]" in text and "look for a firewall" not in text
    assert "NOTE w2" in text and "route-by-hand" not in text
    # Where something else says why, and where nothing fails, it is no news.
    assert "filter-may-drop-pods" not in found_with(probed, note, finding("forwarding-off", "w2"))["text"]
    assert "filter-may-drop-pods" not in found_with(healthy(), note)["text"]


def test_answers_that_take_long_blame_the_load_and_no_firewall() -> None:
    probed = cut(healthy())
    for pod in (pod for host in probed for pod in host["pods"]):
        for result in pod["results"]:
            result.update({"ms": 2100.0} if "ms" in result else {})
    text = judge(probed)["text"]
    assert "took more than 2.1 s: the machines are overloaded" in text and "look for a firewall" not in text


def test_the_direction_in_which_nothing_arrives() -> None:
    probed = cut(healthy())
    removed = [{"heard": {"1-1": ["1-2", "2-1"]}}, {"heard": {"2-1": ["2-2"]}}]
    text = found_with(probed, removed=removed)["text"]
    assert "packets of w2's pods arrive at w1's pods, and none of w1's pods arrives at w2's" in text
    unknowns: list[list[dict[str, Any]]] = [[{"heard": {"1-1": ["2-1"]}}, {}], [{"heard": {}}, {"heard": {}}], []]
    for unknown in unknowns:
        assert "arrive at" not in found_with(probed, removed=unknown)["text"]


def narrowed(probed: list[dict[str, Any]], **met: Any) -> dict[str, Any]:
    """What w1's first pod met at w2's, with large packets."""
    result = next(each for each in probed[0]["pods"][0]["results"] if each["to"] == "2-1")
    result.update({"udp_ms": 0.2, "mtu": 1450, "peer_mtu": 1450, "there": 1450, "back": 1450, "bulk_error": "", **met})
    return next(
        cell for cell in judge(probed)["cells"] if (cell["from"], cell["to"], cell["protocol"]) == ("w1", "w2", "udp")
    )


def test_a_path_that_is_narrower_than_the_interface_fails_with_its_size() -> None:
    probed = healthy()
    cell = narrowed(probed, there=1400, bulk_error="no answer within 3 s")
    assert (cell["ok"], cell["mtu"], cell["latency_ms"]) == (False, 1400, 0.2)
    text = judge(probed)["text"]
    assert "packets of more than 1400 bytes from w1's pods to w2's do not arrive" in text and "downloads stall" in text
    assert "give pods an MTU of 1400 in their CNI configuration" in text
    assert "w1         ok 0.4 ms  FAIL >1400" in text
    assert "TCP learns of it and adapts" in judge_narrow(there=1400)["text"]
    nothing = judge_narrow(there=0)["text"]
    assert "no packet of more than 576 bytes from w1's pods to w2's arrives" in nothing and "MTU of 0" not in nothing


def test_large_answers_that_get_lost_leave_small_ones_alone() -> None:
    probed = healthy()
    narrowed(probed, back=1400, bulk_error="no answer within 3 s")
    assert "w1         ok 0.4 ms  FAIL large" in judge(probed)["text"]


def test_what_more_than_large_packets_meet_is_no_matter_of_size() -> None:
    probed = healthy()
    narrowed(probed, there=1400, udp_error="no answer within 3 s")
    assert "FAIL >1400" not in judge(probed)["text"]
    probed = healthy()
    narrowed(probed, there=1400)
    other = next(each for each in probed[0]["pods"][1]["results"] if each["to"] == "2-2")
    other.update(udp_ms=0.2, mtu=1450, peer_mtu=1450, there=0, back=1450, bulk_error="")
    assert "FAIL >1400" not in judge(probed)["text"]


def judge_narrow(**met: Any) -> dict[str, Any]:
    probed = healthy()
    narrowed(probed, **met)
    return judge(probed)


@pytest.mark.parametrize("met", [{}, {"peer_mtu": 1400, "back": 1400}, {"mtu": 9000, "there": 9000, "peer_mtu": 9000}])
def test_what_interfaces_take_is_no_failure(met: dict[str, Any]) -> None:
    assert judge_narrow(**met)["ok"]


def test_the_narrow_way_back_is_that_of_the_other_direction() -> None:
    # A download by this pair stalls as well, since its answers are large.
    text = judge_narrow(back=1400, bulk_error="no answer within 3 s")["text"]
    assert "answers of more than 1400 bytes do not come back" in text
    assert judge_narrow(back=1400)["ok"]


def test_a_size_that_could_not_be_told_is_not_checked() -> None:
    probed = healthy()
    probed[0]["pods"][0]["results"][1].update(udp_ms=0.2, bulk_error="")
    found = judge(probed)
    assert found["ok"] and found["not_checked"] == [
        "w1 -> w2: how large a packet may be, as small ones got lost, too (is a machine overloaded?)"
    ]


def test_udp_alone_may_fail() -> None:
    probed = healthy()
    probed[0]["pods"][0]["results"][1].update(udp_error="no answer within 3 s")
    found = judge(probed)
    assert found["failures"] == ["w1 -> w2: 1 pair reached by TCP and not by UDP (no answer within 3 s)"]
    assert {cell["protocol"]: cell["ok"] for cell in found["cells"] if (cell["from"], cell["to"]) == ("w1", "w2")} == {
        "tcp": True,
        "udp": False,
    }


def test_nodes_left_out_are_named() -> None:
    result = matrix(["w1"], [{}], healthy(nodes=1), NODES)
    assert result["ok"] and result["lines"][-1].startswith("Not checked: pods of w2, which this run leaves out")


def test_a_sample_says_what_it_proves() -> None:
    probed = healthy(nodes=60, pods=1)
    targets = [{"node": f"w{number}", "id": f"{number}-1"} for number in range(1, 61)]
    names = [target["node"] for target in targets]
    for name, host in zip(names, probed, strict=True):
        chosen = sample.peers(names, name, "1-1")
        pod = host["pods"][0]
        pod["results"] = [each for each in pod["results"] if f"w{each['to'].split('-')[0]}" in chosen]
    found = found_with(probed, targets=targets)
    assert found["ok"] and found["pairs"]["tried"] == 60 * 49 and found["sample"]["possible"] == 60 * 59
    assert "2940 of them were drawn by lot, 49 for each node" in found["not_checked"][0]
    # What was drawn and did not answer is a failure all the same.
    probed[5]["pods"][0]["results"].pop()
    assert "it was not tried" in found_with(probed, targets=targets)["text"]


def test_the_cells_of_a_host_without_pods_say_why() -> None:
    result = matrix(["w1", "w2"], [{}, {"failed": True, "msg": "no CNI"}], [healthy(nodes=1)[0], {}], NODES)
    silent = [cell for cell in result["cells"] if "w2" in (cell["from"], cell["to"])]
    assert len(silent) == 3 and all(cell["ok"] is False and "no CNI" in cell["reason"] for cell in silent)


@given(st.sets(st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 4)), min_size=1))
def test_any_failed_pair_fails_the_cluster_and_is_counted(broken: set[tuple[int, int, int]]) -> None:
    probed = healthy(nodes=3)
    for node, pod, number in broken:
        result = probed[node]["pods"][pod]["results"][number]
        probed[node]["pods"][pod]["results"][number] = {"to": result["to"], "address": result["address"], "error": "x"}
    result = judge(probed, [])
    assert not result["ok"]
    assert result["pairs"] == {"tried": 30, "promised": 30, "passed": 30 - len(broken)}
    assert result["failures"]
