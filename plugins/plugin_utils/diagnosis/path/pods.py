# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Between a pod and its node: the pod's link, the bridge and its ports. Pure."""

from __future__ import annotations

import shlex
from typing import NoReturn

from ....module_utils.core.networks import Address
from . import fib
from .filters import BRIDGE_CALLS, Filters
from .host import USELESS, Host, Link, Pod
from .trace import ARRIVES, BROKEN, OK, Ended, Hop, Seen, shown


class Pods(Filters):
    """Out of a pod, and into one."""

    def _from_pod(self, host: Host, pod: Pod) -> None:
        mtu = f" mtu {pod.mtu}" if pod.mtu else ""
        self.size = pod.mtu
        self._ok(host, "pod", f"{pod.address} dev {pod.dev}{mtu}", pod.inside("ip -d address"))
        others = [each.name for each, twin in self.cluster.pods_at(pod.address) if twin is not pod]
        if others:
            why = f"a pod on {others[0]} has the same address, so answers go to one of the two"
            self._flaw(host, "pod", str(pod.address), why, "ls /var/lib/cni/networks/*", "delete one of the two pods")
        self._usable(host, pod)
        self._alone(host, pod)
        port = self._port(host, pod)
        bridge = port.master if port is not None else ""
        if port is not None and bridge:
            self._framed(host, ("prerouting",), port.name, "")
        if self.target == pod.address:
            self._hairpin(host, bridge, port)
        subnet = host.subnet_of(bridge, pod.address) if bridge else None
        if subnet is not None and self.target in subnet:
            if host.holds(self.target):
                self._arrive(host, bridge)
            self._bridged(host, bridge, port)
        if pod.default_route is False:
            self._stop(
                host, "pod", f"{pod.address} dev {pod.dev}",
                f"the pod has no default route, so it sends to its own subnet only{f' ({subnet})' if subnet else ''}",
                pod.inside("ip route"),
                "give the CNI configuration isDefaultGateway (bridge) or a default route (ipam); make the pod again",
            )  # fmt: skip
        if bridge:
            self._gateway(host, pod, bridge)
            self._framed(host, ("input",), port.name if port is not None else "", "")
        self._arrive(host, bridge or pod.host_dev)

    def _usable(self, host: Host, pod: Pod) -> None:
        """The pod's own end of its link."""
        look = pod.inside(f"ip link show dev {shlex.quote(pod.dev)}")
        what = f"{pod.address} dev {pod.dev}"
        if not pod.up:
            why = "the link is down inside of the pod, which has no route by it"
            self._stop(host, "pod", what, why, look, "delete the pod; its controller makes a new one")
        if not pod.arp:
            fix = pod.inside(f"ip link set {shlex.quote(pod.dev)} arp on")
            why = "the link has ARP turned off inside of the pod (NOARP): it resolves no address and answers no request"
            self._stop(host, "pod", what, why, look, fix)

    def _alone(self, host: Host, pod: Pod) -> None:
        """Has the pod a hardware address of its own?"""
        if pod.mac:
            why = "another pod on the bridge, or the bridge itself, has the same MAC, and gets some of the pod's frames"
            look = pod.inside(f"ip link show dev {shlex.quote(pod.dev)}")
            self._flaw(host, "pod", f"{pod.dev} {pod.mac}", why, look, "give each pod a MAC of its own")

    def _port(self, host: Host, pod: Pod) -> Link | None:
        """The host's end of the pod's interface, and the bridge that it is a port of."""
        dev = pod.host_dev
        if not dev:
            why = f"the host's end of the pod's {pod.dev} was not observed (is it a macvlan or an ipvlan?)"
            self._lost(host, "veth", pod.dev, why, pod.inside("ip -d link"))
        link = host.link(dev)
        look = f"ip -d link show dev {shlex.quote(dev)}"
        if link is None:
            self._doubt(host, "veth", dev, "the host's links were not observed", look)
            return None
        self._up(host, "veth", link)
        bridge = link.master
        if not bridge:
            if self._points_at(host, pod):
                self._ok(host, "veth", shown(link), look)
            else:
                self._detached(host, pod, link)
            return link
        seen = self._fits(link.mtu)
        self.hops.append(
            Hop(
                host.name,
                "bridge",
                f"{bridge} port {shown(link)}",
                *seen,
                look=f"bridge -d link show dev {shlex.quote(dev)}",
            )
        )
        if link.locked:
            why = "the port is locked: it drops what comes from an unknown MAC"
            fix = f"bridge link set dev {shlex.quote(dev)} locked off"
            self._stop(
                host,
                "bridge",
                f"{bridge} port {dev} locked on",
                why,
                f"bridge -d link show dev {shlex.quote(dev)}",
                fix,
            )
        above = host.link(bridge)
        if above is not None:
            self._up(host, "bridge", above)
        return link

    def _detached(self, host: Host, pod: Pod, link: Link) -> None:
        """A link that lost its bridge. IPv4's ARP answers for the gateway on any device, so the pod may still send."""
        bridge = host.bridge_of(pod.address)
        why = f"it belongs to no bridge, though the pod's network has one{f' ({bridge})' if bridge else ''}"
        fix = f"ip link set {shlex.quote(link.name)} master {shlex.quote(bridge or 'BRIDGE')}"
        subnet = host.subnet_of(bridge, pod.address)
        near = subnet is not None and self.target in subnet and not host.holds(self.target)
        if self.version == 6 or near:
            self._stop(host, "veth", link.name, why, "bridge link show", fix)
        why += "; the host still takes what the pod sends to its gateway, but nothing gets back to the pod"
        self._flaw(host, "veth", link.name, why, "bridge link show", fix)

    @staticmethod
    def _points_at(host: Host, pod: Pod) -> bool:
        """Does a route lead to the pod by its own link, as the plugin ptp makes it?"""
        route = fib.way(host, pod.address).route
        return route is not None and route.dev == pod.host_dev

    def _gateway(self, host: Host, pod: Pod, bridge: str) -> None:
        """The pod's default route leads to the bridge's own address."""
        above = host.link(bridge)
        if above is not None and above.astray:
            fix = f"bridge fdb replace {above.fdb_mac} dev {shlex.quote(bridge)} self"
            self._misled(host, bridge, above.fdb_mac, above.astray, "the bridge itself, the pod's gateway", fix)
        its = [held for held in host.on(bridge, pod.address.version) if pod.address in held.network]
        if host.addresses is None or any(not held.tentative for held in its):
            return
        if its:
            why = "the kernel does not use the pod's gateway: duplicate address detection failed, or is not done yet"
            look = f"ip address show dev {shlex.quote(bridge)} tentative"
            self._stop(host, "bridge", f"{bridge} {its[0].address}", why, look)
        own = ", ".join(f"{held.address}/{held.network.prefixlen}" for held in host.on(bridge, pod.address.version))
        what, look = f"{bridge} {own or 'without an address'}", f"ip address show dev {shlex.quote(bridge)}"
        if any(port.kind != "veth" for port in host.ports(bridge)):
            self._lost(host, "bridge", what, "the pod's gateway is not the bridge; it may be a host behind it", look)
        why = f"the bridge has no address in the subnet of {pod.address}, so the pod's gateway does not answer"
        self._stop(host, "bridge", what, why, look, f"ip address add GATEWAY/LENGTH dev {shlex.quote(bridge)}")

    def _hairpin(self, host: Host, bridge: str, port: Link | None) -> NoReturn:
        """A pod that sends to its own Service: the destination becomes its own address on the bridge."""
        dev = port.name if port else ""
        look = f"bridge -d link show dev {shlex.quote(dev)}"
        if not bridge or port is None:
            self._ok(host, "pod", f"{self.target} dev lo", why="its own address never leaves the pod")
            raise Ended(ARRIVES)
        note = "its own address stays in the pod; this is the way by a Service that leads back to it"
        calls = self._calls(host)
        if port.hairpin is True or calls is False:
            how = "hairpin on" if port.hairpin else f"{BRIDGE_CALLS[self.version]} = 0: the host routes it back"
            self._arrived(host, "bridge", f"{bridge} port {dev} {how}", Seen(OK, note), look)
        what = f"{bridge} port {dev} hairpin off"
        if port.hairpin is None or calls is None:
            missing = "hairpin of the port" if port.hairpin is None else BRIDGE_CALLS[self.version]
            self._lost(
                host,
                "bridge",
                what if port.hairpin is False else f"{bridge} port {dev}",
                f"not observed: {missing}; {note}",
                look,
            )
        why = f"a pod that reaches itself by a Service comes back to the port it left by; {note}"
        self._stop(host, "bridge", what, why, look, f"bridge link set dev {shlex.quote(dev)} hairpin on")

    def _bridged(self, host: Host, bridge: str, port: Link | None) -> NoReturn:
        """From one port of a bridge to another one."""
        calls = self._calls(host)
        name = BRIDGE_CALLS[self.version]
        if calls:
            self._ok(host, "netfilter", f"{name} = 1", f"sysctl {name}", "packets inside the bridge are filtered too")
            self._filtered(host, bridge, bridge)
            self._masqueraded(host, bridge, bridge)
        elif calls is None:
            self._doubt(
                host, "netfilter", name, "not observed: are packets inside the bridge filtered?", f"sysctl {name}"
            )
        self._deliver(host, bridge, port)

    def _deliver(self, host: Host, dev: str, port: Link | None = None) -> NoReturn:
        """To the pod behind a bridge, or behind its own link; ``port`` is the port that the packet came in by."""
        look = f"ip neigh show {self.target} dev {shlex.quote(dev)}"
        pods = host.pods_at(self.target)
        if not pods:
            self._without_pod(host, dev)
        pod = next((each for each in pods if self._behind(host, each, dev)), pods[0])
        entry = host.neighbour(self.target, dev)
        if port is None:
            self._found(host, dev, self.target, entry)
        if entry is not None and entry.state in USELESS:
            # An entry of an address that was free before stays until the next packet.
            self._doubt(host, "neighbour", str(entry), "the pod did not answer when it was last asked for", look)
        elif entry is not None and entry.state == "permanent" and host.is_cni_bridge(dev):
            why = "a static entry, which is right only as long as the pod has this hardware address"
            self._doubt(host, "neighbour", str(entry), why, look)
        link = host.link(pod.host_dev)
        if link is None:
            self._doubt(
                host,
                "veth",
                pod.host_dev or pod.dev,
                "the host's end of the pod's interface was not observed",
                "ip -d link",
            )
        else:
            self._to_port(host, dev, pod, link, port)
        twins = [each.name for each, twin in self.cluster.pods_at(self.target) if twin is not pod]
        what = f"{pod.address} dev {pod.dev}" + (f" mtu {pod.mtu}" if pod.mtu else "")
        look = pod.inside("ip -d address")
        self._usable(host, pod)
        self._alone(host, pod)
        if twins:
            why = (
                f"a pod on {twins[0]} has the same address: which one is reached depends on where the packet comes from"
            )
            self._arrived(host, "pod", what, Seen(BROKEN, why), look, "delete one of the two pods")
        # The largest packet that came this far.
        fix = pod.inside(f"ip link set {shlex.quote(pod.dev)} mtu {self.size}")
        seen = self._fits(pod.mtu)
        self._arrived(host, "pod", what, seen, look, fix if seen.verdict == BROKEN else "")

    @staticmethod
    def _behind(host: Host, pod: Pod, dev: str) -> bool:
        link = host.link(pod.host_dev)
        return pod.host_dev == dev or (link is not None and link.master == dev)

    @staticmethod
    def _bridge_of(host: Host, pod: Pod) -> str:
        link = host.link(pod.host_dev)
        return link.master if link is not None else ""

    def _to_port(self, host: Host, dev: str, pod: Pod, link: Link, port: Link | None) -> None:
        name, quoted = link.name, shlex.quote(link.name)
        look = f"bridge -d link show dev {quoted}"
        self._up(host, "veth", link)
        if name == dev:
            seen = self._fits(link.mtu)
            self.hops.append(Hop(host.name, "veth", shown(link), *seen, look=f"ip -d link show dev {quoted}"))
            return
        if link.master != dev:
            where = f"a port of {link.master}, not of {dev}" if link.master else f"no port of {dev}"
            attach = f"ip link set {quoted} master {shlex.quote(dev)}"
            self._stop(
                host,
                "veth",
                shown(link),
                f"the link of the pod is {where}, where packets for it are sent",
                look,
                attach,
            )
        # What the host itself sends goes to the port of an entry, also of one that keeps frames.
        if pod.astray and not (pod.kept and pod.astray == name and port is None):
            whose = "self" if pod.astray == dev else "master"
            fix = f"bridge fdb del {pod.fdb_mac} dev {shlex.quote(pod.astray)} {whose}"
            self._misled(host, dev, pod.fdb_mac, pod.astray, f"the pod, whose port is {name}", fix)
        if port is not None and port.isolated and link.isolated:
            why = f"{port.name} and {name} are both isolated, and a bridge passes nothing between such ports"
            self._stop(
                host,
                "bridge",
                f"{dev} port {name} isolated on",
                why,
                look,
                f"bridge link set dev {quoted} isolated off",
            )
        if not link.findable:
            why = "the port learns no MACs and gets nothing that is sent to an unknown one"
            fix = f"bridge link set dev {quoted} learning on flood on"
            self._stop(host, "bridge", f"{dev} port {name} learning off flood off", why, look, fix)
        hook = "forward" if port is not None else "output"
        self._framed(host, (hook, "postrouting"), port.name if port is not None else "", name)
        seen = self._fits(link.mtu)
        fix = f"ip link set {quoted} mtu {max(pod.mtu, link.mtu)}" if seen.verdict == BROKEN else ""
        self.hops.append(Hop(host.name, "bridge", f"{dev} port {shown(link)}", *seen, look=look, fix=fix))

    def _misled(self, host: Host, bridge: str, mac: str, dev: str, whose: str, fix: str) -> NoReturn:
        why = f"a static entry, which sends what is for {whose}, to the wrong place"
        look = f"bridge fdb show br {shlex.quote(bridge)}"
        self._stop(host, "bridge", f"{bridge} fdb {mac} dev {dev}", why, look, fix)

    def _without_pod(self, host: Host, dev: str) -> NoReturn:
        look = f"ip neigh show dev {shlex.quote(dev)}"
        if host.pods is None or "pods" in host.cut:
            self._lost(host, "pod", str(self.target), "the host's pods were not observed, or only some of them", look)
        elsewhere = self.cluster.pods_at(self.target)
        if elsewhere:
            other, _pod = elsewhere[0]
            subnet = host.subnet_of(dev, self.target)
            why = (
                f"the pod lives on {other.name}, but {host.name} looks for it behind its own {dev}"
                + (f", which has {subnet}" if subnet else "") + ": two nodes must not share a pod subnet"
            )  # fmt: skip
            self._stop(host, "bridge", dev, why, f"ip address show dev {shlex.quote(dev)}")
        if not host.is_cni_bridge(dev):
            self._lost(
                host, "bridge", dev, f"what lives behind {dev} was not observed, as no CNI configuration has it", look
            )
        self._stop(host, "pod", str(self.target), self._no_pod(host, self.target), look)

    @staticmethod
    def _no_pod(host: Host, address: Address | None) -> str:
        lease = host.leases.get(address) if address else None
        known = {True: "; host-local has a lease for it", False: "; host-local has a lease of a pod that is gone"}
        return f"no live pod of {host.name} has this address{known.get(lease, '') if lease is not None else ''}"
