# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker's steps by the plan: what they are, in which order, and that every module accepts them."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.action import node_steps as action
from ansible_collections.weft.podnet.plugins.filter import cluster as filters
from ansible_collections.weft.podnet.plugins.plugin_utils.node import steps
from ansible_collections.weft.podnet.plugins.plugin_utils.plan import inventory

SHA = "ab" * 32
ARTIFACTS = [
    {
        "component": name,
        "version": "v1.0.0",
        "architecture": arch,
        "sha256": SHA,
        "room": 70,
        "name": f"{name}-{arch}.tgz",
        "path": f"/cache/{name}-{arch}.tgz",
    }
    for name in ("flannel", "flannel_cni", "cni_plugins")
    for arch in ("amd64", "arm64")
]
CA = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
GIVEN = {"artifacts": ARTIFACTS, "arch": "aarch64", "flannel_backend": {"Type": "vxlan"}, "ca_certificate": CA}
BACKENDS = ["bridge", "routes", "vxlan", "flannel"]


def plan(backend: str, own: dict[str, Any] | None = None, **common: Any) -> dict[str, Any]:
    """A plan of two workers, as cluster_plan makes it; w0 has settings of its ``own``."""
    values = {name: inventory.default(name) for name in inventory.cluster_names()}
    values = {**values, "podnet_backend": backend, "podnet_vxlan_port": 4789, **common}
    return {
        "backend": backend,
        "control_planes": ["cp"],
        "api_server": "https://cp:6443",
        "pod_cidrs": ["10.244.0.0/16"],
        "vxlan": {"vni": 1, "port": 4789, "direct_routing": False},
        "settings": inventory.kept(values),
        "nodes": [
            {"name": "w0", "node_ips": ["172.16.0.3"], "pod_subnets": ["10.244.0.0/24"], "settings": own or {}},
            {"name": "w1", "node_ips": ["172.16.0.4"], "pod_subnets": ["10.244.1.0/24"], "settings": {}},
        ],
    }


def part(cluster: dict[str, Any], name: str, **given: Any) -> list[dict[str, Any]]:
    return filters.steps(cluster, "w0", name, {**GIVEN, **given})


def modules(found: list[dict[str, Any]]) -> list[str]:
    return [step["module"] for step in found]


def args(found: list[dict[str, Any]], module: str) -> dict[str, Any]:
    return dict(next(step["args"] for step in found if step["module"] == module))


@pytest.mark.parametrize("source", ["distribution", "release", "none"])
@pytest.mark.parametrize("name", steps.PARTS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_module_accepts_its_step(backend: str, name: str, source: str) -> None:
    more = {
        "podnet_cni_plugins_source": source,
        "podnet_vxlan_mtu": 1400,
        "podnet_vxlan_underlay": "eth1",
        "podnet_flannel_iface": "eth1",
        "podnet_cni_chained_plugins": [{"type": "bandwidth"}, {"type": "own"}],
        "podnet_reset_binaries": True,
        "podnet_metrics_dir": "/var/lib/node_exporter",
    }
    for own in ({"podnet_cni_plugins_source": source}, more):
        for number, step in enumerate(part(plan(backend, own), name, dry=name == "look")):
            checked = action.checked(number, step, {"inventory_hostname": "w0"})
            assert checked["module"] == step["module"] and None not in step["args"].values()


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_look_is_what_a_run_does(backend: str) -> None:
    """Whatever order the roles run the parts in, a look leaves nothing out and adds nothing but the preflight."""
    look = part(plan(backend), "look")
    parts = ["first", "certificate", "kubeconfig", "flannel", "last"] if backend == "flannel" else ["last"]
    run = [step for name in parts for step in part(plan(backend), name)]
    assert look[1:] == [step for step in run if step["module"] != "checkpoint"]
    assert look[0]["module"] == "node_preflight"


@pytest.mark.parametrize("name", steps.CUTTING)
@pytest.mark.parametrize("backend", BACKENDS)
def test_what_could_cut_a_worker_off_begins_with_a_checkpoint(backend: str, name: str) -> None:
    found = part(plan(backend), name)
    taken = found[0]["args"]
    assert found[0]["module"] == "checkpoint" and taken["contacts"] == ["172.16.0.4"] and taken["timeout"] == 60
    assert bool(taken["api"]) == (backend == "flannel")
    # A reset leaves none behind.
    assert taken["keep"] == (name != "absent")
    without = part(plan(backend, {"podnet_confirm": False}), name)
    dismissed = {"module": "checkpoint", "args": {"state": "dismissed"}}
    more = {"absent": [{"module": "checkpoint", "args": {"state": "absent"}}]}.get(name, [])
    assert without == [dismissed, *found[1:], *more]


def test_a_worker_asks_few_of_many() -> None:
    cluster = plan("routes")
    others = [{"name": f"x{n}", "node_ips": [f"10.0.0.{n}"], "pod_subnets": [], "settings": {}} for n in range(90)]
    cluster["nodes"] = [*others[:80], *cluster["nodes"], *others[80:]]
    contacts = args(part(cluster, "last"), "checkpoint")["contacts"]
    assert len(contacts) == steps.MOST_CONTACTS and contacts[:2] == ["172.16.0.4", "10.0.0.80"]
    assert contacts[11:13] == ["10.0.0.0", "10.0.0.1"]


def test_nodes_are_connected_before_pods_get_their_configuration() -> None:
    found = modules(part(plan("vxlan"), "last"))
    assert found.index("vxlan_peer") < found.index("pod_route") < found.index("vxlan_leftovers")
    assert found[-2:] == ["cni_config", "cni_config"]
    # flanneld runs between the two parts, and what it replaces goes after it.
    assert "flannel_service" not in modules(part(plan("flannel"), "last"))


@pytest.mark.parametrize("name", ["look", "devices", "mesh", "last"])
def test_flannel_makes_room_before_anything_connects_the_nodes(name: str) -> None:
    found = modules(part(plan("vxlan"), name))
    assert found.count("flannel_absent") == 1 and found.index("flannel_absent") < found.index("vxlan_peer")
    assert "flannel_absent" not in modules(part(plan("flannel"), "last"))


def test_devices_send_nothing_before_every_node_has_its_end() -> None:
    device = args(part(plan("vxlan"), "devices"), "vxlan_peer")
    mesh = args(part(plan("vxlan"), "mesh"), "vxlan_peer")
    assert device == {**mesh, "peers": [], "purge": False}
    assert [peer["name"] for peer in mesh["peers"]] == ["w1"] and mesh["name"] == "flannel.1"


def test_a_mesh_knows_nodes_that_a_flanneld_runs() -> None:
    peer = {"name": "n9", "pod_cidr": "10.244.9.0/24", "public_ip": "172.16.0.9", "vtep_mac": "02:00:00:00:00:09"}
    found = part({**plan("vxlan"), "peers": [peer]}, "mesh")
    assert peer in args(found, "vxlan_peer")["peers"]
    assert args(found, "node_firewall")["sources"] == ["172.16.0.4", "172.16.0.9"]


@pytest.mark.parametrize(
    ("backend", "flannel_backend", "ports"),
    [
        ("vxlan", {"Type": "vxlan", "Port": 1}, [4789]),
        ("flannel", {"Type": "vxlan"}, [8472]),
        ("flannel", {"Type": "vxlan", "Port": 4790}, [4790]),
        ("flannel", {"Type": "wireguard"}, [51820]),
        ("flannel", {"Type": "host-gw"}, []),
        ("routes", {"Type": "vxlan"}, []),
    ],
)
def test_ports_of_the_overlay(backend: str, flannel_backend: dict[str, Any], ports: list[int]) -> None:
    found = part(plan(backend, podnet_flannel_backend=flannel_backend), "first")
    assert args(found, "node_firewall")["udp_ports"] == ports


def test_a_worker_alone_opens_no_port() -> None:
    """Without sources, a rule would allow any."""
    alone = plan("vxlan")
    alone["nodes"] = alone["nodes"][:1]
    found = args(part(alone, "first"), "node_firewall")
    assert found["sources"] == [] and found["udp_ports"] == []
    assert "node_firewall" not in modules(part(plan("vxlan", {"podnet_manage_firewall": False}), "first"))


def test_release_files_are_those_of_the_nodes_architecture() -> None:
    look = part(plan("flannel", {"podnet_cni_plugins_source": "release"}), "look")
    folder = f"v1.0.0-{SHA[:12]}"
    assert args(look, "node_preflight")["room"] == [
        {"folder": f"/opt/weft-podnet/{name}/{folder}", "bytes": 70}
        for name in ("flannel", "flannel_cni", "cni_plugins")
    ]
    assert args(look, "cni_plugins")["source"] == f"/opt/weft-podnet/cni_plugins/{folder}"
    unpacked = [step["args"]["archive"] for step in look if step["module"] == "release_install"]
    names = ("cni_plugins", "flannel", "flannel_cni")
    assert unpacked == [f"/opt/weft-podnet/{name}-arm64.tgz" for name in names]
    assert args(look, "flannel_service")["binaries"] == {
        "/usr/local/bin/flanneld": f"/opt/weft-podnet/flannel/{folder}/flanneld",
        "/opt/cni/bin/flannel": f"/opt/weft-podnet/flannel_cni/{folder}/flannel-arm64",
    }


def test_a_machine_without_a_release_is_named() -> None:
    with pytest.raises(filters.AnsibleFilterError, match="cni_plugins.*'vax'"):
        part(plan("routes", {"podnet_cni_plugins_source": "release"}), "first", arch="vax")


@pytest.mark.parametrize(
    ("server", "control_plane", "before"),
    [
        ("https://cp:6443", "cp", True),
        ("https://cp:6443", "w0", False),
        ("https://127.0.0.1:6443", "cp", False),
        ("https://localhost:6443", "cp", False),
        ("https://[::1]:6443", "cp", False),
    ],
)
def test_kubelet_starts_first_where_it_starts_the_api_server(server: str, control_plane: str, before: bool) -> None:
    cluster = {**plan("flannel"), "api_server": server, "control_planes": [control_plane]}
    assert args(part(cluster, "flannel"), "flannel_service")["before_kubelet"] is before


def test_a_shared_certificate_is_no_workers_own() -> None:
    found = modules(part(plan("flannel", podnet_flannel_identity="shared"), "look"))
    assert "flannel_cert" not in found and "flannel_kubeconfig" not in found
    own = args(part(plan("flannel"), "look"), "flannel_cert")
    assert own["organizations"] == ["podnet:node:w0"] and own["force"] is False
    assert args(part(plan("flannel"), "certificate", force=True), "flannel_cert")["force"] is True


def test_only_a_dry_run_waits_for_plugins_and_old_files() -> None:
    for dry in (True, False):
        found = args(part(plan("flannel"), "last", dry=dry)[-4:], "cni_config") if dry else {}
        assert not dry or found["check_plugins"] is False
    real = [step["args"] for step in part(plan("flannel"), "last") if step["args"].get("name") == steps.FLANNEL_FILE]
    dried = [
        step["args"]
        for step in part(plan("flannel"), "last", dry=True)
        if step["args"].get("name") == steps.FLANNEL_FILE
    ]
    assert real[0]["assume_absent"] == [] and real[0]["check_plugins"] is True
    assert dried[0]["assume_absent"] == [*steps.BRIDGE_FILES, steps.LOOPBACK_FILE]


def test_flannels_plugin_never_has_the_bridge_plugin_masquerade() -> None:
    """Without flanneld's --ip-masq, the plugin would turn ipMasq on, which translates what pods send each other."""

    def delegate(**settings: Any) -> dict[str, Any]:
        made = part(plan("flannel", own=settings), "last")
        config = next(step["args"]["config"] for step in made if step["args"].get("name") == steps.FLANNEL_FILE)
        return dict(config["plugins"][0]["delegate"])

    assert delegate() == {"hairpinMode": True, "isDefaultGateway": True}
    assert delegate(podnet_masquerade=False)["ipMasq"] is False


def test_the_bridges_configuration() -> None:
    plain = [step for step in part(plan("bridge"), "last") if step["module"] == "cni_config"][-1]
    assert plain["mesh_mtu"] and plain["args"]["name"] == "10-bridge.conf"
    assert plain["args"]["config"]["ipMasq"] is True and "hairpinMode" not in plain["args"]["config"]
    listed = [step for step in part(plan("routes"), "last") if step["module"] == "cni_config"][-1]["args"]
    assert listed["name"] == "10-bridge.conflist"
    first, second = listed["config"]["plugins"]
    assert first["ipMasq"] is False and first["hairpinMode"] is True and second["type"] == "portmap"
    assert first["ipam"]["subnet"] == "10.244.0.0/24"
    assert part(plan("routes"), "last")[-2]["args"]["name"] == "99-loopback.conf"


def test_two_families_are_two_ranges_and_the_kernel_forwards_both() -> None:
    cluster = plan("routes")
    for number, node in enumerate(cluster["nodes"]):
        node["node_ips"].append(f"fd00::{number + 3}")
        node["pod_subnets"].append(f"fd00:10:{number}::/64")
    found = part(cluster, "last")
    bridge = [step for step in found if step["module"] == "cni_config"][-1]["args"]["config"]["plugins"][0]
    assert [each[0]["subnet"] for each in bridge["ipam"]["ranges"]] == ["10.244.0.0/24", "fd00:10:0::/64"]
    assert bridge["ipam"]["routes"] == [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    assert args(found, "node_kernel")["sysctls"]["net.ipv6.conf.all.forwarding"] == 1
    assert "net.ipv6.conf.all.forwarding" not in args(part(plan("routes"), "last"), "node_kernel")["sysctls"]
    assert len(args(found, "pod_route")["routes"]) == 2


@pytest.mark.parametrize("live_pods, allowed", [("refuse", False), ("keep", True), ("recreate", True)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_what_becomes_of_live_pods(backend: str, live_pods: str, allowed: bool) -> None:
    cluster = plan(backend, {"podnet_live_pods": live_pods}, podnet_confirm=True)
    for name in ("look", "last", "pods_absent", "absent"):
        found = part(cluster, name)
        given = [step["args"] for step in found if step["module"] == "cni_config"]
        given += [step["args"]["cni"] for step in found if step["module"] == "flannel_absent"]
        given += [each for step in found if step["module"] == "bridge_absent" for each in step["args"]["cni"]]
        told = [args["allow_live_pods"] for args in given if "loopback" not in args["name"]]
        assert told and set(told) == {allowed}
    # Pods that are recreated after the last step need the worker's hold for longer.
    assert args(part(cluster, "last"), "checkpoint")["last"] is (live_pods != "recreate")
