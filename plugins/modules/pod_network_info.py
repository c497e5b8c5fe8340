#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pod_network_info
short_description: Return everything about a host's pod network in one call, and change nothing
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Returns what the host, its kernel and its files say about the pod network, whether or not the collection has set it
    up. That is links, routes, neighbours and VXLAN peers; sysctls now and after the next boot; CNI configurations,
    plugins, leases and running pods; packet filters of iptables (both variants) and nftables; network managers;
    flanneld; certificates; what other pod networks have left.
  - It makes no lock, no file and no table of a packet filter, and loads no module of iptables.
  - It does not fail where something can't be read. That is a line in RV(host.problems).
options:
  conf_dir:
    description:
      - Where CNI configurations are.
      - By default what containerd's configuration says, C(/etc/cni/net.d) where it says nothing.
    type: path
  bin_dir:
    description:
      - Where CNI plugins are.
      - By default what containerd's configuration says, C(/opt/cni/bin) where it says nothing.
    type: path
  socket:
    description:
      - The socket of the container runtime.
      - By default the first of those of containerd, CRI-O, k3s and cri-dockerd that something listens on.
    type: path
  ways:
    description: Addresses whose ways are looked up, such as those of the other nodes and of pods on them.
    type: list
    elements: str
    default: []
  tunnel_ports:
    description:
      - UDP ports of tunnels that are yet to be made to O(ways).
      - RV(host.firewalls.closed_udp) tells which of them are closed, as it does for the VXLAN devices that exist.
    type: list
    elements: int
    default: []
notes:
  - The plugins that the loaded configuration names are started to ask for their versions, as the runtime starts them.
  - No secret is returned, neither keys nor a WireGuard PSK.
extends_documentation_fragment:
  - weft.podnet.host
requirements:
  - cryptography, to read certificates
attributes:
  check_mode:
    description: The module never changes anything.
    support: full
  diff_mode:
    description: There is nothing that could differ.
    support: none
seealso:
  - module: weft.podnet.pod_probe
"""

EXAMPLES = r"""
- name: Look at the pod network of every node
  weft.podnet.pod_network_info:
  become: true
  register: network

- name: Show which CNI configuration the runtime loads, and what keeps it from loading one
  ansible.builtin.debug:
    msg: "{{ network.host.cni.loaded or network.host.cni.broken or 'there is no configuration' }}"

- name: Fail where the next boot turns forwarding off
  ansible.builtin.assert:
    that: forwarding.boot != '0'
    fail_msg: "{{ forwarding.file }} sets it to 0"
  vars:
    forwarding: "{{ network.host.sysctls['net.ipv4.ip_forward'] }}"

- name: Ask how this node gets to two others
  weft.podnet.pod_network_info:
    ways: [172.16.0.4, 172.16.0.5]
  become: true
  register: network

- name: List leases that no pod uses any more
  ansible.builtin.debug:
    msg: "{{ item.name }}: {{ item.stale_addresses | join(', ') }}"
  loop: "{{ network.host.cni.networks | selectattr('stale') }}"
  loop_control:
    label: "{{ item.name }}"
"""

RETURN = r"""
host:
  description: The observation. Text from the host is made printable; lists are sorted unless their order
    counts.
  type: dict
  returned: success
  contains:
    format:
      description: The version of this structure. Keys may be added within one.
      type: int
    hostname:
      description: The kernel's name of the host.
      type: str
    machine_id:
      description: 'The first 12 hexadecimal digits of the SHA-256 of C(/etc/machine-id): two hosts that
        have the same are clones. Empty where there is none.'
      type: str
    boot_id:
      description: The kernel's, a new one with each boot.
      type: str
    kernel:
      description: The kernel's release.
      type: str
      sample: 6.1.0-18-amd64
    os:
      description: C(ID), C(VERSION_ID) and C(PRETTY_NAME) of C(/etc/os-release).
      type: dict
      contains:
        id:
          description: Such as V(debian).
          type: str
        version:
          description: Such as V(12).
          type: str
        name:
          description: For people.
          type: str
    time:
      description: The host's clock, in seconds since the epoch.
      type: float
    links:
      description: The links of the host's network namespace, by index.
      type: list
      elements: dict
      contains:
        name:
          description: The name.
          type: str
        index:
          description: The kernel's number.
          type: int
        kind:
          description: As in C(ip link add type KIND); empty for hardware.
          type: str
        mac:
          description: The hardware address; empty where it is no MAC.
          type: str
        mtu:
          description: In bytes.
          type: int
        up:
          description: Is it set up?
          type: bool
        running:
          description: Is it ready to carry packets?
          type: bool
        arp:
          description: Does the kernel ask for hardware addresses there?
          type: bool
        qdisc:
          description: The queueing discipline of what it sends.
          type: str
          sample: fq_codel
        qdisc_limit:
          description: How much that holds, in bytes (V(bfifo)) or packets.
          type: int
          returned: links with a plain queue (V(bfifo), V(pfifo) or V(pfifo_head_drop))
        master:
          description: The bridge, bond or VRF that it belongs to.
          type: str
        peer_elsewhere:
          description: Is its other end in another network namespace, such as a pod's?
          type: bool
        hairpin:
          description: Does the bridge send a port's packets back to it?
          type: bool
          returned: ports of bridges
        isolated:
          description: Is the port kept from other isolated ports?
          type: bool
          returned: ports of bridges
        port_state:
          description: V(forwarding) where frames pass; V(disabled) without carrier. V(listening), V(learning) and
            V(blocking) are the spanning tree protocol's.
          type: str
          returned: ports of bridges
        broadcast_flood:
          description: Does the bridge pass broadcasts to the port, such as ARP requests?
          type: bool
          returned: ports of bridges
        multicast_flood:
          description: Does the bridge pass multicasts to the port, such as IPv6's neighbour discovery?
          type: bool
          returned: ports of bridges
        locked:
          description: V(true) where the port drops what comes from an unknown MAC.
          type: bool
          returned: ports that are locked
        findable:
          description: V(false) where the port neither learns MACs nor gets what is sent to an unknown one.
          type: bool
          returned: ports with both turned off
        fdb_mac:
          description: The bridge's own hardware address.
          type: str
          returned: bridges that send frames for themselves to a port
        fdb_dev:
          description: The port to which a static entry sends frames for the bridge itself, which is pods' gateway.
          type: str
          returned: bridges that send frames for themselves to a port
        fdb_local:
          description: V(false), as on pods that have these values.
          type: bool
          returned: bridges that send frames for themselves to a port
        vni:
          description: The VXLAN network identifier.
          type: int
          returned: VXLAN devices
        port:
          description: The UDP port.
          type: int
          returned: VXLAN devices
        local:
          description: The address that packets leave from.
          type: str
          returned: VXLAN devices
        underlay:
          description: The link below.
          type: str
          returned: VXLAN devices
        learning:
          description: Does it learn where MACs are?
          type: bool
          returned: VXLAN devices
        ours:
          description: Does it carry the collection's mark?
          type: bool
          returned: VXLAN devices
        tx_checksum:
          description: Does it leave checksums to the hardware (C(tx-checksum-ip-generic))?
          type: bool
          returned: VXLAN devices that say so
    addresses:
      description: The addresses of all links.
      type: list
      elements: dict
      contains:
        dev:
          description: The link.
          type: str
        address:
          description: With its prefix length.
          type: str
          sample: 172.16.0.3/24
        scope:
          description: V(global), V(link), V(host) ...
          type: str
        dynamic:
          description: Does its lifetime end, as with DHCP?
          type: bool
        tentative:
          description: Is it still examined for duplicates?
          type: bool
        duplicate:
          description: V(true) where the kernel does not use it, as another host has it. For IPv6 only.
          type: bool
          returned: where it is a duplicate
        prefix_route:
          description: V(false) where the kernel was asked to add no route to the address's network.
          type: bool
          returned: where it added none
    routes:
      description: The routes of all tables, the main table first, without those to IPv6 link-local addresses. Of the
        table local, only what makes this host take more than its own addresses for its own.
      type: list
      elements: dict
      contains:
        dst:
          description: A network, or V(default).
          type: str
        version:
          description: V(4) or V(6).
          type: int
        via:
          description: The gateway; empty for none.
          type: str
        dev:
          description: The link; empty for none.
          type: str
        table:
          description: V(main), V(default), V(local), or a number.
          type: str
        metric:
          description: The priority; a lower one wins.
          type: int
        protocol:
          description: The number of what made the route.
          type: int
        type:
          description: V(unicast), V(blackhole), V(unreachable), V(prohibit), V(throw) or V(local).
          type: str
        scope:
          description: V(global), V(link) ...
          type: str
        onlink:
          description: Is the gateway taken to be on the link?
          type: bool
        nhid:
          description: The nexthop object, V(0) for none.
          type: int
        src:
          description: The preferred source; empty for none.
          type: str
        owner:
          description: V(weft.podnet) for protocol 87 or a nexthop object of it, else the name that
            C(/etc/iproute2/rt_protos) gives the protocol, else the number.
          type: str
        tos:
          description: The type of service of the packets that it is for.
          type: int
          returned: routes for one type of service
        mtu:
          description: The largest packet that the route takes.
          type: int
          returned: routes with an MTU of their own
        hops:
          description: Each next hop's C(via) and C(dev); RV(host.routes[].via) and RV(host.routes[].dev) are the
            first one's.
          type: list
          elements: dict
          returned: routes with several next hops
    missing_rules:
      description: The standard routing tables that no policy rule looks in for every packet any more.
      type: list
      elements: dict
      contains:
        version:
          description: V(4) or V(6).
          type: int
        table:
          description: V(local) or V(main).
          type: str
    rules:
      description: The policy rules besides the standard ones.
      type: list
      elements: dict
      contains:
        version:
          description: V(4) or V(6).
          type: int
        priority:
          description: A lower one comes first.
          type: int
        from:
          description: A network; empty for all.
          type: str
        to:
          description: A network; empty for all.
          type: str
        table:
          description: The table that is asked; empty where the action is another.
          type: str
        fwmark:
          description: V(0) for none.
          type: int
        fwmask:
          description: The bits of a packet's mark that are compared with C(fwmark).
          type: int
          returned: rules that compare some bits
        iif:
          description: Where packets come in; empty for all.
          type: str
        oif:
          description: Where packets go out; empty for all.
          type: str
        action:
          description: V(lookup), V(goto), V(nop), V(blackhole), V(unreachable) or V(prohibit).
          type: str
        inverted:
          description: Does it concern all other packets?
          type: bool
        goto:
          description: The priority of the rule at which the lookup goes on.
          type: int
          returned: rules with the action V(goto)
        suppress_prefixlength:
          description: Routes of the table with a prefix of this length or a shorter one do not count.
          type: int
          returned: rules that pass over some routes
        other:
          description: Always true. The rule also asks for something that is not shown, such as a port, a user or a VRF.
          type: bool
          returned: rules that ask for such a thing
    ways:
      description: 'How the host gets to each address of O(ways): a dictionary with V(dst) (the route''s
        own destination), V(via), V(dev), V(local), V(src) and V(mtu) (of the route, of the path as far
        as it is learned, or of the link); or with V(error) alone.'
      type: dict
    neighbour_entries:
      description: By IP version (V(4) or V(6)), how many entries count against C(net.ipv4.neigh.default.gc_thresh3) or
        its like for IPv6, those of pods' network namespaces among them. Empty in a container.
      type: dict
    connections:
      description: Connections that the kernel tracks (V(count)) and the most that it can track (V(max)). Empty where it
        tracks none.
      type: dict
    neighbours:
      description: Neighbour entries of VXLAN devices; of other links the failed and the permanent ones, and those of
        O(ways). For those, a failed entry is tried again with one packet.
      type: list
      elements: dict
      contains:
        dst:
          description: The address.
          type: str
        dev:
          description: The link.
          type: str
        mac:
          description: Empty where it is not known.
          type: str
        state:
          description: V(permanent), V(reachable), V(stale), V(failed) ...
          type: str
    fdb:
      description: Forwarding entries of VXLAN devices that lead to other hosts.
      type: list
      elements: dict
      contains:
        mac:
          description: Of the other end.
          type: str
        dev:
          description: The device.
          type: str
        dst:
          description: The address on the underlay.
          type: str
        port:
          description: The entry's own UDP port.
          type: int
          returned: where it has one that is not the device's
        vni:
          description: The entry's own VNI.
          type: int
          returned: where it has one that is not the device's
    sysctls:
      description: 'The switches that pods need, by name. As in C(sysctl), a dot in a link''s name is
        a slash: V(net.ipv4.conf.flannel/1.rp_filter). Each is a dictionary: V(now), the value; V(boot),
        what the next boot sets it to, and V(file), the file whose line wins, both empty where no file
        sets it. That may be a file of C(sysctl.d), or one of systemd-networkd, which sets forwarding and
        V(rp_filter) later. V(mcast_solicit) and V(app_solicit) of neighbours are returned only where they are
        unusual.'
      type: dict
    kernel_modules:
      description: V(br_netfilter) and V(vxlan), each with V(loaded) (or built in), V(boot), the file
        of C(modules-load.d) that names it, and V(refused), the file of C(modprobe.d), or the parameter of the
        kernel's command line, that keeps the kernel from loading it at boot; both empty where there is none.
      type: dict
    programs:
      description: Paths of programs that daemons of the pod network call, with links followed; empty
        where the host lacks them.
      type: dict
    cni:
      description: CNI, as the container runtime reads it.
      type: dict
      contains:
        conf_dir:
          description: Where configurations are.
          type: str
        bin_dir:
          description: Where plugins are.
          type: str
        files:
          description: The files in the order in which the runtime considers them.
          type: list
          elements: dict
          contains:
            name:
              description: The file.
              type: str
            network:
              description: The network's name.
              type: str
            types:
              description: The plugins.
              type: list
              elements: str
            error:
              description: Why the runtime can't load it; empty where it can. Then only RV(host.cni.files[].name),
                RV(host.cni.files[].network), RV(host.cni.files[].types) and RV(host.cni.files[].ours)
                are there.
              type: str
            cni_version:
              description: The C(cniVersion).
              type: str
            ours:
              description: Has it a name of the collection's, on a host that the collection configured?
              type: bool
            bridge:
              description: The bridge; empty for none.
              type: str
            subnets:
              description: Where host-local takes addresses from; with flannel's plugin from C(subnet.env).
              type: list
              elements: str
            ip_masq:
              description: Does the plugin translate what pods send? Missing where only C(subnet.env),
                which is not there, decides.
              type: bool
            mtu:
              description: Of pods; V(0) for the plugin's default.
              type: int
            hairpin:
              description: Does a pod reach itself through its service?
              type: bool
            ipam:
              description: The plugin that gives addresses.
              type: str
            default_route:
              description: Do pods get one?
              type: bool
            gateways:
              description: The addresses, with prefix, that the plugin wants its bridge to have.
              type: list
              returned: if one of them is not the first address of its subnet
            chained:
              description: The plugins of a list behind its first with their configurations; of plugins
                that are no reference plugins only C(type).
              type: list
              returned: if there are any
              elements: dict
            appended:
              description: Files of a folder named as the network, whose plugins libcni 1.3 and newer
                adds.
              type: list
              returned: if there are any
              elements: str
        loaded:
          description: The file that the runtime loads; empty for none.
          type: str
        broken:
          description: The broken file that keeps the runtime from loading any, and why; else empty.
          type: str
        plugins:
          description: The plugins that the files need, each with V(path) (empty where it is missing),
            V(target) (links followed), V(executable), V(versions) (asked only of those that the loaded
            file uses), and V(error) where it does not answer.
          type: dict
        networks:
          description: Of every readable file, and of every folder of leases.
          type: list
          elements: dict
          contains:
            name:
              description: The name.
              type: str
            directory:
              description: Of host-local's leases; empty with another plugin.
              type: str
            configured:
              description: Does a file describe it?
              type: bool
            leases:
              description: How many there are.
              type: int
            stale:
              description: Those whose pod certainly does not live.
              type: int
            stale_addresses:
              description: Their addresses.
              type: list
              elements: str
            live:
              description: The others.
              type: int
            capacity:
              description: How many pods there are addresses for; V(0) where that is not known.
              type: int
            unwritable:
              description: Why that folder takes no new lease, V(read-only) or V(full); empty where it does.
              type: str
            duplicates:
              description: Addresses that more than one pod has.
              type: list
              elements: str
            addresses:
              description: The leased ones that are not stale.
              type: list
              elements: str
        pods:
          description: Addresses of pods that live, found in their network namespaces.
          type: list
          elements: dict
          contains:
            address:
              description: The address.
              type: str
            netns:
              description: The path of the namespace.
              type: str
            dev:
              description: The pod's link.
              type: str
            host_dev:
              description: Its other end on the host; empty for a link of another kind.
              type: str
            mtu:
              description: Of the pod's link.
              type: int
            default_route:
              description: Has the pod one of the address's family by this link? Missing where it has one by another.
              type: bool
            up:
              description: V(false) where the pod's link is down.
              type: bool
              returned: where it is down
            arp:
              description: V(false) where the pod's link, a veth or a macvlan, has the flag NOARP.
              type: bool
              returned: where ARP is off
            mac:
              description: The hardware address of the pod's link.
              type: str
              returned: where another pod on the bridge, or the bridge itself, has the same one
            fdb_mac:
              description: The hardware address of the pod's link, where O(ignore:fdb_dev) is returned.
              type: str
              returned: as RV(ignore:fdb_dev)
            fdb_dev:
              description: The port to which a static entry of the bridge sends frames for the pod.
              type: str
              returned: where it is not the pod's own, or the bridge keeps them
            fdb_local:
              description: Whether the bridge keeps these frames for the node itself.
              type: bool
              returned: as RV(ignore:fdb_dev)
        detached:
          description: Links of living pods that belong to no bridge, and that no route leads to.
          type: list
          elements: str
        rules:
          description: What plugins keep in iptables for single pods.
          type: list
          elements: dict
          contains:
            kind:
              description: V(masquerade) or V(host port).
              type: str
            container:
              description: Its ID.
              type: str
            network:
              description: The network's name.
              type: str
            live:
              description: Has the network a pod of this container?
              type: bool
    runtime:
      description: The container runtime; it is not asked itself.
      type: dict
      contains:
        socket:
          description: Where it listens.
          type: str
        running:
          description: Does it listen?
          type: bool
        conf_dir:
          description: By containerd's configuration; empty for another runtime.
          type: str
        bin_dir:
          description: By containerd's configuration; empty for another runtime.
          type: str
        version:
          description: Of the containerd that runs; empty where there is no telling.
          type: str
        config:
          description: The file with containerd's configuration; empty for another runtime.
          type: str
        without_cri:
          description: Does it disable the plugin that the kubelet needs?
          type: bool
        network_ready:
          description: Always null so far.
          type: bool
        message:
          description: Always empty so far.
          type: str
    kubelet:
      description: By its command line and configuration.
      type: dict
      contains:
        running:
          description: Does it run?
          type: bool
        node_name:
          description: The Node's name; empty where it does not run.
          type: str
        pod_cidr:
          description: Empty where the API gives it.
          type: str
        server:
          description: The API server, as its kubeconfig names it; empty where there is no telling.
          type: str
    kube_proxy:
      description: By its command line and configuration, also of one in a container.
      type: dict
      contains:
        running:
          description: Does one of root's run?
          type: bool
        cluster_cidrs:
          description: The cluster's pod network, as it was given to kube-proxy.
          type: list
          elements: str
    masquerade:
      description: The chains in which the source of packets is translated.
      type: list
      elements: dict
      contains:
        place:
          description: 'Such as V(nftables: table ip weft-podnet).'
          type: str
        owner:
          description: V(weft.podnet), V(flannel), V(cni), V(kube-proxy), V(docker), V(firewalld), V(calico),
            V(cilium), V(weave), V(libvirt), V(ufw) or V(other).
          type: str
        rules:
          description: All of the chain's rules, in order, at most 100; for chains of CNI plugins only
            how many there are.
          type: list
          elements: str
    forward:
      description: 'The chains through which forwarded packets pass: C(FORWARD) of iptables'' table C(filter),
        and the chains of nftables at that hook. Also those at the hooks C(prerouting) and C(postrouting) that drop
        something, and what drops packets of single links: chains of nftables at the hooks C(ingress) and C(egress),
        filters of C(tc), and XDP programs.'
      type: list
      elements: dict
      contains:
        place:
          description: Which chain.
          type: str
        hook:
          description: V(forward), V(prerouting), V(postrouting), V(ingress) or V(egress).
          type: str
        policy:
          description: V(accept) or V(drop).
          type: str
        accepts:
          description: Networks from and to which packets are accepted before anything rejects everything.
          type: list
          elements: str
        owner:
          description: V(docker), V(firewalld), V(ufw), V(flannel) ...; empty where that can't be told.
          type: str
        rejects_before:
          description: The rule that rejects or drops every new packet which came that far; empty for
            none.
          type: str
        may_accept:
          description: Rules before it, at most 100, that lead some packets to chains which may accept them.
          type: list
          elements: str
        drops:
          description: Rules before it, at most 100, that every packet meets and that drop some, by address or link, and
            at the end those by something else, if they are not for single addresses.
          type: list
          elements: dict
          contains: &drop
            rule:
              description: >-
                The rule. A set of nftables or ipset that it names is replaced by those of its members that may hold
                pods, or are hosts: for ipset, each is a rule of its own, with C(--match-set) and the name. Filters of
                C(tc) are shown as C(nft) would show them. A rule that hands packets to a queue which no program reads
                ends with V(, where no program listens).
              type: str
            after:
              description: Rules before it that accept some packets.
              type: list
              elements: str
    saved_forward:
      description: 'What of RV(host.forward) services load at boot that are enabled, where it drops something, each with
        V(file): the file that nftables.service loads, without tables of iptables, and the files that
        netfilter-persistent, iptables.service and ip6tables.service restore. To read the first, C(nft) loads it in a
        network namespace of its own. Files of more than 64 KiB for C(nft), and with named sets, are left out.'
      type: list
      elements: dict
    host_filters:
      description: The chains that drop some of what the host itself receives or sends.
      type: list
      elements: dict
      contains:
        place:
          description: Which chain, as in RV(host.forward[].place).
          type: str
        hook:
          description: V(input) or V(output).
          type: str
        drops:
          description: The rules, as in RV(host.forward[].drops).
          type: list
          elements: dict
          contains: *drop
        ends:
          description: The rule or the policy that drops all that no rule before accepts; empty for none.
          type: str
          sample: policy drop
        accepts:
          description: The rules of the chain, and of those that it leads to, that may accept packets before that.
          type: list
          elements: str
    frame_filters:
      description: The chains of nftables that drop frames of bridges, or ARP, as ebtables and arptables make them.
      type: list
      elements: dict
      contains:
        place:
          description: Which chain.
          type: str
          sample: "nftables: table bridge filter, chain FORWARD"
        hook:
          description: Such as V(forward) or V(input).
          type: str
        everything:
          description: The rule or the policy that drops everything; empty where something is accepted.
          type: str
        drops:
          description: The rules that drop some frames, as in RV(host.forward[].drops).
          type: list
          elements: dict
          contains: *drop
    redirects:
      description: The chains in which packets get another destination or a mark before they are routed, or in which
        their connections are left untracked. Those of kube-proxy, of CNI plugins and of other known programs are left
        out, as are those that only some packets reach.
      type: list
      elements: dict
      contains:
        place:
          description: Which chain.
          type: str
        rules:
          description: The chain's rules, in order, at most 100, without comments and without those that lead to
            chains of known programs.
          type: list
          elements: str
    ipsec:
      description: IPsec policies of the kernel for whole networks, the one with the lowest priority first.
      type: list
      elements: dict
      contains:
        from:
          description: A network.
          type: str
        to:
          description: A network.
          type: str
        protocol:
          description: V(udp) where it is for UDP only, to or from any port; empty for all protocols.
          type: str
        dir:
          description: V(out), V(fwd) (forwarded packets that come in) or V(in).
          type: str
        priority:
          description: A lower one comes first.
          type: int
        block:
          description: Are the packets dropped?
          type: bool
        tunnel:
          description: The far end of the tunnel that they must pass; empty where they pass as they are.
          type: str
    firewalls:
      description: Which firewalls are at work, and what is closed, by whatever rules.
      type: dict
      contains:
        ufw:
          description: ufw.
          type: bool
        firewalld:
          description: firewalld.
          type: bool
        closed_udp:
          description: The ports of the host's VXLAN devices, and of O(tunnel_ports), to which nothing is let in, or
            nothing out, and the places that close them.
          type: list
          elements: dict
          contains:
            port:
              description: The UDP port.
              type: int
            place:
              description: The table and the chain, as in RV(host.forward[].place).
              type: str
              sample: "iptables (nft): filter, chain INPUT"
            out:
              description: Is nothing let out to this port of other hosts? Otherwise nothing is let in.
              type: bool
            peer:
              description: Of the addresses in O(ways), the one for which that holds; empty where it holds for all.
              type: str
    services:
      description: Services that are installed or run, and that change packet filters or links.
      type: list
      elements: dict
      contains:
        name:
          description: Such as V(docker), V(nftables), V(NetworkManager), V(kube-proxy).
          type: str
        running:
          description: Is its unit active, or is there its process?
          type: bool
        enabled:
          description: Does its unit start at boot?
          type: bool
    managers:
      description: What could claim links of pods, or remove routes to them.
      type: dict
      contains:
        networkd:
          description: systemd-networkd.
          type: dict
          contains:
            running:
              description: Does it run?
              type: bool
            files:
              description: The C(.network) files in the order in which it tries them, drop-ins included.
              type: list
              elements: dict
              contains:
                path:
                  description: The file.
                  type: str
                matches:
                  description: The links for which it uses this file.
                  type: list
                  elements: str
                ours:
                  description: Did the collection write it?
                  type: bool
                unmanaged:
                  description: Does it keep networkd off them?
                  type: bool
                unread:
                  description: Keys of its C([Match]) section that only udev can judge, so that some link
                    may match after all.
                  type: list
                  returned: if there are any
                  elements: str
            manage_foreign_routes:
              description: Does it remove foreign routes when it starts?
              type: bool
        network_manager:
          description: NetworkManager.
          type: dict
          contains:
            running:
              description: Does it run?
              type: bool
            unmanaged:
              description: C(unmanaged-devices) of its configuration.
              type: list
              elements: str
            managed:
              description: The links that it says it manages, in C(/run/NetworkManager/devices).
              type: list
              elements: str
        netplan:
          description: netplan's files.
          type: list
          elements: str
    flannel:
      description: flanneld.
      type: dict
      contains:
        unit:
          description: flanneld.service.
          type: dict
          contains:
            exists:
              description: Is there one?
              type: bool
            ours:
              description: Did the collection write it?
              type: bool
            enabled:
              description: Does it start at boot?
              type: bool
            active:
              description: As C(systemctl is-active) says it.
              type: str
            type:
              description: Such as V(notify).
              type: str
            start_timeout:
              description: In seconds; V(0) for none.
              type: float
            node_name:
              description: C(NODE_NAME).
              type: str
            arguments:
              description: Of the running process, else of the unit; without secrets.
              type: list
              elements: str
            restarts:
              description: By systemd, since it was started.
              type: int
            since:
              description: Active since, in seconds since the epoch; V(0) where it is not.
              type: float
        processes:
          description: Root's in the host's network namespace, containers' as well.
          type: list
          elements: dict
          contains:
            pid:
              description: The process.
              type: int
            ours:
              description: Is it the collection's unit's?
              type: bool
            version:
              description: Empty where there is no telling.
              type: str
            arguments:
              description: Without secrets.
              type: list
              elements: str
        net_conf_path:
          description: Empty where there is none.
          type: str
        net_conf:
          description: Its C(net-conf.json), or k3s', a preshared key as V(***).
          type: dict
        net_conf_problems:
          description: What flanneld ignores or takes otherwise.
          type: list
          elements: str
        subnet_env:
          description: What flanneld wrote for its CNI plugin.
          type: dict
        journal:
          description: The last lines about what went wrong, where the unit failed or was started again.
          type: list
          elements: str
        meanings:
          description: What these mean, and what to do.
          type: list
          elements: str
    certificates:
      description: The CA's, flanneld's and the kubelet's, where they are.
      type: list
      elements: dict
      contains:
        path:
          description: The file; C((embedded)) in a kubeconfig.
          type: str
        subject:
          description: Whom it names.
          type: str
        not_before:
          description: In UTC.
          type: str
        not_after:
          description: In UTC.
          type: str
        days_left:
          description: Negative once it has expired.
          type: int
        key_type:
          description: V(rsa), V(ecdsa), V(ed25519), or another kind's name.
          type: str
        signed_by_ca:
          description: By C(/etc/kubernetes/pki/ca.crt).
          type: bool
          returned: if that file is there
    kubeconfig:
      description: flanneld's.
      type: dict
      contains:
        path:
          description: Empty where there is none.
          type: str
        server:
          description: The API server.
          type: str
        user_certificate:
          description: V(path), V(embedded), or empty.
          type: str
        problems:
          description: What is wrong with it.
          type: list
          elements: str
    leftovers:
      description: What pod networks that are not in use have left.
      type: list
      elements: dict
      contains:
        what:
          description: Such as V(device vxlan.calico).
          type: str
        of:
          description: V(calico), V(cilium), V(weave), V(canal), V(kube-router), V(antrea), V(flannel),
            or V(cni) for C(cni0) without a network.
          type: str
        text:
          description: More about it.
          type: str
    ours:
      description: What the collection keeps here.
      type: dict
      contains:
        units:
          description: Its units and whether they are active.
          type: dict
        checkpoint_pending:
          description: The checkpoint that is restored unless a run confirms in time; else empty.
          type: str
        run:
          description: 'The run that holds the host: V(holder), empty for none, and V(since).'
          type: dict
        state_dir:
          description: The files in C(/etc/weft-podnet).
          type: list
          elements: str
    problems:
      description: What could not be read, a line each.
      type: list
      elements: str
    truncated:
      description: 'Lists that were cut at 2000 items, by name: how many there were.'
      type: dict
"""

from ansible_collections.weft.podnet.plugins.module_utils.core.resource import main as run
from ansible_collections.weft.podnet.plugins.module_utils.node.info.resource import RESOURCE


def main() -> None:
    run(RESOURCE)


if __name__ == "__main__":
    main()
