# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel settings that pods need, now and after the next boot."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from ..cluster import Node, address, family
from ..observation import Sysctl, holds_too_little, of_device, of_neighbours
from ..table import ERROR, WARNING, Concern, Found, found, literal

KERNEL = Concern(
    "Kernel settings",
    "A node is a router for its pods, and kube-proxy's rules see the pods' packets only if the bridge shows them to "
    "iptables. Both are kernel settings that a hardening role or a later file in `/etc/sysctl.d` can take away.",
)

FORWARDING = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}
BRIDGE_FILTER = {4: "net.bridge.bridge-nf-call-iptables", 6: "net.bridge.bridge-nf-call-ip6tables"}
# arp_ignore: answer no request, whatever it asks for.
ARP_NEVER = "8"
# The kinds of links on which the kernel asks for hardware addresses; "" is hardware.
ETHERNET = ("", "bridge", "bond", "team", "vlan", "veth", "macvlan")
# What refuses a module: a parameter of the kernel, of which one does so whoever asks for the module.
COMMAND_LINE, BY_ANYONE = "/proc/cmdline: ", "module_blacklist"
# They load br_netfilter when they start.
LOADERS = ("docker", "k3s", "rke2")
# systemd-networkd's files, which it reads after sysctl.d: of a link, with its drop-ins, or its own.
OF_NETWORKD = re.compile(r"/systemd/(?:network/([^/]+\.network)|networkd\.conf)(?:\.d/[^/]+)?$")


def families(node: Node) -> list[int]:
    """The IP versions that the node's pods have."""
    return sorted({subnet.version for subnet in node.pod_subnets} or {4})


@KERNEL.rule(
    "forwarding-off",
    ERROR,
    "The node does not forward packets",
    effect="Its pods reach neither other nodes nor anything outside of the cluster, and nothing reaches them.",
    see="sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding",
    fix="echo {key}=1 >> /etc/sysctl.d/zzz-pod-network.conf && sysctl -w {key}=1",
    site="site.yml turns it on, also at boot unless a later file turns it off",
    source="flannel pitfall 11; F11; openshift/origin#9931",
    explains=("forwarding-off-at-boot",),
)
def forwarding_off(node: Node) -> Iterator[Found]:
    """The kernel forwards nothing for an address family that the node's pods have, or nothing that comes in by a device
    of theirs.
    """
    # The bridge plugin turns it on for the first pod. The plan wants it from the start.
    comes_with_pods = node.loaded is not None and {"bridge", "flannel"} & set(node.loaded.types)
    if not node.planned and comes_with_pods and node.host.whole("links") and node.bridge is None:
        return
    for version in families(node):
        key = FORWARDING[version]
        setting = node.host.sysctls.get(key)
        if setting is not None and setting.now == "0":
            yield found(f"{key} is 0{_set_by(setting)}", fix=_forwards(key, version, setting, now=True))
        elif version == 4:
            for name, key, setting in _of_devices(node):
                if setting.now == "0":
                    yield found(
                        f"{key} is 0{_set_by(setting)}: what comes in by {name} is not forwarded",
                        fix=_forwards(key, version, setting, now=True),
                    )


def _of_devices(node: Node) -> Iterator[tuple[str, str, Sysctl]]:
    """The devices by which pods' packets come in, with the setting of each that lets IPv4 packets be forwarded."""
    underlay = node.underlay_link()
    for name in [node.bridge_name, *(link.name for link in node.vxlans), *([underlay.name] if underlay else [])]:
        key = of_device(4, name, "forwarding")
        if key in node.host.sysctls:
            yield name, key, node.host.sysctls[key]


def _forwards(key: str, version: int, setting: Sysctl, *, now: bool) -> str:
    """What turns forwarding on at boot, and ``now``: a file that is read after the one that turns it off."""
    of_networkd = OF_NETWORKD.search(setting.file) if setting.boot == "0" else None
    word = shlex.quote(key)
    if of_networkd is None:
        keep = f"echo {word}=1 >> /etc/sysctl.d/zzz-pod-network.conf"
    else:
        place = f"network/{of_networkd[1]}.d" if of_networkd[1] else "networkd.conf.d"
        folder = shlex.quote(f"/etc/systemd/{place}")
        line = f"printf '[Network]\\nIPv{version}Forwarding=yes\\n'"
        keep = f"mkdir -p {folder} && {line} >> {folder}/zzz-pod-network.conf"
    return literal(f"{keep} && sysctl -w {word}=1" if now else keep)


@KERNEL.rule(
    "forwarding-off-at-boot",
    WARNING,
    "The node will not forward packets after its next boot",
    effect="Pods work now. After a reboot they are cut off until something turns forwarding on again.",
    see="systemd-analyze cat-config sysctl.d | grep -n forward; grep -rs Forwarding= /etc/systemd /run/systemd/network",
    fix="echo {key}=1 >> /etc/sysctl.d/zzz-pod-network.conf",
    source="F11; openshift/origin#9931; systemd.network(5), IPv4Forwarding",
)
def forwarding_off_at_boot(node: Node) -> Iterator[Found]:
    """A file that sorts after all others with this setting turns forwarding off at boot, for the host or for a device
    by which pods' packets come in. IPv4Forwarding and IPv6Forwarding of systemd-networkd 256 and later can do the same,
    later in the boot and each time networkd starts.
    """
    for version in families(node):
        key = FORWARDING[version]
        setting = node.host.sysctls.get(key)
        if setting is not None and setting.boot == "0":
            if setting.now != "0":
                yield _off_at_boot(key, version, setting)
        elif version == 4:
            for _name, key, setting in _of_devices(node):
                if setting.boot == "0" and setting.now != "0":
                    yield _off_at_boot(key, version, setting)


def _off_at_boot(key: str, version: int, setting: Sysctl) -> Found:
    evidence = f"{key} is {setting.now} now and 0 at boot{_set_by(setting)}"
    return found(evidence, fix=_forwards(key, version, setting, now=False))


@KERNEL.rule(
    "default-ttl-small",
    ERROR,
    "Packets that the node sends can cross only a few routers",
    effect="The node does not reach pods of other nodes, since the other node is a router on the way to them; tunnels "
    "to nodes behind more routers lose their packets.",
    see="sysctl net.ipv4.ip_default_ttl",
    fix="echo {key}=64 >> /etc/sysctl.d/zzz-pod-network.conf && sysctl -w {key}=64",
    source="broken nodes",
    foreseen=True,
)
def default_ttl_small(node: Node) -> Iterator[Found]:
    """The time to live, or hop limit, that the kernel gives the node's own packets is less than 8. Pods have their own
    setting.
    """
    links = {entry.dev for entry in node.host.addresses if (its := address(entry.address)) in node.underlay and its}
    keys = ["net.ipv4.ip_default_ttl"] if 4 in families(node) else []
    keys += [of_device(6, name, "hop_limit") for name in sorted(links)] if 6 in families(node) else []
    for key in keys:
        setting = node.host.sysctls.get(key)
        if setting is not None and setting.now.isdecimal() and int(setting.now) < 8:
            yield found(f"{key} is {setting.now}{_set_by(setting)}", key=key)


@KERNEL.rule(
    "ipv6-disabled",
    ERROR,
    "IPv6 is disabled on the node, and its pods are to have IPv6 addresses",
    effect="New pods fail, or have no IPv6 address, and no other node's pods reach them by IPv6. The kernel has "
    "removed the links' IPv6 addresses as well: after the fix, reboot the node, or let its network manager set them "
    "again.",
    see="sysctl --all --pattern 'conf.*disable_ipv6'",
    fix="echo {key}=0 >> /etc/sysctl.d/zzz-pod-network.conf && sysctl -w {key}=0",
    source="F17; comparison of the node's settings with its pod subnets",
    explains=(
        "bridge-address-wrong",
        "mesh-address-missing",
        "mesh-device-missing",
        "mesh-source-wrong",
        "no-route-back",
        "no-route-to-pods",
        "peer-unreachable",
    ),
)
def ipv6_disabled(node: Node) -> Iterator[Found]:
    """disable_ipv6 is 1 for all interfaces, for the pods' bridge, for the IPv6 tunnel, or for the link to the other
    nodes, whose IPv6 address is then gone.
    """
    link = node.underlay_link()
    own = {address(entry.address) for entry in node.host.addresses}
    lost = node.cluster.connects and any(its.version == 6 and its not in own for its in node.underlay)
    names = ["all", *([link.name] if link is not None and lost else []), node.bridge_name]
    names += [each.name for each in node.vxlans if family(each) == 6]
    for name in dict.fromkeys(names) if 6 in families(node) else ():
        key = of_device(6, name, "disable_ipv6")
        setting = node.host.sysctls.get(key)
        if setting is not None and setting.now == "1":
            pods = [str(each) for each in node.pod_subnets if each.version == 6]
            yield found(f"{key} is 1, pods have {', '.join(pods)}", key=key)


@KERNEL.rule(
    "ipv6-address-duplicate",
    ERROR,
    "The kernel does not use an IPv6 address, because another host claimed it",
    effect="Nothing reaches the node at this address, or its pods can't reach their gateway.",
    see="ip -6 address show dadfailed",
    # Asks again, and fails again as long as the other host has it.
    fix="ip address delete {address} dev {device} && ip address add {address} dev {device}",
    source="broken nodes",
)
def ipv6_address_duplicate(node: Node) -> Iterator[Found]:
    """Duplicate address detection failed for the gateway of pods, or for an address by which other nodes reach it."""
    needed = {*node.gateways.values(), *node.underlay}
    for each in node.host.addresses:
        if each.duplicate and address(each.address) in needed:
            evidence = f"{each.address} on {each.dev} is a duplicate (dadfailed)"
            yield found(evidence, address=each.address, device=each.dev)


@KERNEL.rule(
    "bridge-filter-off",
    WARNING,
    "iptables does not see the packets that cross the pods' bridge",
    effect="With kube-proxy, a pod that calls a service whose pod is on the same node gets no answer.",
    see="lsmod | grep br_netfilter; sysctl net.bridge.bridge-nf-call-iptables",
    fix="modprobe br_netfilter && sysctl -w {key}=1",
    site="site.yml keeps it on",
    source="flannel pitfall 11; F1; kubernetes-the-hard-way#518",
    explains=("bridge-filter-off-at-boot",),
)
def bridge_filter_off(node: Node) -> Iterator[Found]:
    """The module br_netfilter is not loaded, or its settings are 0."""
    module = node.host.kernel_modules.get("br_netfilter")
    if module is not None and module.loaded is False:
        _file, _by, parameter = module.refused.partition(COMMAND_LINE)
        why = f", and the kernel refuses to load it ({parameter} on its command line)" if parameter == BY_ANYONE else ""
        fix = "" if why else None
        yield found(f"the kernel module br_netfilter is not loaded{why}", fix=fix, key=BRIDGE_FILTER[4])
        return
    for version in families(node):
        setting = node.host.sysctls.get(BRIDGE_FILTER[version])
        if setting is not None and setting.now == "0":
            yield found(f"{BRIDGE_FILTER[version]} is 0{_set_by(setting)}", key=BRIDGE_FILTER[version])


@KERNEL.rule(
    "bridge-filter-off-at-boot",
    WARNING,
    "iptables will not see the packets that cross the pods' bridge after the next boot",
    effect="Pods work now. After a reboot a pod gets no answer from a service whose pod is on the same node, and "
    "flanneld does not start.",
    see="cat /etc/modules-load.d/*.conf; systemd-analyze cat-config sysctl.d | grep bridge-nf",
    fix="echo br_netfilter > /etc/modules-load.d/br_netfilter.conf",
    site="site.yml keeps it on",
    source="flannel pitfall 11",
)
def bridge_filter_off_at_boot(node: Node) -> Iterator[Found]:
    """Nothing loads br_netfilter at boot, or a file turns its setting off."""
    module = node.host.kernel_modules.get("br_netfilter")
    if module is not None and module.loaded and module.knows("boot") and not module.boot and not node.runs(*LOADERS):
        yield found("br_netfilter is loaded, but no file in /etc/modules-load.d names it")
    for version in families(node):
        key = BRIDGE_FILTER[version]
        setting = node.host.sysctls.get(key)
        if setting is not None and setting.boot == "0" and setting.now != "0":
            fix = "echo {key}=1 >> /etc/sysctl.d/zzz-pod-network.conf"
            yield found(f"{key} is {setting.now} now and 0 at boot{_set_by(setting)}", fix=fix, key=key)


@KERNEL.rule(
    "module-refused",
    WARNING,
    "Configuration keeps the kernel from loading a module that the pod network needs",
    effect="After a reboot, service rules miss some of the pods' packets (br_netfilter), or the VXLAN device can't "
    "be created (vxlan).",
    see="grep -rsE '(blacklist|install)[[:space:]]+(br.netfilter|vxlan)' /etc/modprobe.d /run/modprobe.d "
    "/usr/local/lib/modprobe.d /usr/lib/modprobe.d /lib/modprobe.d; grep -o '[^ ]*blacklist=[^ ]*' /proc/cmdline",
    fix="sed -i -E '/^[[:space:]]*(blacklist|install)[[:space:]]+'{pattern}'([[:space:]]|$)/d' {file}",
    source="modprobe.d(5), systemd-modules-load.service(8); kernel: admin-guide/kernel-parameters, module_blacklist",
)
def module_refused(node: Node) -> Iterator[Found]:
    """In modprobe.d, a "blacklist" line, or an "install" line with true or false, names br_netfilter (or vxlan, on a
    node with a VXLAN mesh), or modprobe.blacklist or module_blacklist on the kernel command line does.
    systemd-modules-load and the kernel obey these settings. For the command line, no fix is printed, because each boot
    loader has its own. Built-in modules are not reported.
    """
    needed = [] if node.runs(*LOADERS) else ["br_netfilter"]
    needed += ["vxlan"] if (node.transport or node.cluster.transport) == "vxlan" else []
    for name in needed:
        module = node.host.kernel_modules.get(name)
        if module is not None and module.refused:
            _file, by_kernel, parameter = module.refused.partition(COMMAND_LINE)
            if by_kernel:
                yield found(f"{parameter} on the kernel's command line refuses {name}", fix="")
                continue
            pattern = name.replace("_", "[_-]")
            yield found(f"{module.refused} refuses {name}", pattern=pattern, file=module.refused)


@KERNEL.rule(
    "reverse-path-filter",
    ERROR,
    "The reverse path filter drops packets of other nodes' pods",
    effect="Packets from these pods arrive and are dropped, since the way back to their sender leaves by another link.",
    see="sysctl -a | grep '[.]rp_filter'; nstat -az TcpExtIPReversePathFilter",
    fix="sysctl -w {key}=2",
    source="comparison of both nodes' routes",
    foreseen=True,
)
def reverse_path_filter(node: Node) -> Iterator[Found]:
    """The two nodes use different ways to each other, such as a tunnel and a plain route, and the filter is strict."""
    underlay = node.underlay_link()
    for peer in node.peers:
        there = [peer.table.way(subnet) for subnet in node.pod_subnets if subnet.version == 4]
        back = [node.table.way(subnet) for subnet in peer.pod_subnets if subnet.version == 4]
        if not (peer.observed and there and back and there[0] and back[0] and underlay and there[0].dst != "default"):
            continue
        tunnels = [link.name for link in node.vxlans if family(link) == 4]
        arrives = (tunnels[:1] or [""])[0] if peer.is_tunnel(there[0].dev) else underlay.name
        strict = _rp_filter(node, arrives)
        if arrives and back[0].dst != "default" and back[0].dev and arrives != back[0].dev and strict:
            yield found(
                f"packets from {peer.name}'s pods arrive by {arrives}, where rp_filter is 1; the way back leaves by "
                f"{back[0].dev}",
                peer.name,
                key=strict,
            )


def _rp_filter(node: Node, device: str) -> str:
    """The name of the setting that makes the filter strict on a device; "" where it is not strict, or not known."""
    values = {}
    for name in (f"net.ipv4.conf.{device}.rp_filter", of_device(4, device, "rp_filter")):
        if name in node.host.sysctls:
            values[node.host.sysctls[name].now] = name
    everywhere = node.host.sysctls.get("net.ipv4.conf.all.rp_filter", Sysctl()).now
    # The kernel takes the larger one of both; 2 is loose.
    if max([*values, everywhere]) != "1":
        return ""
    return values.get("1") or next(iter(values.values()), "") if values else ""


@KERNEL.rule(
    "neighbour-table-full",
    WARNING,
    "The kernel's table of neighbours is nearly full",
    effect="Once it is full, packets to addresses without an entry are lost, such as those of new pods and nodes.",
    see="head -n 2 /proc/net/stat/arp_cache; dmesg | grep 'neighbor table overflow'",
    fix="echo {key}={size} >> /etc/sysctl.d/zzz-pod-network.conf && sysctl -w {key}={size}",
    source="kernel: neighbor table overflow",
)
def neighbour_table_full(node: Node) -> Iterator[Found]:
    """Nine tenths of gc_thresh3 are taken, by this host's neighbours and those of its pods together."""
    for version, entries in sorted(node.host.neighbour_entries.items()):
        key = f"net.ipv{version}.neigh.default.gc_thresh3"
        limit = node.host.sysctls.get(key, Sysctl()).now
        if limit.isdecimal() and entries * 10 >= int(limit) * 9:
            yield found(f"{entries} entries count, and {key} is {limit}", key=key, size=4 * int(limit))


@KERNEL.rule(
    "router-advertisements-ignored",
    WARNING,
    "The node no longer accepts the router advertisements that gave it its IPv6 address",
    effect="It has lost its IPv6 default route, and loses the address when that expires.",
    see="ip -6 address show dev <link>; ip -6 route show default; sysctl net.ipv6.conf.<link>.accept_ra",
    fix="echo {key}=2 >> /etc/sysctl.d/zzz-pod-network.conf && sysctl -w {key}=2",
    site="run site.yml before anything else turns forwarding on",
    source="kernel: networking/ip-sysctl, accept_ra",
)
def router_advertisements_ignored(node: Node) -> Iterator[Found]:
    """IPv6 forwarding is on, accept_ra of the link to the other nodes is 1, and the link has an IPv6 address that
    expires. networkd and NetworkManager read advertisements themselves, and set accept_ra to 0.
    """
    link = node.underlay_link()
    if link is None or node.host.sysctls.get(FORWARDING[6], Sysctl()).now != "1":
        return
    key = of_device(6, link.name, "accept_ra")
    learned = [
        each.address for each in node.host.addresses
        if each.dev == link.name and each.dynamic and ":" in each.address and each.scope == "global"
    ]  # fmt: skip
    if learned and node.host.sysctls.get(key, Sysctl()).now == "1":
        yield found(f"{learned[0]} on {link.name} expires, and {key} is 1", device=link.name, key=key)


@KERNEL.rule(
    "connection-table-full",
    WARNING,
    "The kernel's table of connections is nearly full",
    effect="Once it is full, the first packets of new connections are dropped.",
    see="sysctl net.netfilter.nf_conntrack_count net.netfilter.nf_conntrack_max; dmesg | grep nf_conntrack",
    fix="echo net.netfilter.nf_conntrack_max={size} >> /etc/sysctl.d/zzz-pod-network.conf && sysctl -w "
    "net.netfilter.nf_conntrack_max={size}",
    source="kernel: nf_conntrack: table full, dropping packet",
)
def connection_table_full(node: Node) -> Iterator[Found]:
    """Nine tenths of nf_conntrack_max are taken. kube-proxy sets that limit by the number of processors."""
    count, limit = node.host.connections.get("count", 0), node.host.connections.get("max", 0)
    if limit and count * 10 >= limit * 9:
        yield found(f"{count} connections are tracked, and net.netfilter.nf_conntrack_max is {limit}", size=4 * limit)


@KERNEL.rule(
    "arp-off",
    ERROR,
    "A link of the pod network answers no ARP request",
    effect="No host on that link finds the node's address, so nothing reaches the node by it. With NOARP, the node "
    "finds no other host there either.",
    see="ip link | grep NOARP; sysctl --all --pattern arp_ignore",
    fix="ip link set {device} arp on",
    source="broken nodes",
)
def arp_off(node: Node) -> Iterator[Found]:
    """The flag NOARP is set on the pods' bridge, or on the Ethernet link to the other nodes, or arp_ignore is 8 there.
    The kernel uses the larger of the values for all links and for the link itself.
    """
    links = [link for link in (node.bridge, node.underlay_link()) if link is not None and link.kind in ETHERNET]
    for link in links:
        if link.arp is False:
            yield found(f"{link.name} has the flag NOARP", device=link.name)
    for name in ["all", *(link.name for link in links)]:
        key = of_device(4, name, "arp_ignore")
        setting = node.host.sysctls.get(key)
        if links and setting is not None and setting.now == ARP_NEVER:
            fix = "echo {key}=0 >> /etc/sysctl.d/zzz-pod-network.conf && sysctl -w {key}=0"
            yield found(f"{key} is {ARP_NEVER}", fix=fix, key=key)


@KERNEL.rule(
    "neighbours-not-asked",
    WARNING,
    "The kernel does not ask for the hardware addresses of neighbours",
    effect="Packets to a pod, node or gateway without a neighbour entry are lost until it sends something itself.",
    see="sysctl --all --pattern 'neigh.*(mcast|app)_solicit'",
    fix="echo {key}=3 >> /etc/sysctl.d/zzz-pod-network.conf && sysctl -w {key}=3",
    source="broken nodes",
    explains=("peer-unreachable",),
    foreseen=True,
)
def neighbours_not_asked(node: Node) -> Iterator[Found]:
    """mcast_solicit, the number of ARP requests or neighbour solicitations that the kernel sends, is 0, or a file sets
    it to 0 at boot, for the pods' bridge, the Ethernet link to the other nodes, or by default for links created later,
    such as pods'. It is not reported if app_solicit makes the kernel ask a program.
    """
    links = [link for link in (node.bridge, node.underlay_link()) if link is not None and link.kind in ETHERNET]
    versions = {*families(node), *(each.version for each in node.underlay)}
    for name in ["default", *dict.fromkeys(link.name for link in links)]:
        for version in sorted(versions):
            key = of_neighbours(version, name, "mcast_solicit")
            setting = node.host.sysctls.get(key, Sysctl())
            program = node.host.sysctls.get(of_neighbours(version, name, "app_solicit"), Sysctl())
            if program.now not in ("", "0") or program.boot not in ("", "0"):
                continue
            if setting.now == "0":
                yield found(f"{key} is 0{_set_by(setting)}", key=key)
            elif setting.boot == "0":
                fix = "echo {key}=3 >> /etc/sysctl.d/zzz-pod-network.conf"
                yield found(f"{key} is {setting.now} now and 0 at boot{_set_by(setting)}", fix=fix, key=key)


@KERNEL.rule(
    "link-is-port",
    ERROR,
    "A link of the pod network is a port of another link",
    effect="What it receives goes to the other link, or is routed by the table of a VRF, not by the node's routes to "
    "pods.",
    see="ip link | grep master",
    fix="ip link set {device} nomaster",
    source="broken nodes",
    explains=("no-route-back", "peer-unreachable", "mesh-peer-missing"),
    foreseen=True,
)
def link_is_port(node: Node) -> Iterator[Found]:
    """The pods' bridge, a VXLAN device, or the link that has the node's address, belongs to a bridge, a bond or a VRF.
    The address of a bridge or a bond is its own, not its ports'. The node's link may be in a VRF on purpose.
    """
    links = {link.name: link for link in (node.bridge, node.underlay_link(), *node.vxlans) if link is not None}
    for name, link in links.items():
        master = node.links.get(link.master)
        on_purpose = master is not None and master.kind == "vrf" and link is node.underlay_link()
        if link.master and not on_purpose:
            yield found(f"{name} is a port of {link.master}", device=name)


@KERNEL.rule(
    "link-shaped",
    WARNING,
    "The queueing discipline of a link in the pod network drops or delays packets",
    effect="Transfers between pods are slow or stall, and small requests get lost under load.",
    see="tc -s qdisc",
    fix="tc qdisc del dev {device} root",
    source="broken nodes",
    foreseen=True,
)
def link_shaped(node: Node) -> Iterator[Found]:
    """The bridge, the VXLAN device or the link to the other nodes uses netem (often left behind by a failure test), tbf
    or blackhole (which drops everything), or has a queue with no room for any packet, or for one of the link's MTU.
    """
    links = {link.name: link for link in (node.bridge, node.underlay_link(), *node.vxlans) if link is not None}
    for name, link in links.items():
        if link.qdisc in ("blackhole", "netem", "tbf"):
            yield found(f"{name} has the queueing discipline {link.qdisc}", device=name)
        elif link.qdisc_limit is not None and holds_too_little(link.qdisc, link.qdisc_limit, link.mtu):
            unit = "bytes" if link.qdisc == "bfifo" else "packets"
            yield found(f"the queue of {name} ({link.qdisc}) holds {link.qdisc_limit} {unit}", device=name)


def _set_by(setting: Sysctl) -> str:
    return f", set by {setting.file}" if setting.file and setting.boot == "0" else ""
