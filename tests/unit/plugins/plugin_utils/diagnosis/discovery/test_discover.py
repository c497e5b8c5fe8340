# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters that other tools set up: which values are found, what becomes a remark, and what no inventory can keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.weft.podnet.plugins.module_utils.core import vtep
from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis.discovery import discover
from ansible_collections.weft.podnet.plugins.plugin_utils.plan import draft
from support import kept_cluster

Json = dict[str, Any]
ADDRESSES = {"w0": "172.16.0.3", "w1": "172.16.0.4", "w2": "172.16.0.5"}
SUBNETS = {name: [f"10.244.{place}.0/24"] for place, name in enumerate(ADDRESSES)}


def world(backend: str, **variables: Any) -> Json:
    """What site.yml leaves on three workers, to be changed."""
    hosts = {name: {"ansible_host": ip, "podnet_backend": backend, **variables} for name, ip in ADDRESSES.items()}
    planned = kept_cluster.plan(hosts, SUBNETS)
    if backend == "flannel":
        planned["nodes"] = [{**node, "pod_subnets": SUBNETS[node["name"]]} for node in planned["nodes"]]
    return {name: kept_cluster.observed(planned, name) for name in hosts}


def by_hand(seen: Json) -> Json:
    """The same cluster without a mark of the collection's."""
    for host in seen.values():
        for route in host["routes"]:
            route["owner"] = "boot" if route["owner"] == "weft.podnet" else route["owner"]
        for link in host["links"]:
            link.pop("ours", None)
        for file in host["cni"]["files"]:
            file.update(ours=False, name=file["name"].replace("10-bridge", "10-mine"))
            file["network"] = "mine" if "bridge" in file["types"] else file["network"]
        host["cni"]["loaded"] = host["cni"]["loaded"].replace("10-bridge", "10-mine")
        host["masquerade"] = []
        host["flannel"]["unit"]["ours"] = False
    return seen


def found(seen: Json, **unobserved: str) -> tuple[Json, Json, list[str]]:
    """(variables of the group, those of single workers, remarks)."""
    made, problems = written(seen, **unobserved)
    assert not problems and made is not None, problems
    workers = yaml.safe_load(made.inventory)["workers"]
    own = {
        name: {key: each for key, each in (host or {}).items() if key != "ansible_host"}
        for name, host in workers["hosts"].items()
    }
    return workers["vars"], {name: each for name, each in own.items() if each}, made.remarks


def written(seen: Json, **unobserved: str) -> tuple[draft.Draft | None, list[str]]:
    result = discover.discover(seen, unobserved, [*ADDRESSES], ADDRESSES)
    if result.problems:
        return None, result.problems
    connection = {name: {"ansible_host": ip} for name, ip in ADDRESSES.items()}
    layout = draft.Layout([("workers", [*ADDRESSES])], connection, {})
    return draft.make(layout, result.values, result.subnets, result.remarks, Path("/adopted")), []


def has(remarks: list[str], *words: str) -> bool:
    return any(all(word in line for word in words) for line in remarks)


def test_routes_by_hand() -> None:
    """As a lesson has them: the bridge plugin with ipMasq, and a route to each other node; one is missing."""
    seen = by_hand(world("routes"))
    for host in seen.values():
        host["cni"]["files"][0]["ip_masq"] = True
    seen["w2"]["routes"] = [route for route in seen["w2"]["routes"] if route["dst"] != "10.244.0.0/24"]
    common, own, remarks = found(seen)
    assert common == {"podnet_backend": "routes", "podnet_pod_cidr": "10.244.0.0/22"} and not own
    assert has(remarks, "no host shows the cluster's", "10.244.0.0/22")
    assert has(remarks, "all workers: its routes to the other workers' pods are not the collection's")
    assert has(remarks, "all workers: 10-mine.conflist was not written", "network is bridge instead of mine")
    made, _problems = written(seen)
    assert made is not None and made.lock.pod_subnets() == SUBNETS
    assert not any(worker.get("new") for worker in made.lock.workers().values())
    # kube-proxy knows the cluster's network, and a rule may.
    seen["w1"]["kube_proxy"] = {"running": True, "cluster_cidrs": ["10.244.0.0/16"]}
    common, _own, remarks = found(seen)
    assert common["podnet_pod_cidr"] == "10.244.0.0/16" and not has(remarks, "podnet_pod_cidr")
    rule = "-A POSTROUTING -s 10.244.0.0/16 ! -d 10.240.0.0/12 -j MASQUERADE"
    seen["w1"]["kube_proxy"] = {}
    seen["w1"]["masquerade"] = [{"place": "iptables (nft): nat, chain POSTROUTING", "owner": "other", "rules": [rule]}]
    assert found(seen)[0]["podnet_pod_cidr"] == "10.240.0.0/12"


def test_no_translation_is_told_only_where_filters_were_read() -> None:
    seen = by_hand(world("routes"))
    assert found(seen)[0]["podnet_masquerade"] is False
    for host in seen.values():
        host["problems"] = ["packet filters: can't be read"]
    common, _own, remarks = found(seen)
    assert "podnet_masquerade" not in common and has(remarks, "podnet_masquerade: its packet filters could not be read")


def test_a_mesh_by_hand() -> None:
    seen = by_hand(world("vxlan", podnet_vxlan_vni=100, podnet_vxlan_port=4789))
    for host in seen.values():
        for entry in [*host["links"], *host["fdb"], *host["neighbours"]]:
            if entry.get("name", entry.get("dev")) == "flannel.100":
                entry.update({"dev" if "dev" in entry else "name": "vx0"})
        for route in host["routes"]:
            route["dev"] = "vx0" if route["dev"] == "flannel.100" else route["dev"]
    link = next(link for link in seen["w1"]["links"] if link["name"] == "vx0")
    link.update(mac="02:00:00:00:00:77", learning=True)
    common, own, remarks = found(seen)
    assert (common["podnet_backend"], common["podnet_vxlan_vni"], common["podnet_vxlan_port"]) == ("vxlan", 100, 4789)
    assert own == {"w1": {"podnet_vtep_mac": "02:00:00:00:00:77"}}
    assert has(remarks, "device is vx0", "flannel.100") and has(remarks, "w1: vx0 learns peers")
    link.update(vni=101, mac=vtep.vtep_mac("w1", 101))
    common, _own, remarks = found(seen)
    assert "podnet_vxlan_vni" not in common
    assert has(remarks, "podnet_vxlan_vni: the workers differ", "100 on w0, w2; 101 on w1", "choose one")


def test_addresses_by_which_the_others_reach_a_worker() -> None:
    seen = by_hand(world("routes"))
    # ansible_host is on a network for administration.
    seen["w1"]["addresses"].append({"dev": "eth1", "address": "192.0.2.9/24", "scope": "global"})
    for name in ("w0", "w2"):
        for route in seen[name]["routes"]:
            route["via"] = "192.0.2.9" if route["via"] == "172.16.0.4" else route["via"]
    assert found(seen)[1] == {"w1": {"podnet_node_ip": "192.0.2.9"}}
    # The other workers disagree, or send to an address that no worker has.
    seen["w2"]["routes"][-1]["via"] = "172.16.0.4"
    assert has(found(seen)[2], "w1: podnet_node_ip: others reach it by 172.16.0.4, 192.0.2.9")
    seen["w2"]["routes"][-1]["via"] = "172.16.0.77"
    assert has(found(seen)[2], "w1: w2 sends packets for its pods to 172.16.0.77, which is no address of it")
    seen["w2"]["routes"][-1]["via"] = "172.16.0.3"
    assert has(found(seen)[2], "w1: w2 sends packets for its pods to another worker")


def test_a_worker_without_cni() -> None:
    """Its subnet is what the others send to it, where they agree."""
    seen = world("vxlan")
    seen["w1"]["cni"] |= {"files": [], "loaded": ""}
    made, _problems = written(seen)
    assert made is not None and made.lock.pod_subnets() == SUBNETS
    assert has(made.remarks, "w1: it has no CNI configuration; the other workers send 10.244.1.0/24 to it")
    for name in ("w0", "w2"):
        seen[name]["routes"] = [route for route in seen[name]["routes"] if route["dst"] != "10.244.1.0/24"]
    made, _problems = written(seen)
    assert made is not None and "w1" not in made.lock.pod_subnets()
    assert has(made.remarks, "w1: its pod subnet cannot be found", "would allot it a free one")


def test_routes_to_strangers() -> None:
    seen = world("routes")
    seen["w0"]["routes"].append({**seen["w0"]["routes"][-1], "dst": "10.244.9.0/24", "via": "172.16.0.9"})
    assert has(found(seen)[2], "w0: the route 10.244.9.0/24 via 172.16.0.9 dev eth0", "no worker of this inventory")


def test_a_daemon_set() -> None:
    seen = by_hand(
        world("flannel", podnet_flannel_backend={"Type": "vxlan", "Port": 4789}, podnet_api_server="https://a:6443")
    )
    for host in seen.values():
        host["flannel"]["unit"] = {"exists": False, "active": ""}
        host["flannel"]["processes"] = [{"pid": 7, "arguments": ["--ip-masq", "--kube-subnet-mgr"], "version": ""}]
        host["flannel"]["net_conf"]["Backend"] = {"type": "vxlan", "port": 4789, "Vnid": 3}
        host["kubeconfig"] = {"path": ""}
    common, own, remarks = found(seen)
    assert common == {
        "podnet_backend": "flannel", "podnet_pod_cidr": "10.244.0.0/16", "podnet_api_server": "https://a:6443",
        "podnet_flannel_backend": {"Type": "vxlan", "Port": 4789},
    } and not own  # fmt: skip
    assert has(remarks, "all workers: its flanneld has no unit", "delete the DaemonSet")
    assert has(remarks, "podnet_flannel_backend: flanneld ignores Vnid") and has(remarks, "podnet_flannel_version")
    assert has(remarks, "10-flannel.conflist was not written")


def test_flanneld_of_a_unit_by_hand() -> None:
    seen = by_hand(world("flannel", podnet_masquerade=False))
    words = ["--kube-subnet-mgr", "--iface=eth1", "-healthz-port", "8080", "--public-ip=203.0.113.7"]
    for host in seen.values():
        host["flannel"]["processes"][0].update(version="v0.26.1", arguments=words)
        host["flannel"]["net_conf"] |= {"EnableNFTables": True, "Backend": {"Type": "wireguard", "PSK": "***"}}
    common, _own, remarks = found(seen)
    assert common["podnet_flannel_adopt"] is True and common["podnet_flannel_version"] == "v0.26.1"
    assert common["podnet_masquerade"] is False and common["podnet_flannel_iface"] == "eth1"
    assert common["podnet_flannel_nftables"] == "enabled" and common["podnet_flannel_backend"] == {"Type": "wireguard"}
    assert has(remarks, "PSK is not read") and has(remarks, "no variable sets: --healthz-port")
    assert has(remarks, "--public-ip 203.0.113.7 is no address of it") and has(remarks, "takes it over")


def test_k3s() -> None:
    seen = by_hand(world("flannel"))
    for host in seen.values():
        host["flannel"] |= {"unit": {"exists": False}, "processes": []}
        host["services"] = [{"name": "k3s", "running": True}]
        host["cni"] |= {
            "conf_dir": "/var/lib/rancher/k3s/agent/etc/cni/net.d",
            "bin_dir": "/var/lib/rancher/k3s/data/cni",
        }
        host["runtime"]["socket"] = "/run/k3s/containerd/containerd.sock"
        host["kubelet"] = {"running": False}
    common, _own, remarks = found(seen)
    assert common["podnet_cni_conf_dir"] == "/var/lib/rancher/k3s/agent/etc/cni/net.d"
    assert common["podnet_verify_containerd_socket"] == "/run/k3s/containerd/containerd.sock"
    assert has(remarks, "part of k3s", "--flannel-backend=none")


@pytest.mark.parametrize(
    ("device", "backend"),
    [
        ({"name": "flannel.7", "kind": "vxlan", "vni": 7, "port": 8472}, {"Type": "vxlan", "VNI": 7, "Port": 8472}),
        ({"name": "flannel-wg", "kind": "wireguard"}, {"Type": "wireguard"}),
        ({"name": "flannel.ipip", "kind": "ipip"}, {"Type": "ipip"}),
    ],
)
def test_flannel_without_settings_by_its_device(device: Json, backend: Json) -> None:
    seen = world("flannel")
    for host in seen.values():
        host["flannel"]["net_conf"] = {}
        host["flannel"]["subnet_env"]["FLANNEL_NETWORK"] = "10.244.0.0/16"
        host["links"].append({"mac": "", "mtu": 1450, "up": True, **device})
    common, _own, remarks = found(seen)
    assert common["podnet_flannel_backend"] == backend and has(remarks, f"inferred from the device {device['name']}")


def test_what_no_inventory_keeps() -> None:
    seen = world("routes")
    seen["w1"]["cni"]["files"][0].update(types=["calico"], name="10-calico.conflist")
    seen["w1"]["cni"]["loaded"] = "10-calico.conflist"
    del seen["w2"]
    _made, problems = written(seen, w2="ssh: connection refused")
    assert len(problems) == 2 and "w2: ssh: connection refused" in problems[0] and "calico" in problems[1]
    mixed = {**world("vxlan"), "w1": world("flannel")["w1"]}
    _made, problems = written(mixed)
    assert len(problems) == 1 and "vxlan on w0, w2; flannel on w1" in problems[0]
    etcd = world("flannel")
    etcd["w0"]["flannel"]["processes"][0]["arguments"] = ["--etcd-endpoints=https://e:2379", "--ip-masq"]
    _made, problems = written(etcd)
    assert len(problems) == 1 and "etcd" in problems[0]
    empty = {name: {"cni": {"files": [], "loaded": ""}, "routes": [], "links": []} for name in ADDRESSES}
    _made, problems = written(empty)
    assert len(problems) == 1 and "no worker shows one" in problems[0]
    assert written({name: {} for name in ADDRESSES})[1]


def test_other_ways_to_other_workers() -> None:
    """A tunnel that no backend makes; and routes of a site or a VPN, which are no way to pods."""
    seen = by_hand(world("routes"))
    for host in seen.values():
        host["links"].append({"name": "wg0", "kind": "wireguard", "up": True, "mtu": 1420})
        for route in host["routes"]:
            route.update({"dev": "wg0", "via": ""} if route["dst"].startswith("10.244.") else {})
    _made, problems = written(seen)
    assert len(problems) == 1 and "w0, w1, w2: other workers' pods are reached by a tunnel" in problems[0], problems
    for way in ({"dev": "wg0", "via": ""}, {"dev": "eth0", "via": "172.16.0.1"}):
        for host in seen.values():
            host["routes"] = [route for route in host["routes"] if not route["dst"].startswith("10.")]
            host["routes"].append({"dst": "10.0.0.0/8", "table": "main", "type": "unicast", "owner": "static", **way})
        common, _own, remarks = found(seen)
        assert common["podnet_backend"] == "bridge" and has(remarks, "no worker has a route to another's pods")
        assert has(remarks, "all workers: no route to another worker's pods leads into wg0")


def test_what_site_refuses_is_said() -> None:
    seen = world("routes")
    seen["w1"]["cni"]["files"][0]["subnets"] = ["10.244.0.0/24"]
    assert has(found(seen)[2], "site.yml refuses this inventory: w0 and w1 overlap: pod subnet 10.244.0.0/24")


def test_nothing_from_a_host_is_a_template() -> None:
    """The written file is read by Ansible, on the controller."""
    seen = world("routes")
    evil = "{{ lookup('pipe', 'id') }}"
    file = seen["w1"]["cni"]["files"][0]
    file["chained"] = [{"type": "portmap"}, {"type": "tuning", "sysctl": {"a": evil}}]
    seen["w2"]["cni"] |= {"conf_dir": f"/{evil}", "bin_dir": "/opt/x\nall: {vars: {a: b}}"}
    seen["w0"]["cni"]["files"][0] |= {"bridge": evil, "ours": False, "name": "x\nworkers: {vars: {evil: true}}"}
    seen["w0"]["cni"]["loaded"] = seen["w0"]["cni"]["files"][0]["name"]
    seen["w0"]["kubelet"]["node_name"] = evil
    made, problems = written(seen)
    assert made is not None, problems
    content = yaml.safe_load(made.inventory)
    assert set(content) == {"workers"} and content["workers"]["vars"].keys() == {"podnet_backend", "podnet_pod_cidr"}
    body = "\n".join(line for line in made.inventory.splitlines() if not line.startswith("#"))
    assert "{{" not in body and "{%" not in body and "evil" not in body
    assert has(made.remarks, "podnet_cni_chained_plugins", "take for a template")
    assert has(made.remarks, "podnet_cni_bin_dir") and has(made.remarks, "podnet_node_name")


@pytest.mark.parametrize("value", [None, 3, "x", [], {}, [{}], {"a": None}, [None, 3, "x"]])
def test_observations_of_any_shape(value: Any) -> None:
    """A host may answer anything: that gives a value or a remark, never a traceback."""
    for key in ("links", "addresses", "routes", "cni", "flannel", "masquerade", "kubelet", "kube_proxy", "fdb"):
        for backend in ("routes", "vxlan", "flannel"):
            seen = world(backend)
            seen["w1"][key] = value
            written(seen)
