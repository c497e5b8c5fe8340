# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What site.yml leaves of any plan is discovered as an inventory and a lock file that give the same plan."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis.discovery import discover
from ansible_collections.weft.podnet.plugins.plugin_utils.plan import draft
from support import kept_cluster

CIDRS = {4: "10.96.0.0/12", 6: "fd00:10:244::/48"}
SIZES = {4: 24, 6: 64}
FLANNEL = [
    {"Type": "vxlan"},
    {"Type": "vxlan", "VNI": 9, "Port": 4789, "DirectRouting": True},
    {"Type": "host-gw"},
    {"Type": "wireguard", "Mode": "separate", "PersistentKeepaliveInterval": 25},
]
# Networks beyond the pods', none of which could be merged with theirs.
EXCLUDE = st.lists(st.sampled_from(["192.168.7.0/24", "198.51.100.9/32", "203.0.113.0/28"]), max_size=2, unique=True)
COMMON = {
    "podnet_bridge_name": st.sampled_from(["cni0", "pods0"]),
    "podnet_cni_conf_dir": st.sampled_from(["/etc/cni/net.d", "/srv/cni"]),
    "podnet_cni_plugins_source": st.sampled_from(["distribution", "release"]),
    "podnet_cni_chained_plugins": st.sampled_from([[], [{"type": "tuning", "sysctl": {"net.core.somaxconn": "512"}}]]),
}
OF_BACKEND: dict[str, dict[str, Any]] = {
    "bridge": {},
    "routes": {"podnet_masquerade_exclude": EXCLUDE},
    "vxlan": {
        "podnet_masquerade_exclude": EXCLUDE,
        "podnet_vxlan_vni": st.sampled_from([1, 42]),
        "podnet_vxlan_port": st.sampled_from([8472, 4789]),
        "podnet_vxlan_direct_routing": st.booleans(),
    },
    "flannel": {
        "podnet_flannel_backend": st.sampled_from(FLANNEL),
        "podnet_flannel_version": st.sampled_from(["v0.27.2", "v0.26.7"]),
        "podnet_flannel_identity": st.sampled_from(["per_node", "shared"]),
        "podnet_api_server": st.sampled_from(["https://control-plane:6443", "https://api.example.com"]),
    },
}
OWN: dict[str, dict[str, Any]] = {
    "routes": {"podnet_masquerade_backend": st.sampled_from(["auto", "iptables"])},
    "vxlan": {
        "podnet_vxlan_mtu": st.sampled_from([None, 1300]),
        "podnet_vxlan_underlay": st.sampled_from([None, "eth1"]),
    },
    "flannel": {
        "podnet_node_name": st.sampled_from([None, "node"]),
        "podnet_flannel_iface": st.sampled_from([None, "eth0"]),
    },
}
NOT_FLANNELS = ("podnet_bridge_name",)


@st.composite
def clusters(draw: st.DrawFn) -> tuple[dict[str, dict[str, Any]], dict[str, list[str]]]:
    """(hosts' variables, pod subnets by worker)."""
    backend = draw(st.sampled_from([*OF_BACKEND]))
    families = draw(st.sampled_from([(4,), (4, 6)] if backend == "flannel" else [(4,), (6,), (4, 6), (6, 4)]))
    count = draw(st.integers(2, 4))
    numbers = draw(st.lists(st.integers(0, 200), min_size=count, max_size=count, unique=True))
    common: dict[str, Any] = {"podnet_backend": backend, "podnet_pod_cidr": [CIDRS[version] for version in families]}
    for name, values in {**COMMON, **OF_BACKEND[backend]}.items():
        if not (backend == "flannel" and name in NOT_FLANNELS):
            common[name] = draw(values)
    if common.get("podnet_flannel_backend", {}).get("Type") == "host-gw":
        families = families[:1]
        common["podnet_pod_cidr"] = [CIDRS[families[0]]]
    hosts, subnets = {}, {}
    for place, number in enumerate(numbers):
        name = f"w{place}"
        # Some are on another subnet of the underlay; two share one, or no route would show podnet_vxlan_direct_routing.
        segment = draw(st.integers(0, 1)) if place > 1 else 0
        ips = {4: f"172.16.{segment}.{place + 3}", 6: f"fd00:172:{segment + 16}::{place + 3}"}
        own = {key: draw(values) for key, values in OWN.get(backend, {}).items()}
        if own.get("podnet_node_name"):
            own["podnet_node_name"] += str(place)
        if backend == "vxlan" and draw(st.booleans()):
            own["podnet_vtep_mac"] = f"02:00:00:00:00:{place + 1:02x}"
        hosts[name] = {
            "ansible_host": ips[families[0]],
            **common,
            "podnet_node_ip": [ips[version] for version in families],
            **{key: value for key, value in own.items() if value is not None},
        }
        subnets[name] = [_subnet(version, number) for version in families]
    return hosts, subnets


def _subnet(version: int, number: int) -> str:
    cidr = ipaddress.ip_network(CIDRS[version])
    first = cidr.network_address + number * 2 ** (cidr.max_prefixlen - SIZES[version])
    return f"{first}/{SIZES[version]}"


def rediscovered(
    observations: dict[str, Any], addresses: dict[str, str]
) -> tuple[dict[str, dict[str, Any]], dict[str, list[str]], list[str]]:
    """(hosts' variables, pod subnets, remarks) of what discover.yml writes."""
    names = list(addresses)
    found = discover.discover(observations, {}, names, addresses)
    assert not found.problems, found.problems
    connection = {name: {"ansible_host": address} for name, address in addresses.items()}
    layout = draft.Layout([("workers", names), ("control_plane", ["control-plane"])], connection, {})
    made = draft.make(layout, found.values, found.subnets, found.remarks, Path("/adopted"), "control-plane")
    written = yaml.safe_load(made.inventory)["workers"]
    hosts = {name: {**written["vars"], **(written["hosts"][name] or {})} for name in names}
    return hosts, (yaml.safe_load(made.lock.text()) or {}).get("pod_subnets", {}), made.remarks


@settings(max_examples=60)
@given(clusters())
def test_a_plan_is_discovered_as_it_was(given_: tuple[dict[str, dict[str, Any]], dict[str, list[str]]]) -> None:
    hosts, subnets = given_
    planned = kept_cluster.plan(hosts, subnets)
    if planned["backend"] == "flannel":
        # The API knows them, and flanneld.
        planned["nodes"] = [{**node, "pod_subnets": subnets[node["name"]]} for node in planned["nodes"]]
    observations = {name: kept_cluster.observed(planned, name) for name in hosts}
    found, lock, remarks = rediscovered(observations, {name: each["ansible_host"] for name, each in hosts.items()})
    again = kept_cluster.plan(found, lock)
    assert again["backend"] == planned["backend"]
    if planned["backend"] == "flannel":
        assert not lock
        again["nodes"] = [{**node, "pod_subnets": subnets[node["name"]]} for node in again["nodes"]]
    assert {each["name"]: each["pod_subnets"] for each in again["nodes"]} == subnets
    if planned["backend"] == "bridge":
        # Its hosts do not show the cluster's pod network, and nobody sends packets to other nodes.
        assert [line for line in remarks if line.startswith("podnet_pod_cidr: no host shows")]
        for cluster in (planned, again):
            cluster["pod_cidrs"] = []
            cluster["nodes"] = [{**node, "node_ips": ["192.0.2.1"]} for node in cluster["nodes"]]
    else:
        assert not remarks
    for name in hosts:
        assert kept_cluster.effects(again, name) == kept_cluster.effects(planned, name)
