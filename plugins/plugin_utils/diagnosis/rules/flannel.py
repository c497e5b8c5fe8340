# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flanneld, its configuration, and its Node in the Kubernetes API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .. import flags
from ..cluster import (
    FLANNEL_DEFAULTS,
    Address,
    Node,
    address,
    covers,
    lowered,
    most_common,
    network,
    networks,
    version_of,
)
from ..table import ERROR, NOTE, WARNING, Concern, Found, found

FLANNEL = Concern(
    "flanneld",
    "flanneld takes the node's pod CIDR from its Node, makes the device, and writes `/run/flannel/subnet.env`, which "
    "flannel's CNI plugin reads for every pod. Without that file the node is Ready and its pods fail.",
)
RESTART = "systemctl restart flanneld"
EDIT = '"${{EDITOR:-vi}}" {path} && systemctl restart flanneld'
DROP_IN = "/etc/systemd/system/flanneld.service.d"
# Why a flanneld does not run.
DEAD = ("flanneld-not-running", "subnet-env-missing", "mesh-device-missing")
# What other nodes lack of a node that the API does not announce to them, and what a node lacks whose flanneld is gone.
UNANNOUNCED = ("mesh-peer-missing", "neighbour-missing", "fdb-missing", "no-route-to-pods", "no-route-back")


@FLANNEL.rule(
    "flanneld-not-running",
    ERROR,
    "flanneld does not run",
    effect="New pods fail where subnet.env is missing, and the node learns nothing of nodes that join, leave or "
    "change.",
    see="systemctl status flanneld; journalctl --unit flanneld",
    fix="systemctl enable --now flanneld",
    site="run site.yml",
    source="lesson 16, 19",
    explains=("subnet-env-missing", "mesh-device-missing", "flanneld-not-at-boot", "leftovers", *UNANNOUNCED),
    both_ends=True,
)
def flanneld_not_running(node: Node) -> Iterator[Found]:
    """flannel's CNI plugin sets up the pods, or flanneld's unit is enabled, but no flanneld process is running."""
    flannel, loaded = node.host.flannel, node.loaded
    wanted = (loaded is not None and "flannel" in loaded.types) or (flannel.unit.exists and flannel.unit.enabled)
    # k3s has flannel in a process of its own.
    seen = node.host.whole("flannel") and flannel.knows("processes") and not node.runs("k3s", "rke2")
    if wanted and seen and not flannel.processes:
        unit = f"its unit is {flannel.unit.active or 'inactive'}" if flannel.unit.exists else "it has no unit"
        said = "".join(f"; {text}" for text in (*flannel.meanings, *flannel.journal[-1:])[:1])
        yield found(f"there is no flanneld process, {unit}{said}", fix=None if flannel.unit.exists else "")


@FLANNEL.rule(
    "flanneld-not-at-boot",
    WARNING,
    "flanneld does not start at boot",
    effect="After a reboot, new pods fail: /run/flannel/subnet.env is gone, and nothing writes it.",
    see="systemctl is-enabled flanneld",
    fix="systemctl enable flanneld",
    site="run site.yml",
    source="flannel pitfall 18; lesson 16",
)
def flanneld_not_at_boot(node: Node) -> Iterator[Found]:
    """Its unit runs and is not enabled."""
    unit = node.host.flannel.unit
    if unit.exists and unit.active == "active" and unit.enabled is False:
        yield found("flanneld.service is active and not enabled")


@FLANNEL.rule(
    "subnet-env-missing",
    ERROR,
    "subnet.env is missing",
    effect="Every new pod fails with \"failed to load flannel 'subnet.env' file\", on a node that is Ready.",
    see="cat /run/flannel/subnet.env",
    fix=RESTART,
    source="lesson 19; flannel pitfall 17, 18",
)
def subnet_env_missing(node: Node) -> Iterator[Found]:
    """flannel's plugin is configured, flanneld runs, and its file is not there: it was removed, or flanneld still
    waits.
    """
    flannel, loaded = node.host.flannel, node.loaded
    seen = node.host.whole("flannel") and flannel.knows("subnet_env")
    if loaded is not None and "flannel" in loaded.types and seen and not flannel.subnet_env:
        said = f"; {flannel.meanings[0]}" if flannel.meanings else ""
        yield found(f"{loaded.name} uses flannel, and there is no /run/flannel/subnet.env{said}")


@FLANNEL.rule(
    "flannel-start-timeout",
    WARNING,
    "systemd stops flanneld while it waits for its Node",
    effect="Where the API is late after a boot, flanneld is killed and started again, and pods wait for it.",
    see="systemctl show flanneld --property Type,TimeoutStartUSec",
    fix=f"mkdir -p {DROP_IN} && printf '[Service]\\nTimeoutStartSec=infinity\\n' > {DROP_IN}/timeout.conf && "
    "systemctl daemon-reload",
    site="site.yml writes a unit of its own, which is ordered so that kubelet does not wait for ever",
    source="flannel pitfall 16",
)
def flannel_start_timeout(node: Node) -> Iterator[Found]:
    """A unit that the collection did not write has Type=notify and a start timeout below the 10 minutes for which
    flanneld waits; the default is 90 s.
    """
    unit = node.host.flannel.unit
    foreign = unit.exists and unit.ours is False
    if foreign and unit.type == "notify" and unit.start_timeout is not None and 0 < unit.start_timeout < 600:
        yield found(f"Type=notify with a start timeout of {unit.start_timeout:g} s; flanneld waits up to 600 s")


@FLANNEL.rule(
    "flannel-node-name",
    ERROR,
    "flanneld runs under a name that no Node has",
    effect='flanneld ends with "nodes ... not found", so the node gets no pod network.',
    see="systemctl show flanneld --property Environment; kubectl get nodes",
    fix=f"mkdir -p {DROP_IN} && printf '[Service]\\nEnvironment=NODE_NAME=%s\\n' {{name}} > {DROP_IN}/name.conf && "
    f"systemctl daemon-reload && {RESTART}",
    site="podnet_node_name",
    source="flannel pitfall 14; F16; k3s#160",
    explains=DEAD,
)
def flannel_node_name(node: Node) -> Iterator[Found]:
    """NODE_NAME in its unit is not the kubelet's name for the node; %H is the host name, which may be a longer one."""
    given = node.host.flannel.unit.node_name.replace("%H", node.host.hostname)
    if not given or not node.host.flannel.unit.exists:
        return
    its = node.host.kubelet.node_name
    if node.cluster.api and given not in node.cluster.api:
        near = _similar(node, given)
        evidence = f"NODE_NAME is {given}, the API has {near or 'no such Node'}"
        yield found(evidence, fix=None if near else "", name=near)
    elif not node.cluster.api and its and its != given:
        yield found(f"NODE_NAME is {given}, the kubelet's name for the node is {its}", name=its)


@FLANNEL.rule(
    "node-unknown",
    ERROR,
    "The Kubernetes API has no Node for this host",
    effect="It has no pods, and no pod CIDR.",
    see="kubectl get nodes --output wide; journalctl --unit kubelet",
    fix="",
    site="podnet_node_name; without a similar name, let its kubelet join first (kubeadm join)",
    source="F16; k3s#160",
    explains=(*DEAD, "flannel-node-name", *UNANNOUNCED),
    both_ends=True,
)
def node_unknown(node: Node) -> Iterator[Found]:
    """None has the worker's name. Names of Nodes are in lower case, and often fully qualified."""
    if node.cluster.api and node.api is None and node.name in node.cluster.workers:
        wanted = str(node.planned.get("node_name") or node.name)
        near = _similar(node, wanted)
        yield found(f"there is no Node {wanted}" + (f"; {near} is probably the one" if near else ""))


def _similar(node: Node, name: str) -> str:
    """The Node that is probably meant: by its address, or by its name without case and domain."""
    short = name.lower().partition(".")[0]
    its = {str(each) for each in node.addresses}
    for other, entry in node.cluster.api.items():
        given = entry.get("addresses")
        found_there = given if isinstance(given, list) else []
        texts = [each.get("address") if isinstance(each, dict) else each for each in found_there]
        if other.lower().partition(".")[0] == short or its & {text for text in texts if isinstance(text, str)}:
            return other
    return ""


@FLANNEL.rule(
    "node-without-pod-cidr",
    ERROR,
    "The Node has no pod CIDR",
    effect="flanneld ends, so the node gets no pod network.",
    see="kubectl get nodes --output custom-columns=NAME:.metadata.name,CIDR:.spec.podCIDR",
    fix='kubectl patch node {node} --patch \'{{"spec": {{"podCIDR": "\'{subnet}\'"}}}}\'',
    source="flannel pitfall 15; lesson 11",
    explains=(*DEAD, *UNANNOUNCED),
    both_ends=True,
)
def node_without_pod_cidr(node: Node) -> Iterator[Found]:
    """kube-controller-manager gives none, for lack of --allocate-node-cidrs and --cluster-cidr, or has none left."""
    if node.api is None or not node.uses_flannel or node.api.get("pod_cidrs") != []:
        return
    name = next((name for name, entry in node.cluster.api.items() if entry is node.api), node.name)
    taken = {subnet for entry in node.cluster.api.values() for subnet in networks(_listed(entry.get("pod_cidrs")))}
    whole = next((each for each in networks(_network_of(node)) if each.version == 4 and each.prefixlen <= 24), None)
    parts = whole.subnets(new_prefix=24) if whole is not None else iter(())
    free = next((part for part in parts if not any(part.overlaps(each) for each in taken if each.version == 4)), None)
    without = [other for other, entry in node.cluster.api.items() if entry.get("pod_cidrs") == []]
    evidence = "no Node has one" if len(without) == len(node.cluster.api) else f"{name} has none, others have"
    yield found(evidence, fix=None if free is not None else "", node=name, subnet=free)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _net_conf(node: Node) -> str:
    return node.host.flannel.net_conf_path or "/etc/kube-flannel/net-conf.json"


def _network_of(node: Node) -> list[Any]:
    conf = lowered(node.host.flannel.net_conf)
    return [conf.get("network"), conf.get("ipv6network")]


@FLANNEL.rule(
    "pod-cidr-outside",
    ERROR,
    "The Node's pod CIDR is outside of flannel's network",
    effect="flanneld ends, so the node gets no pod network.",
    see="cat /etc/kube-flannel/net-conf.json; kubectl get node <name> --output jsonpath='{.spec.podCIDR}'",
    fix=EDIT,
    site="podnet_pod_cidr, with kube-controller-manager's --cluster-cidr",
    source="flannel pitfall 15",
    explains=DEAD,
)
def pod_cidr_outside(node: Node) -> Iterator[Found]:
    """Network in net-conf.json and --cluster-cidr of kube-controller-manager differ."""
    whole = networks(_network_of(node))
    for subnet in networks(_listed((node.api or {}).get("pod_cidrs"))):
        same = [each for each in whole if each.version == subnet.version]
        if same and not any(covers(each, subnet) for each in same):
            yield found(f"the Node has {subnet}, Network is {same[0]}", path=_net_conf(node))


@FLANNEL.rule(
    "flannel-subnet-differs",
    ERROR,
    "flanneld still uses a pod CIDR that its Node no longer has",
    effect="Other nodes send to the Node's new pod CIDR, but this node's pods have addresses from the old one.",
    see="cat /run/flannel/subnet.env; kubectl get node <name> --output jsonpath='{.spec.podCIDR}'",
    fix=RESTART,
    source="flannel, seen live",
    explains=(
        "pods-outside-subnet",
        "mesh-address-missing",
        "own-pods-led-away",
        "bridge-address-wrong",
        *UNANNOUNCED,
    ),
    both_ends=True,
)
def flannel_subnet_differs(node: Node) -> Iterator[Found]:
    """The Node was deleted and registered again. Existing pods get addresses from the new CIDR when recreated."""
    environment = node.host.flannel.subnet_env
    for subnet in networks(_listed((node.api or {}).get("pod_cidrs"))):
        key = "FLANNEL_IPV6_SUBNET" if subnet.version == 6 else "FLANNEL_SUBNET"
        its = network(environment.get(key))
        if its is not None and its != subnet:
            yield found(f"subnet.env has {its}, the Node {subnet}")


@FLANNEL.rule(
    "net-conf-unknown-key",
    WARNING,
    "flanneld ignores a part of its configuration",
    effect="The key has no effect.",
    see="cat /etc/kube-flannel/net-conf.json",
    fix=EDIT,
    site="podnet_flannel_backend, whose keys are checked",
    source="flannel pitfall 19",
)
def net_conf_unknown_key(node: Node) -> Iterator[Found]:
    """net-conf.json has a key that flanneld does not know, and flanneld does not report this."""
    flannel = node.host.flannel
    if flannel.net_conf_problems:
        yield found("; ".join(flannel.net_conf_problems[:3]), path=_net_conf(node))


@FLANNEL.rule(
    "net-conf-without-backend",
    ERROR,
    "flannel's configuration names no backend, so flanneld uses udp",
    effect="Packets go through a process instead of the kernel: slow, with an MTU of 1472, and not to nodes with "
    "VXLAN.",
    see="cat /etc/kube-flannel/net-conf.json",
    fix=EDIT,
    site="podnet_flannel_backend",
    source="flannel pitfall 19",
    explains=("net-conf-differs", "net-conf-unknown-key", "backends-differ", "mesh-device-missing"),
)
def net_conf_without_backend(node: Node) -> Iterator[Found]:
    """Without Backend and its Type, flanneld takes udp, whatever its documentation says."""
    flannel = node.host.flannel
    if flannel.net_conf and not node.flannel_backend.get("type"):
        yield found(f"{_net_conf(node)} has no Backend with a Type", path=_net_conf(node))


@FLANNEL.rule(
    "net-conf-differs",
    ERROR,
    "flannel's configuration differs from the other nodes'",
    effect="Nodes with other settings ignore this one, or send to it in a way that it does not understand.",
    see="cat /etc/kube-flannel/net-conf.json",
    fix=EDIT,
    site="site.yml gives all workers podnet_flannel_backend and podnet_pod_cidr",
    source="comparison of the nodes; flannel pitfall 19",
    explains=("mesh-vni-differs", "mesh-port-differs", "pod-cidr-outside"),
)
def net_conf_differs(node: Node) -> Iterator[Found]:
    """Network, IPv6Network, EnableIPv6 or Backend are not those of most nodes. Another MTU alone is allowed."""
    confs = {peer.name: _agreed(peer) for peer in node.cluster.with_pods if peer.host.flannel.net_conf}
    own = confs.get(node.name)
    # One without a backend has no say: another rule is about it.
    usual = most_common(
        confs[peer.name] for peer in node.cluster.with_pods if peer.name in confs and peer.flannel_backend.get("type")
    )
    if own is not None and usual is not None and own != usual:
        keys = sorted({key for key, _value in set(own) ^ set(usual)})
        shown = "; ".join(
            f"{key} is {dict(own).get(key, 'not set')}, usual is {dict(usual).get(key, 'not set')}" for key in keys
        )
        yield found(shown, path=_net_conf(node))


def _agreed(node: Node) -> tuple[tuple[str, str], ...]:
    """What all nodes must share, with flanneld's defaults."""
    conf = lowered(node.host.flannel.net_conf)
    values = {"Network": conf.get("network"), "IPv6Network": conf.get("ipv6network")}
    values["EnableIPv6"] = bool(conf.get("enableipv6"))
    backend = {key: value for key, value in node.flannel_backend.items() if value != FLANNEL_DEFAULTS.get(key)}
    values["Backend.Type"] = backend.get("type", "udp")
    values.update({f"Backend.{key}": backend.get(key.lower()) for key in ("VNI", "Port", "DirectRouting")})
    return tuple((key, str(value)) for key, value in values.items() if value not in (None, False, ""))


@FLANNEL.rule(
    "flannel-needs-iptables",
    ERROR,
    "flanneld lacks iptables",
    effect="flanneld ends at its start, with nftables rules too, so the node gets no pod network.",
    see="command -v iptables ip6tables",
    fix="apt-get install --yes iptables && systemctl restart flanneld",
    site="site.yml installs it",
    source="flannel pitfall 12",
    explains=(*DEAD, "masquerade-missing"),
)
def flannel_needs_iptables(node: Node) -> Iterator[Found]:
    """flanneld calls iptables and ip6tables to clean up, even where EnableNFTables is true."""
    programs = node.host.programs
    lacking = [name for name in ("iptables", "ip6tables") if programs.get(name) == ""]
    if node.uses_flannel and lacking:
        yield found(f"there is no {' and no '.join(lacking)}")


@FLANNEL.rule(
    "flannel-needs-br-netfilter",
    ERROR,
    "flanneld lacks the kernel module br_netfilter",
    effect="flanneld 0.26 and later ends at its start, so the node gets no pod network.",
    see="lsmod | grep br_netfilter",
    fix="modprobe br_netfilter && echo br_netfilter > /etc/modules-load.d/br_netfilter.conf && systemctl restart "
    "flanneld",
    site="site.yml loads it",
    source="flannel pitfall 11",
    explains=(*DEAD, "bridge-filter-off", "bridge-filter-off-at-boot"),
)
def flannel_needs_br_netfilter(node: Node) -> Iterator[Found]:
    """The module is not loaded, and net-conf.json does not set EnableNFTables."""
    module = node.host.kernel_modules.get("br_netfilter")
    version = version_of(node.host.flannel.processes[0].version) if node.host.flannel.processes else ()
    nftables = lowered(node.host.flannel.net_conf).get("enablenftables") is True
    if not node.uses_flannel or nftables or (version and version < (0, 26)):
        return
    if module is not None and module.loaded is False:
        yield found("the kernel module br_netfilter is not loaded")


@FLANNEL.rule(
    "flannel-dual-stack-interface",
    ERROR,
    "flanneld finds an address of one IP version only",
    effect="The other nodes skip a node without both addresses: its pods are reached by neither IP version.",
    see="flanneld --version; systemctl cat flanneld; kubectl describe node <name> | grep public-ip",
    fix="sed -i 's/^ExecStart=[^ ]*/& --{flag}={address}/' $(systemctl show --property FragmentPath --value flanneld) "
    "&& systemctl daemon-reload && systemctl restart flanneld",
    site="run site.yml, or podnet_flannel_version: v0.27.4 or later",
    source="F17; flannel, ipmatch.LookupExtIface before v0.27.4",
)
def flannel_dual_stack_interface(node: Node) -> Iterator[Found]:
    """With dual stack, flanneld before v0.27.4 looks for no address of the other IP version if its flags give an
    address (of its interface or of a reachable host) instead of the interface's name.
    """
    conf = lowered(node.host.flannel.net_conf)
    both = conf.get("enableipv6") and conf.get("enableipv4", True)
    for process in node.host.flannel.processes[:1] if both else ():
        given, version = flags.parse(process.arguments), version_of(process.version)
        flag = _missing(given)
        # flanneld takes this annotation for the flag.
        if flag and f"node-{flag}" not in node.annotations and version and version < (0, 27, 4):
            its = _own_address(node, 6 if flag == "public-ipv6" else 4)
            fix = None if its and node.host.flannel.unit.active == "active" else ""
            by = " ".join(f"--{name}={value}" for name in FINDS_BY for value in given.get(name, []))
            yield found(f"flanneld {process.version} has {by}, and no --{flag}", fix=fix, flag=flag, address=its)


# What flanneld finds its interface by; the public addresses where nothing else is given.
FINDS_BY = ("iface", "iface-regex", "iface-can-reach", "public-ip", "public-ipv6")


def _missing(given: Mapping[str, Sequence[str]]) -> str:
    """The flag that would give flanneld the address that it does not look for; "" for none."""
    by = next((name for name in FINDS_BY if given.get(name)), "")
    its = address(given[by][0]) if by else None
    # By its name, by a pattern, or by the default routes, it finds both.
    if its is None or by == "iface-regex":
        return ""
    flag = "public-ipv6" if its.version == 4 else "public-ip"
    return "" if given.get(flag) else flag


def _own_address(node: Node, version: int) -> Address | None:
    """The node's address on the link to the others."""
    link = node.underlay_link()
    here = (each for each in node.host.addresses if link is not None and each.dev == link.name)
    known = [*node.underlay, *(address(each.address) for each in here if each.scope == "global")]
    return next((each for each in known if each is not None and each.version == version), None)


@FLANNEL.rule(
    "two-flannelds",
    ERROR,
    "More than one flanneld runs on the node",
    effect="Each writes its own values to the same file, devices and rules, so pods lose their network at times.",
    see="pgrep --list-full flanneld; kubectl --namespace kube-flannel get daemonset",
    fix="kubectl --namespace kube-flannel delete daemonset kube-flannel-ds",
    site="podnet_flannel_adopt takes over one that was installed by hand",
    source="kube-flannel's DaemonSet",
)
def two_flannelds(node: Node) -> Iterator[Found]:
    """A DaemonSet and a systemd unit, for example."""
    processes = node.host.flannel.processes
    if len(processes) > 1:
        versions = ", ".join(f"{process.pid} ({process.version or 'unknown version'})" for process in processes[:3])
        yield found(f"processes {versions}")


@FLANNEL.rule(
    "kubeconfig-unusable",
    ERROR,
    "flanneld's kubeconfig is not usable",
    effect="flanneld can't ask the API for its Node, so the node gets no pod network once flanneld starts again.",
    see="kubectl --kubeconfig /etc/kubernetes/flannel.conf get nodes",
    fix="",
    site="site.yml writes it",
    source="lesson 13, 19",
    explains=DEAD,
)
def kubeconfig_unusable(node: Node) -> Iterator[Found]:
    """The file is broken, or names files that are missing or do not fit each other."""
    # In a pod, flanneld has no such file.
    words = [
        *node.host.flannel.unit.arguments,
        *(word for each in node.host.flannel.processes for word in each.arguments),
    ]
    if any("kubeconfig-file" in word for word in words) and node.host.kubeconfig.problems:
        yield found(f"{node.host.kubeconfig.path}: {'; '.join(node.host.kubeconfig.problems[:2])}")


@FLANNEL.rule(
    "kubeconfig-embeds-certificate",
    NOTE,
    "flanneld's certificate is embedded in its kubeconfig",
    effect="A renewed certificate counts only after flanneld was restarted.",
    see="grep client-certificate /etc/kubernetes/flannel.conf",
    fix="",
    site="site.yml writes one that names the files, which flanneld reads again by itself",
    source="flannel pitfall 25",
)
def kubeconfig_embeds_certificate(node: Node) -> Iterator[Found]:
    """The user in the kubeconfig has client-certificate-data instead of a path."""
    if node.uses_flannel and node.host.kubeconfig.user_certificate == "embedded":
        yield found(f"{node.host.kubeconfig.path} has client-certificate-data")


@FLANNEL.rule(
    "network-unavailable",
    ERROR,
    "The Node waits for its network add-on",
    effect="No pod is scheduled to the node.",
    see="kubectl describe node <name> | grep NetworkUnavailable",
    fix=RESTART,
    source="lesson 14; flannel's RBAC",
    symptom=True,
)
def network_unavailable(node: Node) -> Iterator[Found]:
    """The condition NetworkUnavailable is true. flanneld takes it away when it is up, if it may patch nodes/status."""
    if node.api is not None and node.api.get("network_unavailable") is True:
        yield found("its condition NetworkUnavailable is True", fix=None if node.uses_flannel else "")
