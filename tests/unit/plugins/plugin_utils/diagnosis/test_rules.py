# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every rule finds what it is for, and nothing else finds it too: healthy clusters, each broken in one way."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.core import vtep
from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis import findings
from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis.rules import CONCERNS, RULES
from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis.table import SEVERITIES
from support.observations import BACKENDS, World, device, drops, first, mac, subnet, underlay

IDS = [rule.id for rule in RULES]


class Break(NamedTuple):
    """``rule`` is expected on ``host`` alone (None: on all hosts), with ``fix`` where it is given. ``repaired``: a run
    of site.yml repairs it, though not everything that the rule is about.
    """

    rule: str
    world: World
    change: Callable[[World], None]
    host: str | None
    fix: str | None
    name: str
    repaired: bool


BREAKS: list[Break] = []


def breaks(
    rule: str,
    backend: str = "routes",
    families: tuple[int, ...] = (4,),
    planned: bool = True,
    host: str | None = "worker-2",
    fix: str | None = None,
    repaired: bool = False,
) -> Callable[[Callable[[World], None]], Callable[[World], None]]:
    def enter(change: Callable[[World], None]) -> Callable[[World], None]:
        name = f"{rule}, {change.__name__.strip('_') or backend}"
        BREAKS.append(Break(rule, World(backend, families, planned), change, host, fix, name, repaired))
        return change

    return enter


def found(world: World) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = findings.diagnose(**world.given())["findings"]
    return result


def without(entries: list[Any], **wanted: Any) -> None:
    """Take the entries with these values out of a list; there must be one."""
    gone = [each for each in entries if all(each.get(key) == value for key, value in wanted.items())]
    assert gone
    for each in gone:
        entries.remove(each)


def entry(entries: list[Any], **wanted: Any) -> Any:
    (only,) = [each for each in entries if all(each.get(key) == value for key, value in wanted.items())]
    return only


# Healthy


@pytest.mark.parametrize("families", [(4,), (6,), (4, 6)], ids=str)
@pytest.mark.parametrize("planned", [True, False])
@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_is_wrong_with_a_healthy_cluster(backend: str, planned: bool, families: tuple[int, ...]) -> None:
    result = findings.diagnose(**World(backend, families, planned).given())
    if backend == "bridge" and not planned:
        # Nothing says that pods of different nodes are not to reach each other, which is what the lesson starts with.
        assert {each["rule"] for each in result["findings"]} == {
            "no-route-to-pods",
            "hairpin-off",
            "host-ports-ignored",
        }
        return
    assert result["findings"] == [] and result["ok"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_control_plane_without_pods_is_no_finding(backend: str) -> None:
    world = World(backend)
    idle = {"links": [], "routes": [], "cni": {"files": [], "loaded": "", "conf_dir": "/etc/cni/net.d"}}
    world.hosts["control-plane"] = {
        **idle,
        "sysctls": {"net.ipv4.ip_forward": {"now": "0"}},
        "kubelet": {"running": True},
    }
    world.workers = ["worker-1", "worker-2", "worker-3"]
    assert found(world) == []


def test_one_worker_alone_is_healthy() -> None:
    for backend in BACKENDS:
        world = World(backend, planned=False)
        world.hosts = {"worker-1": world[1]}
        world[1]["routes"] = [each for each in world[1]["routes"] if each["owner"] not in ("weft.podnet", "boot")]
        world[1].update(fdb=[], neighbours=[], ways={})
        world.api = {name: each for name, each in world.api.items() if name == "worker-1"}
        assert {each["rule"] for each in found(world)} <= {"hairpin-off", "host-ports-ignored"}


def test_direct_routing_needs_no_entries() -> None:
    world = World("vxlan")
    for number in (1, 2, 3):
        own = world[number]
        own["routes"] = [each for each in own["routes"] if each["dev"] != "flannel.1"]
        own["neighbours"], own["fdb"] = [], []
        for other in {0, 1, 2} - {number - 1}:
            own["routes"].append({"dst": subnet(other), "via": underlay(other), "dev": "eth0", "owner": "weft.podnet"})
    assert found(world) == []


def test_networks_of_other_programs_are_no_finding() -> None:
    """Podman's containers have the same addresses on every host."""
    world = World("vxlan")
    for number in (1, 2, 3):
        cni = world[number]["cni"]
        cni["networks"].append(
            {"name": "podman", "directory": "/var/lib/cni/networks/podman", "leases": 1, "capacity": 253}
        )
        pod = {"address": "10.88.0.2", "netns": "/run/netns/x", "dev": "eth0", "host_dev": "veth9999aaaa", "mtu": 1500}
        cni["pods"].append({**pod, "default_route": False})
        world[number]["links"].append({"name": "veth9999aaaa", "kind": "veth", "master": "cni-podman0", "mtu": 1500})
        world[number]["links"].append({"name": "cni-podman0", "kind": "bridge", "mtu": 1500, "up": True})
        world[number]["addresses"].append({"dev": "cni-podman0", "address": "10.88.0.1/16", "scope": "global"})
    assert found(world) == []


def test_settings_that_are_the_default_do_not_differ() -> None:
    world = World("flannel")
    world[2]["flannel"]["net_conf"]["Backend"] = {"type": "vxlan", "VNI": 1, "Port": 8472, "MTU": 1450}
    assert found(world) == []


def test_flannels_default_docker_and_old_kernels_of_distributions_are_healthy() -> None:
    world = World("flannel", planned=False)
    for number in (1, 2, 3):
        world[number]["kernel"] = "5.4.0-190-generic"
        world[number]["links"].append({"name": "docker0", "kind": "bridge", "mtu": 1500, "up": False})
        world[number]["addresses"].append({"dev": "docker0", "address": "172.17.0.1/16", "scope": "global"})
        rules = ["-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE"]
        world[number]["masquerade"].append(
            {"place": "iptables (nft): nat, chain POSTROUTING", "owner": "docker", "rules": rules}
        )
        entry(world[number]["links"], name="flannel.1")["tx_checksum"] = False
    assert found(world) == []


@pytest.mark.parametrize(
    "rules",
    [
        ["-d 10.244.0.0/16 -j RETURN", "-o eth0 -j MASQUERADE"],
        ["-s 10.244.0.0/16 ! -d 10.244.0.0/16 -j MASQUERADE"],
        ["-s 10.200.0.0/16 -j MASQUERADE"],
        ["-o eth1 -j MASQUERADE"],
        ["-o eth0 -m mark --mark 0x1/0x1 -j MASQUERADE"],
        ["-s 10.244.1.0/24 -d 10.244.0.0/16 -m mark ! --mark 0x4000/0x4000 -j ACCEPT", "-o eth0 -j MASQUERADE"],
        ['ip saddr 10.244.0.0/16 ip daddr != 10.244.0.0/16 oifname "eth0" masquerade'],
        ["ip saddr @pods masquerade"],
    ],
)
def test_a_rule_that_spares_pods_or_is_not_understood_is_no_finding(rules: list[str]) -> None:
    world = World("routes")
    world[2]["masquerade"].append({"place": "iptables (nft): nat, chain POSTROUTING", "owner": "other", "rules": rules})
    assert found(world) == []


def test_a_chain_that_accepts_pods_before_it_rejects_is_healthy() -> None:
    world = World("routes")
    world[2]["forward"][0].update(policy="drop", accepts=["10.244.0.0/16"], rejects_before="-j REJECT")
    world[3]["forward"].append({"place": "nftables: table inet firewalld, chain filter_FORWARD", "owner": "firewalld"})
    world[3]["forward"][-1].update(policy="accept", accepts=[], rejects_before="reject with icmpx admin-prohibited")
    assert found(world) == []


def test_a_rule_that_drops_others_or_comes_behind_one_that_accepts_is_healthy() -> None:
    world = World("routes")
    world[1]["forward"][0].update(drops=drops("-s 10.244.0.0/16 -d 192.0.2.0/24 -j DROP", "-i eth9 -j DROP"))
    after = ("-s 10.244.0.0/16 -j ACCEPT", "-d 10.244.0.0/16 -j ACCEPT")
    world[2]["forward"][0]["drops"] = drops("-s 10.0.0.0/8 -j DROP", "-o eth0 -p tcp -j REJECT", after=after)
    assert found(world) == []
    for rule in (
        "-s 10.244.0.0/16 -d 10.244.0.0/16 -j ACCEPT",
        "-i cni0 -o eth0 -j ACCEPT",
        "-m set --match-set x src -j ACCEPT",
    ):
        world[2]["forward"][0]["drops"] = drops("-i cni0 -d 10.244.0.0/16 -j DROP", after=(rule,))
        assert found(world) == [], rule
    for rule in ("-s 10.9.0.0/16 -j ACCEPT", "-i cni0 -o eth1 -j ACCEPT", "-i cni0 -p tcp -m tcp --dport 80 -j ACCEPT"):
        world[2]["forward"][0]["drops"] = drops("-i cni0 -j DROP", after=(rule,))
        assert {each["rule"] for each in found(world)} == {"forward-drops-pods"}, rule


def test_rules_of_other_programs_are_no_finding() -> None:
    """firewalld's zones, redirects of ICMP, what ends a list of open ports, and links without hardware addresses."""
    world = World("routes")
    place = "nftables: table inet firewalld, chain filter_FORWARD"
    zones = {"place": place, "hook": "forward", "owner": "firewalld", "policy": "accept"}
    world[1]["forward"].append({**zones, "drops": drops('iifname "eth0" goto filter_FWD_public')})
    world[1]["host_filters"] = [{"place": place, "hook": "input", "drops": drops("ip saddr 10.0.0.0/8 drop")}]
    world[2]["forward"][0]["drops"] = drops("-p icmp -m icmp --icmp-type 5 -j DROP")
    world[2]["host_filters"] = [
        {"place": "iptables (nft): filter, chain INPUT", "hook": "input", "drops": drops("-i eth0 -j DROP")}
    ]
    world[3]["addresses"].append({"dev": "lo", "address": "172.16.0.100/32", "scope": "global"})
    world[1]["addresses"].append({"dev": "eth0", "address": "172.16.0.100/32", "scope": "global"})
    world[3]["neighbours"].append(
        {"dst": underlay(0), "dev": "eth0", "mac": ":".join(["00"] * 20), "state": "permanent"}
    )
    world[3]["frame_filters"] = [{"place": BRIDGES, "hook": "forward", "everything": "drop", "drops": []}]
    without(world[3]["links"], name="cni0")
    assert {each["rule"] for each in found(world)} <= {"bridge-missing", "own-pods-led-away", "pods-detached"}


def test_a_node_that_never_had_a_pod_need_not_forward() -> None:
    """The bridge plugin turns it on."""
    world = World("routes", planned=False)
    without(world[2]["links"], name="cni0")
    without(world[2]["addresses"], dev="cni0")
    without(world[2]["routes"], dev="cni0")
    world[2]["cni"]["pods"] = []
    world[2]["sysctls"]["net.ipv4.ip_forward"]["now"] = "0"
    assert found(world) == []


def test_a_node_beside_the_workers_is_not_gone() -> None:
    """A Node that a flanneld runs is a peer of the mesh, and no worker of the inventory."""
    world = World("vxlan")
    for number in (1, 2, 3):
        route = {"dst": "10.244.77.0/24", "via": "10.244.77.0", "dev": "flannel.1", "owner": "weft.podnet"}
        world[number]["routes"].append(route)
    assert {each["rule"] for each in found(world)} == {"mesh-peer-gone"}
    world.plan["peers"] = [{"name": "theirs", "pod_cidr": "10.244.77.0/24", "public_ip": "172.16.0.9"}]
    assert found(world) == []


def test_k3s_has_its_flannel_within() -> None:
    world = World("flannel", planned=False)
    for number in (1, 2, 3):
        world[number]["services"] = [{"name": "k3s", "running": True}]
        world[number]["flannel"].update(unit={"exists": False}, processes=[], net_conf={})
        world[number]["kernel_modules"]["br_netfilter"]["boot"] = ""
    assert found(world) == []


# Nodes compared


@breaks("not-observed")
def break_not_observed(world: World) -> None:
    del world.hosts["worker-2"]
    world.unobserved["worker-2"] = "Failed to connect to the host via ssh: Connection timed out"


@breaks("not-observed", planned=False)
def without_a_plan(world: World) -> None:
    del world.hosts["worker-2"]
    world.unobserved["worker-2"] = "Connection timed out\nand more"
    for number in (1, 3):
        entry(world[number]["neighbours"], dst=underlay(1))["state"] = "failed"


@breaks("pod-subnets-overlap", planned=False)
def break_pod_subnets_overlap(world: World) -> None:
    world[2]["cni"]["files"][0]["subnets"] = [subnet(0)]
    world[2]["cni"]["networks"][0]["addresses"] = world[1]["cni"]["networks"][0]["addresses"]
    world[2]["cni"]["pods"] = world[1]["cni"]["pods"]
    entry(world[2]["addresses"], dev="cni0")["address"] = f"{first(0, 4, 1)}/24"
    entry(world[2]["routes"], dev="cni0")["dst"] = subnet(0)
    without(world[2]["routes"], dst=subnet(0), dev="eth0")
    without(world[1]["routes"], dst=subnet(1))
    without(world[3]["routes"], dst=subnet(1))


@breaks("pod-subnets-overlap", "flannel")
def in_the_api(world: World) -> None:
    """The golden mistake of a restored or hand-written Node."""
    world.api["worker-2"]["pod_cidrs"] = [subnet(0)]
    world[2]["flannel"]["subnet_env"]["FLANNEL_SUBNET"] = f"{first(0, 4, 1)}/24"
    entry(world[2]["addresses"], dev="cni0")["address"] = f"{first(0, 4, 1)}/24"
    entry(world[2]["addresses"], dev="flannel.1")["address"] = f"{first(0)}/32"
    entry(world[2]["routes"], dev="cni0")["dst"] = subnet(0)
    without(world[2]["routes"], dst=subnet(0), dev="flannel.1")
    world[2]["cni"]["pods"] = []
    for number in (1, 3):
        without(world[number]["routes"], dst=subnet(1))


@breaks("machine-id-duplicate")
def break_machine_id_duplicate(world: World) -> None:
    world[2]["machine_id"] = world[1]["machine_id"]


@breaks("underlay-mac-duplicate")
def break_underlay_mac_duplicate(world: World) -> None:
    entry(world[2]["links"], name="eth0")["mac"] = "02:00:00:00:00:00"


@breaks("node-name-duplicate")
def break_node_name_duplicate(world: World) -> None:
    world[2]["kubelet"]["node_name"] = "worker-1"


@breaks("peer-unreachable")
def break_peer_unreachable(world: World) -> None:
    entry(world[2]["neighbours"], dst=underlay(0))["state"] = "failed"


@breaks("peer-unreachable")
def no_way_at_all(world: World) -> None:
    world[2]["ways"][underlay(0)] = {"error": "Network is unreachable"}


@breaks("clocks-apart")
def break_clocks_apart(world: World) -> None:
    world[2]["time"] -= 3600


@breaks("node-not-ready", "flannel")
def break_node_not_ready(world: World) -> None:
    world.api["worker-2"]["ready"] = {"status": "False", "reason": "KubeletNotReady", "message": "PLEG is not healthy"}


# CNI configuration


@breaks("runtime-down", fix="systemctl restart containerd")
def break_runtime_down(world: World) -> None:
    world[2]["runtime"].update(running=False, network_ready=False)


@breaks(
    "runtime-without-cri",
    fix="sed -i '/^ *disabled_plugins *=/s/=.*/= []/' /etc/containerd/config.toml && systemctl restart containerd",
)
def break_runtime_without_cri(world: World) -> None:
    world[2]["runtime"].update(config="/etc/containerd/config.toml", without_cri=True)


@breaks("cni-not-configured", "bridge")
def break_cni_not_configured(world: World) -> None:
    world[2]["cni"].update(files=[], loaded="", networks=[], pods=[])
    world[2]["runtime"].update(network_ready=False, message="cni plugin not initialized")
    without(world[2]["links"], name="cni0")


@breaks("cni-not-configured", "flannel")
def and_the_node_is_not_ready(world: World) -> None:
    world[2]["cni"].update(files=[], loaded="")
    world.api["worker-2"]["ready"] = {"status": "False", "message": "cni plugin not initialized"}


@breaks("cni-broken", "flannel", fix="mv /etc/cni/net.d/05-x.conf /etc/cni/net.d/05-x.conf.broken")
def break_cni_broken(world: World) -> None:
    world[2]["cni"]["files"].insert(0, {"name": "05-x.conf", "network": "", "types": [], "error": "line 1: no JSON"})
    world[2]["cni"].update(loaded="", broken="05-x.conf: line 1: no JSON")
    world[2]["runtime"]["network_ready"] = False


@breaks("cni-other-file-first", fix="mv /etc/cni/net.d/05-x.conf /etc/cni/net.d/05-x.conf.disabled")
def break_cni_other_file_first(world: World) -> None:
    foreign = {"name": "05-x.conf", "network": "x", "types": ["bridge"], "ours": False, "bridge": "br-x", "error": ""}
    world[2]["cni"]["files"].insert(0, {**foreign, "subnets": ["192.0.2.0/24"], "ip_masq": True, "hairpin": False})
    world[2]["cni"]["loaded"] = "05-x.conf"


@breaks("cni-other-file-first", "flannel", planned=False)
def the_bridge_files_under_flannel(world: World) -> None:
    left = {
        "name": "10-bridge.conf",
        "network": "bridge",
        "types": ["bridge"],
        "ours": False,
        "bridge": "cni0",
        "error": "",
    }
    world[2]["cni"]["files"].insert(0, {**left, "subnets": [subnet(1)], "ip_masq": True, "hairpin": False, "mtu": 0})
    world[2]["cni"]["loaded"] = "10-bridge.conf"


@breaks("cni-other-file-first")
def the_loopbacks_before_the_clusters(world: World) -> None:
    files = world[2]["cni"]["files"]
    files.insert(0, {**files[0], "name": "05-other.conf", "network": "other", "types": ["loopback"], "ours": False})
    world[2]["cni"]["loaded"] = "05-other.conf"


@breaks("cni-only-loopback")
def break_cni_only_loopback(world: World) -> None:
    del world[2]["cni"]["files"][0]
    world[2]["cni"]["loaded"] = "99-loopback.conf"


@breaks(
    "cni-plugin-missing",
    fix="apt-get install --yes containernetworking-plugins && ln -sf /usr/lib/cni/portmap /opt/cni/bin/portmap",
)
def break_cni_plugin_missing(world: World) -> None:
    world[2]["cni"]["plugins"]["portmap"].update(path="", executable=False)


@breaks("cni-plugin-missing", "flannel")
def flannels(world: World) -> None:
    world[2]["cni"]["plugins"]["flannel"].update(path="", executable=False)


@breaks("cni-plugin-missing", fix="chmod 755 /opt/cni/bin/bridge")
def not_executable(world: World) -> None:
    world[2]["cni"]["plugins"]["bridge"]["executable"] = False


@breaks("cni-plugin-fails")
def break_cni_plugin_fails(world: World) -> None:
    world[2]["cni"]["plugins"]["bridge"].update(versions=[], error="Exec format error")


@breaks("cni-version-unsupported")
def break_cni_version_unsupported(world: World) -> None:
    world[2]["cni"]["files"][0]["cni_version"] = "1.1.0"


@breaks("cni-version-unsupported")
def by_the_runtime(world: World) -> None:
    world[2]["cni"]["files"][0]["cni_version"] = "1.1.0"
    for plugin in world[2]["cni"]["plugins"].values():
        plugin["versions"].append("1.1.0")


@breaks("cni-folder-appended")
def break_cni_folder_appended(world: World) -> None:
    world[2]["cni"]["files"][0]["appended"] = ["/etc/cni/net.d/bridge/20-tuning.conf"]


@breaks("cni-other-folder")
def break_cni_other_folder(world: World) -> None:
    world[2]["runtime"].update(conf_dir="/var/lib/k3s/cni", network_ready=False)
    world[2]["cni"].update(files=[], loaded="", conf_dir="/var/lib/k3s/cni")
    world.plan["nodes"][1]["settings"]["podnet_cni_conf_dir"] = "/etc/cni/net.d"


@breaks("cni-not-loaded", "flannel")
def as_the_kubelet_says(world: World) -> None:
    world.api["worker-2"]["ready"] = {
        "status": "False",
        "message": "Network plugin returns error: cni plugin not initialized",
    }


@breaks("cni-masquerades-pods", "flannel")
def flanneld_without_ip_masq(world: World) -> None:
    world[2]["cni"]["files"][0]["ip_masq"] = True


@breaks("cni-not-loaded", fix="systemctl restart containerd")
def break_cni_not_loaded(world: World) -> None:
    world[2]["runtime"].update(network_ready=False, message="cni plugin not initialized")


@breaks("cni-subnet-wrong", fix=f"sed -i s#10.244.9.0/24#{subnet(1)}#g /etc/cni/net.d/10-bridge.conflist")
def break_cni_subnet_wrong(world: World) -> None:
    world[2]["cni"]["files"][0]["subnets"] = ["10.244.9.0/24"]
    world[2]["cni"]["pods"][0]["address"] = "10.244.9.5"


@breaks("cni-subnet-wrong")
def of_another_worker(world: World) -> None:
    world[2]["cni"]["files"][0]["subnets"] = [subnet(0)]


@breaks("cni-no-default-route")
def break_cni_no_default_route(world: World) -> None:
    world[2]["cni"]["files"][0]["default_route"] = False
    world[2]["cni"]["pods"][0]["default_route"] = False


@breaks("cni-no-default-route", "flannel")
def of_a_pod(world: World) -> None:
    world[2]["cni"]["pods"][0]["default_route"] = False


@breaks(
    "cni-no-default-route",
    "vxlan",
    (4, 6),
    fix="for ns in /run/netns/cni-10.244.1.5; do nsenter --net=$ns ip -6 route replace default via "
    f"{first(1, 6, 1)}; done",
)
def of_pods_ipv6_alone(world: World) -> None:
    pod = world[2]["cni"]["pods"][0]
    world[2]["cni"]["pods"].append({**pod, "address": first(1, 6, 5), "default_route": False})


def test_a_pod_with_a_default_route_by_another_link_has_one() -> None:
    world = World("vxlan")
    del world[2]["cni"]["pods"][0]["default_route"]
    assert found(world) == []


@breaks("cni-masquerades-pods")
def break_cni_masquerades_pods(world: World) -> None:
    world[2]["cni"]["files"][0]["ip_masq"] = True


@breaks(
    "cni-masquerades-pods",
    planned=False,
    fix='sed -i \'s/"ipMasq": *true/"ipMasq": false/\' /etc/cni/net.d/10-bridge.conflist',
)
def without_a_plan_but_with_routes(world: World) -> None:
    world[2]["cni"]["files"][0]["ip_masq"] = True


@breaks("hairpin-off")
def break_hairpin_off(world: World) -> None:
    world[2]["cni"]["files"][0]["hairpin"] = False


@breaks("hairpin-off", "vxlan", fix="for port in veth0123abcd; do bridge link set dev $port hairpin on; done")
def of_a_port(world: World) -> None:
    entry(world[2]["links"], name="veth0123abcd")["hairpin"] = False


@breaks("host-ports-ignored")
def break_host_ports_ignored(world: World) -> None:
    world[2]["cni"]["files"][0]["types"] = ["bridge"]


# Kernel settings


@breaks(
    "forwarding-off",
    fix="echo net.ipv4.ip_forward=1 >> /etc/sysctl.d/zzz-pod-network.conf && sysctl -w net.ipv4.ip_forward=1",
)
def break_forwarding_off(world: World) -> None:
    world[2]["sysctls"]["net.ipv4.ip_forward"]["now"] = "0"


@breaks("forwarding-off", "flannel", (4, 6))
def ipv6_by_a_file(world: World) -> None:
    world[2]["sysctls"]["net.ipv6.conf.all.forwarding"] = {"now": "0", "boot": "0", "file": "/etc/sysctl.conf"}


def disabling(link: str) -> str:
    key = f"net.ipv6.conf.{link}.disable_ipv6=0"
    return f"echo {key} >> /etc/sysctl.d/zzz-pod-network.conf && sysctl -w {key}"


@breaks("default-ttl-small")
def break_default_ttl_small(world: World) -> None:
    world[2]["sysctls"]["net.ipv4.ip_default_ttl"] = {"now": "1", "boot": "", "file": ""}


@breaks(
    "default-ttl-small",
    families=(6,),
    fix="echo net.ipv6.conf.eth0.hop_limit=64 >> /etc/sysctl.d/zzz-pod-network.conf && "
    "sysctl -w net.ipv6.conf.eth0.hop_limit=64",
)
def of_the_hop_limit(world: World) -> None:
    world[2]["sysctls"]["net.ipv6.conf.eth0.hop_limit"] = {"now": "1", "boot": "", "file": ""}
    world[2]["sysctls"]["net.ipv4.ip_default_ttl"] = {"now": "1", "boot": "", "file": ""}


@breaks("forwarding-off-at-boot")
def break_forwarding_off_at_boot(world: World) -> None:
    hardening = {"now": "1", "boot": "0", "file": "/etc/sysctl.d/zz-hardening.conf"}
    world[2]["sysctls"]["net.ipv4.ip_forward"] = hardening


@breaks(
    "forwarding-off-at-boot",
    families=(6,),
    fix="mkdir -p /etc/systemd/networkd.conf.d && printf '[Network]\\nIPv6Forwarding=yes\\n' >> "
    "/etc/systemd/networkd.conf.d/zzz-pod-network.conf",
)
def by_networkd(world: World) -> None:
    of_networkd = {"now": "1", "boot": "0", "file": "/usr/lib/systemd/networkd.conf.d/10-host.conf"}
    world[2]["sysctls"]["net.ipv6.conf.all.forwarding"] = of_networkd


@breaks(
    "forwarding-off-at-boot",
    fix="mkdir -p '/etc/systemd/network/10-my eth0.network.d' && printf '[Network]\\nIPv4Forwarding=yes\\n' >> "
    "'/etc/systemd/network/10-my eth0.network.d'/zzz-pod-network.conf",
)
def by_networkd_on_a_device(world: World) -> None:
    of_networkd = {"now": "1", "boot": "0", "file": "/run/systemd/network/10-my eth0.network"}
    world[2]["sysctls"]["net.ipv4.conf.eth0.forwarding"] = of_networkd


@breaks(
    "forwarding-off",
    fix="mkdir -p /etc/systemd/network/10-eth0.network.d && printf '[Network]\\nIPv4Forwarding=yes\\n' >> "
    "/etc/systemd/network/10-eth0.network.d/zzz-pod-network.conf && sysctl -w net.ipv4.conf.eth0.forwarding=1",
)
def networkd_has_restarted(world: World) -> None:
    of_networkd = {"now": "0", "boot": "0", "file": "/etc/systemd/network/10-eth0.network.d/hardening.conf"}
    world[2]["sysctls"]["net.ipv4.conf.eth0.forwarding"] = of_networkd


@breaks("forwarding-off", "vxlan")
def break_forwarding_off_on_a_device(world: World) -> None:
    world[2]["sysctls"]["net.ipv4.conf.flannel/1.forwarding"] = {"now": "0", "boot": "", "file": ""}


ASKED = "for port in veth0123abcd; do bridge link set dev $port bcast_flood on mcast_flood on; done"


ASKS = "echo {0}=3 >> /etc/sysctl.d/zzz-pod-network.conf"
NEVER = {"now": "0", "boot": "", "file": ""}


@breaks("neighbours-not-asked", fix=f"{ASKS} && sysctl -w {{0}}=3".format("net.ipv4.neigh.cni0.mcast_solicit"))
def break_neighbours_not_asked(world: World) -> None:
    world[2]["sysctls"]["net.ipv4.neigh.cni0.mcast_solicit"] = NEVER


@breaks("neighbours-not-asked")
def on_the_underlay(world: World) -> None:
    world[2]["sysctls"]["net.ipv4.neigh.eth0.mcast_solicit"] = NEVER
    entry(world[2]["neighbours"], dst=underlay(0)).update(state="failed", mac="")


@breaks("neighbours-not-asked", families=(6,))
def on_new_links(world: World) -> None:
    world[2]["sysctls"]["net.ipv6.neigh.default.mcast_solicit"] = NEVER


@breaks("neighbours-not-asked", fix=ASKS.format("net.ipv4.neigh.eth0.mcast_solicit"))
def after_the_next_boot(world: World) -> None:
    world[2]["sysctls"]["net.ipv4.neigh.eth0.mcast_solicit"] = {"now": "3", "boot": "0", "file": "/etc/sysctl.d/z.conf"}


def test_a_program_that_resolves_neighbours_is_no_finding() -> None:
    world = World("routes", (4, 6))
    for name in ("cni0", "eth0"):
        for version in (4, 6):
            world[2]["sysctls"][f"net.ipv{version}.neigh.{name}.mcast_solicit"] = NEVER
            world[2]["sysctls"][f"net.ipv{version}.neigh.{name}.app_solicit"] = {"now": "1", "boot": "", "file": ""}
    # Of a family that the cluster does not have, and of other links.
    world[1]["sysctls"]["net.ipv4.neigh.eth7.mcast_solicit"] = NEVER
    assert found(world) == []
    world = World("routes")
    world[2]["sysctls"]["net.ipv6.neigh.cni0.mcast_solicit"] = NEVER
    assert found(world) == []


def with_mac(world: World, mac: str, *numbers: int) -> None:
    for number in numbers:
        world[2]["cni"]["pods"][number]["mac"] = mac


NEW_MAC = (
    "nsenter --net=/run/netns/cni-{0} ip link set eth0 address 0a:58:0a:f4:01:{1:02x} && ip neighbour flush dev cni0"
)


@breaks("pod-mac-duplicate", fix=NEW_MAC.format(first(1, 4, 6), 6))
def break_pod_mac_duplicate(world: World) -> None:
    with_mac(world, "02:00:00:00:00:0a", 0, 1)


@breaks("pod-mac-duplicate", fix=NEW_MAC.format(first(1, 4, 5), 5))
def with_the_bridge(world: World) -> None:
    with_mac(world, "02:00:00:00:01:01", 0)


@breaks("pod-mac-duplicate", fix=NEW_MAC.format(first(1, 4, 6), 6).replace("0a:58:", "0e:58:"))
def with_the_mac_that_is_made_of_its_address(world: World) -> None:
    with_mac(world, "0a:58:0a:f4:01:06", 0, 1)


def test_a_mac_on_another_bridge_or_of_one_pod_with_two_addresses_is_no_finding() -> None:
    world = World("routes")
    with_mac(world, "02:00:00:00:00:0a", 0)
    pods = world[2]["cni"]["pods"]
    pods.append({**pods[0], "address": first(1, 4, 9)})
    assert found(world) == []


@breaks("bridge-entry-wrong", fix="bridge fdb del 02:00:00:00:01:05 dev veth4567abcd master")
def break_bridge_entry_wrong(world: World) -> None:
    astray = {"fdb_mac": "02:00:00:00:01:05", "fdb_dev": "veth4567abcd", "fdb_local": False}
    world[2]["cni"]["pods"][0].update(astray)
    # The same link, by another address.
    world[2]["cni"]["pods"].append({**world[2]["cni"]["pods"][0], "address": first(1, 4, 9)})


@breaks("bridge-entry-wrong", fix="bridge fdb del 02:00:00:00:01:05 dev veth0123abcd master")
def frames_that_the_bridge_keeps(world: World) -> None:
    astray = {"fdb_mac": "02:00:00:00:01:05", "fdb_dev": "veth0123abcd", "fdb_local": True}
    world[2]["cni"]["pods"][0].update(astray)


@breaks("bridge-entry-wrong", fix="bridge fdb del 02:00:00:00:01:05 dev cni0 self")
def frames_that_the_bridge_takes_for_its_own(world: World) -> None:
    astray = {"fdb_mac": "02:00:00:00:01:05", "fdb_dev": "cni0", "fdb_local": True}
    world[2]["cni"]["pods"][0].update(astray)


@breaks("gateway-entry-wrong", fix="bridge fdb replace 02:00:00:00:01:01 dev cni0 self")
def break_gateway_entry_wrong(world: World) -> None:
    astray = {"fdb_mac": "02:00:00:00:01:01", "fdb_dev": "veth0123abcd", "fdb_local": False}
    entry(world[2]["links"], name="cni0").update(astray)


@breaks("bridge-ports-not-flooded", fix=ASKED)
def break_bridge_ports_not_flooded(world: World) -> None:
    entry(world[2]["links"], name="veth0123abcd")["broadcast_flood"] = False


@breaks("bridge-ports-not-flooded", families=(6,))
def by_multicasts(world: World) -> None:
    entry(world[2]["links"], name="veth0123abcd")["multicast_flood"] = False


@pytest.mark.parametrize(("version", "kind"), [(4, "multicast_flood"), (6, "broadcast_flood")])
def test_what_an_ip_version_does_not_need_is_no_finding(version: int, kind: str) -> None:
    world = World("routes", (version,))
    entry(world[2]["links"], name="veth0123abcd")[kind] = False
    assert found(world) == []


@breaks("ipv6-disabled", families=(4, 6), fix=disabling("eth0"))
def on_the_link_to_the_others(world: World) -> None:
    """The kernel removes the addresses and routes, and thereby the way to the other nodes' pods."""
    world[2]["sysctls"]["net.ipv6.conf.eth0.disable_ipv6"] = {"now": "1", "boot": "", "file": ""}
    for part in ("addresses", "routes"):
        world[2][part] = [
            each
            for each in world[2][part]
            if each["dev"] != "eth0" or ":" not in each.get("dst", "") + each.get("address", "")
        ]


@breaks("ipv6-disabled", "vxlan", (4, 6))
def break_ipv6_disabled(world: World) -> None:
    world[2]["sysctls"]["net.ipv6.conf.all.disable_ipv6"] = {"now": "1", "boot": "", "file": ""}
    for part, dev in (("addresses", "cni0"), ("addresses", device(6)), ("routes", "cni0"), ("routes", device(6))):
        world[2][part] = [
            each
            for each in world[2][part]
            if each["dev"] != dev or ":" not in each.get("dst", "") + each.get("address", "")
        ]


@breaks("ipv6-disabled", "vxlan", (4, 6))
def break_ipv6_disabled_with_the_underlays_addresses(world: World) -> None:
    """As the kernel does it on a node."""
    break_ipv6_disabled(world)
    for part in ("addresses", "routes"):
        world[2][part] = [each for each in world[2][part] if ":" not in each.get("dst", "") + each.get("address", "")]
    for peer in (0, 2):
        world[2]["ways"][underlay(peer, 6)] = {"error": "Network is unreachable"}


@breaks("bridge-filter-off", fix="modprobe br_netfilter && sysctl -w net.bridge.bridge-nf-call-iptables=1")
def break_bridge_filter_off(world: World) -> None:
    world[2]["kernel_modules"]["br_netfilter"]["loaded"] = False
    del world[2]["sysctls"]["net.bridge.bridge-nf-call-iptables"]


@breaks("bridge-filter-off", "flannel")
def the_setting(world: World) -> None:
    world[2]["sysctls"]["net.bridge.bridge-nf-call-iptables"]["now"] = "0"


@breaks("bridge-filter-off-at-boot")
def break_bridge_filter_off_at_boot(world: World) -> None:
    world[2]["kernel_modules"]["br_netfilter"]["boot"] = ""


@breaks("bridge-filter-off-at-boot")
def a_later_file(world: World) -> None:
    world[2]["sysctls"]["net.bridge.bridge-nf-call-iptables"]["boot"] = "0"


@breaks(
    "module-refused",
    fix="sed -i -E '/^[[:space:]]*(blacklist|install)[[:space:]]+''br[_-]netfilter''([[:space:]]|$)/d' "
    "/etc/modprobe.d/hardening.conf",
)
def break_module_refused(world: World) -> None:
    world[2]["kernel_modules"]["br_netfilter"]["refused"] = "/etc/modprobe.d/hardening.conf"
    world[2]["kernel_modules"]["vxlan"] = {"loaded": False, "boot": "", "refused": "/etc/modprobe.d/hardening.conf"}


@breaks("module-refused", "vxlan", fix="")
def refused_on_the_command_line(world: World) -> None:
    refused = "/proc/cmdline: modprobe.blacklist"
    world[2]["kernel_modules"]["vxlan"] = {"loaded": True, "boot": "", "refused": refused}


def test_no_command_loads_what_the_kernel_refuses() -> None:
    world = World("routes")
    module = world[2]["kernel_modules"]["br_netfilter"]
    for parameter, fix in (("module_blacklist", False), ("modprobe.blacklist", True)):
        module.update(loaded=False, refused=f"/proc/cmdline: {parameter}")
        by_rule = {each["rule"]: each["fix"] for each in found(world)}
        assert by_rule.keys() == {"bridge-filter-off", "module-refused"}
        assert bool(by_rule["bridge-filter-off"]) is fix and not by_rule["module-refused"]


@breaks("module-refused", "vxlan")
def vxlan_refused(world: World) -> None:
    world[2]["kernel_modules"]["vxlan"] = {"loaded": True, "boot": "", "refused": "/etc/modprobe.d/hardening.conf"}


@breaks("reverse-path-filter", "vxlan", fix="sysctl -w net.ipv4.conf.eth0.rp_filter=2")
def break_reverse_path_filter(world: World) -> None:
    """Worker 1 sends by a plain route, worker 2 answers through the tunnel."""
    route = entry(world[1]["routes"], dst=subnet(1))
    route.update(via=underlay(1), dev="eth0")
    world[2]["sysctls"]["net.ipv4.conf.eth0.rp_filter"]["now"] = "1"


# flanneld


@breaks("flanneld-not-running", "flannel", fix="systemctl enable --now flanneld")
def break_flanneld_not_running(world: World) -> None:
    flannel = world[2]["flannel"]
    flannel.update(processes=[], subnet_env={}, meanings=["RBAC: the ClusterRole is missing"])
    flannel["unit"].update(active="activating", enabled=True)
    without(world[2]["links"], name="flannel.1")
    world.api["worker-2"]["network_unavailable"] = True


@breaks("flanneld-not-at-boot", "flannel")
def break_flanneld_not_at_boot(world: World) -> None:
    world[2]["flannel"]["unit"]["enabled"] = False


@breaks("subnet-env-missing", "flannel", fix="systemctl restart flanneld")
def break_subnet_env_missing(world: World) -> None:
    world[2]["flannel"]["subnet_env"] = {}


@breaks("flannel-start-timeout", "flannel")
def break_flannel_start_timeout(world: World) -> None:
    world[2]["flannel"]["unit"].update(start_timeout=90, ours=False)


@breaks("flannel-node-name", "flannel")
def break_flannel_node_name(world: World) -> None:
    world[2]["flannel"]["unit"]["node_name"] = "worker-2.example.org"
    world[2]["flannel"].update(processes=[], subnet_env={})


@breaks("flannel-node-name", "flannel", planned=False)
def a_host_name_with_a_domain(world: World) -> None:
    world[2]["flannel"]["unit"]["node_name"] = "%H"
    world[2]["hostname"] = "worker-2.example.org"


@breaks("node-unknown", "flannel")
def break_node_unknown(world: World) -> None:
    world.api["rack1-worker-2"] = world.api.pop("worker-2")
    world[2]["kubelet"]["node_name"] = ""


@breaks("node-without-pod-cidr", "flannel")
def break_node_without_pod_cidr(world: World) -> None:
    world.api["worker-2"]["pod_cidrs"] = []
    world[2]["flannel"].update(processes=[], subnet_env={})


def forget_worker_2(world: World) -> None:
    """The other flannelds take away what leads to a Node that is gone, or has no pod CIDR."""
    for number in (1, 3):
        without(world[number]["routes"], dst=subnet(1))
        without(world[number]["neighbours"], dst=first(1))
        without(world[number]["fdb"], mac=mac(1))


@breaks("node-unknown", "flannel")
def break_node_unknown_and_forgotten(world: World) -> None:
    del world.api["worker-2"]
    forget_worker_2(world)


@breaks("node-without-pod-cidr", "flannel")
def break_node_without_pod_cidr_and_forgotten(world: World) -> None:
    world.api["worker-2"]["pod_cidrs"] = []
    forget_worker_2(world)


@breaks("flannel-subnet-differs", "flannel", planned=False, fix="systemctl restart flanneld")
def break_flannel_subnet_differs_and_forgotten(world: World) -> None:
    world.api["worker-2"]["pod_cidrs"] = ["10.244.9.0/24"]
    forget_worker_2(world)


@breaks("flanneld-not-running", "flannel")
def break_flanneld_never_ran(world: World) -> None:
    break_flanneld_not_running(world)
    forget_worker_2(world)


@breaks("pod-cidr-outside", "flannel", planned=False)
def break_pod_cidr_outside(world: World) -> None:
    world.api["worker-2"]["pod_cidrs"] = ["10.200.1.0/24"]
    world[2]["flannel"].update(processes=[], subnet_env={})
    world[2]["cni"]["pods"] = []
    entry(world[2]["addresses"], dev="flannel.1")["address"] = "10.200.1.0/32"
    for number in (1, 3):
        entry(world[number]["routes"], dst=subnet(1)).update(dst="10.200.1.0/24", via="10.200.1.0")
        entry(world[number]["neighbours"], dst=first(1))["dst"] = "10.200.1.0"


@breaks("flannel-subnet-differs", "flannel", planned=False, fix="systemctl restart flanneld")
def break_flannel_subnet_differs(world: World) -> None:
    world.api["worker-2"]["pod_cidrs"] = ["10.244.9.0/24"]
    for number in (1, 3):
        entry(world[number]["routes"], dst=subnet(1)).update(dst="10.244.9.0/24", via="10.244.9.0")
        entry(world[number]["neighbours"], dst=first(1))["dst"] = "10.244.9.0"


@breaks("flannel-subnet-differs", "flannel", planned=False, fix="systemctl restart flanneld")
def break_flannel_subnet_differs_where_pods_have_the_nodes(world: World) -> None:
    """The bridge has the right address."""
    world[2]["flannel"]["subnet_env"]["FLANNEL_SUBNET"] = "10.244.9.1/24"


@breaks("net-conf-unknown-key", "flannel")
def break_net_conf_unknown_key(world: World) -> None:
    world[2]["flannel"]["net_conf_problems"] = ["unknown key EnableIPV7"]


@breaks("net-conf-without-backend", "flannel")
def break_net_conf_without_backend(world: World) -> None:
    del world[2]["flannel"]["net_conf"]["Backend"]


@breaks("net-conf-differs", "flannel")
def break_net_conf_differs(world: World) -> None:
    world[2]["flannel"]["net_conf"]["Network"] = "10.244.0.0/20"


@breaks("net-conf-differs", "flannel")
def in_the_port(world: World) -> None:
    world[2]["flannel"]["net_conf"]["Backend"]["Port"] = 4789
    entry(world[2]["links"], name="flannel.1")["port"] = 4789


@breaks("flannel-needs-iptables", "flannel")
def break_flannel_needs_iptables(world: World) -> None:
    world[2]["programs"]["ip6tables"] = ""
    world[2]["flannel"].update(processes=[], subnet_env={})


@breaks("flannel-needs-br-netfilter", "flannel")
def break_flannel_needs_br_netfilter(world: World) -> None:
    world[2]["kernel_modules"]["br_netfilter"].update(loaded=False, boot="")


@breaks("flannel-dual-stack-interface", "flannel", (4, 6))
def break_flannel_dual_stack_interface(world: World) -> None:
    world[2]["flannel"]["processes"][0]["arguments"] = ["--kube-subnet-mgr", "--iface=172.16.0.3"]


@pytest.mark.parametrize(
    ("version", "words", "fixed"),
    [
        ("v0.27.2", [], None),
        ("v0.27.2", ["--iface=eth0"], None),
        ("v0.27.2", ["--iface-regex=172.16.*|fd00.*"], None),
        ("v0.27.2", ["--iface", "172.16.0.12", "--public-ipv6", "fd00::12"], None),
        ("v0.27.2", ["--public-ip=172.16.0.12", "--public-ipv6=fd00::12"], None),
        ("v0.27.4", ["--iface=172.16.0.12"], None),
        ("v0.27.2", ["-iface=172.16.0.12"], "--public-ipv6="),
        ("v0.27.2", ["--iface", "172.16.0.12"], "--public-ipv6="),
        ("v0.27.2", ["--iface-can-reach=172.16.0.1"], "--public-ipv6="),
        ("v0.27.2", ["--public-ip=172.16.0.12"], "--public-ipv6="),
        ("v0.27.2", ["--public-ipv6=fd00::12"], "--public-ip="),
        ("v0.27.2", ["--iface=fd00::12", "--public-ipv6=fd00::12"], "--public-ip="),
    ],
)
def test_which_flanneld_finds_both_of_its_addresses(version: str, words: list[str], fixed: str | None) -> None:
    """As flannel's main.go and ipmatch.LookupExtIface, v0.27.2 and v0.27.4."""
    world = World("flannel", (4, 6))
    world[2]["flannel"]["processes"][0].update(version=version, arguments=["--kube-subnet-mgr", *words])
    assert [each["rule"] for each in found(world)] == ["flannel-dual-stack-interface"] * (fixed is not None)
    assert fixed is None or fixed in found(world)[0]["fix"]


@breaks("two-flannelds", "flannel")
def break_two_flannelds(world: World) -> None:
    world[2]["flannel"]["processes"].append({"pid": 99, "ours": False, "version": "v0.26.0", "arguments": []})


@breaks("kubeconfig-unusable", "flannel")
def break_kubeconfig_unusable(world: World) -> None:
    world[2]["kubeconfig"]["problems"] = ["/etc/kubernetes/pki/flannel.key is missing"]


@breaks("kubeconfig-embeds-certificate", "flannel")
def break_kubeconfig_embeds_certificate(world: World) -> None:
    world[2]["kubeconfig"]["user_certificate"] = "embedded"


@breaks("network-unavailable", "flannel")
def break_network_unavailable(world: World) -> None:
    world.api["worker-2"]["network_unavailable"] = True


# VXLAN mesh


@breaks("backends-differ", "flannel")
def break_backends_differ(world: World) -> None:
    """Worker 2 was not restarted after a change from vxlan to host-gw, or the reverse."""
    world[2]["flannel"]["net_conf"]["Backend"] = {"Type": "host-gw"}
    without(world[2]["links"], name="flannel.1")
    for each in world[2]["routes"]:
        if each["dev"] == "flannel.1":
            each.update(dev="eth0", via=underlay(0 if each["dst"] == subnet(0) else 2))


@breaks("backends-differ", "vxlan", planned=False)
def without_flannel(world: World) -> None:
    without(world[2]["links"], name="flannel.1")
    for each in world[2]["routes"]:
        if each["dev"] == "flannel.1":
            each.update(dev="eth0", via=underlay(0 if each["dst"] == subnet(0) else 2))


@breaks("mesh-device-missing", "flannel", fix="systemctl restart flanneld")
def break_mesh_device_missing(world: World) -> None:
    lose_the_device(world)


@breaks("mesh-device-missing", "vxlan", fix="systemctl restart --no-block weft-podnet-vxlan-flannel.1.service")
def planned(world: World) -> None:
    lose_the_device(world)


@breaks("mesh-device-missing", "vxlan", planned=False)
def others_send_to_it(world: World) -> None:
    lose_the_device(world)


def lose_the_device(world: World) -> None:
    without(world[2]["links"], name="flannel.1")
    without(world[2]["addresses"], dev="flannel.1")
    without(world[2]["routes"], dev="flannel.1")
    without(world[2]["neighbours"], dev="flannel.1")
    world[2]["fdb"] = []


@breaks(
    "mesh-device-down",
    "vxlan",
    fix="ip link set flannel.1 up && systemctl restart --no-block weft-podnet-vxlan-flannel.1.service",
)
def break_mesh_device_down(world: World) -> None:
    entry(world[2]["links"], name="flannel.1").update(up=False, running=False)
    without(world[2]["routes"], dev="flannel.1")


@breaks("mesh-vni-differs", "vxlan")
def break_mesh_vni_differs(world: World) -> None:
    entry(world[2]["links"], name="flannel.1")["vni"] = 2


@breaks("mesh-vni-differs", "vxlan", planned=False)
def by_the_others(world: World) -> None:
    entry(world[2]["links"], name="flannel.1")["vni"] = 2


@breaks("mesh-port-differs", "vxlan", planned=False)
def break_mesh_port_differs(world: World) -> None:
    entry(world[2]["links"], name="flannel.1")["port"] = 4789


@breaks("mesh-source-wrong", "vxlan")
def break_mesh_source_wrong(world: World) -> None:
    world[2]["addresses"].append({"dev": "eth1", "address": "10.0.2.15/24", "scope": "global"})
    entry(world[2]["links"], name="flannel.1").update(local="10.0.2.15", underlay="eth1")


@breaks("mesh-source-wrong", "flannel", planned=False)
def by_the_nodes_addresses(world: World) -> None:
    world[2]["addresses"].append({"dev": "eth1", "address": "10.0.2.15/24", "scope": "global"})
    entry(world[2]["links"], name="flannel.1").update(local="10.0.2.15", underlay="eth1")
    world.api["worker-2"]["annotations"]["public-ip"] = "10.0.2.15"
    for number in (1, 3):
        entry(world[number]["fdb"], mac=mac(1))["dst"] = "10.0.2.15"


@breaks("mesh-source-wrong", "vxlan", planned=False)
def moved_away(world: World) -> None:
    entry(world[2]["addresses"], dev="eth0")["address"] = "172.16.0.77/24"


@breaks("mesh-source-wrong", "flannel", fix="ip link delete flannel.1 && systemctl restart flanneld")
def under_flanneld(world: World) -> None:
    entry(world[2]["links"], name="flannel.1")["local"] = "172.16.0.88"


@breaks("mesh-source-duplicate", "flannel", planned=False, host="worker-2")
def break_mesh_source_duplicate(world: World) -> None:
    """Every machine of a hypervisor's NAT network has this address."""
    for number in (1, 2):
        world[number]["addresses"].append({"dev": "eth1", "address": "10.0.2.15/24", "scope": "global"})
        entry(world[number]["links"], name="flannel.1").update(local="10.0.2.15", underlay="eth1")
        world.api[f"worker-{number}"]["annotations"]["public-ip"] = "10.0.2.15"
        world.api[f"worker-{number}"]["addresses"] = ["10.0.2.15"]
        for other in {1, 2, 3} - {number}:
            entry(world[other]["fdb"], mac=mac(number - 1))["dst"] = "10.0.2.15"


@breaks("vtep-mac-duplicate", "vxlan")
def break_vtep_mac_duplicate(world: World) -> None:
    entry(world[2]["links"], name="flannel.1")["mac"] = mac(0)
    entry(world[1]["neighbours"], dst=first(1))["mac"] = mac(0)
    entry(world[1]["fdb"], mac=mac(1))["mac"] = mac(0)
    entry(world[3]["neighbours"], dst=first(1))["mac"] = mac(0)
    without(world[3]["fdb"], mac=mac(1))


@breaks(
    "vtep-mac-duplicate",
    "flannel",
    fix=f"ip link set flannel.1 address {mac(1)} && systemctl restart flanneld",
)
def break_vtep_mac_duplicate_and_announced(world: World) -> None:
    break_vtep_mac_duplicate(world)
    annotations = world.api["worker-2"]["annotations"]
    annotations["backend-data"] = annotations["backend-data"].replace(mac(1), mac(0))


@breaks("vtep-mac-changed", "flannel", fix=f"ip link set flannel.1 address {mac(1)} && systemctl restart flanneld")
def break_vtep_mac_changed(world: World) -> None:
    entry(world[2]["links"], name="flannel.1")["mac"] = "0e:ff:ff:ff:ff:ff"


@breaks(
    "vtep-mac-changed",
    "vxlan",
    (4, 6),
    fix=f"ip link set flannel-v6.1 address {mac(1, 6)} "
    "&& systemctl restart --no-block weft-podnet-vxlan-flannel-v6.1.service",
)
def by_what_the_others_have(world: World) -> None:
    entry(world[2]["links"], name=device(6))["mac"] = "0e:ff:ff:ff:ff:ff"
    without(world[2]["neighbours"], dev=device(6))


@pytest.mark.parametrize(
    ("known", "cause"),
    [(vtep.vtep_mac("worker-2", 1), "vtep-mac-changed"), ("0e:00:00:00:00:11", "neighbour-mac-wrong")],
)
def test_of_two_nodes_the_derived_mac_is_right(known: str, cause: str) -> None:
    world = World("vxlan")
    entry(world[2]["links"], name="flannel.1")["mac"] = "0e:ff:ff:ff:ff:ff"
    entry(world[1]["neighbours"], dst=first(1))["mac"] = known
    # Only worker-1 has an opinion.
    without(world[3]["neighbours"], dst=first(1))
    rules = {each["rule"] for each in found(world)}
    assert cause in rules and not {"vtep-mac-changed", "neighbour-mac-wrong"} - {cause} & rules


@breaks("mesh-peer-missing", "flannel")
@breaks("mesh-peer-missing", "vxlan", fix="systemctl restart --no-block weft-podnet-vxlan-flannel.1.service")
def break_mesh_peer_missing(world: World) -> None:
    without(world[2]["routes"], dst=subnet(0))
    without(world[2]["neighbours"], dst=first(0))
    without(world[2]["fdb"], mac=mac(0))


@breaks("mesh-peer-missing", "vxlan", fix="systemctl restart --no-block weft-podnet-vxlan-flannel.1.service")
def beside_a_mesh_of_a_longer_name(world: World) -> None:
    break_mesh_peer_missing(world)
    units = world[2]["ours"]["units"]
    world[2]["ours"]["units"] = {"weft-podnet-vxlan-flannel.10.service": "active", **units}


@breaks(
    "neighbour-missing", "flannel", fix=f"ip neighbour replace {first(0)} lladdr {mac(0)} dev flannel.1 nud permanent"
)
def break_neighbour_missing(world: World) -> None:
    without(world[2]["neighbours"], dst=first(0))


@breaks("neighbour-mac-wrong", "vxlan")
def break_neighbour_mac_wrong(world: World) -> None:
    entry(world[2]["neighbours"], dst=first(0))["mac"] = "0e:ff:ff:ff:ff:ff"


@breaks("neighbour-mac-wrong", "vxlan")
def and_so_is_the_fdb(world: World) -> None:
    entry(world[2]["neighbours"], dst=first(0))["mac"] = "0e:ff:ff:ff:ff:ff"
    entry(world[2]["fdb"], mac=mac(0))["mac"] = "0e:ff:ff:ff:ff:ff"


@breaks("fdb-missing", "vxlan", fix=f"bridge fdb replace {mac(0)} dev flannel.1 dst {underlay(0)} self permanent")
def break_fdb_missing(world: World) -> None:
    without(world[2]["fdb"], mac=mac(0))


@breaks("fdb-wrong-node", "flannel", fix=f"bridge fdb replace {mac(0)} dev flannel.1 dst {underlay(0)} self permanent")
def break_fdb_wrong_node(world: World) -> None:
    entry(world[2]["fdb"], mac=mac(0))["dst"] = underlay(2)


@breaks("mesh-peer-gone", "flannel", fix="ip route delete 10.244.77.0/24 via 10.244.77.0 dev flannel.1")
def break_mesh_peer_gone(world: World) -> None:
    gone = {"dst": "10.244.77.0/24", "via": "10.244.77.0", "dev": "flannel.1", "owner": "boot"}
    world[2]["routes"].append(gone)


@breaks(
    "mesh-address-missing", "flannel", fix=f"ip address add {first(1)}/32 dev flannel.1 && systemctl restart flanneld"
)
def break_mesh_address_missing(world: World) -> None:
    for part in ("addresses", "routes", "neighbours"):
        without(world[2][part], dev="flannel.1")


@breaks("checksum-offload", "flannel", host=None, fix="ethtool -K flannel.1 tx-checksum-ip-generic off")
def break_checksum_offload(world: World) -> None:
    for number in (1, 2, 3):
        world[number]["kernel"] = "4.14.165-131.185.amzn2.x86_64"


# Routes


@breaks("no-route-to-pods", fix=f"ip route replace {subnet(0)} via {underlay(0)} proto 87")
def break_no_route_to_pods(world: World) -> None:
    without(world[2]["routes"], dst=subnet(0))
    del world.hosts["worker-1"]


@breaks("no-route-to-pods", "vxlan", fix="systemctl restart --no-block weft-podnet-vxlan-flannel.1.service")
def through_the_mesh(world: World) -> None:
    without(world[2]["routes"], dst=subnet(0))
    del world.hosts["worker-1"]


@breaks("no-route-back", fix=f"ip route replace {subnet(0)} via {underlay(0)} proto 87")
def break_no_route_back(world: World) -> None:
    without(world[2]["routes"], dst=subnet(0))


@breaks(
    "no-route-back", "flannel", (4, 6), fix=f"ip route replace {subnet(0, 6)} via {first(0, 6)} dev flannel-v6.1 onlink"
)
def of_one_family(world: World) -> None:
    without(world[2]["routes"], dst=subnet(0, 6))


@breaks("no-route-back", planned=False)
def a_wide_route_to_a_router(world: World) -> None:
    without(world[2]["routes"], dst=subnet(0))
    world[2]["routes"].append({"dst": "10.0.0.0/8", "via": "172.16.0.1", "dev": "eth0", "owner": "static"})


@breaks("route-via-stranger", fix=f"ip route replace {subnet(0)} via {underlay(0)} proto 87")
def break_route_via_stranger(world: World) -> None:
    entry(world[2]["routes"], dst=subnet(0))["via"] = "172.16.0.99"


@breaks("route-to-wrong-node", planned=False, fix=f"ip route replace {subnet(0)} via {underlay(0)} proto 87")
def break_route_to_wrong_node(world: World) -> None:
    entry(world[2]["routes"], dst=subnet(0))["via"] = underlay(2)


@breaks("route-to-wrong-node", fix=f"ip route replace {subnet(0)} via {underlay(0)} proto 87")
def by_one_of_two_next_hops(world: World) -> None:
    hops = [{"via": underlay(0), "dev": "eth0"}, {"via": underlay(2), "dev": "eth0"}]
    entry(world[2]["routes"], dst=subnet(0))["hops"] = hops


@breaks("route-via-stranger", fix=f"ip route replace {subnet(0)} via {underlay(0)} proto 87")
def as_the_second_next_hop(world: World) -> None:
    hops = [{"via": underlay(0), "dev": "eth0"}, {"via": "172.16.0.99", "dev": "eth0"}]
    entry(world[2]["routes"], dst=subnet(0))["hops"] = hops


@breaks("route-without-gateway", fix=f"ip route replace {subnet(0)} via {underlay(0)} proto 87")
def by_a_link_to_something_else(world: World) -> None:
    world[2]["links"].append({"name": "d0", "kind": "dummy", "up": True, "mtu": 1500, "master": ""})
    entry(world[2]["routes"], dst=subnet(0)).update(via="", dev="d0")


@breaks("route-without-gateway", fix=f"ip route replace {subnet(0)} via {underlay(0)} proto 87")
def break_route_without_gateway(world: World) -> None:
    entry(world[2]["routes"], dst=subnet(0))["via"] = ""


@breaks(
    "pods-route-blackholed",
    fix=f"ip route delete blackhole {subnet(0)} && ip route replace {subnet(0)} via {underlay(0)} proto 87",
)
def break_pods_route_blackholed(world: World) -> None:
    entry(world[2]["routes"], dst=subnet(0)).update(via="", dev="", type="blackhole", owner="boot")


def test_a_route_for_one_type_of_service_is_no_finding() -> None:
    world = World("routes")
    route = {"dst": subnet(0), "type": "blackhole", "tos": 16, "via": "", "dev": "", "owner": "boot"}
    world[2]["routes"].insert(0, route)
    assert found(world) == []


@breaks(
    "pods-route-blackholed", "vxlan", fix="ip nexthop delete id 71 && systemctl restart --no-block "
    "weft-podnet-vxlan-flannel.1.service", repaired=True,
)  # fmt: skip
def by_a_nexthop_object(world: World) -> None:
    entry(world[2]["routes"], dst=subnet(0)).update(via="", dev="lo", type="blackhole", nhid=71)


@breaks("pods-route-blackholed")
def by_a_route_that_ends_the_table(world: World) -> None:
    entry(world[2]["routes"], dst=subnet(0)).update(type="throw", via="", dev="", owner="static")


@breaks("pods-route-blackholed", repaired=True)
def by_a_route_with_the_number_of_the_collection(world: World) -> None:
    entry(world[2]["routes"], dst=subnet(0)).update(type="blackhole", via="", dev="")


@breaks("pods-route-blackholed", fix=f"ip route replace {subnet(0)} via {underlay(0)} proto 87")
def by_a_route_for_all_private_networks(world: World) -> None:
    without(world[2]["routes"], dst=subnet(0))
    world[2]["routes"].append({"dst": "10.0.0.0/8", "type": "blackhole", "via": "", "dev": "", "owner": "static"})


@breaks("own-pods-led-away", families=(6,), fix=f"ip route delete {subnet(1, 6)} dev d0")
def by_a_link_to_something_else_entirely(world: World) -> None:
    entry(world[2]["routes"], dst=subnet(1, 6), dev="cni0")["metric"] = 256
    away = {"dst": subnet(1, 6), "via": "", "dev": "d0", "table": "main", "metric": 1, "owner": "boot"}
    world[2]["routes"].append(away)


@breaks("own-pods-led-away", fix=f"ip route delete {subnet(1)} via {underlay(0)} dev eth0")
def break_own_pods_led_away(world: World) -> None:
    """A static route from before the subnets changed owners, while no pod has made the bridge yet."""
    entry(world[2]["routes"], dst=subnet(1)).update(via=underlay(0), dev="eth0", owner="boot")


@breaks("own-pods-led-away", fix=f"ip route delete {first(1, 4, 7)} dev eth0")
def a_single_one(world: World) -> None:
    world[2]["routes"].append({"dst": first(1, 4, 7), "via": "", "dev": "eth0", "owner": "boot"})


@breaks("own-pods-led-away", "vxlan", fix=f"ip route delete blackhole {first(1, 4, 7)}/32")
def a_single_one_blackholed(world: World) -> None:
    world[2]["routes"].append(
        {"dst": f"{first(1, 4, 7)}/32", "type": "blackhole", "via": "", "dev": "", "owner": "boot"}
    )


def test_routes_to_single_pods_and_blocks_of_addresses_are_no_finding() -> None:
    """As Calico makes them: a block of the node's own is a blackhole, its pods and other nodes' blocks are not."""
    world = World("routes")
    world[2]["routes"] += [
        {"dst": "10.244.1.64/26", "type": "blackhole", "via": "", "dev": "", "owner": "bird"},
        {"dst": "10.244.1.65", "via": "", "dev": "veth0123abcd", "owner": "boot"},
        {"dst": "10.244.0.64/26", "via": underlay(0), "dev": "tunl0", "owner": "bird"},
        {"dst": "10.244.0.192/26", "type": "blackhole", "via": "", "dev": "", "owner": "bird"},
        {"dst": "10.244.2.64/26", "via": "10.244.0.65", "dev": "vxlan.calico", "owner": "bird"},
        {"dst": "10.244.0.128/26", "via": underlay(2), "dev": "eth0", "owner": "bird"},
    ]
    assert found(world) == []
    world[2]["routes"][-1]["owner"] = "static"
    assert [each["rule"] for each in found(world)] == ["part-of-pods-led-away"]


@breaks("part-of-pods-led-away", fix="ip route delete 10.244.0.0/25 dev tun0")
def break_part_of_pods_led_away(world: World) -> None:
    world[2]["routes"].append({"dst": "10.244.0.0/25", "via": "", "dev": "tun0", "owner": "static"})


@breaks("part-of-pods-led-away", "vxlan", fix=f"ip route delete blackhole {first(0, 4, 2)}")
def to_a_blackhole(world: World) -> None:
    world[2]["routes"].append({"dst": first(0, 4, 2), "type": "blackhole", "via": "", "dev": "", "owner": "boot"})


@breaks("address-of-another-node", fix=f"ip address del {first(0, 4, 1)}/24 dev cni0")
def on_the_bridge(world: World) -> None:
    world[2]["addresses"].append({"dev": "cni0", "address": f"{first(0, 4, 1)}/24", "scope": "global"})


@breaks("peer-pods-on-own-bridge", planned=False)
def break_peer_pods_on_own_bridge(world: World) -> None:
    without(world[2]["routes"], dst=subnet(0))
    entry(world[2]["routes"], dst=subnet(1))["dst"] = "10.244.0.0/23"


@breaks("policy-rule-diverts-pods", fix=f"ip rule add to {subnet(0)} table main priority 99")
def break_policy_rule_diverts_pods(world: World) -> None:
    world[2]["rules"] = [{"priority": 100, "from": "", "to": subnet(0), "table": "vpn", "fwmark": 0}]
    world[2]["routes"].append({"dst": "default", "via": "", "dev": "tun0", "table": "vpn", "owner": "static"})


@breaks("policy-rule-diverts-pods", fix=f"ip rule add to {subnet(1)} table main priority 99")
def what_comes_in(world: World) -> None:
    world[2]["rules"] = [{"priority": 100, "from": "", "to": "", "iif": "eth0", "table": "vpn", "fwmark": 0}]
    world[2]["routes"].append({"dst": "default", "via": "", "dev": "tun0", "table": "vpn", "owner": "static"})


@breaks("policy-rule-diverts-pods", fix=f"ip rule add to {subnet(0)} table main priority 32764")
def by_a_vpn_for_all_without_its_mark(world: World) -> None:
    world[2]["rules"] = [{"priority": 32765, "from": "", "to": "", "table": "51820", "fwmark": 51820, "inverted": True}]
    world[2]["routes"].append({"dst": "default", "via": "", "dev": "wg0", "table": "51820", "owner": "boot"})


def test_a_vpn_whose_rule_leaves_out_the_main_tables_routes_is_no_finding() -> None:
    """As wg-quick sets it up."""
    world = World("routes")
    world[2]["rules"] = [
        {"priority": 32764, "from": "", "to": "", "table": "main", "fwmark": 0},
        {"priority": 32765, "from": "", "to": "", "table": "51820", "fwmark": 51820, "inverted": True},
    ]
    world[2]["routes"].append({"dst": "default", "via": "", "dev": "wg0", "table": "51820", "owner": "boot"})
    assert found(world) == []


@breaks("policy-rule-refuses-pods", fix=f"ip rule add to {subnet(0)} table main priority 99")
def break_policy_rule_refuses_pods(world: World) -> None:
    world[2]["rules"] = [{"priority": 100, "from": "", "to": subnet(0), "action": "prohibit"}]


@breaks("policy-rule-refuses-pods", fix=f"ip rule add to {subnet(0)} table main priority 99")
def for_what_comes_by_the_bridge(world: World) -> None:
    world[2]["rules"] = [{"priority": 100, "from": "", "to": "", "iif": "cni0", "action": "blackhole"}]


@breaks("policy-rule-refuses-pods", fix="")
def by_the_first_rule_of_all(world: World) -> None:
    world[2]["rules"] = [{"priority": 1, "from": "", "to": subnet(0), "action": "prohibit"}]


@breaks("policy-rule-refuses-pods", "vxlan", fix=f"ip rule add to {subnet(1)} table main priority 99")
def what_comes_by_the_tunnel(world: World) -> None:
    world[2]["rules"] = [{"priority": 100, "from": "", "to": "", "iif": "flannel.1", "action": "prohibit"}]


def test_rules_for_what_comes_from_elsewhere_and_tables_that_throw_are_no_finding() -> None:
    world = World("routes")
    rules = [{"iif": "eth1", "action": "blackhole"}, {"iif": "eth0", "from": "192.0.2.0/24", "action": "blackhole"},
             {"to": subnet(1), "table": "vpn", "action": "lookup"}]  # fmt: skip
    world[2]["rules"] = [{"priority": 100 + at, "from": "", "to": "", **each} for at, each in enumerate(rules)]
    vpn = {"table": "vpn", "owner": "static"}
    world[2]["routes"].append({**vpn, "dst": "10.244.0.0/16", "type": "throw"})
    world[2]["routes"].append({**vpn, "dst": "10.0.0.0/8", "via": "172.16.0.1", "dev": "tun0"})
    assert found(world) == []
    # A copy of the main table.
    copied = [{**each, "table": "copy"} for each in world[2]["routes"] if each.get("table", "main") == "main"]
    world[2]["routes"] += copied
    world[2]["rules"].append({"priority": 99, "from": "10.244.0.0/16", "to": "", "table": "copy", "action": "lookup"})
    assert found(world) == []


@breaks("policy-rule-refuses-pods", fix=f"ip rule add to {subnet(0)} table main priority 99")
def by_passing_over_the_main_table(world: World) -> None:
    world[2]["rules"] = [{"priority": 100, "from": "", "to": subnet(0), "action": "goto", "goto": 32767}]


@breaks("policy-rule-diverts-pods", fix=f"ip rule add to {subnet(0)} table main priority 99")
def by_a_goto_to_another_table(world: World) -> None:
    world[2]["rules"] = [
        {"priority": 100, "from": "", "to": subnet(0), "action": "goto", "goto": 200},
        {"priority": 150, "from": "", "to": "", "table": "main"},
        {"priority": 200, "from": "", "to": "", "table": "vpn"},
    ]
    world[2]["routes"].append({"dst": "default", "via": "", "dev": "tun0", "table": "vpn", "owner": "static"})


@breaks("policy-rule-diverts-pods", fix=f"ip rule add to {subnet(0)} table main priority 32764")
def by_a_vpn_that_ignores_all_wider_routes_of_the_main_table(world: World) -> None:
    world[2]["rules"] = [
        {"priority": 32764, "from": "", "to": "", "table": "main", "suppress_prefixlength": 24},
        {"priority": 32765, "from": "", "to": "", "table": "51820", "fwmark": 51820, "inverted": True},
    ]
    world[2]["routes"].append({"dst": "default", "via": "", "dev": "wg0", "table": "51820", "owner": "boot"})


@breaks("policy-rule-refuses-pods", fix=f"ip rule add to {subnet(0)} table main priority 104")
def after_the_main_tables_longer_routes(world: World) -> None:
    world[2]["rules"] = [
        {"priority": 100, "from": "", "to": "", "table": "main", "suppress_prefixlength": 24},
        {"priority": 105, "from": "", "to": subnet(0), "action": "unreachable"},
    ]


REFUSES = {"priority": 200, "from": "", "to": "", "action": "unreachable"}
PASSES = {"priority": 100, "from": "", "to": "10.0.0.0/8", "action": "goto"}


@pytest.mark.parametrize(
    "rules",
    [
        # To the rule for the main table, to rules that are not there, and for packets of another kind.
        [{**PASSES, "goto": 32766}, REFUSES],
        [{**PASSES, "goto": 500}],
        # To another rule for the main table.
        [{**PASSES, "goto": 40000}, {"priority": 40000, "from": "", "to": "", "table": "main"}],
        [{**PASSES, "goto": 32767, "fwmark": 1}],
        [{**PASSES, "goto": 32767, "other": True}],
        [{**PASSES, "goto": 32767, "from": "192.0.2.0/24"}],
        [{**PASSES, "action": "nop"}],
        # Of an older release, which did not observe the priority.
        [PASSES],
        [{**REFUSES, "other": True}],
        # wg-quick's first rule, and a table that answers before, a copy of the main table.
        [{"priority": 150, "from": "", "to": "", "table": "main", "suppress_prefixlength": 0}, REFUSES],
        [{"priority": 150, "from": "", "to": "", "table": "copy"}, REFUSES],
    ],
    ids=str,
)
def test_rules_that_do_not_keep_pods_from_the_main_tables_routes_are_no_finding(rules: list[dict[str, Any]]) -> None:
    world = World("routes")
    copied = [{**each, "table": "copy"} for each in world[2]["routes"] if each.get("table", "main") == "main"]
    world[2]["routes"] += copied
    world[2]["rules"] = rules
    assert found(world) == []


def test_a_rule_of_ipv6_is_added_for_ipv6() -> None:
    world = World("routes", (4, 6))
    world[2]["rules"] = [{"priority": 100, "version": 6, "from": "", "to": subnet(0, 6), "action": "prohibit"}]
    (only,) = found(world)
    assert only["fix"] == f"ip -6 rule add to {subnet(0, 6)} table main priority 99"


POLICY = {"to": "10.0.0.0/8", "dir": "out", "priority": 100, "block": False, "tunnel": ""}


@breaks(
    "ipsec-takes-pods",
    "vxlan",
    fix=f"ip xfrm policy add src {underlay(1)}/32 dst {underlay(0)}/32 proto udp dir out priority 99",
)
def what_the_tunnel_sends(world: World) -> None:
    hosts = {"from": f"{underlay(1)}/32", "to": "172.16.0.0/16", "protocol": "udp", "block": True}
    world[2]["ipsec"] = [{**POLICY, **hosts}]


@breaks("ipsec-takes-pods", "vxlan", fix=f"ip xfrm policy delete src {underlay(1)}/32 dst {underlay(0)}/32 dir out")
def one_for_the_same_packets(world: World) -> None:
    hosts = {"from": f"{underlay(1)}/32", "to": f"{underlay(0)}/32", "block": True}
    world[2]["ipsec"] = [{**POLICY, **hosts}]


def test_nodes_that_reach_each_other_through_a_gateway_are_healthy() -> None:
    world = World("vxlan")
    world[2]["ipsec"] = [{**POLICY, "from": f"{underlay(1)}/32", "to": f"{underlay(0)}/32", "tunnel": "203.0.113.9"}]
    assert found(world) == []


def test_nothing_comes_before_the_first_policy() -> None:
    world = World("routes")
    world[2]["ipsec"] = [{**POLICY, "from": "10.244.0.0/16", "block": True, "priority": 0}]
    assert {(each["rule"], each["fix"]) for each in found(world)} == {("ipsec-takes-pods", "")}


def test_a_policy_for_another_protocol_of_pods_or_of_nodes_without_a_tunnel_is_no_finding() -> None:
    world = World("routes")
    hosts = {"from": "172.16.0.0/24", "to": "172.16.0.0/24", "block": True}
    pods = {"from": "10.244.0.0/16", "to": "10.0.0.0/8", "protocol": "udp", "block": True}
    world[2]["ipsec"] = [{**POLICY, **hosts}, {**POLICY, **pods}]
    assert found(world) == []


@breaks("ipsec-takes-pods", fix=f"ip xfrm policy add src {subnet(1)} dst {subnet(0)} dir out priority 99")
def break_ipsec_takes_pods(world: World) -> None:
    """A VPN for a network that pods' are a part of, and one that another node's pods are not."""
    own = {**POLICY, "from": "10.244.0.0/16", "tunnel": "203.0.113.9"}
    world[2]["ipsec"] = [{**own, "to": "10.9.0.0/16", "block": True, "priority": 1}, own]


@breaks("ipsec-takes-pods")
def what_comes_in_is_dropped(world: World) -> None:
    world[2]["ipsec"] = [{**POLICY, "from": "10.244.0.0/16", "dir": "fwd", "block": True}]


@breaks("route-by-hand", planned=False, host=None)
def break_route_by_hand(world: World) -> None:
    for number in (1, 2, 3):
        for each in world[number]["routes"]:
            each["owner"] = each["owner"].replace("weft.podnet", "boot")
        world[number]["ours"]["units"] = {}


@breaks("pod-network-overlaps")
def break_pod_network_overlaps(world: World) -> None:
    world[2]["addresses"].append({"dev": "docker0", "address": "10.244.0.1/24", "scope": "global"})


@breaks("client-without-route", host="gateway", fix=f"ip route replace {subnet(0)} via {underlay(0)}")
def break_client_without_route(world: World) -> None:
    world.plan["clients"] = ["gateway"]
    world.hosts["gateway"] = {"routes": [each for each in world[2]["routes"] if each["dst"] == "default"]}
    for other in (1, 2):
        world.hosts["gateway"]["routes"].append({"dst": subnet(other), "via": underlay(other), "dev": "eth0"})


@breaks(
    "neighbour-table-full",
    fix="echo net.ipv4.neigh.default.gc_thresh3=4096 >> /etc/sysctl.d/zzz-pod-network.conf && "
    "sysctl -w net.ipv4.neigh.default.gc_thresh3=4096",
)
def break_neighbour_table_full(world: World) -> None:
    for number, entries in ((1, 900), (2, 930)):
        world[number]["neighbour_entries"] = {"4": entries, "6": 7}
        world[number]["sysctls"]["net.ipv4.neigh.default.gc_thresh3"] = {"now": "1024"}


@breaks(
    "connection-table-full",
    fix="echo net.netfilter.nf_conntrack_max=400 >> /etc/sysctl.d/zzz-pod-network.conf && "
    "sysctl -w net.netfilter.nf_conntrack_max=400",
)
def break_connection_table_full(world: World) -> None:
    world[1]["connections"] = {"count": 89, "max": 100}
    world[2]["connections"] = {"count": 90, "max": 100}


@breaks(
    "router-advertisements-ignored",
    families=(4, 6),
    fix="echo net.ipv6.conf.eth0.accept_ra=2 >> /etc/sysctl.d/zzz-pod-network.conf && "
    "sysctl -w net.ipv6.conf.eth0.accept_ra=2",
)
def break_router_advertisements_ignored(world: World) -> None:
    for number, value in ((1, "2"), (2, "1"), (3, "0")):
        learned = {"dev": "eth0", "address": f"2001:db8::{number}/64", "scope": "global", "dynamic": True}
        world[number]["addresses"].append(learned)
        world[number]["sysctls"]["net.ipv6.conf.eth0.accept_ra"] = {"now": value}


@breaks("arp-off", fix="ip link set eth0 arp on")
def break_arp_off(world: World) -> None:
    entry(world[2]["links"], name="eth0").update(arp=False)


@breaks(
    "arp-off",
    fix="echo net.ipv4.conf.cni0.arp_ignore=0 >> /etc/sysctl.d/zzz-pod-network.conf && "
    "sysctl -w net.ipv4.conf.cni0.arp_ignore=0",
)
def by_a_sysctl(world: World) -> None:
    world[2]["sysctls"]["net.ipv4.conf.cni0.arp_ignore"] = {"now": "8", "boot": "", "file": ""}
    world[1]["sysctls"]["net.ipv4.conf.cni0.arp_ignore"] = {"now": "1", "boot": "", "file": ""}


@breaks("link-shaped", fix="tc qdisc del dev cni0 root")
def in_a_queue_for_nothing(world: World) -> None:
    entry(world[2]["links"], name="cni0").update(qdisc="pfifo", qdisc_limit=0)


@breaks("link-shaped", fix="tc qdisc del dev eth0 root")
def in_a_queue_for_small_packets(world: World) -> None:
    entry(world[2]["links"], name="eth0").update(qdisc="bfifo", qdisc_limit=1513)
    entry(world[1]["links"], name="eth0").update(qdisc="bfifo", qdisc_limit=1514)
    entry(world[1]["links"], name="cni0").update(qdisc="pfifo", qdisc_limit=1)


@breaks("link-shaped", "vxlan", fix="tc qdisc del dev flannel.1 root")
def dropping_everything(world: World) -> None:
    entry(world[2]["links"], name="flannel.1").update(qdisc="blackhole")


@breaks(
    "underlay-route-missing",
    fix=f"ip route add 172.16.0.0/24 dev eth0 proto kernel scope link src {underlay(1)}",
)
def break_underlay_route_missing(world: World) -> None:
    without(world[2]["routes"], dst="172.16.0.0/24")
    for peer in (0, 2):
        world[2]["ways"][underlay(peer)].update(dst="default", via="172.16.0.1")


@breaks(
    "underlay-route-missing",
    fix=f"ip route add 172.16.0.0/24 dev eth0 proto kernel scope link src {underlay(1)}",
)
def with_a_virtual_address_besides(world: World) -> None:
    break_underlay_route_missing(world)
    world[2]["addresses"].insert(0, {"dev": "eth0", "address": "172.16.0.250/24", "scope": "global"})


def test_nodes_that_are_isolated_on_purpose_are_no_finding() -> None:
    world = World("routes")
    break_underlay_route_missing(world)
    entry(world[2]["addresses"], dev="eth0")["prefix_route"] = False
    assert found(world) == []


@breaks("arp-off", "vxlan", fix="ip link set cni0 arp on")
def of_the_bridge(world: World) -> None:
    entry(world[2]["links"], name="cni0").update(arp=False)
    entry(world[1]["links"], name="flannel.1").update(arp=False)


@breaks(
    "forward-drops-pods",
    fix="iptables-nft --insert FORWARD --source 10.244.0.0/16 --jump ACCEPT && "
    "iptables-nft --insert FORWARD --destination 10.244.0.0/16 --jump ACCEPT",
)
def to_a_program_that_is_gone(world: World) -> None:
    rule = "-i cni0 -j NFQUEUE --queue-num 0, where no program listens"
    world[2]["forward"][0]["drops"] = drops(rule)


@breaks("forward-drops-pods")
def by_a_range_of_addresses(world: World) -> None:
    far, near = "-m iprange --src-range 10.1.0.0-10.243.255.255 -j DROP", "-m iprange --dst-range {}-10.250.0.0 -j DROP"
    world[1]["forward"][0]["drops"] = drops(far, "-m iprange ! --src-range 10.0.0.0-10.255.255.255 -j DROP")
    world[2]["forward"][0]["drops"] = drops(far, near.format("10.240.0.0"))


@breaks("forward-drops-pods")
def by_a_range_of_nftables(world: World) -> None:
    place = {"place": "nftables: table inet x, chain f", "hook": "forward", "policy": "accept", "accepts": []}
    world[1]["forward"].append({**place, "drops": drops("ip saddr != 10.0.0.0-10.255.255.255 drop")})
    world[2]["forward"].append({**place, "drops": drops("ip saddr { 10.240.0.0-10.247.255.255, 192.0.2.1 } drop")})


@breaks("forward-drops-pods")
def by_a_set_whose_members_are_known(world: World) -> None:
    world[2]["forward"][0]["drops"] = drops("-s 10.0.0.0/8 --match-set bogons -j DROP")


@breaks("link-is-port", fix="ip link set eth0 nomaster")
def break_link_is_port(world: World) -> None:
    entry(world[2]["links"], name="eth0").update(master="br0")
    # A VRF that has the node's link.
    entry(world[1]["links"], name="eth0").update(master="data")
    world[1]["links"].append({"name": "data", "kind": "vrf", "up": True})


@breaks("link-is-port", "vxlan", fix="ip link set cni0 nomaster")
def of_a_vrf(world: World) -> None:
    entry(world[2]["links"], name="cni0").update(master="pods")


@breaks("link-shaped", "vxlan", fix="tc qdisc del dev flannel.1 root")
def break_link_shaped(world: World) -> None:
    entry(world[2]["links"], name="flannel.1").update(qdisc="netem")
    entry(world[1]["links"], name="eth0").update(qdisc="fq_codel")
    # As the bandwidth plugin limits a pod.
    entry(world[1]["links"], name="veth0123abcd").update(qdisc="tbf")


@breaks("address-of-another-node", fix=f"ip address del {underlay(0)}/32 dev lo")
def break_address_of_another_node(world: World) -> None:
    world[2]["addresses"].append({"dev": "lo", "address": f"{underlay(0)}/32", "scope": "global"})


@breaks("address-of-another-node", "vxlan", fix=f"ip address del {first(0, 4, 7)}/32 dev lo")
def of_another_nodes_pod(world: World) -> None:
    world[2]["addresses"].append({"dev": "lo", "address": f"{first(0, 4, 7)}/32", "scope": "global"})


def lead_away(world: World, dst: str, via: str, dev: str, owner: str = "static") -> None:
    world[2]["ways"][underlay(0)].update(dst=dst, via=via, dev=dev)
    world[2]["routes"].append({"dst": dst, "via": via, "dev": dev, "owner": owner})


@breaks("node-led-away", fix=f"ip route delete {underlay(0)} via 172.16.0.99 dev eth0")
def break_node_led_away(world: World) -> None:
    lead_away(world, underlay(0), "172.16.0.99", "eth0")


@breaks("node-led-away", "vxlan", fix="ip route delete 172.16.0.0/28 dev vpn0")
def by_another_link(world: World) -> None:
    lead_away(world, "172.16.0.0/28", "", "vpn0")


@pytest.mark.parametrize(
    ("dst", "via", "dev", "owner"),
    [
        # A provider's switch that lets no frames pass directly; two links to one network; a router for single hosts.
        ("172.16.0.0/24", "172.16.0.254", "eth0", "static"),
        ("172.16.0.0/24", "", "eth1", "kernel"),
        (underlay(0), "172.16.0.1", "eth0", "static"),
        (underlay(0), "", "eth1", "kernel"),
        # Nodes in a ring, with the network on both links.
        (underlay(0), "", "ring1", "boot"),
    ],
)
def test_ways_between_nodes_that_are_as_they_should_be(dst: str, via: str, dev: str, owner: str) -> None:
    world = World("vxlan")
    world[2]["routes"] = [each for each in world[2]["routes"] if each["dst"] != dst]
    lead_away(world, dst, via, dev, owner)
    if dev == "ring1":
        world[2]["addresses"].append({"dev": dev, "address": f"{underlay(1)}/24", "scope": "global"})
    assert found(world) == []


@breaks("pods-taken-for-own", fix=f"ip route delete local {subnet(0)} dev lo")
def break_pods_taken_for_own(world: World) -> None:
    world[2]["routes"].append({"dst": subnet(0), "type": "local", "table": "local", "dev": "lo", "owner": "boot"})


@breaks("pods-taken-for-own", "vxlan", fix=f"ip route delete local {first(1, 4, 9)} dev lo")
def one_of_its_own(world: World) -> None:
    route = {"dst": first(1, 4, 9), "type": "local", "table": "local", "dev": "lo", "owner": "boot"}
    world[2]["routes"].append(route)


@breaks("pods-taken-for-own", fix="ip route delete local 10.244.0.0/16 dev lo")
def all_beside_a_policy_rule(world: World) -> None:
    world[2]["routes"].append({"dst": "10.244.0.0/16", "type": "local", "table": "local", "dev": "lo", "owner": "boot"})
    world[2]["rules"] = [{"priority": 100, "from": "192.0.2.0/24", "to": "", "table": "vpn", "fwmark": 0}]


def test_wider_local_routes_of_ipv6_come_first() -> None:
    world = World("routes", (4, 6))
    world[2]["routes"].append({"dst": "fd00::/16", "type": "local", "table": "local", "dev": "lo", "owner": "boot"})
    assert {each["rule"] for each in found(world)} == {"pods-taken-for-own"}
    # IPv4's are not told apart by rules for IPv6.
    world = World("routes", (4, 6))
    world[2]["routes"].append({"dst": "10.0.0.0/8", "type": "local", "table": "local", "dev": "lo", "owner": "boot"})
    world[2]["rules"] = [{"priority": 9, "version": 6, "from": "2001:db8::/64", "to": "", "table": "vpn", "fwmark": 0}]
    assert found(world) == []


def test_wider_local_routes_and_those_of_other_tables_are_no_finding() -> None:
    """Without policy rules, the longest prefix of the tables local and main wins; a proxy has a table of its own."""
    world = World("routes")
    local = {"type": "local", "dev": "lo", "owner": "boot", "via": ""}
    world[2]["routes"] += [
        {**local, "dst": "10.244.0.0/16", "table": "local"},
        {**local, "dst": "default", "version": 4, "table": "100"},
        {**local, "dst": "192.0.2.7", "table": "local"},
    ]
    assert found(world) == []


@breaks("neighbour-static", fix=f"ip neighbour del {underlay(0)} dev eth0")
def break_neighbour_static(world: World) -> None:
    static = {"dst": underlay(0), "dev": "eth0", "mac": "02:00:00:00:00:77", "state": "permanent"}
    world[2]["neighbours"] += [
        static,
        {**static, "dst": underlay(2), "mac": entry(world[3]["links"], name="eth0")["mac"]},
    ]


@breaks("pod-neighbour-static", "vxlan", fix=f"ip neighbour del {first(1, 4, 7)} dev cni0")
def of_a_pod_of_its_own(world: World) -> None:
    entry = {"dst": first(1, 4, 7), "dev": "cni0", "mac": "02:00:00:00:00:77", "state": "permanent"}
    world[2]["neighbours"].append(entry)
    world[1]["neighbours"].append({**entry, "dst": first(0, 4, 7), "state": "reachable"})


# Packet filters


@breaks(
    "forward-drops-pods",
    fix="iptables-nft --insert FORWARD --source 10.244.0.0/16 --jump ACCEPT && "
    "iptables-nft --insert FORWARD --destination 10.244.0.0/16 --jump ACCEPT",
)
def break_forward_drops_pods(world: World) -> None:
    world[2]["forward"][0].update(policy="drop", accepts=[])


@breaks(
    "forward-drops-pods",
    "flannel",
    fix="nft insert rule inet filter forward ip saddr 10.244.0.0/16 accept && "
    "nft insert rule inet filter forward ip daddr 10.244.0.0/16 accept",
)
def a_reject_before(world: World) -> None:
    place = {"place": "nftables: table inet filter, chain forward", "policy": "accept", "accepts": [], "owner": ""}
    world[2]["forward"].append({**place, "rejects_before": "reject with icmpx admin-prohibited"})


@breaks("forward-drops-pods", planned=False)
def a_rule_against_pods(world: World) -> None:
    world[2]["forward"][0].update(
        accepts=[], drops=drops("-s 10.99.0.0/16 -j DROP", "-d 10.244.0.0/16 -o eth0 -j DROP")
    )


@breaks(
    "forward-drops-pods",
    fix="iptables-nft --table raw --insert PREROUTING --source 10.244.0.0/16 --jump ACCEPT && "
    "iptables-nft --table raw --insert PREROUTING --destination 10.244.0.0/16 --jump ACCEPT",
)
def a_rule_before_the_routes(world: World) -> None:
    place = {"place": "iptables (nft): raw, chain PREROUTING", "hook": "prerouting", "policy": "accept", "accepts": []}
    world[2]["forward"].append({**place, "rejects_before": "", "drops": drops("-i cni0 -d 10.0.0.0/8 -j DROP")})


@breaks("overlay-port-closed", "vxlan", fix="nft insert rule netdev wall in udp dport 8472 accept")
def a_filter_of_the_device(world: World) -> None:
    place = "nftables: table netdev wall, chain in"
    world[2]["firewalls"].update(closed_udp=[{"port": 8472, "place": place, "out": False}])


NETDEV = {"hook": "ingress", "policy": "accept", "accepts": ["0.0.0.0/0", "::/0"], "rejects_before": ""}


@breaks("forward-drops-pods", fix="nft insert rule netdev x in accept")
def a_port_of_the_bridge_gives_its_packets_away(world: World) -> None:
    place = {**NETDEV, "place": "nftables: table netdev x, chain in"}
    world[1]["forward"].append({**place, "drops": drops('iifname { "veth99999999" } fwd to "lo"')})
    world[2]["forward"].append({**place, "drops": drops('iifname { "veth0123abcd" } fwd to "lo"')})


@breaks(
    "forward-drops-pods",
    "vxlan",
    fix="nft insert rule netdev x out ip saddr 10.244.0.0/16 accept && "
    "nft insert rule netdev x out ip daddr 10.244.0.0/16 accept",
)
def a_port_of_the_bridge_drops_what_it_sends(world: World) -> None:
    place = {**NETDEV, "place": "nftables: table netdev x, chain out", "hook": "egress"}
    rules = drops('oifname { "veth0123abcd" } ip daddr 10.0.0.0/8 drop')
    world[2]["forward"].append({**place, "drops": rules})


def test_programs_and_limits_of_single_pods_are_no_finding() -> None:
    world = World("vxlan")
    for does in ("program watch", "program", "police"):
        place = {**NETDEV, "place": "tc filter, chain veth0123abcd ingress pref 1"}
        rules = drops(f'iifname {{ "veth0123abcd" }} {does}, which may drop')
        world[2]["forward"].append({**place, "drops": rules})
    assert found(world) == []


@pytest.mark.parametrize(
    ("hook", "rule"),
    [
        ("ingress", 'iifname {{ "veth0123abcd" }} ip saddr != {pod} drop'),
        ("ingress", 'iifname {{ "veth0123abcd" }} ip saddr != {{ {pod}, 0.0.0.0 }} drop'),
        ("egress", 'oifname {{ "veth0123abcd" }} ip daddr != {pod} drop'),
    ],
)
def test_what_keeps_a_pod_from_forging_addresses_is_no_finding(hook: str, rule: str) -> None:
    world = World("vxlan")
    pod = world[2]["cni"]["pods"][0]["address"]
    place = {**NETDEV, "place": "nftables: table netdev x, chain c", "hook": hook}
    world[2]["forward"].append({**place, "drops": drops(rule.format(pod=pod))})
    assert found(world) == []


NAT = "iptables (nft): nat, chain PREROUTING"


@breaks(
    "rule-redirects-pods",
    fix=f"iptables-nft --table nat --insert PREROUTING --source {subnet(1)} --destination 10.244.0.0/16 --jump ACCEPT",
)
def break_rule_redirects_pods(world: World) -> None:
    world[2]["redirects"] = [{"place": NAT, "rules": ["-p tcp -m tcp --dport 80 -j REDIRECT --to-ports 3128"]}]


@breaks(
    "rule-redirects-pods",
    fix=f"nft insert rule ip proxy pre ip saddr {subnet(1)} ip daddr 10.244.0.0/16 accept",
)
def a_rule_of_nftables_redirects(world: World) -> None:
    place = "nftables: table ip proxy, chain pre"
    world[2]["redirects"] = [{"place": place, "rules": ["ip daddr 10.0.0.0/8 tcp dport { 80, 443 } redirect to :3128"]}]


def closed(table: str) -> dict[str, Any]:
    return {"port": 8472, "place": f"{table}, chain INPUT"}


@breaks("overlay-port-closed", "vxlan", fix="ufw allow 8472/udp", repaired=True)
def break_overlay_port_closed(world: World) -> None:
    world[2]["firewalls"].update(ufw=True, closed_udp=[closed("iptables (nft): filter")])


@breaks("overlay-port-closed", "vxlan", (6,), repaired=True)
def by_ufw_for_ipv6(world: World) -> None:
    world[2]["firewalls"].update(ufw=True, closed_udp=[closed("ip6tables (nft): filter")])


@breaks("overlay-port-closed", "vxlan")
def before_ufw_sees_it(world: World) -> None:
    world[2]["firewalls"].update(ufw=True, closed_udp=[closed("iptables (nft): raw")])


@breaks("overlay-port-closed", "vxlan", repaired=True)
def by_firewalld(world: World) -> None:
    world[2]["firewalls"].update(firewalld=True, closed_udp=[closed("nftables: table inet firewalld")])


@breaks("overlay-port-closed", "vxlan")
def by_ufw_that_the_user_manages(world: World) -> None:
    world[2]["firewalls"].update(ufw=True, closed_udp=[closed("iptables (nft): filter")])
    world.plan["nodes"][1]["settings"]["podnet_manage_firewall"] = False


@breaks("overlay-port-closed", "vxlan")
def by_a_table_beside_firewalld(world: World) -> None:
    world[2]["firewalls"].update(firewalld=True, closed_udp=[closed("nftables: table inet mine")])


@breaks("overlay-port-closed", "flannel", fix="iptables-legacy -I INPUT -p udp --dport 8472 -j ACCEPT")
def by_hand(world: World) -> None:
    world[2]["firewalls"].update(closed_udp=[closed("iptables (legacy): filter")])


@breaks("overlay-port-closed", "vxlan", fix="nft insert rule inet mine INPUT udp dport 8472 accept")
def by_a_table_of_nftables(world: World) -> None:
    world[2]["firewalls"].update(closed_udp=[closed("nftables: table inet mine")])


@breaks("overlay-port-closed", "vxlan", fix="nft insert rule inet mine INPUT udp dport 8472 accept")
def for_one_peer(world: World) -> None:
    world[2]["firewalls"].update(closed_udp=[{**closed("nftables: table inet mine"), "peer": underlay(0)}])


@breaks(
    "forward-drops-some",
    fix="iptables-nft --insert FORWARD --source 10.244.0.0/16 --jump ACCEPT && "
    "iptables-nft --insert FORWARD --destination 10.244.0.0/16 --jump ACCEPT",
)
def break_forward_drops_some(world: World) -> None:
    """What only single ports meet, or nothing of pods, is left alone, and what an earlier rule spares."""
    drop = "-m statistic --mode random --probability 0.30000000000 -j DROP"
    world[1]["forward"][0].update(drops=drops(drop, after=("-s 10.244.0.0/16 -j ACCEPT", "-d 10.244.0.0/16 -j ACCEPT")))
    world[2]["forward"][0].update(drops=drops("-p tcp -m tcp --dport 25 -j DROP", drop))
    world[3]["forward"][0].update(drops=drops("-s 192.0.2.0/24 -p tcp -j DROP", "-i eth9 -p udp -j DROP"))


@breaks("forward-drops-some", fix="nft insert rule ip guard c ip saddr 10.244.0.0/16 accept && "
        "nft insert rule ip guard c ip daddr 10.244.0.0/16 accept")  # fmt: skip
def of_a_protocol(world: World) -> None:
    place = {"place": "nftables: table ip guard, chain c", "hook": "forward", "policy": "accept", "accepts": []}
    world[2]["forward"].append(
        {**place, "drops": drops("meta l4proto { tcp, udp } ip saddr { 10.0.0.0/8, 192.0.2.1 } drop")}
    )


@breaks("forward-drops-egress", "vxlan", fix="nft insert rule ip guard c ip saddr 10.244.0.0/16 accept")
def break_forward_drops_egress(world: World) -> None:
    place = {"place": "nftables: table ip guard, chain c", "hook": "postrouting", "policy": "accept", "accepts": []}
    rules = drops('oifname "eth0" ip saddr 10.244.0.0/16 drop')
    world[2]["forward"].append({**place, "rejects_before": "", "drops": rules})


MAY_DROP = (
    "nft insert rule ip guard c ip saddr 10.244.0.0/16 accept && nft insert rule ip guard c ip daddr 10.244.0.0/16 "
    "accept"
)


@breaks("filter-may-drop-pods")
def break_filter_may_drop_pods(world: World) -> None:
    place = {"place": "nftables: table ip guard, chain c", "hook": "forward", "policy": "accept", "accepts": []}
    world[2]["forward"].append({**place, "drops": drops("tcp flags syn / syn,ack drop")})


@breaks("filter-may-drop-pods", "vxlan")
def answers_of_nodes(world: World) -> None:
    place = {"place": "nftables: table inet guard, chain c", "hook": "forward", "policy": "accept", "accepts": []}
    rules = drops('iifname "eth0" ether saddr != 02:00:00:00:00:01 drop')
    world[2]["forward"].append({**place, "drops": rules})


@breaks("filter-may-drop-pods")
def above_a_number_of_connections(world: World) -> None:
    limit = "-p tcp -m connlimit --connlimit-above 1 --connlimit-mask 16 --connlimit-saddr -j REJECT"
    rule = f"{limit} --reject-with icmp-port-unreachable"
    world[2]["forward"][0]["drops"] = drops(rule)


@breaks("filter-may-drop-pods")
def what_a_user_sends(world: World) -> None:
    place = {"place": "iptables (nft): filter, chain OUTPUT", "hook": "output"}
    world[2]["host_filters"] = [{**place, "drops": drops("-d 10.244.0.0/16 -m owner --uid-owner 0 -j DROP")}]


@breaks("forward-drops-pods")
def packets_of_connections_that_are_known(world: World) -> None:
    known = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    world[1]["forward"][0]["drops"] = drops("-m conntrack ! --ctstate NEW -j DROP", after=(known,))
    world[2]["forward"][0]["drops"] = drops("-d 10.244.0.0/16 -m conntrack --ctstate ESTABLISHED -j DROP")


@breaks("forward-drops-pods")
def after_it_is_recorded(world: World) -> None:
    place = {"place": "nftables: table inet guard, chain c", "hook": "forward", "policy": "accept", "accepts": []}
    rule = 'add @seen { ip saddr } meta mark set 0x1 log prefix "gone: " ct state != established | related drop'
    world[2]["forward"].append({**place, "drops": drops(rule)})


@breaks("filter-may-drop-pods")
def above_a_rate(world: World) -> None:
    world[2]["forward"][0]["drops"] = drops("-s 10.244.0.0/16 -j DROP", after=("-m limit --limit 5/sec -j ACCEPT",))


@pytest.mark.parametrize(
    "rule",
    [
        # Of most ports, protocols, packets or connections, and all but those of a set.
        "-p tcp -m tcp ! --dport 22 -j DROP",
        "-p tcp -m tcp --dport 1:65535 -j DROP",
        "-p tcp -m tcp --sport 1024: -j DROP",
        "tcp sport > 1023 drop",
        "tcp dport != 22 drop",
        "! -p icmp -j DROP",
        "meta l4proto != icmp drop",
        "meta l4proto != { icmp, tcp } drop",
        "-s 10.244.0.0/16 -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j DROP",
        "-p tcp -m tcp --tcp-flags ACK ACK -j DROP",
        "tcp flags syn drop",
        "tcp flags & (fin | syn | rst | ack) != syn drop",
        "tcp flags ! ack drop",
        "tcp flags == { 0x2, 0x12 } drop",
        "-p tcp -m tcp --tcp-flags SYN SYN -m tcpmss --mss 500:1460 -j DROP",
        "-m pkttype --pkt-type unicast -j DROP",
        "-m pkttype ! --pkt-type broadcast -j DROP",
        "meta pkttype host drop",
        "! -f -j DROP",
        "ip frag-off & 8191 == 0 drop",
        "-m set ! --match-set allowed src -j DROP",
        "ip saddr != @allowed drop",
        "-m recent ! --rcheck --name allowed --mask 255.255.255.255 --rsource -j DROP",
        "-m recent --update --seconds 60 --hitcount 5 --name x --mask 255.255.255.255 --rsource -j DROP",
        "-m conntrack --ctorigsrc 10.244.0.0/16 -j DROP",
        "-m rpfilter -j DROP",
        "fib saddr . iif oif exists drop",
        'iifname . ip saddr { "cni0" . 10.244.0.0/16 } drop',
        "-p tcp -j SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460",
    ],
)
def test_what_pods_packets_may_meet_is_a_note(rule: str) -> None:
    world = World("vxlan")
    place = "iptables (nft): filter, chain FORWARD" if "-j" in rule else "nftables: table inet wall, chain c"
    row = {"place": place, "hook": "forward", "policy": "accept", "accepts": [], "drops": drops(rule)}
    world[2]["forward"].append(row)
    assert {(each["severity"], each["rule"]) for each in found(world)} == {("note", "filter-may-drop-pods")}


def test_rules_for_ports_other_networks_or_behind_one_that_accepts_may_not_drop_pods() -> None:
    world = World("routes")
    place = {"place": "iptables (nft): filter, chain FORWARD", "hook": "forward", "policy": "accept", "accepts": []}
    rules = drops("-p tcp -m tcp --dport 25 -m string --algo bm --string x -j DROP", "-s 192.0.2.0/24 -m time -j DROP")
    behind = drops("-m time -j DROP", after=("-d 10.244.0.0/16 -j ACCEPT", "-s 10.244.0.0/16 -j ACCEPT"))
    world[2]["forward"].append({**place, "drops": [*rules, *behind]})
    host = {"place": "iptables (nft): filter, chain INPUT", "hook": "input"}
    world[2]["host_filters"] = [{**host, "drops": drops("-m limit --limit 3/min -j DROP", "-m u32 --u32 x -j REJECT")}]
    assert found(world) == []


INPUT6 = {"place": "ip6tables (nft): filter, chain INPUT", "hook": "input"}


@breaks(
    "neighbour-discovery-dropped",
    families=(4, 6),
    fix="ip6tables-nft --insert INPUT --protocol ipv6-icmp --jump ACCEPT",
)
def break_neighbour_discovery_dropped(world: World) -> None:
    after = ("-i lo -j ACCEPT", "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
    world[2]["host_filters"] = [{**INPUT6, "drops": drops("-p ipv6-icmp -j DROP", after=after)}]


@breaks(
    "neighbour-discovery-dropped",
    families=(4, 6),
    fix="ip6tables-nft --table mangle --insert OUTPUT --protocol ipv6-icmp --jump ACCEPT",
)
def in_another_table(world: World) -> None:
    place = {"place": "ip6tables (nft): mangle, chain OUTPUT", "hook": "output"}
    world[2]["host_filters"] = [{**place, "drops": drops("-p ipv6-icmp -j DROP")}]


@breaks(
    "neighbour-discovery-dropped", "vxlan", (4, 6), fix="nft insert rule inet wall out meta l4proto ipv6-icmp accept"
)
def what_it_announces(world: World) -> None:
    place = {"place": "nftables: table inet wall, chain out", "hook": "output"}
    world[2]["host_filters"] = [{**place, "drops": drops("icmpv6 type { nd-router-advert, nd-neighbor-advert } drop")}]


TCP_ALONE = ("iifname lo accept", "ct state { established, related } accept", "tcp dport { 22, 6443 } accept")


@breaks(
    "neighbour-discovery-dropped", families=(4, 6), fix="nft insert rule inet wall in meta l4proto ipv6-icmp accept"
)
def by_the_policy(world: World) -> None:
    echo = "icmpv6 type { echo-request, packet-too-big } accept"
    accepts = [*TCP_ALONE, echo, "ip saddr 172.16.0.0/24 accept", "meta nfproto ipv4 accept"]
    world[2]["host_filters"] = [{**WALL, "drops": [], "ends": "policy drop", "accepts": accepts}]


WALL = {"place": "nftables: table inet wall, chain in", "hook": "input"}


@pytest.mark.parametrize(
    "rule",
    [
        "meta l4proto { icmp, ipv6-icmp } accept",
        "meta l4proto ipv6-icmp accept",
        "ip6 nexthdr ipv6-icmp accept",
        "icmpv6 type { echo-request, nd-neighbor-solicit, nd-neighbor-advert } accept",
        "icmpv6 type { echo-request, 133-137 } accept",
        "icmpv6 type . ip6 saddr { nd-neighbor-solicit . fe80::/10 } accept",
        "ct state != invalid accept",
        "-m state ! --state NEW -j ACCEPT",
        "-p ipv6-icmp -m icmp6 ! --icmpv6-type 137 -j ACCEPT",
        "! -p tcp -j ACCEPT",
        "iifname vmap @zones",
        "queue flags bypass to 0",
        "-j NFQUEUE --queue-num 0 --queue-bypass",
        "-i eth0 -j open-ports",
        'iifname "eth0" jump dnat_in',
        "ct state untracked jump u",
        'iifname "lo*" accept',
        "accept",
        "icmpv6 type @allowed accept",
        "ct state { established, related, untracked } accept",
        "ip6 saddr fe80::/10 accept",
        'iifname "eth0" jump from_nodes',
        "-p ipv6-icmp -m icmp6 --icmpv6-type 135 -m hl --hl-eq 255 -j ACCEPT",
        "... and 9 more",
    ],
)
def test_what_may_accept_neighbour_discovery_before_the_policy_drops(rule: str) -> None:
    world = World("routes", (4, 6))
    world[2]["host_filters"] = [{**WALL, "drops": [], "ends": "policy drop", "accepts": [*TCP_ALONE, rule]}]
    assert found(world) == []


def test_a_policy_of_ipv4_or_firewalld_drops_no_neighbour_discovery() -> None:
    for place in ("iptables (nft): filter, chain INPUT", "nftables: table inet firewalld, chain filter_INPUT"):
        world = World("routes", (4, 6))
        filters = {"place": place, "hook": "input", "drops": [], "ends": "policy drop", "accepts": list(TCP_ALONE)}
        world[2]["host_filters"] = [filters]
        assert found(world) == []


def test_other_icmpv6_what_is_accepted_before_and_ipv4_are_no_finding() -> None:
    for families, rules in (
        ((4, 6), drops("-p ipv6-icmp -m icmp6 --icmpv6-type 128 -j DROP")),
        ((4, 6), drops("-p ipv6-icmp -j DROP", after=("-p ipv6-icmp -m icmp6 --icmpv6-type 135 -j ACCEPT",))),
        ((4, 6), drops("-p ipv6-icmp -m limit --limit 9/s -j DROP", "-p tcp -m tcp --dport 1 -j DROP")),
        ((4, 6), drops("-p ipv6-icmp -m conntrack --ctstate NEW -j DROP", "ct state new meta l4proto ipv6-icmp drop")),
        ((4, 6), drops("meta l4proto ipv6-icmp drop", after=("icmpv6 type != echo-request accept",))),
        ((4,), drops("-p ipv6-icmp -j DROP")),
    ):
        world = World("routes", families)
        world[2]["host_filters"] = [{**INPUT6, "drops": rules}]
        assert found(world) == []


INPUT = {"place": "iptables (nft): filter, chain INPUT", "hook": "input"}
OPEN = f"iptables-nft -I INPUT -s {underlay(0)},{underlay(2)} -p udp --dport 8472 -j ACCEPT"


@breaks("overlay-drops-some", "vxlan", fix=OPEN)
def break_overlay_drops_some(world: World) -> None:
    world[2]["host_filters"] = [{**INPUT, "drops": drops("-p udp -m length --length 1000:65535 -j DROP")}]


@breaks("overlay-drops-some", "flannel", fix="nft insert rule inet guard c ip daddr '{ 172.16.0.3, 172.16.0.5 }' udp "
        "dport 8472 accept")  # fmt: skip
def by_chance(world: World) -> None:
    place = {"place": "nftables: table inet guard, chain c", "hook": "output"}
    world[2]["host_filters"] = [{**place, "drops": drops("udp dport { 53, 8472 } numgen random mod 2 < 1 drop")}]


@breaks("filter-may-drop-pods", "vxlan")
def by_the_tunnels_time_to_live(world: World) -> None:
    world[2]["host_filters"] = [{**INPUT, "drops": drops("-p udp -m ttl --ttl-lt 64 -j DROP")}]


@breaks("filter-may-drop-pods", "vxlan")
def behind_a_limit(world: World) -> None:
    rule = "-p udp -m udp --dport 8472 -m hashlimit --hashlimit-above 10/sec --hashlimit-name x -j DROP"
    world[2]["host_filters"] = [{**INPUT, "drops": drops(rule)}]


def test_what_drops_other_protocols_ports_and_hosts_leaves_tunnels_alone() -> None:
    world = World("vxlan")
    rules = ("-p tcp -m length --length 1000: -j DROP", "-p udp -m udp --dport 53 -m limit --limit 9/s -j DROP",
             "-s 192.0.2.0/24 -p udp -m length --length 1000: -j DROP", "-p icmp -m length --length 1000: -j DROP",
             "-i eth9 -p udp -m statistic --mode random --probability 0.5 -j DROP")  # fmt: skip
    for accepts in ("-s 172.16.0.0/24 -j ACCEPT", "-p udp -m udp --dport 8472 -j ACCEPT", "udp dport 8472 accept"):
        behind = drops("-p udp -m length --length 1000: -j DROP", after=("-p tcp -j ACCEPT", accepts))
        world[2]["host_filters"] = [{**INPUT, "drops": [*drops(*rules), *behind]}]
        assert found(world) == []
    behind = drops("-p udp -m length --length 1000: -j DROP", after=("-p udp -m udp --dport 53 -j ACCEPT",))
    world[2]["host_filters"] = [{**INPUT, "drops": behind}]
    assert [each["rule"] for each in found(world)] == ["overlay-drops-some"]


def test_a_port_that_is_open_for_the_nodes_alone_is_healthy() -> None:
    world = World("vxlan")
    nodes = tuple(f"-s {underlay(number)}/32 -p udp -m udp --dport 8472 -j ACCEPT" for number in (0, 2))
    a_set = (f"ip saddr {{ {underlay(0)}, {underlay(2)} }} udp dport 8472 accept",)
    cases: list[tuple[str, tuple[str, ...]]] = [
        ("-p udp -m udp --dport 8472 -j DROP", nodes),
        ("udp dport 8472 drop", a_set),
        ("-p udp -j DROP", ("-p udp -m udp --dport 8400:8500 -j ACCEPT",)),
        ("-p udp -m udp ! --dport 8472 -j DROP", ()),
        ("udp dport != 8472 numgen random mod 2 < 1 drop", ()),
        ("-p udp -m length --length 1000: -j DROP", ("... and 7 more",)),
    ]
    for rule, after in cases:
        world[2]["host_filters"] = [{**INPUT, "drops": drops(rule, after=after)}]
        assert found(world) == [], rule


@pytest.mark.parametrize(
    "rule",
    [
        # ufw, the kubelet, Docker's documentation, crowdsec, and what hardening guides give.
        "-m rt --rt-type 0 -j DROP",
        '-m comment --comment "kubernetes firewall" -m mark --mark 0x8000/0x8000 -j DROP',
        "meta mark & 0x00008000 == 0x00008000 drop",
        "-i eth0 -p tcp -m conntrack --ctorigdstport 8080 --ctdir ORIGINAL -j DROP",
        "-m set --match-set crowdsec-blacklists src -j DROP",
        "ip saddr @crowdsec-blacklists drop",
        "-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m conntrack --ctstate NEW -j DROP",
        "-p tcp -m tcp --tcp-flags FIN,SYN FIN,SYN -j DROP",
        "tcp flags != syn ct state new drop",
        "-f -j DROP",
        "-m pkttype --pkt-type broadcast -j DROP",
        "fib daddr type broadcast drop",
        "-p tcp -m conntrack --ctstate NEW -m tcpmss ! --mss 536:65535 -j DROP",
        "-m recent --rcheck --seconds 60 --name portscan --mask 255.255.255.255 --rsource -j DROP",
        "-m recent --update --seconds 86400 --name portscan --mask 255.255.255.255 --rsource -j DROP",
        "-m set ! --match-set cali40all-vxlan-net src -j DROP",
        "ip daddr . meta l4proto . th dport @nodeports drop",
        "tcp flags fin,syn / fin,syn drop",
        "tcp flags & (fin | psh | urg) == fin | psh | urg drop",
        "tcp flags == 0x0 drop",
        "tcp flags { 0x0, 0x29 } drop",
        "-p tcp -m tcp --tcp-flags FIN,SYN,RST,PSH,ACK,URG NONE -j DROP",
        "-p tcp -m tcp --tcp-flags FIN,SYN,RST,PSH,ACK,URG FIN,SYN,RST,PSH,ACK,URG -j DROP",
        "-p tcp -m multiport --dports 135:139,445 -j DROP",
        "tcp dport < 1024 drop",
        "tcp dport ssh drop",
        "-p tcp -m tcp --tcp-flags SYN SYN -m tcpmss --mss 1:500 -j DROP",
        "-m pkttype ! --pkt-type unicast -j DROP",
        "-m conntrack --ctorigdst 192.0.2.1 --ctorigdstport 80 -j DROP",
        "-m conntrack ! --ctstate NEW,ESTABLISHED,RELATED -m mark --mark 0x1 -j DROP",
    ],
)
@pytest.mark.parametrize("families", [(4,), (4, 6)], ids=str)
def test_what_firewalls_usually_drop_is_no_finding(rule: str, families: tuple[int, ...]) -> None:
    world = World("vxlan", families)
    world[2]["host_filters"] = []
    for hook in ("forward", "input", "output", "prerouting"):
        table = f"filter, chain {hook.upper()}"
        places = [f"iptables (nft): {table}", f"ip6tables (nft): {table}", "nftables: table inet wall, chain c"]
        for place in places[:2] if rule.startswith("-") else places[2:]:
            row = {"place": place, "hook": hook, "policy": "accept", "accepts": [], "drops": drops(rule)}
            world[2]["host_filters" if hook in ("input", "output") else "forward"].append(row)
    assert found(world) == []


@pytest.mark.parametrize(
    ("rule", "after"),
    [
        # Against forged addresses: `ip` is for IPv4 alone, negated or not.
        ('iifname "cni0" ip saddr != 10.244.1.0/24 drop', ()),
        ('iifname "eth9" ip protocol icmp drop', ()),
        # Some kinds of a protocol, or the protocol of pods, are accepted before the rest of it is dropped.
        ("-p icmp -j DROP", ("-p icmp -m icmp --icmp-type 8 -j ACCEPT",)),
        ("-p icmp -j DROP", ("-s 10.244.0.0/16 -p icmp -j ACCEPT", "-d 10.244.0.0/16 -p icmp -j ACCEPT")),
        ("meta l4proto udp drop", ("meta l4proto { tcp, udp } ip saddr 10.0.0.0/8 accept",)),
        # Ranges, sets of two values and marks are not read, and may be pods'.
        ('iifname "cni0" drop', ("ip saddr { 192.168.1.10-192.168.1.20, 10.244.0.0/16 } accept",)),
        ('iifname "cni0" drop', ("ip saddr { 10.0.0.1-10.255.255.254 } accept",)),
        ('iifname "cni0" drop', ("ip saddr . ip daddr { 10.244.1.0/24 . 10.244.0.0/16 } accept",)),
        ("-i cni0 -j DROP", ("-m mark --mark 0x10000/0x10000 -j ACCEPT",)),
        ("-i cni0 -j DROP", ("-m set --match-set transport-nodes src -j ACCEPT",)),
        # Chains for what comes in by a link, which may accept it.
        ("-i cni0 -j DROP", ("-i cni0 -j LAN_IN",)),
    ],
)
def test_what_may_spare_pods_is_no_finding(rule: str, after: tuple[str, ...]) -> None:
    world = World("vxlan", (4,) if after else (4, 6))
    place = "nftables: table inet wall, chain c" if "drop" in rule else "iptables (nft): filter, chain FORWARD"
    row = {"place": place, "hook": "forward", "policy": "accept", "accepts": [], "drops": drops(rule, after=after)}
    world[2]["forward"] = [row]
    assert [each for each in found(world) if each["severity"] != "note"] == []


def test_an_accepted_port_or_another_protocol_does_not_spare_pods() -> None:
    world = World("routes")
    for rule, after in (
        ("-p tcp -j DROP", "-p tcp -m tcp --dport 22 -j ACCEPT"),
        ("-p tcp -j DROP", "-p udp -j ACCEPT"),
        ("-p icmp -j DROP", "-i eth9 -p icmp -j ACCEPT"),
        ("-i cni0 -j DROP", "-i eth0 -j WAN_IN"),
    ):
        world[2]["forward"][0]["drops"] = drops(rule, after=(after,))
        assert {each["rule"] for each in found(world)} & {"forward-drops-some", "forward-drops-pods"}, rule


def test_a_policy_is_not_judged_where_chains_for_all_links_may_accept() -> None:
    world = World("routes")
    jumps = ["-i cni0 -j LAN_IN", "-i eth0 -j WAN_IN"]
    world[2]["forward"][0].update(policy="drop", accepts=[], may_accept=jumps)
    assert found(world) == []
    # As on a host with Docker: its chain is for its own bridge.
    for other in (["-o docker0 -j DOCKER"], jumps[1:]):
        world[2]["forward"][0]["may_accept"] = other
        assert {each["rule"] for each in found(world)} == {"forward-drops-pods"}


def test_a_fix_is_for_the_variant_of_iptables_that_drops() -> None:
    world = World("routes")
    world[2]["forward"][0].update(place="iptables (legacy): filter, chain FORWARD", policy="drop", accepts=[])
    (only,) = found(world)
    assert only["fix"].startswith("iptables-legacy --insert FORWARD --source 10.244.0.0/16 --jump ACCEPT && ")


def test_ports_by_name_and_other_protocols_leave_tunnels_alone() -> None:
    world = World("vxlan")
    limit = "limit rate over 50/second drop"
    cases: list[tuple[str, tuple[str, ...]]] = [
        (f"udp dport @dns_ports {limit}", ()),
        (f"meta l4proto udp {limit}", ("udp dport @tunnels accept",)),
        (f"meta l4proto udp {limit}", ("ip protocol udp ip saddr { 172.16.0.3, 172.16.0.5 } accept",)),
        (f"meta l4proto udp {limit}", ("meta l4proto { tcp, udp } ip saddr 172.16.0.0/24 accept",)),
        (f"ip protocol != udp {limit}", ()),
        (f"meta l4proto != {{ tcp, udp }} {limit}", ()),
        ("-p udp -m length --length 1000: -j DROP", ("-p udp -m multiport --ports 8472 -j ACCEPT",)),
    ]
    for rule, after in cases:
        world[2]["host_filters"] = [
            {**INPUT, "place": "nftables: table inet w, chain c", "drops": drops(rule, after=after)}
        ]
        assert [each for each in found(world) if each["severity"] != "note"] == [], rule


def test_numbers_that_are_too_long_are_no_fault() -> None:
    world = World("vxlan", (4, 6))
    digits = "9" * 5000
    rules = (f"-m mark --mark {digits} -j DROP", f"-p udp -m udp --dport {digits} -j DROP", "meta mark 010 drop")
    for hook in ("forward", "input"):
        row = {**INPUT, "hook": hook, "policy": "accept", "accepts": [], "drops": drops(*rules)}
        world[2].update(forward=[row], host_filters=[row])
        found(world)


def test_rules_for_the_other_ip_version_are_no_finding() -> None:
    world = World("vxlan")
    place = {"place": "ip6tables (nft): filter, chain FORWARD", "hook": "forward", "policy": "accept", "accepts": []}
    world[2]["forward"].append({**place, "drops": drops("-o eth0 -j DROP", "-m time --timestart 01:00 -j DROP")})
    world[2]["host_filters"] = [{**INPUT6, "drops": drops("-p udp -m length --length 1000: -j DROP")}]
    assert found(world) == []


def test_places_without_a_name_are_left_out() -> None:
    world = World("vxlan", (4, 6))
    row = {"hook": "forward", "policy": "accept", "drops": drops("-j DROP", "-m time -j DROP", "-p ipv6-icmp -j DROP")}
    world[2]["forward"].append(row)
    world[2]["host_filters"] = [{**row, "hook": "input"}]
    world[2]["redirects"] = [{"rules": ["-j NOTRACK"]}]
    assert found(world) == []


RAW = "iptables (nft): raw, chain PREROUTING"


@breaks(
    "pods-not-tracked",
    fix="iptables-nft --table raw --insert PREROUTING --source 10.244.0.0/16 --jump ACCEPT && "
    "iptables-nft --table raw --insert PREROUTING --destination 10.244.0.0/16 --jump ACCEPT",
)
def break_pods_not_tracked(world: World) -> None:
    world[2]["redirects"] = [{"place": RAW, "rules": ["-j NOTRACK"]}]


@breaks("pods-not-tracked", "vxlan")
def by_a_zone_of_what_pods_send(world: World) -> None:
    world[2]["redirects"] = [{"place": RAW, "rules": ["-i cni0 -j CT --zone 5"]}]


@breaks("pods-not-tracked", fix=MAY_DROP)
def by_nftables(world: World) -> None:
    world[2]["redirects"] = [{"place": "nftables: table ip guard, chain c", "rules": ["ip saddr 10.0.0.0/8 notrack"]}]


def test_what_is_not_tracked_for_one_service_is_no_finding() -> None:
    """As the cache of a node's DNS does it."""
    world = World("routes")
    rules = ["-d 169.254.20.10/32 -p udp -m udp --dport 53 -j CT --notrack", "-i eth1 -j CT --notrack"]
    # As the printed fix leaves it.
    accepts = ["-s 10.244.0.0/16 -j ACCEPT", "-d 10.244.0.0/16 -j ACCEPT"]
    world[2]["redirects"] = [{"place": RAW, "rules": [*rules, *accepts, "-j NOTRACK"]}]
    assert found(world) == []


BRIDGES = "nftables: table bridge filter, chain FORWARD"


@breaks("frames-dropped", fix="nft insert rule bridge filter FORWARD accept")
def break_frames_dropped(world: World) -> None:
    """A filter for virtual machines drops frames, too."""
    place = {"place": BRIDGES, "hook": "forward", "everything": "", "drops": drops('iifname "vnet0" drop')}
    world[1]["frame_filters"] = [place]
    world[2]["frame_filters"] = [{**place, "everything": "policy drop", "drops": []}]


@breaks("frames-dropped", fix="nft insert rule bridge filter FORWARD accept")
def by_links(world: World) -> None:
    rules = ["ether saddr 02:00:00:00:00:01 drop", 'iifname "veth*" counter packets 1 bytes 2 drop']
    world[2]["frame_filters"] = [{"place": BRIDGES, "hook": "input", "everything": "", "drops": drops(*rules)}]


@breaks("frames-dropped", families=(6,), fix="nft insert rule bridge x f accept")
def of_ipv6_alone(world: World) -> None:
    world[2]["frame_filters"] = [{**FRAMES, "drops": drops("ether type ip6 drop")}]


@breaks("frames-dropped", families=(6,))
def of_neighbour_discovery(world: World) -> None:
    world[2]["frame_filters"] = [{**FRAMES, "drops": drops("icmpv6 type nd-neighbor-solicit drop")}]


FRAMES = {"place": "nftables: table bridge x, chain f", "hook": "forward", "everything": ""}


@pytest.mark.parametrize(
    ("families", "rule"),
    [
        ((4,), "ether type ip6 drop"),
        ((4,), "meta protocol ip6 drop"),
        ((4,), "icmpv6 type nd-neighbor-solicit drop"),
        ((6,), "ether type arp drop"),
        ((6,), "meta protocol ip drop"),
    ],
)
def test_frames_of_the_other_ip_version_are_no_finding(families: tuple[int, ...], rule: str) -> None:
    world = World("routes", families)
    world[2]["frame_filters"] = [{**FRAMES, "drops": drops(rule)}]
    assert found(world) == []


@breaks("forward-drops-pods", families=(6,))
def by_the_ip_version(world: World) -> None:
    place = {"place": "nftables: table inet x, chain f", "hook": "forward", "policy": "accept", "accepts": []}
    world[2]["forward"].append({**place, "owner": "", "drops": drops("meta nfproto ipv6 drop")})


@breaks("host-drops-pods", fix="iptables-nft --insert INPUT --source 10.244.0.0/16 --jump ACCEPT")
def break_host_drops_pods(world: World) -> None:
    place = {"place": "iptables (nft): filter, chain INPUT", "hook": "input"}
    world[1]["host_filters"] = [
        {**place, "drops": drops("-s 10.244.0.0/16 -p tcp -m tcp --dport 22 -j DROP", "-s 192.0.2.1/32 -j DROP")}
    ]
    world[2]["host_filters"] = [{**place, "drops": drops("-s 10.244.0.0/16 -j DROP")}]
    spared = drops("-s 10.244.0.0/16 -j DROP", after=("-s 10.244.0.0/16 -j ACCEPT",))
    world[3]["host_filters"] = [{**place, "drops": spared}]


@breaks("host-drops-pods", "vxlan", fix="nft insert rule inet guard c ip daddr 10.244.0.0/16 accept")
def what_the_host_sends(world: World) -> None:
    place = {"place": "nftables: table inet guard, chain c", "hook": "output"}
    world[2]["host_filters"] = [{**place, "drops": drops('oifname "cni0" ip daddr { 10.244.0.0/16 } drop')}]


@breaks(
    "rule-redirects-pods",
    fix=f"iptables-nft --table mangle --insert PREROUTING --source {subnet(1)} --destination 10.244.0.0/16 --jump "
    "ACCEPT",
)
def to_a_transparent_proxy(world: World) -> None:
    place = "iptables (nft): mangle, chain PREROUTING"
    rule = "-p tcp -j TPROXY --on-port 15001 --on-ip 127.0.0.1 --tproxy-mark 0x1/0x1"
    world[2]["redirects"] = [{"place": place, "rules": [rule]}]


@breaks(
    "rule-redirects-pods",
    fix=f"iptables-nft --table mangle --insert PREROUTING --source 10.244.0.0/16 --destination {subnet(1)} --jump "
    "ACCEPT",
)
def what_arrives_from_one_node(world: World) -> None:
    place = "iptables (nft): mangle, chain PREROUTING"
    rule = f"-s {subnet(0)} -p tcp -j TPROXY --on-port 15001 --on-ip 127.0.0.1 --tproxy-mark 0x0/0x0"
    world[2]["redirects"] = [{"place": place, "rules": [rule]}]


@breaks("forward-drops-pods")
def what_comes_by_the_bridge(world: World) -> None:
    drop = "-i cni0 -m conntrack --ctstate NEW -j REJECT --reject-with icmp-port-unreachable"
    world[2]["forward"][0].update(drops=drops(drop))


@breaks("overlay-port-closed-outgoing", "vxlan", fix="nft insert rule inet mine OUTPUT udp dport 8472 accept")
def break_overlay_port_closed_outgoing(world: World) -> None:
    """ufw runs beside the table that closes the port."""
    place = "nftables: table inet mine, chain OUTPUT"
    world[2]["firewalls"].update(ufw=True, closed_udp=[{"port": 8472, "place": place, "out": True}])


@breaks("overlay-port-closed-outgoing", "flannel", fix="ufw allow out 8472/udp")
def by_ufw(world: World) -> None:
    place = "iptables (nft): filter, chain OUTPUT"
    world[2]["firewalls"].update(ufw=True, closed_udp=[{"port": 8472, "place": place, "out": True}])


@breaks(
    "masquerade-missing",
    fix=f"iptables --table nat --append POSTROUTING --source {subnet(1)} "
    "! --destination 10.244.0.0/16 --jump MASQUERADE",
)
def break_masquerade_missing(world: World) -> None:
    without(world[2]["masquerade"], owner="weft.podnet")


@pytest.mark.parametrize("backend", ["routes", "vxlan", "flannel"])
def test_where_the_plan_wants_no_masquerading_none_is_missing(backend: str) -> None:
    world = World(backend)
    for node, host in zip(world.plan["nodes"], world.hosts.values()):
        node["settings"]["podnet_masquerade"] = False
        host["masquerade"] = []
    assert found(world) == []


@breaks("rule-translates-pods")
def break_rule_translates_pods(world: World) -> None:
    rules = ["-A POSTROUTING -o eth0 -j MASQUERADE"]
    world[2]["masquerade"].append({"place": "iptables (nft): nat, chain POSTROUTING", "owner": "other", "rules": rules})


@breaks("rule-translates-pods", planned=False)
def before_it_spares_other_networks(world: World) -> None:
    rules = ["-d 192.0.2.0/24 -j RETURN", '-o eth+ -m comment --comment "to the site" -j MASQUERADE --random-fully']
    world[2]["masquerade"].append({"place": "iptables (nft): nat, chain POSTROUTING", "owner": "other", "rules": rules})


@breaks("rule-translates-pods", "vxlan")
def a_whole_network(world: World) -> None:
    rules = [f"-s {subnet(1)} -o flannel.1 -j NETMAP --to 192.168.77.0/24"]
    world[2]["masquerade"].append({"place": NAT_OUT, "owner": "other", "rules": rules})


@breaks("rule-redirects-pods")
def to_another_network(world: World) -> None:
    world[2]["redirects"] = [{"place": NAT, "rules": ["-d 10.244.0.0/16 -j NETMAP --to 192.168.0.0/16"]}]


MANGLE = "iptables (nft): mangle, chain PREROUTING"


def marks(world: World, rule: str, place: str = MANGLE, **policy: Any) -> None:
    world[2]["redirects"] = [{"place": place, "rules": [rule]}]
    standard = {"version": 4, "priority": 100, "from": "", "to": "", "table": "vpn", "iif": "", "oif": ""}
    world[2]["rules"] = [{**standard, "fwmark": 7, "action": "lookup", "inverted": False, **policy}]
    route = dict(entry(world[2]["routes"], dst="default"), table="vpn", via="", dev="wg0")
    world[2]["routes"].append(route)


TO_MAIN = f"ip rule add to {subnet(0)} table main priority 99"


@breaks("marked-pods-diverted", "vxlan", fix=TO_MAIN)
def break_marked_pods_diverted(world: World) -> None:
    marks(world, "-s 10.244.0.0/16 -j MARK --set-xmark 0x7/0xffffffff")


@breaks("marked-pods-diverted", fix=TO_MAIN)
def some_bits_of_a_mark(world: World) -> None:
    marks(world, "-i cni0 -p tcp -j MARK --set-xmark 0x17/0x1f", fwmask=15)


@breaks("marked-pods-diverted", fix=TO_MAIN)
def a_mark_and_nothing_else(world: World) -> None:
    marks(world, "-s 10.244.0.0/16 -j MARK --set-xmark 0x7/0xffffffff")
    rules = ['iifname "cni0" meta mark set 0x00000007 accept', "meta mark set 0x00000001"]
    world[2]["redirects"] = [{"place": "nftables: table ip x, chain p", "rules": rules}]


@breaks("rule-redirects-pods")
def to_a_transparent_proxy_of_nftables(world: World) -> None:
    """Its policy rule leads marked packets to the proxy, and explains nothing."""
    marks(world, 'iifname "cni0" meta l4proto tcp tproxy to :50080 meta mark set 0x00000007 accept')
    world[2]["redirects"][0]["place"] = "nftables: table ip x, chain p"


@breaks("marked-pods-diverted", fix=TO_MAIN)
def a_mark_of_nftables(world: World) -> None:
    marks(
        world, 'iifname "cni0" meta mark set 0x00000007', "nftables: table ip x, chain p", action="prohibit", table=""
    )


@pytest.mark.parametrize(
    ("rule", "policy"),
    [
        ("-s 10.244.0.0/16 -j MARK --set-xmark 0x7/0xffffffff", {"suppress_prefixlength": 0}),
        ("-s 10.244.0.0/16 -j MARK --set-xmark 0x8/0xffffffff", {}),
        ("-s 10.244.0.0/16 -p tcp -m tcp --dport 443 -j MARK --set-xmark 0x7/0xffffffff", {}),
        ("-s 192.0.2.0/24 -j MARK --set-xmark 0x7/0xffffffff", {}),
        ("-s 10.244.0.0/16 -j MARK --set-xmark 0x7/0xffffffff", {"to": "192.0.2.0/24"}),
        ("-s 10.244.0.0/16 -j MARK --set-xmark 0x7/0xffffffff", {"table": "main"}),
        ("-s 10.244.0.0/16 -j MARK --set-xmark 0x7/0xffffffff", {"priority": 32767}),
        ("-s 10.244.0.0/16 -j MARK --set-xmark 0x7/0xffffffff", {"table": "empty"}),
        ("meta mark set ct mark", {}),
        ("ip saddr 10.244.0.0/16 jump proxied", {}),
    ],
)
def test_marks_that_divert_no_pods(rule: str, policy: dict[str, Any]) -> None:
    world = World("routes")
    marks(world, rule, **policy)
    assert found(world) == []


def test_a_rule_for_pods_comes_before_one_for_a_mark() -> None:
    """As the fix adds it; one for other packets does not help."""
    world = World("routes")
    marks(world, "-s 10.244.0.0/16 -j MARK --set-xmark 0x7/0xffffffff")
    rule = dict(world[2]["rules"][0], fwmark=0, table="main", to="192.0.2.0/24", priority=98)
    world[2]["rules"].insert(0, rule)
    assert len(found(world)) == 3
    world[2]["rules"][0] = dict(rule, action="goto", goto=32766, table="", to="10.244.0.0/16")
    assert found(world) == []
    world[2]["rules"][0]["goto"] = 31000
    assert len(found(world)) == 3
    world[2]["rules"][:1] = [dict(rule, to=subnet(number), priority=99) for number in range(3)]
    assert found(world) == []


@breaks("policy-rule-missing", "vxlan", (4, 6), fix="ip -6 rule add priority 32766 table main")
def break_policy_rule_missing(world: World) -> None:
    world[2]["missing_rules"] = [{"version": 6, "table": "main"}]


@breaks("policy-rule-missing", fix="ip -4 rule add priority 0 table local")
def for_its_own_addresses(world: World) -> None:
    world[2]["missing_rules"] = [{"version": 4, "table": "local"}, {"version": 6, "table": "main"}]


@breaks("default-route-missing", fix="ip route add default via 172.16.0.1")
def break_default_route_missing(world: World) -> None:
    without(world[2]["routes"], dst="default")


@breaks("default-route-missing")
def one_that_refuses(world: World) -> None:
    entry(world[2]["routes"], dst="default").update(type="unreachable", via="", dev="")


def test_where_ipv6_is_disabled_its_default_route_is_gone_as_well() -> None:
    world = World("routes", (4, 6))
    for number in (1, 3):
        route = entry(world[number]["routes"], dst="default")
        world[number]["routes"].append({**route, "via": "fd00:172:16::1", "family": 6})
    assert [each["rule"] for each in found(world)] == ["default-route-missing"]
    world[2]["sysctls"]["net.ipv6.conf.eth0.disable_ipv6"] = {"now": "1", "boot": "", "file": ""}
    assert [each["rule"] for each in found(world)] == []
    # Where it was enabled on the link later.
    world[2]["sysctls"]["net.ipv6.conf.all.disable_ipv6"] = {"now": "1", "boot": "", "file": ""}
    world[2]["sysctls"]["net.ipv6.conf.eth0.disable_ipv6"] = {"now": "0", "boot": "", "file": ""}
    assert "default-route-missing" in [each["rule"] for each in found(world)]
    world[2]["sysctls"]["net.ipv6.conf.all.disable_ipv6"] = {"now": "0", "boot": "", "file": ""}
    world[2]["sysctls"]["net.ipv6.conf.eth0.disable_ipv6"] = {"now": "1", "boot": "", "file": ""}
    # That of IPv4 is another matter.
    without(world[2]["routes"], dst="default")
    assert "default-route-missing" in [each["rule"] for each in found(world)]


def test_one_node_with_a_default_route_is_a_gateway() -> None:
    """And a route that refuses is none."""
    world = World("routes")
    without(world[2]["routes"], dst="default")
    entry(world[3]["routes"], dst="default").update(type="blackhole", via="", dev="")
    assert [each["rule"] for each in found(world)] == []


@breaks("default-route-missing", "vxlan", fix="")
def through_a_router_elsewhere(world: World) -> None:
    without(world[2]["routes"], dst="default")
    for number in (1, 3):
        entry(world[number]["routes"], dst="default")["via"] = "192.0.2.1"


def test_a_default_route_in_another_table_is_one() -> None:
    world = World("routes")
    entry(world[2]["routes"], dst="default")["table"] = "vpn"
    assert found(world) == []
    entry(world[2]["routes"], dst="default").update(dst="0.0.0.0/1", table="main")
    assert found(world) == []


@breaks("rule-translates-pods", "vxlan")
def in_nftables(world: World) -> None:
    rules = ['ip saddr 10.244.0.0/16 oifname != "cni0" masquerade']
    world[2]["masquerade"].append({"place": "nftables: table ip nat, chain post", "owner": "other", "rules": rules})


@breaks("rule-translates-pods")
def to_an_address_of_its_own(world: World) -> None:
    rules = [f"-s 10.244.0.0/16 -o eth0 -j SNAT --to-source {underlay(1)}"]
    world[2]["masquerade"].append({"place": NAT_OUT, "owner": "other", "rules": rules})


NAT_OUT = "iptables (nft): nat, chain POSTROUTING"


@breaks(
    "masquerade-address-foreign",
    "vxlan",
    fix=f"iptables-nft --table nat --insert POSTROUTING --source {subnet(1)} ! --destination 10.244.0.0/16 --jump "
    "MASQUERADE",
)
def break_masquerade_address_foreign(world: World) -> None:
    rules = ["-s 10.244.0.0/16 -o eth0 -j SNAT --to-source 192.0.2.9"]
    world[2]["masquerade"].append({"place": NAT_OUT, "owner": "other", "rules": rules})


@breaks("masquerade-address-foreign", "vxlan", fix="")
def in_a_table_of_nftables(world: World) -> None:
    rules = ['oifname "eth0" ip saddr 10.244.0.0/16 snat to 192.0.2.9']
    world[2]["masquerade"].append({"place": "nftables: table ip nat, chain p", "owner": "other", "rules": rules})


def test_a_rule_for_an_address_of_the_node_is_no_finding() -> None:
    world = World("vxlan", (4, 6))
    six = underlay(1, 6)
    for place, rule in (
        (NAT_OUT, f"-s 10.244.0.0/16 -o eth0 -j SNAT --to-source {underlay(1)}:1024-65535"),
        (f"ip6{NAT_OUT[2:]}", f"-s {subnet(1, 6)} -o eth0 -j SNAT --to-source {six}"),
        (f"ip6{NAT_OUT[2:]}", f"-s {subnet(1, 6)} -o eth0 -j SNAT --to-source [{six}]:1024-65535"),
    ):
        world[2]["masquerade"].append({"place": place, "owner": "other", "rules": [rule]})
    assert found(world) == []


def test_a_foreign_address_that_pods_get_everywhere_is_one_finding() -> None:
    world = World("routes")
    rules = ["-s 10.244.0.0/16 -o eth0 -j SNAT --to-source 192.0.2.9"]
    world[2]["masquerade"].append({"place": NAT_OUT, "owner": "other", "rules": rules})
    assert {each["rule"] for each in found(world)} == {"rule-translates-pods"}


# Packet sizes


@breaks("mesh-mtu-too-large", "flannel", fix="ip link set flannel.1 mtu 1400")
def break_mesh_mtu_too_large(world: World) -> None:
    """The underlay's MTU was lowered on all nodes, and worker 2's device is from before."""
    for number in (1, 2, 3):
        entry(world[number]["links"], name="eth0")["mtu"] = 1450
        for each in world[number]["ways"].values():
            each["mtu"] = 1450
        if number != 2:
            entry(world[number]["links"], name="flannel.1")["mtu"] = 1400
            for pod in world[number]["cni"]["pods"]:
                pod["mtu"] = 1400
            world[number]["flannel"]["subnet_env"]["FLANNEL_MTU"] = "1400"


@breaks("mesh-mtu-differs", "vxlan")
def break_mesh_mtu_differs(world: World) -> None:
    entry(world[2]["links"], name="eth0")["mtu"] = 1400
    entry(world[2]["links"], name="flannel.1")["mtu"] = 1350
    world[2]["cni"]["files"][0]["mtu"] = 1350
    for pod in world[2]["cni"]["pods"]:
        pod["mtu"] = 1350


@breaks("underlay-mtu-differs", fix="ip link set eth0 mtu 1500")
def break_underlay_mtu_differs(world: World) -> None:
    entry(world[2]["links"], name="eth0")["mtu"] = 9000


@breaks("pod-mtu-too-large", "vxlan")
def break_pod_mtu_too_large(world: World) -> None:
    world[2]["cni"]["files"][0]["mtu"] = 1500
    entry(world[2]["links"], name="cni0")["mtu"] = 1500


@breaks("pod-mtu-too-large", "vxlan")
def no_mtu_at_all(world: World) -> None:
    world[2]["cni"]["files"][0]["mtu"] = 0


@breaks("pod-mtu-too-large", "flannel")
def of_pods_from_before(world: World) -> None:
    world[2]["cni"]["pods"][0]["mtu"] = 1500


WITH_MTU = "sed -i 's/{}/I' /etc/kube-flannel/net-conf.json && systemctl restart flanneld"


@breaks("pod-mtu-too-large", "flannel", (4, 6), fix=WITH_MTU.format('"Type": *"vxlan"/&, "MTU": 1480'))
def as_flanneld_does_without_an_mtu(world: World) -> None:
    del world[2]["flannel"]["net_conf"]["Backend"]["MTU"]
    world[2]["cni"]["files"][0]["mtu"] = 1450


@breaks("pod-mtu-too-large", "flannel", (4, 6), fix=WITH_MTU.format('"MTU": *[0-9]*/"MTU": 1480'))
def with_another_mtu(world: World) -> None:
    world[2]["flannel"]["net_conf"]["Backend"]["MTU"] = 1500
    world[2]["cni"]["files"][0]["mtu"] = 1450


@breaks("path-mtu-too-small", "vxlan", fix="ip link set flannel.1 mtu 1350")
def break_path_mtu_too_small(world: World) -> None:
    world[2]["ways"][underlay(0)]["mtu"] = 1400


NFT_FORWARD = {
    "file": "/etc/nftables.conf", "place": "nftables: table inet filter, chain forward", "hook": "forward",
    "policy": "drop", "accepts": [], "owner": "", "rejects_before": "", "drops": [], "may_accept": [],
}  # fmt: skip
V4_FORWARD = {
    **NFT_FORWARD, "file": "/etc/iptables/rules.v4", "place": "iptables (nft): filter, chain FORWARD"
}  # fmt: skip
CHAIN = "insert rule inet filter forward ip"


@breaks(
    "forward-drops-pods-at-boot", "flannel",
    fix=f"printf '%s\\n' '' '{CHAIN} saddr 10.244.0.0/16 accept' '{CHAIN} daddr 10.244.0.0/16 accept' "
    ">> /etc/nftables.conf",
)  # fmt: skip
def break_forward_drops_pods_at_boot(world: World) -> None:
    world[2]["saved_forward"] = [NFT_FORWARD]


@breaks(
    "forward-drops-pods-at-boot",
    fix="sed -i '/^\\*filter/,/^COMMIT/s#^COMMIT#-I FORWARD -s 10.244.0.0/16 -j ACCEPT\\n"
    "-I FORWARD -d 10.244.0.0/16 -j ACCEPT\\n&#' /etc/iptables/rules.v4",
)
def by_the_rules_of_iptables(world: World) -> None:
    world[2]["forward"][0]["accepts"] = ["0.0.0.0/0"]
    world[2]["saved_forward"] = [V4_FORWARD]


@pytest.mark.parametrize(
    ("backend", "saved", "running"),
    [
        # Pods pass, or are accepted by what may be added at boot.
        ("routes", {**NFT_FORWARD, "accepts": ["10.244.0.0/16"]}, None),
        ("routes", NFT_FORWARD, {**NFT_FORWARD, "accepts": ["10.0.0.0/8"]}),
        ("routes", V4_FORWARD, None),
        # flanneld adds its rules.
        ("flannel", V4_FORWARD, {**V4_FORWARD, "policy": "accept", "accepts": ["0.0.0.0/0"]}),
        ("routes", {**NFT_FORWARD, "policy": "accept"}, None),
        ("routes", {**NFT_FORWARD, "hook": "postrouting", "policy": "accept"}, None),
    ],
)  # fmt: skip
def test_saved_filters_that_let_pods_pass_are_no_finding(backend: str, saved: Any, running: Any) -> None:
    world = World(backend)
    world[2]["saved_forward"] = [saved]
    if running:
        kept = [each for each in world[2]["forward"] if each["place"] != running["place"]]
        world[2]["forward"] = [*kept, running]
    assert found(world) == []


def test_the_fix_of_a_saved_filter_accepts_pods_of_both_families() -> None:
    world = World("vxlan", (4, 6))
    world[2]["saved_forward"] = [NFT_FORWARD]
    (only,) = found(world)
    assert [word in only["fix"] for word in ("ip saddr 10.244.0.0/16", "ip6 daddr fd00:10:244::/48")] == [True, True]


def test_a_filter_that_drops_already_is_one_finding() -> None:
    world = World("routes")
    world[2]["forward"].append(NFT_FORWARD)
    world[2]["saved_forward"] = [NFT_FORWARD]
    assert [each["rule"] for each in found(world)] == ["forward-drops-pods"]


OF_ROUTE = (
    "ip -4 route show exact {0} dev eth0 table main | sed -nE '/ via |nexthop/d; "
    "s/ (dead|linkdown|expires [0-9]+sec)//g; s/^(.*) mtu (lock )?[0-9]+/\\1 dev eth0/p' | "
    "while read -r route; do ip -4 route change $route table main; done"
)


@breaks("path-mtu-too-small", "vxlan", fix=OF_ROUTE.format("172.16.0.3/32"))
def by_a_route_on_the_link(world: World) -> None:
    world[2]["ways"][underlay(0)].update(mtu=1400, dst="172.16.0.3/32")
    world[2]["routes"].append({"dst": "172.16.0.3/32", "dev": "eth0", "via": "", "owner": "boot", "mtu": 1400})


@breaks("path-mtu-too-small", fix=OF_ROUTE.format("172.16.0.3/32"))
def by_a_route_without_a_tunnel(world: World) -> None:
    by_a_route_on_the_link(world)


@breaks("path-mtu-too-small", "vxlan", fix="ip link set flannel.1 mtu 1350")
def by_a_route_to_a_gateway(world: World) -> None:
    """What is behind it may need that."""
    world[2]["ways"][underlay(0)].update(mtu=1400, dst="172.16.0.3/32", via="172.16.0.1")
    world[2]["routes"].append(
        {"dst": "172.16.0.3/32", "dev": "eth0", "via": "172.16.0.1", "owner": "boot", "mtu": 1400}
    )


@breaks("path-mtu-too-small")
def without_a_tunnel(world: World) -> None:
    world[2]["ways"][underlay(0)]["mtu"] = 1400


@breaks("bridge-mtu-too-small", "vxlan", fix="ip link set cni0 mtu 1450")
def break_bridge_mtu_too_small(world: World) -> None:
    entry(world[2]["links"], name="cni0")["mtu"] = 1400


@breaks("bridge-mtu-too-small", fix="ip link set veth0123abcd mtu 1500")
def of_one_port(world: World) -> None:
    entry(world[2]["links"], name="veth0123abcd")["mtu"] = 500


# Pods of a node


@breaks("leases-not-writable", fix="mount -o remount,rw $(findmnt -n -o TARGET --target /var/lib/cni/networks/bridge)")
def break_leases_not_writable(world: World) -> None:
    world[2]["cni"]["networks"][0].update(unwritable="read-only")


@breaks("leases-not-writable", fix="")
def full(world: World) -> None:
    world[2]["cni"]["networks"][0].update(unwritable="full")


@breaks("leases-exhausted")
def break_leases_exhausted(world: World) -> None:
    world[2]["cni"]["networks"][0]["leases"] = 253


@breaks("leases-exhausted", fix="cd /var/lib/cni/networks/bridge && rm -f 10.244.1.9 10.244.1.10")
def by_stale_ones(world: World) -> None:
    world[2]["cni"]["networks"][0].update(leases=253, stale=2, stale_addresses=["10.244.1.9", "10.244.1.10"])


@breaks("leases-nearly-full")
def break_leases_nearly_full(world: World) -> None:
    world[2]["cni"]["networks"][0]["leases"] = 240


@breaks("leases-stale", "flannel", fix="cd /var/lib/cni/networks/cbr0 && rm -f 10.244.1.9")
def break_leases_stale(world: World) -> None:
    world[2]["cni"]["networks"][0].update(leases=3, stale=1, stale_addresses=["10.244.1.9"])


@breaks("pod-address-duplicate")
def break_pod_address_duplicate(world: World) -> None:
    world[2]["cni"]["pods"][1]["address"] = world[2]["cni"]["pods"][0]["address"]


@breaks("pod-address-duplicate")
def of_the_gateway(world: World) -> None:
    world[2]["cni"]["pods"][0]["address"] = "10.244.1.1"


@breaks(
    "pod-address-duplicate",
    fix="nsenter --net=/run/netns/cni-10.244.1.5 ip address flush dev eth0 to 10.244.1.1",
)
def of_the_gateway_besides_its_own(world: World) -> None:
    pod = world[2]["cni"]["pods"][0]
    world[2]["cni"]["pods"].append({**pod, "address": "10.244.1.1"})


def test_a_pod_may_have_the_first_address_where_the_gateway_is_another_one() -> None:
    world = World("routes")
    entry(world[2]["addresses"], dev="cni0")["address"] = "10.244.1.254/24"
    world[2]["cni"]["pods"][0]["address"] = "10.244.1.1"
    assert found(world) == []


@breaks(
    "pod-link-unusable",
    fix="nsenter --net=/run/netns/cni-10.244.1.5 ip link set eth0 up && "
    "nsenter --net=/run/netns/cni-10.244.1.5 ip route replace default via 10.244.1.1 dev eth0",
)
def break_pod_link_unusable(world: World) -> None:
    world[2]["cni"]["pods"][0].update(up=False, default_route=False)


@breaks("pod-link-unusable", "vxlan", (4, 6))
def that_lost_its_ipv6_address(world: World) -> None:
    """Only the plugin gives it back."""
    world[2]["cni"]["pods"][0].update(up=False, default_route=False)


@breaks("pod-link-unusable", fix="nsenter --net=/run/netns/cni-10.244.1.5 ip link set eth0 arp on")
def without_arp(world: World) -> None:
    world[2]["cni"]["pods"][0]["arp"] = False


@breaks("ipv6-address-duplicate", "vxlan", (4, 6))
def break_ipv6_address_duplicate(world: World) -> None:
    entry(world[2]["addresses"], dev="cni0", address=f"{first(1, 6, 1)}/64").update(tentative=True, duplicate=True)


@breaks("ipv6-address-duplicate", "vxlan", (4, 6))
def of_the_node(world: World) -> None:
    entry(world[2]["addresses"], address=f"{underlay(1, 6)}/64").update(tentative=True, duplicate=True)


@breaks("bridge-ports-blocked", fix="for port in veth0123abcd; do bridge link set dev $port locked off; done")
def of_ports_that_are_locked(world: World) -> None:
    entry(world[2]["links"], name="veth0123abcd")["locked"] = True


@breaks("bridge-ports-blocked", fix="for port in veth0123abcd; do bridge link set dev $port learning on flood on; done")
def of_ports_that_are_not_found(world: World) -> None:
    entry(world[2]["links"], name="veth0123abcd")["findable"] = False


@breaks(
    "fdb-wrong-node",
    "vxlan",
    fix=f"bridge fdb replace {mac(0)} dev {device(4)} dst {underlay(0)} self permanent",
)
def of_an_entry_with_its_own_port(world: World) -> None:
    entry(world[2]["fdb"], mac=mac(0))["port"] = 4789


@breaks("pod-address-duplicate", "bridge")
def in_the_leases(world: World) -> None:
    world[2]["cni"]["networks"][0]["duplicates"] = ["10.244.1.5"]


@breaks(
    "pods-detached",
    fix="for link in veth0123abcd; do ip link set $link master cni0 up; bridge link set dev $link hairpin on; done",
)
def break_pods_detached(world: World) -> None:
    entry(world[2]["links"], name="veth0123abcd")["master"] = ""
    world[2]["cni"]["detached"] = ["veth0123abcd"]


@breaks("bridge-missing", "flannel")
def break_bridge_missing(world: World) -> None:
    without(world[2]["links"], name="cni0")
    without(world[2]["addresses"], dev="cni0")
    without(world[2]["routes"], dev="cni0")


@breaks("bridge-down", fix="ip link set cni0 up")
def break_bridge_down(world: World) -> None:
    entry(world[2]["links"], name="cni0")["up"] = False
    without(world[2]["routes"], dev="cni0")


@breaks(
    "bridge-address-wrong",
    "flannel",
    fix="ip address flush dev cni0 scope global && ip address add 10.244.1.1/24 dev cni0",
)
def break_bridge_address_wrong(world: World) -> None:
    entry(world[2]["addresses"], dev="cni0")["address"] = "10.244.7.1/24"
    world[2]["cni"]["pods"] = []


GATEWAY = r"""sed -i 's#\("gateway" *: *"\)10[.]244[.]1[.]9"#\110.244.1.1"#' /etc/cni/net.d/10-bridge.conflist"""


@breaks("bridge-address-wrong", fix=GATEWAY)
def another_gateway(world: World) -> None:
    world[2]["cni"]["files"][0]["gateways"] = ["10.244.1.9/24"]


def test_the_fix_of_a_gateway_changes_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "10-bridge.conflist"
    path.write_text('{"gateway": "10.244.1.9", "rangeStart": "10.244.1.90", "rangeEnd": "10.244.1.9"}')
    subprocess.run(GATEWAY.replace("/etc/cni/net.d", str(tmp_path)), shell=True, check=True)
    assert path.read_text() == '{"gateway": "10.244.1.1", "rangeStart": "10.244.1.90", "rangeEnd": "10.244.1.9"}'


@breaks("bridge-address-wrong", fix="ip address add 10.244.1.254/24 dev cni0")
def a_gateway_that_is_lost(world: World) -> None:
    world[2]["cni"]["files"][0]["gateways"] = ["10.244.1.254/24"]
    without(world[2]["addresses"], dev="cni0")


@breaks("bridge-address-wrong", fix="ip address add 10.244.1.1/24 dev cni0")
def lost(world: World) -> None:
    without(world[2]["addresses"], dev="cni0")


@breaks("bridge-ports-isolated")
def break_bridge_ports_isolated(world: World) -> None:
    for name in ("veth0123abcd", "veth4567abcd"):
        entry(world[2]["links"], name=name)["isolated"] = True


@breaks("pods-detached", fix="for link in veth0123abcd; do ip link set $link master cni0 up; "
        "bridge link set dev $link hairpin on; done")  # fmt: skip
def to_another_bridge(world: World) -> None:
    world[2]["links"].append({"name": "br9", "kind": "bridge", "mtu": 1500, "up": True, "master": ""})
    entry(world[2]["links"], name="veth0123abcd")["master"] = "br9"


@breaks("pod-address-on-bridge", fix=f"ip address delete {first(1, 4, 9)}/24 dev cni0")
def break_pod_address_on_bridge(world: World) -> None:
    world[2]["addresses"].append({"dev": "cni0", "address": f"{first(1, 4, 9)}/24", "scope": "global"})


@breaks("pod-address-on-bridge")
def of_a_live_pod(world: World) -> None:
    pod = world[2]["cni"]["pods"][0]["address"]
    entry(world[2]["addresses"], dev="cni0", address=f"{first(1, 4, 1)}/24")["address"] = f"{pod}/24"


@breaks("bridge-ports-blocked", fix="for port in veth0123abcd; do ip link set $port up; done")
def break_bridge_ports_blocked(world: World) -> None:
    entry(world[2]["links"], name="veth0123abcd")["up"] = False


@breaks(
    "bridge-ports-blocked",
    fix="ip link set cni0 type bridge stp_state 0 && "
    "for port in veth0123abcd; do bridge link set dev $port state 3; done",
)
def by_a_spanning_tree(world: World) -> None:
    entry(world[2]["links"], name="veth0123abcd")["port_state"] = "learning"
    entry(world[2]["links"], name="veth4567abcd")["port_state"] = "disabled"


@breaks(
    "pod-rules-leaked",
    fix=f"(echo '*nat'; iptables-save --table nat | grep -e {'d' * 64} | sed -n 's/^-A /-D /p'; echo COMMIT) | "
    "iptables-restore --noflush",
)
def break_pod_rules_leaked(world: World) -> None:
    world[2]["cni"]["rules"] = [{"kind": "masquerade", "container": "d" * 64, "network": "bridge", "live": False}]


@breaks("pods-outside-subnet")
def break_pods_outside_subnet(world: World) -> None:
    world[2]["cni"]["pods"][0]["address"] = "10.244.9.5"


# Network managers and leftovers


@breaks("networkd-claims-pods")
def break_networkd_claims_pods(world: World) -> None:
    file = {"path": "/etc/systemd/network/00-all.network", "matches": ["eth0", "cni0", "veth0123abcd"]}
    world[2]["managers"]["networkd"]["files"].insert(0, {**file, "ours": False, "unmanaged": False})


@breaks("networkd-removes-routes")
def break_networkd_removes_routes(world: World) -> None:
    world[2]["managers"]["networkd"]["manage_foreign_routes"] = True


@breaks("networkmanager-claims-pods", "flannel")
def break_networkmanager_claims_pods(world: World) -> None:
    world[2]["managers"]["network_manager"].update(running=True, managed=["eth0", "flannel.1"])


@breaks("leftovers", fix="ip link delete tunl0")
def break_leftovers(world: World) -> None:
    world[2]["leftovers"] = [{"what": "device tunl0", "of": "calico", "text": ""}]


@breaks("unit-not-active", fix="systemctl enable --now weft-podnet-routes-87.service")
def break_unit_not_active(world: World) -> None:
    world[2]["ours"]["units"]["weft-podnet-routes-87.service"] = "failed"


@breaks("checkpoint-pending")
def break_checkpoint_pending(world: World) -> None:
    world[2]["ours"]["checkpoint_pending"] = "2026-11-27T03:00:00Z"


# Certificates


@breaks("certificate-expired", "flannel")
def break_certificate_expired(world: World) -> None:
    world[2]["certificates"][1].update(days_left=-1, not_after="2026-11-26")
    world[2]["flannel"].update(processes=[], subnet_env={})


@breaks(
    "certificate-expires-soon", fix="rm -f /var/lib/kubelet/pki/kubelet-client-current.pem && systemctl restart kubelet"
)
def break_certificate_expires_soon(world: World) -> None:
    kubelet = {"path": "/var/lib/kubelet/pki/kubelet-client-current.pem", "subject": "CN=system:node:worker-2"}
    world[2]["certificates"].append({**kubelet, "not_after": "2026-12-01", "days_left": 4, "signed_by_ca": True})


@breaks("certificate-other-ca", "flannel")
def break_certificate_other_ca(world: World) -> None:
    world[2]["certificates"][1]["signed_by_ca"] = False


@pytest.mark.parametrize("broken", BREAKS, ids=[each.name for each in BREAKS])
def test_a_break_gives_exactly_its_finding(broken: Break) -> None:
    world = broken.world.copy()
    broken.change(world)
    result = found(world)
    assert {each["rule"] for each in result} == {broken.rule}, findings.diagnose(**world.given())["text"]
    hosts = {each["host"] for each in result}
    assert hosts == ({broken.host} if broken.host else set(world.hosts))
    assert "<" not in result[0]["fix"].replace("<<", "") or broken.fix is None
    if broken.fix is not None:
        assert result[0]["fix"] == broken.fix


FORESEEN = {rule.id for rule in RULES if rule.foreseen}


@pytest.mark.parametrize("broken", BREAKS, ids=[each.name for each in BREAKS])
def test_before_a_run_only_what_it_leaves_as_it_is_is_reported(broken: Break) -> None:
    world = broken.world.copy()
    broken.change(world)
    judged = findings.diagnose(**world.given(), foreseen=True)
    foreseen = set() if broken.repaired else {broken.rule} & FORESEEN
    assert {each["rule"] for each in judged["findings"]} == foreseen, judged["text"]
    assert bool(judged["lines"]) == bool(foreseen) and "Checked:" not in judged["text"]


def test_what_a_run_writes_is_not_foreseen() -> None:
    assert [rule.id for rule in RULES if rule.foreseen and "site.yml" in rule.site] == []


def test_every_rule_has_a_break() -> None:
    assert set(IDS) - {each.rule for each in BREAKS} == set()


# The table


def test_the_table_is_sound() -> None:
    assert len(set(IDS)) == len(IDS) >= 45
    for rule in RULES:
        assert rule.severity in SEVERITIES
        assert set(rule.explains) <= set(IDS) - {rule.id}, rule.id
        assert (
            rule.fix
            or rule.site
            or rule.id in WITHOUT_A_FIX
            or any(each.fix for each in BREAKS if each.rule == rule.id)
        ), rule.id
        for text in (rule.title, rule.effect, rule.see, rule.source, rule.meaning):
            assert text and text.isprintable(), rule.id
        assert rule.effect.endswith(".") and rule.meaning.endswith(".") and not rule.title.endswith("."), rule.id
    assert all(concern.rules and concern.about for concern in CONCERNS)


# Only the user knows what to do about the host itself.
WITHOUT_A_FIX = {
    "not-observed", "underlay-mac-duplicate", "peer-unreachable", "node-not-ready", "filter-may-drop-pods",
}  # fmt: skip


def test_no_two_rules_explain_each_other() -> None:
    """Or both would be left out."""
    explains = {rule.id: set(rule.explains) for rule in RULES}
    seen: dict[str, set[str]] = {}

    def below(identity: str) -> set[str]:
        if identity not in seen:
            seen[identity] = set()
            seen[identity] = explains[identity].union(*(below(each) for each in explains[identity]))
        return seen[identity]

    assert [identity for identity in IDS if identity in below(identity)] == []


def test_an_ipsec_policy_that_spares_pods() -> None:
    """The daemon's exception comes first; and nodes that encrypt what they send to each other."""
    world = World("routes", (4,), True)
    vpn = {**POLICY, "from": "10.244.0.0/16", "tunnel": "203.0.113.9"}
    world[2]["ipsec"] = [{**vpn, "tunnel": "", "priority": 1, "dir": each} for each in ("out", "fwd")] + [vpn]
    world[3]["ipsec"] = [{**vpn, "from": subnet(2), "to": subnet(1), "tunnel": underlay(1)}]
    assert found(world) == []


def test_rules_against_forged_addresses() -> None:
    """Nothing with a pod's address comes by the link to the internet."""
    world = World("routes", (4,), True)
    place = {"place": "iptables (nft): raw, chain PREROUTING", "hook": "prerouting", "policy": "accept", "accepts": []}
    world[2]["forward"].append({**place, "rejects_before": "", "drops": drops("-s 10.0.0.0/8 -i eth1 -j DROP")})
    assert found(world) == []


def test_rules_that_redirect_others_packets() -> None:
    """What comes in from outside, and what is for the host itself or for an address that is no pod's."""
    world = World("routes", (4,), True)
    rules = ["-i eth0 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.1.5:80",
             "-p tcp -m addrtype --dst-type LOCAL -m tcp --dport 80 -j DNAT --to-destination 10.244.1.5:80",
             "-d 203.0.113.7/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.1.5:80",
             "! -d 10.244.0.0/16 -p udp -m udp --dport 53 -j REDIRECT --to-ports 5353"]  # fmt: skip
    # As the printed fix leaves it, and what may spare pods' packets.
    for spared in (
        f"-s 10.244.0.0/16 -d {subnet(1)} -j ACCEPT; -s {subnet(1)} -d 10.244.0.0/16 -j ACCEPT",
        "-d 10.244.0.0/16 -j RETURN",
        "-m set --match-set lan dst -j RETURN",
        "-m comment --comment pods -j exceptions",
        "ip daddr { 10.0.0.0/8, 192.168.0.0/16 } return",
    ):
        world[2]["redirects"] = [{"place": NAT, "rules": [*rules, *spared.split("; "), "-j REDIRECT --to-ports 3128"]}]
        assert found(world) == [], spared
    world[2]["redirects"] = [{"place": NAT, "rules": [*rules, "-j LOG", "-j REDIRECT --to-ports 3128"]}]
    assert [each["rule"] for each in found(world)] == ["rule-redirects-pods"]
