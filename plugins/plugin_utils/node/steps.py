# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a worker needs, as steps of node_steps: computed from the plan, concern by concern.

The nodes are connected before what another backend left is removed, so there is no gap in the routes. The CNI
configuration comes last: as soon as it exists, the node becomes Ready and gets pods.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.weft.podnet.plugins.module_utils.core import vtep

from ..cni import schema as cni_schema
from ..flannel import settings as flannel
from ..releases import artifacts as releases
from . import underlay

Step = dict[str, Any]
NETWORK = {"cniVersion": "1.0.0"}
LOOPBACK = {**NETWORK, "name": "lo", "type": "loopback"}
LOOPBACK_FILE = "99-loopback.conf"
FLANNEL_FILE = "10-flannel.conflist"
# A list must end in .conflist, and one plugin alone must not. Either may be there, from another backend.
BRIDGE_FILES = ("10-bridge.conf", "10-bridge.conflist")
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}
CRYPTOGRAPHY = ("python3-cryptography",)
KEY, CERTIFICATE = "/etc/kubernetes/pki/flannel.key", "/etc/kubernetes/pki/flannel.crt"
# A worker that reaches so many of the others is not cut off.
MOST_CONTACTS = 50
LOOPBACK_SERVER = re.compile(r"//(localhost|127[.]|\[::1)")
# What the kernel must be able to load, br_netfilter apart.
FLANNEL_MODULES = {"vxlan": ["vxlan"], "wireguard": ["wireguard"], "ipip": ["ipip"], "udp": ["tun"]}


@dataclass(frozen=True)
class Worker:
    """What a worker's steps depend on.

    ``cluster`` and ``node`` are the plan and this worker's entry of it with its settings; ``nodes`` and ``peers`` are
    all workers and the Nodes that a flanneld runs beside them. ``artifacts`` are the checked release files on the
    controller, and ``arch`` is the node's architecture. ``flannel_backend`` is the variable with its key, and
    ``ca_certificate`` the cluster's CA; with ``force``, flanneld's certificate is due whatever its age. In a ``dry``
    run, earlier steps have not done their work.
    """

    cluster: Mapping[str, Any]
    node: Mapping[str, Any]
    nodes: Sequence[Mapping[str, Any]] = ()
    peers: Sequence[Mapping[str, Any]] = ()
    artifacts: Sequence[Mapping[str, Any]] = ()
    arch: str = ""
    flannel_backend: Mapping[str, Any] = field(default_factory=dict)
    ca_certificate: str = ""
    force: bool = False
    dry: bool = False

    @property
    def kind(self) -> str:
        """The backend: bridge, routes, vxlan or flannel."""
        return str(self.cluster["backend"])

    def setting(self, name: str) -> Any:
        """A variable of this worker or of the cluster; None where it has no value."""
        return {**self.cluster["settings"], **self.node["settings"]}.get(f"podnet_{name}")

    @property
    def chained(self) -> list[dict[str, Any]]:
        return [dict(plugin) for plugin in self.setting("cni_chained_plugins")]

    @property
    def unknown_plugins(self) -> list[str]:
        """The types of chained plugins that are not reference plugins: no schema knows them, no step brings them."""
        return sorted({str(plugin["type"]) for plugin in self.chained} - cni_schema.plugin_types())

    @property
    def masquerades(self) -> bool:
        """The plain bridge leaves masquerading to its CNI plugin, flannel to flanneld."""
        return bool(self.setting("masquerade")) and self.kind in ("routes", "vxlan")


def part(worker: Worker, name: str) -> list[Step]:
    """The steps of one part of a run.

    ``look``: everything, to be planned. ``first``: what connecting the nodes needs. ``devices``: the mesh without
    peers. ``mesh``: the mesh. ``certificate``, ``kubeconfig``, ``releases`` and ``flannel``: what flanneld needs,
    and flanneld. ``last``: everything that stays but flanneld. ``pods_absent`` and ``absent``: the removal.
    ``rollback``: the way back to an earlier checkpoint. ``watched``: what can be compared with the plan at any time,
    without release files and certificates.
    """
    steps = PARTS[name](worker)
    if name not in CUTTING:
        return steps
    return [_checkpoint(worker, name) if worker.setting("confirm") else _step("checkpoint", state="dismissed"), *steps]


def _checkpoint(worker: Worker, part: str) -> Step:
    """What the worker returns to by itself if the run does not come back. After a reset nothing of it stays."""
    place = [node["name"] for node in worker.nodes].index(worker.node["name"])
    others = [*worker.nodes[place + 1 :], *worker.nodes[:place]]
    contacts = [str(ip) for node in others for ip in node["node_ips"]]
    contacts += [str(peer["public_ip"]) for peer in worker.peers]
    asks = worker.kind == "flannel" or worker.cluster.get("asks_api")
    return _step(
        "checkpoint",
        timeout=worker.setting("confirm_timeout"),
        contacts=contacts[:MOST_CONTACTS],
        api=urlsplit(worker.cluster.get("api_server") or "").netloc if asks else "",
        vni=worker.cluster["vxlan"]["vni"],
        sysctls=list(_kernel(worker)["args"]["sysctls"]),
        conf_dir=worker.setting("cni_conf_dir"),
        bin_dir=worker.setting("cni_bin_dir"),
        keep=part != "absent",
        # Pods that are recreated after the change come under the same hold of the worker.
        last=part == "last" and worker.setting("live_pods") != "recreate",
    )


def _rollback(worker: Worker) -> list[Step]:
    return [_step("checkpoint", state="restored", number=worker.setting("rollback_to"))]


def _look(worker: Worker) -> list[Step]:
    flannel_steps = [*_identity(worker), *_flannel(worker)] if worker.kind == "flannel" else []
    return [_preflight(worker), *_first(worker), *flannel_steps, *_last(worker)]


def _first(worker: Worker) -> list[Step]:
    # flanneld's device has the mesh's name, and its routes lead to the same pods: it goes before others come.
    room = [] if worker.kind == "flannel" else [_flannel_absent(worker, makes_room=True)]
    return [_kernel(worker), *_firewall(worker), *_plugins(worker), *room]


def _last(worker: Worker) -> list[Step]:
    steps = [*_mesh(worker), _routes(worker)]
    if worker.kind == "flannel":
        steps += [*_bridge_absent(worker), _flannel_config(worker)]
    steps += [_leftovers(worker), _masquerade(worker), _forward(worker)]
    return steps if worker.kind == "flannel" else [*steps, *_bridge(worker)]


def _pods_absent(worker: Worker) -> list[Step]:
    configurations = [step["args"] for step in _bridge_absent(worker)]
    return [_step("bridge_absent", cni=configurations), _flannel_absent(worker)]


def _everything_absent(worker: Worker) -> list[Step]:
    """From the pods outward, in reverse order of the set-up: nothing is removed while something still uses it."""
    releases_too = ["flannel", "flannel_cni"] if worker.setting("reset_binaries") else []
    return [
        *_pods_absent(worker),
        *[_step("release_install", name=name, state="absent") for name in releases_too],
        _step("pod_masquerade", state="absent"),
        _step("pod_forward", state="absent"),
        _step("vxlan_leftovers", vni=worker.cluster["vxlan"]["vni"]),
        _step("pod_route", routes=[], purge=True),
        _step("cni_plugins", bin_dir=worker.setting("cni_bin_dir"), state="absent"),
        _step("release_install", name="cni_plugins", state="absent"),
        _step("node_firewall", state="absent"),
        _step("node_kernel", state="absent"),
        *_foreign(worker),
        *([] if worker.setting("confirm") else [_step("checkpoint", state="absent")]),
    ]


def _foreign(worker: Worker) -> list[Step]:
    names = worker.setting("reset_foreign")
    conf_dir, pod_cidr = worker.setting("cni_conf_dir"), worker.cluster["pod_cidrs"][0]
    return [_step("foreign", names=names, conf_dir=conf_dir, pod_cidr=pod_cidr)] if names else []


def _devices(worker: Worker) -> list[Step]:
    """The devices alone: routes keep connecting the nodes until every node has its end of the tunnel."""
    steps = [{**step, "args": {**step["args"], "peers": [], "purge": False}} for step in _mesh(worker)]
    return [*_first(worker), *steps]


def _step(module: str, **args: Any) -> Step:
    return {"module": module, "args": {name: value for name, value in args.items() if value is not None}}


def _preflight(worker: Worker) -> Step:
    source = worker.setting("cni_plugins_source")
    used = ["bridge", "host-local", "loopback", *([] if worker.kind == "bridge" else ["portmap"])]
    used += [plugin["type"] for plugin in worker.chained if plugin["type"] not in used]
    flannel_type = worker.cluster["settings"]["podnet_flannel_backend"]["Type"]
    return _step(
        "node_preflight",
        node_ips=worker.node["node_ips"],
        pod_subnets=worker.node["pod_subnets"],
        pod_cidrs=worker.cluster["pod_cidrs"],
        # Another backend's run removes flannel first.
        makes_room=worker.kind != "flannel",
        bridge=worker.setting("bridge_name"),
        protect=worker.setting("protect"),
        conf_dir=worker.setting("cni_conf_dir"),
        bin_dir=worker.setting("cni_bin_dir"),
        python={"vxlan": ["pyroute2"], "flannel": ["cryptography"]}.get(worker.kind, []),
        # flanneld ends at once without it, even where it writes nftables rules.
        commands={"vxlan": ["bridge"], "flannel": ["iptables"]}.get(worker.kind, []),
        kernel_modules={"vxlan": ["vxlan"], "flannel": FLANNEL_MODULES.get(flannel_type, [])}.get(worker.kind, []),
        masquerade=worker.setting("masquerade_backend") if worker.masquerades else "none",
        runtime_socket=worker.setting("verify_containerd_socket") if worker.setting("verify") else None,
        manage_packages=worker.setting("manage_packages"),
        plugins=used if source == "none" else worker.unknown_plugins,
        used_plugins=used,
        plugins_source=source,
        room=[
            {"folder": releases.folder(item), "bytes": item["room"]}
            for item in [*_flannel_files(worker), *_plugin_files(worker)]
        ],
    )


def _kernel(worker: Worker) -> Step:
    """A node forwards its pods' packets, and iptables sees those that cross the bridge (kube-proxy needs it)."""
    sysctls = {
        "net.ipv4.ip_forward": 1,
        "net.bridge.bridge-nf-call-iptables": 1,
        "net.bridge.bridge-nf-call-ip6tables": 1,
    }
    # It makes the kernel ignore router advertisements, so it is on only where pods have IPv6 addresses.
    if any(":" in subnet for subnet in worker.node["pod_subnets"]):
        sysctls["net.ipv6.conf.all.forwarding"] = 1
    unmanaged = [worker.setting("bridge_name"), "flannel*"]
    return _step("node_kernel", modules=["br_netfilter"], sysctls=sysctls, unmanaged=unmanaged)


def _firewall(worker: Worker) -> list[Step]:
    if not worker.setting("manage_firewall"):
        return []
    others = [node for node in worker.nodes if node["name"] != worker.node["name"]]
    sources = [str(ip) for node in others for ip in node["node_ips"]]
    sources += [str(peer["public_ip"]) for peer in worker.peers]
    sources += worker.setting("firewall_sources")
    # An empty list of sources would mean any source, so a single worker opens no port.
    ports = underlay.overlay_ports(worker.cluster) if sources else []
    return [_step("node_firewall", udp_ports=ports, sources=sources, pod_cidrs=worker.cluster["pod_cidrs"])]


def _plugins(worker: Worker) -> list[Step]:
    source, bin_dir = worker.setting("cni_plugins_source"), worker.setting("cni_bin_dir")
    if source == "none":
        return []
    if source == "distribution":
        return [_step("cni_plugins", bin_dir=bin_dir)]
    file = _plugin_files(worker)[0]
    return [_release(worker, file), _step("cni_plugins", bin_dir=bin_dir, source=releases.folder(file))]


def _mesh(worker: Worker) -> list[Step]:
    """The VXLAN devices, one for each address family. Nodes that a flanneld runs are peers as well."""
    if worker.kind != "vxlan":
        return []
    devices = underlay.mesh(worker.nodes, worker.node["name"], worker.peers)
    return [
        _step(
            "vxlan_peer",
            **worker.cluster["vxlan"],
            protect=worker.setting("protect"),
            mtu=worker.setting("vxlan_mtu"),
            underlay=worker.setting("vxlan_underlay"),
            name=_device_name(worker, device),
            **device,
        )
        for device in devices
    ]


def _device_name(worker: Worker, device: Mapping[str, Any]) -> str:
    return vtep.device_name(worker.cluster["vxlan"]["vni"], 6 if ":" in device["local"] else 4)


def _leftovers(worker: Worker) -> Step:
    """Of another backend, or of another VNI: the device is named by it, so it is another one."""
    keep = [step["args"]["name"] for step in _mesh(worker)]
    return _step("vxlan_leftovers", vni=worker.cluster["vxlan"]["vni"], keep=keep)


def _routes(worker: Worker) -> Step:
    routes = underlay.routes(worker.nodes, worker.node["name"]) if worker.kind == "routes" else []
    return _step("pod_route", routes=routes, purge=True, protect=worker.setting("protect"))


def _masquerade(worker: Worker) -> Step:
    step = _step(
        "pod_masquerade",
        pod_subnets=worker.node["pod_subnets"],
        cluster_cidrs=worker.cluster["pod_cidrs"],
        exclude=worker.setting("masquerade_exclude"),
        backend=worker.setting("masquerade_backend"),
        state="present" if worker.masquerades else "absent",
    )
    # A dry run can't check this before its command is installed.
    return {**step, "packages": ["nftables", "iptables"]}


def _forward(worker: Worker) -> Step:
    # flanneld has such rules itself.
    state = "absent" if worker.kind == "flannel" else "present"
    return _step("pod_forward", cluster_cidrs=worker.cluster["pod_cidrs"], state=state)


def _identity(worker: Worker) -> list[Step]:
    """A shared certificate is made on the control plane, and every worker gets a copy of it."""
    shared = worker.setting("flannel_identity") == "shared"
    return [] if shared else [*_certificate(worker), *_kubeconfig(worker)]


def _certificate(worker: Worker) -> list[Step]:
    """The request for flanneld's certificate, where one is due."""
    step = _step(
        "flannel_cert",
        state="requested",
        private_key_path=KEY,
        certificate_path=CERTIFICATE,
        ca_certificate_content=worker.ca_certificate,
        organizations=[flannel.organization(worker.node["node_name"])],
        key_type=worker.setting("flannel_key_type"),
        days=worker.setting("flannel_cert_days"),
        renew_before=worker.setting("flannel_renew_before"),
        force=worker.force,
    )
    # A dry run can't look at certificates before the library for them is installed.
    return [{**step, "packages": list(CRYPTOGRAPHY)}]


def _kubeconfig(worker: Worker) -> list[Step]:
    """By path: flanneld takes a renewed certificate without a restart."""
    step = _step(
        "flannel_kubeconfig",
        path="/etc/kubernetes/flannel.conf",
        server=worker.cluster["api_server"],
        ca_certificate_content=worker.ca_certificate,
        client_certificate_path=CERTIFICATE,
        client_key_path=KEY,
        embed=False,
    )
    return [{**step, "packages": list(CRYPTOGRAPHY)}]


def _flannel(worker: Worker) -> list[Step]:
    """flannel's releases, and flanneld."""
    return [*_releases(worker), _flanneld(worker)]


def _releases(worker: Worker) -> list[Step]:
    return [_release(worker, item) for item in _flannel_files(worker)]


def _release(worker: Worker, item: Mapping[str, Any]) -> Step:
    return _step(
        "release_install",
        name=item["component"],
        version=item["version"],
        sha256=item["sha256"],
        archive=releases.remote(item),
        binaries={program: path for path, program in _programs(worker, item).items()},
    )


def _flannel_files(worker: Worker) -> list[Mapping[str, Any]]:
    return releases.of(worker.artifacts, worker.arch, "flannel", "flannel_cni") if worker.kind == "flannel" else []


def _plugin_files(worker: Worker) -> list[Mapping[str, Any]]:
    """The release of the reference CNI plugins, where they come from one."""
    given = worker.setting("cni_plugins_source") == "release"
    return releases.of(worker.artifacts, worker.arch, "cni_plugins") if given else []


def _programs(worker: Worker, item: Mapping[str, Any]) -> dict[str, str]:
    """The programs of a release on the node: their path, and their file in the archive."""
    if item["component"] == "flannel":
        return {"/usr/local/bin/flanneld": "flanneld"}
    bin_dir = worker.setting("cni_bin_dir")
    if item["component"] == "flannel_cni":
        return {f"{bin_dir}/flannel": f"flannel-{item['architecture']}"}
    return {f"{bin_dir}/{name}": name for name in releases.COMPONENTS["cni_plugins"].members}


def _flanneld(worker: Worker) -> Step:
    addresses = flannel.underlay(
        worker.cluster["pod_cidrs"], worker.node["node_ips"], worker.setting("flannel_iface") or ""
    )
    server = worker.cluster["api_server"]
    # kubelet first where it is what starts the API server, or the way to it.
    kubelet_first = worker.node["name"] in worker.cluster["control_planes"] or bool(LOOPBACK_SERVER.search(server))
    return _step(
        "flannel_service",
        binaries={
            path: f"{releases.folder(item)}/{program}"
            for item in _flannel_files(worker)
            for path, program in _programs(worker, item).items()
        },
        net_conf=flannel.net_conf(worker.cluster["pod_cidrs"], worker.flannel_backend),
        nftables={"enabled": "true", "disabled": "false"}.get(worker.setting("flannel_nftables"), "auto"),
        node_name=worker.node["node_name"],
        api_url=server,
        **addresses,
        ip_masq=worker.setting("masquerade"),
        ready_timeout=worker.setting("flannel_ready_timeout"),
        adopt=worker.setting("flannel_adopt"),
        backend_change=worker.setting("flannel_backend_change"),
        before_kubelet=not kubelet_first,
    )


def _cni(worker: Worker, file: str, config: Mapping[str, Any], **more: Any) -> Step:
    folders = {"conf_dir": worker.setting("cni_conf_dir"), "bin_dir": worker.setting("cni_bin_dir")}
    return _step("cni_config", name=file, config=dict(config), **folders, **more)


def _kept(worker: Worker) -> dict[str, Any]:
    """What the configurations that pods are made by have in common."""
    return {
        # In a dry run node_preflight knows what the plugins will be.
        "check_plugins": not worker.dry,
        "allow_unknown": bool(worker.unknown_plugins),
        "foreign": worker.setting("cni_foreign"),
        "allow_live_pods": worker.setting("live_pods") != "refuse",
    }


def _absent(worker: Worker) -> dict[str, Any]:
    return {"state": "absent", "leftovers": True, "allow_live_pods": worker.setting("live_pods") != "refuse"}


def _bridge(worker: Worker) -> list[Step]:
    """The loopback file first: as soon as the bridge's exists, the node becomes Ready."""
    config = bridge_config(worker)
    loopback = _cni(worker, LOOPBACK_FILE, LOOPBACK, check_plugins=not worker.dry)
    bridge = _cni(worker, _bridge_file(config), config, replaces=list(BRIDGE_FILES), **_kept(worker))
    return [loopback, {**bridge, "mesh_mtu": True}]


def _bridge_file(config: Mapping[str, Any]) -> str:
    return BRIDGE_FILES["plugins" in config]


def _bridge_absent(worker: Worker) -> list[Step]:
    config = bridge_config(worker)
    return [
        _cni(worker, _bridge_file(config), config, replaces=list(BRIDGE_FILES), **_absent(worker)),
        _cni(worker, LOOPBACK_FILE, LOOPBACK, state="absent", leftovers=True),
    ]


def bridge_config(worker: Worker) -> dict[str, Any]:
    """The CNI configuration of a node's bridge: a list of plugins, or one plugin where nothing runs after it.

    With the plain bridge backend the plugin masquerades; it would translate pod-to-pod traffic between nodes as well,
    so every other backend leaves it off and has a rule of its own. What connects nodes also gives pods what flannel's
    list gives them: a pod reaches itself through its service (hairpinMode), and has host ports (portmap).
    """
    plain = worker.kind == "bridge"
    subnets = worker.node["pod_subnets"]
    ipam: dict[str, Any] = {"type": "host-local"}
    if len(subnets) == 1:
        ipam["subnet"] = subnets[0]
    else:
        ipam["ranges"] = [[{"subnet": subnet}] for subnet in subnets]
    ipam["routes"] = [{"dst": "::/0" if ":" in subnet else "0.0.0.0/0"} for subnet in subnets]
    plugin = {
        "type": "bridge",
        "bridge": worker.setting("bridge_name"),
        "isGateway": True,
        **({} if plain else {"hairpinMode": True}),
        "ipMasq": plain,
        "ipam": ipam,
    }
    after = [*([] if plain else [PORTMAP]), *worker.chained]
    # Leases, results and rules are kept by the network's name: with another one, live pods would lose theirs.
    network = {**NETWORK, "name": "bridge"}
    return {**network, "plugins": [plugin, *after]} if after else {**network, **plugin}


def _flannel_absent(worker: Worker, makes_room: bool = False) -> Step:
    """Refused while pods run, which would lose their addresses."""
    config = _cni(worker, FLANNEL_FILE, _flannel_list(worker), **_absent(worker))["args"]
    return _step("flannel_absent", cni=config, makes_room=makes_room)


def _flannel_config(worker: Worker) -> Step:
    # The steps before remove these; in a dry run they are still there.
    absent = [*BRIDGE_FILES, LOOPBACK_FILE] if worker.dry else []
    return _cni(worker, FLANNEL_FILE, _flannel_list(worker), assume_absent=absent, **_kept(worker))


def _flannel_list(worker: Worker) -> dict[str, Any]:
    """flannel's plugin delegates to the bridge plugin, with the node's subnet out of what flanneld writes.

    The network's name is that of flannel's own manifests; the bridge is cni0, the bridge plugin's default.
    """
    delegate = {"hairpinMode": True, "isDefaultGateway": True}
    if not worker.setting("masquerade"):
        # Where flanneld does not masquerade, its plugin has the bridge plugin do it, for traffic between pods too.
        delegate["ipMasq"] = False
    plugin = {"type": "flannel", "delegate": delegate}
    return {**NETWORK, "name": "cbr0", "plugins": [plugin, PORTMAP, *worker.chained]}


PARTS: dict[str, Callable[[Worker], list[Step]]] = {
    "look": _look,
    "first": _first,
    "devices": _devices,
    "mesh": lambda worker: [*_first(worker), *_mesh(worker)],
    "releases": _releases,
    "certificate": _certificate,
    "kubeconfig": _kubeconfig,
    "flannel": _flannel,
    "last": lambda worker: [*([] if worker.kind == "flannel" else _first(worker)), *_last(worker)],
    "pods_absent": _pods_absent,
    "absent": _everything_absent,
    "rollback": _rollback,
    "watched": lambda worker: [_kernel(worker), *_firewall(worker), *_last(worker)],
}
# Parts that could cut a worker off.
CUTTING = ("first", "devices", "mesh", "flannel", "last", "absent", "rollback")
