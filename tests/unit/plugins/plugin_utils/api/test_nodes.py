# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API's Nodes against the plan, their reasons for being NotReady, flannel's annotations, and calls that fail."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.core.vtep import vtep_mac
from ansible_collections.weft.podnet.plugins.plugin_utils.api import failure as api_failure
from ansible_collections.weft.podnet.plugins.plugin_utils.api import flannel as api_flannel
from ansible_collections.weft.podnet.plugins.plugin_utils.api import nodes as api_nodes
from ansible_collections.weft.podnet.plugins.plugin_utils.node import underlay

MAC = "02:00:00:00:00:09"
CNI = (
    "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady "
    "message:Network plugin returns error: cni plugin not initialized"
)


def node(name: str, number: int = 0, cidrs: tuple[str, ...] | None = None, **more: Any) -> dict[str, Any]:
    """A Node as the API serves it: worker ``number`` has 172.16.0.<number + 3> and 10.244.<number>.0/24."""
    spec = {"podCIDRs": list(cidrs if cidrs is not None else (f"10.244.{number}.0/24",))}
    addresses = [{"type": "InternalIP", "address": more.get("ip", f"172.16.0.{number + 3}")}]
    addresses.append({"type": "Hostname", "address": more.get("hostname", name)})
    ready = {"type": "Ready", "status": more.get("ready", "True"), "message": more.get("message", "kubelet is posting")}
    status = {"addresses": addresses, "conditions": [ready], "nodeInfo": {"architecture": "arm64"}}
    annotations = {f"flannel.alpha.coreos.com/{key}": value for key, value in more.get("flannel", {}).items()}
    return {"metadata": {"name": name, "annotations": {"other": "x", **annotations}}, "spec": spec, "status": status}


def flanneld(**changes: Any) -> dict[str, str]:
    found = {
        "kube-subnet-manager": "true",
        "backend-type": "vxlan",
        "backend-data": f'{{"VNI":1,"VtepMAC":"{MAC}"}}',
        "public-ip": "172.16.0.9",
    }
    return {key: value for key, value in {**found, **changes}.items() if value is not None}


def plan(*names: str, **changes: Any) -> dict[str, Any]:
    nodes = [
        {"name": name, "node_ips": [f"172.16.0.{number + 3}"], "pod_subnets": []} for number, name in enumerate(names)
    ]
    return {"pod_cidrs": ["10.244.0.0/16"], "nodes": nodes, **changes}


def check(wanted: dict[str, Any], *nodes: dict[str, Any]) -> api_nodes.Findings:
    return api_nodes.check(wanted, api_nodes.summary(nodes))


def test_workers_get_their_nodes_pod_cidrs() -> None:
    found = check(plan("w0", "w1"), node("w0", 0, flannel=flanneld()), node("w1", 1))
    assert not found.problems and not found.warnings
    assert found.nodes[0]["pod_subnets"] == ["10.244.0.0/24"] and found.nodes[1]["pod_subnets"] == ["10.244.1.0/24"]
    assert found.nodes[0]["annotations"] == flanneld() and found.nodes[1]["annotations"] == {}
    assert {entry["arch"] for entry in found.nodes} == {"arm64"}


def test_the_older_field_alone_will_do() -> None:
    old = node("w0")
    old["spec"] = {"podCIDR": "10.244.5.0/24"}
    assert check(plan("w0"), old).nodes[0]["pod_subnets"] == ["10.244.5.0/24"]


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (
            node("w0.example.org"),
            "the Node w0.example.org has its address 172.16.0.3; set podnet_node_name: w0.example.org",
        ),
        (
            node("w0.example.org", ip="10.0.0.1"),
            "w0.example.org has its host name; set podnet_node_name: w0.example.org",
        ),
        (node("ip-10-0-0-1", ip="10.0.0.1", hostname="w0"), "set podnet_node_name: ip-10-0-0-1"),
        (node("else", ip="10.0.0.1"), "the API knows else. Let its kubelet join the cluster first"),
    ],
)
def test_a_worker_without_a_node(there: dict[str, Any], expected: str) -> None:
    (problem,) = check(plan("w0"), there).problems
    assert problem.startswith("w0: there is no Node w0; ") and expected in problem


def test_no_node_at_all_is_not_blamed_on_the_controller_manager() -> None:
    problems = check(plan("w0", "w1")).problems
    assert len(problems) == 2 and all("the API knows no Node at all" in line for line in problems)


def test_a_node_of_another_worker_is_nobodys_guess() -> None:
    (problem,) = check(plan("w0", "w1"), node("w1", 0)).problems
    assert "podnet_node_name: w1" not in problem


def test_the_inventory_may_name_the_node() -> None:
    wanted = plan("w0")
    wanted["nodes"][0]["node_name"] = "w0.example.org"
    assert check(wanted, node("w0.example.org")).nodes[0]["node_name"] == "w0.example.org"


def test_no_pod_cidrs_anywhere_is_the_controller_manager_s_doing() -> None:
    (problem,) = check(plan("w0", "w1"), node("w0", 0, ()), node("w1", 1, ())).problems
    assert "--allocate-node-cidrs=true and --cluster-cidr=10.244.0.0/16" in problem


def test_no_pod_cidr_on_some() -> None:
    (problem,) = check(plan("w0", "w1", "w2"), node("w0"), node("w1", 1, ()), node("w2", 2, ())).problems
    assert "the Nodes w1, w2, while others have one" in problem


def test_all_problems_at_once() -> None:
    wanted = plan("w0", "w1", "w2", "w3")
    wanted["nodes"][2]["pod_subnets"] = ["10.244.9.0/24"]
    problems = check(
        wanted, node("w0", 0, ("10.9.0.0/24",)), node("w1", 1, ("10.244.2.128/25",)), node("w2", 2)
    ).problems
    assert len(problems) == 4
    text = "\n".join(problems)
    assert "w0: the podCIDR 10.9.0.0/24 of its Node is not inside podnet_pod_cidr 10.244.0.0/16" in text
    assert "the Nodes w2 and w1 have overlapping podCIDRs 10.244.2.0/24 and 10.244.2.128/25" in text
    assert "w2: podnet_pod_subnet is 10.244.9.0/24, but the API gave its Node 10.244.2.0/24" in text
    assert "w3: there is no Node w3" in text


def test_overlaps_with_a_node_that_is_not_ours_count() -> None:
    (problem,) = check(plan("w0"), node("w0"), node("x", 7, ("10.244.0.0/24",), flannel=flanneld())).problems
    assert "w0 and x" in problem


def test_dual_stack_wants_both_families_and_orders_them_as_the_pod_cidr() -> None:
    wanted = plan("w0", pod_cidrs=["fd00::/48", "10.244.0.0/16"])
    wanted["nodes"][0]["node_ips"].append("fd01::3")
    both = check(wanted, node("w0", 0, ("10.244.0.0/24", "fd00::/64")))
    assert not both.problems and both.nodes[0]["pod_subnets"] == ["fd00::/64", "10.244.0.0/24"]
    (problem,) = check(wanted, node("w0")).problems
    assert "no IPv6 podCIDR" in problem
    wanted["nodes"][0]["node_ips"].pop()
    (problem,) = check(wanted, node("w0", 0, ("10.244.0.0/24", "fd00::/64"))).problems
    assert "podnet_node_ip has no address of that family" in problem


def test_warnings() -> None:
    found = check(plan("w0"), node("w0", 0, ip="10.0.0.3"), node("x", 5), node("y", 6, flannel=flanneld()))
    assert not found.problems and len(found.warnings) == 2
    assert "podnet_node_ip is 172.16.0.3, its Node's InternalIP 10.0.0.3" in found.warnings[0]
    assert "the Nodes x are no workers" in found.warnings[1]


def test_long_lists_of_names_are_cut() -> None:
    assert api_nodes.listed(f"n{number:03}" for number in range(25)).endswith("n019 and 5 more")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (CNI, "no CNI configuration in /etc/cni/net.d: run site.yml"),
        (f"[{CNI}, CSINode is not yet initialized]", "no CNI configuration in /etc/cni/net.d: run site.yml"),
        ("CSINode is not yet initialized", "only just registered"),
        ("Kubelet stopped posting node status.", "gone silent"),
        (
            "failed to load flannel 'subnet.env' file: open /run/flannel/subnet.env: no such file",
            "flanneld does not run",
        ),
        ("container runtime is down", "containerd does not answer"),
        ("something new", "something new"),
        ("", "no reason given"),
    ],
)
def test_why_a_node_is_not_ready(message: str, expected: str) -> None:
    resources = [node("w0", ready="False", message=message), node("w1", 1)]
    (line,) = api_nodes.not_ready(api_nodes.summary(resources))
    assert line.startswith("w0: NotReady: ") and expected in line


def test_only_flannelds_own_condition_goes() -> None:
    ready = {"type": "Ready", "status": "False"}
    up = {"type": "NetworkUnavailable", "status": "False", "reason": "FlannelIsUp"}
    cloud = {"type": "NetworkUnavailable", "status": "True", "reason": "NoRouteCreated"}
    found = {"metadata": {"name": "w0"}, "status": {"conditions": [ready, up], "capacity": {"cpu": "2"}}}
    assert api_nodes.summary([found])["w0"]["flannel_is_up"]
    assert api_flannel.without_condition(found)["status"] == {"conditions": [ready], "capacity": {"cpu": "2"}}
    other = {**found, "status": {"conditions": [cloud]}}
    assert not api_nodes.summary([other])["w0"]["flannel_is_up"] and api_flannel.without_condition(other) == other


def test_a_node_that_has_never_reported_and_one_without_network() -> None:
    silent, waiting = node("w0"), node("w1", 1)
    silent["status"] = {}
    waiting["status"]["conditions"].append({"type": "NetworkUnavailable", "status": "True"})
    api = api_nodes.summary([silent, waiting])
    lines = api_nodes.not_ready(api)
    assert "w0: NotReady: no reason given" in lines[0] and "w1: NetworkUnavailable" in lines[1]
    assert api_nodes.not_ready(api, ["w1", "gone"]) == lines[1:]


def test_annotations_are_flanneld_s_to_the_byte_and_only_differences_are_written() -> None:
    nodes = check(plan("w0", "w1"), node("w0"), node("w1", 1)).nodes
    first, second = api_flannel.patches(nodes, 1)
    assert first["metadata"] == {
        "name": "w0",
        "annotations": {
            "flannel.alpha.coreos.com/kube-subnet-manager": "true",
            "flannel.alpha.coreos.com/backend-type": "vxlan",
            "flannel.alpha.coreos.com/backend-data": f'{{"VNI":1,"VtepMAC":"{vtep_mac("w0", 1)}"}}',
            "flannel.alpha.coreos.com/public-ip": "172.16.0.3",
        },
    }
    nodes[0]["annotations"] = api_flannel.wanted(nodes[0], 1)
    nodes[1]["annotations"] = {**api_flannel.wanted(nodes[1], 1), "public-ip": "10.0.0.1", "public-ipv6": "fd00::1"}
    (left,) = api_flannel.patches(nodes, 1)
    assert left["metadata"]["annotations"] == {
        "flannel.alpha.coreos.com/public-ip": "172.16.0.4",
        "flannel.alpha.coreos.com/public-ipv6": None,
    }
    removed = api_flannel.patches(nodes, 1, absent=True)
    assert [set(patch["metadata"]["annotations"].values()) for patch in removed] == [{None}, {None}]
    assert not api_flannel.patches([{**entry, "annotations": {}} for entry in nodes], 1, absent=True)


def test_the_inventory_s_vtep_mac_is_published() -> None:
    entry = {"name": "w0", "node_ips": ["172.16.0.3"], "pod_subnets": ["10.244.0.0/24"], "vtep_mac": MAC}
    assert api_flannel.wanted(entry, 7)["backend-data"] == f'{{"VNI":7,"VtepMAC":"{MAC}"}}'


def peers(*nodes: dict[str, Any], vni: int = 1) -> tuple[list[dict[str, str]], list[str]]:
    return api_flannel.peers(api_nodes.summary(nodes), ["w0"], vni)


def test_nodes_run_by_flanneld_become_peers_of_the_mesh() -> None:
    both = flanneld(**{"backend-v6-data": '{"VNI":1,"VtepMAC":"02:00:00:00:00:0a"}', "public-ipv6": "fd01::9"})
    found, problems = peers(
        node("w0", flannel=flanneld()), node("plain", 3), node("far", 7, ("10.244.7.0/24", "fd00:7::/64"), flannel=both)
    )
    assert not problems
    assert found == [
        {"name": "far", "pod_cidr": "10.244.7.0/24", "public_ip": "172.16.0.9", "vtep_mac": MAC},
        {"name": "far", "pod_cidr": "fd00:7::/64", "public_ip": "fd01::9", "vtep_mac": "02:00:00:00:00:0a"},
    ]
    ours = [
        {"name": "w0", "node_ips": ["172.16.0.3"], "pod_subnets": ["10.244.0.0/24"]},
        {"name": "w1", "node_ips": ["172.16.0.4"], "pod_subnets": ["10.244.1.0/24"]},
    ]
    (device,) = underlay.mesh(ours, "w0", found)
    assert [peer["name"] for peer in device["peers"]] == ["w1", "far"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"backend-type": "host-gw", "backend-data": "null"}, "its backend is 'host-gw'"),
        ({"backend-data": f'{{"VNI":2,"VtepMAC":"{MAC}"}}'}, "its VNI is 2, podnet_vxlan_vni is 1"),
        ({"backend-data": "null"}, "has its flanneld ever started?"),
        ({"backend-data": '{"VNI":1,"VtepMAC":"nonsense"}'}, "VtepMAC: expected a MAC address"),
        ({"public-ip": None}, "public-ip: expected the address of the family of 10.244.7.0/24, found None"),
        ({"public-ip": "fd01::9"}, "found 'fd01::9'"),
    ],
)
def test_a_flanneld_that_can_be_no_peer_is_refused(changes: dict[str, Any], expected: str) -> None:
    found, (problem,) = peers(node("far", 7, flannel=flanneld(**changes)))
    assert not found and problem.startswith("the Node far, which flanneld runs: ") and expected in problem


def test_a_flanneld_without_a_pod_cidr_is_refused() -> None:
    assert "has no podCIDR" in peers(node("far", 7, (), flannel=flanneld()))[1][0]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        # As kubernetes.core 6.2 and the clients under it say it.
        (
            "HTTPSConnectionPool(host='cp', port=6443): Max retries exceeded (Caused by NewConnectionError("
            "'<x>: Failed to establish a new connection: [Errno 111] Connection refused'))",
            "(server cp:6443): nothing answers there; start kube-apiserver",
        ),
        (
            "Max retries exceeded (Caused by SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] "
            "certificate verify failed: self-signed certificate (_ssl.c:992)')))",
            "not signed by the kubeconfig's CA",
        ),
        (
            "certificate verify failed: IP address mismatch, certificate is not valid for '172.16.0.9'. (_ssl.c:992)",
            "not made for this name",
        ),
        ("CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired", "out of its time"),
        ("Could not create API client: Invalid kube-config file. No configuration found.", "missing there"),
        (
            'Failed to retrieve: b\'{"kind":"Status","message":"nodes is forbidden: User \\\\"nobody\\\\" cannot '
            'list","reason":"Forbidden","code":403}\'',
            'may not do this (nodes is forbidden: User "nobody" cannot list); take',
        ),
        ("Failed to import the required Python library (kubernetes) on x's Python", "cp: Python there lacks"),
        ("Traceback:\n  File x\nValueError: something new", "on cp: ValueError: something new"),
        ("", "no reason given"),
    ],
)
def test_a_failed_call_in_one_line(said: str, expected: str) -> None:
    line = api_failure.explain(said, "/etc/kubernetes/admin.conf", "cp")
    assert expected in line and "\n" not in line
