# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ways to break a node's pod network, each for one rule of the diagnosis. The cluster has two workers."""

from __future__ import annotations

import datetime
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Union

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from ansible_collections.weft.podnet.plugins.plugin_utils.plan import plan_file
from support import flannel, node_pods
from support.lab import Lab

ADMIN = "/etc/kubernetes/admin.conf"
# The address of the mesh's device, with its prefix.
VTEP = "$(ip -4 -o address show dev flannel.1 | awk '{print $4}')"


# The MAC of a pod, its port and the other pod's.
PORT_OF_ONE = (
    "MAC=$(ip netns exec one cat /sys/class/net/eth0/address); "
    "NUMBER=$(ip netns exec one cat /sys/class/net/eth0/iflink); "
    'PORT=$(ip -o link | sed -n "s/^$NUMBER: \\(veth[^@]*\\)@.*/\\1/p"); '
    "OTHER=$(ls /sys/class/net/cni0/brif | grep -v $PORT)"
)


# For a shell on a host, or a function.
Command = Union[str, Callable[[Lab], object]]


class Break(NamedTuple):
    """``command`` breaks a host so that ``rule`` finds it there. ``by_hand`` heals what no printed fix can.

    ``also`` are commands for other hosts, by name. ``both``: either worker or both may report it, and each of them gets
    its fix. ``after`` undoes what the printed fix rightly leaves; until then, there may be notes.
    """

    rule: str
    command: Command
    host: str = "worker-1"
    by_hand: Command = ""
    also: Mapping[str, str] = MappingProxyType({})
    both: bool = False
    after: Command = ""

    def happen(self, lab: Lab) -> None:
        if callable(self.command):
            self.command(lab)
        else:
            lab.sh(self.host, self.command)
        for host, command in self.also.items():
            lab.sh(host, command)


# A pod has the address of its gateway for as long as the kernel examines it.
DUPLICATE = (
    "G=fd00:10:244::1/64; ip -n one address add $G dev eth0 nodad; "
    "ip address del $G dev cni0; ip address add $G dev cni0; "
    "timeout 20 sh -c 'until ip -6 address show dev cni0 dadfailed | grep -q global; do sleep 0.1; done'; "
    "ip -n one address del $G dev eth0"
)


def fdb(own: str) -> str:
    """The entry for the other node, with something of its own."""
    return (
        "set -- $(bridge fdb show dev flannel.1 | sed -n 's/^\\([^ ]*\\) dst \\([^ ]*\\) .*/\\1 \\2/p'); "
        f"bridge fdb replace $1 dev flannel.1 dst $2 {own} self permanent"
    )


def conf(change: str) -> str:
    """A change of the CNI configuration, as Python of the parsed ``c``, whose first plugin is ``p``."""
    path = "/etc/cni/net.d/10-bridge.conflist"
    program = f"import json; c = json.load(open('{path}')); p = c['plugins'][0]; {change}; "
    return f"python3 -c \"{program} json.dump(c, open('{path}', 'w'), indent=2)\""


SET = "set bad { type ipv4_addr; flags interval; elements = { 10.244.1.0/24 }; }"
BY_CHANCE = "-m statistic --mode random --probability 0.5 -j DROP"
OF_PEER = "-s 172.16.0.4 -p udp --dport 8472 -j DROP"
IN_SET = "-m set --match-set {} src -j DROP"
LISTED = "-m recent --name banned --rcheck -j DROP"
LEARNED = "2001:db8::5/64"
MARKED = "-s 10.244.0.0/16 -j MARK --set-mark 7"
NETMAP = "-s 10.244.0.0/24 -o flannel.1 -j NETMAP --to 192.168.77.0/24"
LARGE_UDP = "-p udp -m length --length 1000:65535 -j DROP"
MANY = "-p tcp -m connlimit --connlimit-above 1 --connlimit-mask 16 -j REJECT"
TO_STRANGER = "-s 10.244.0.0/16 -o eth0 -j SNAT --to-source 192.0.2.9"
RECORDED = "-s 10.244.0.0/16 -m recent --name x --set -j DROP"
COUNTED = "-s 10.244.0.0/16 -m recent --name x --update --seconds 60 --hitcount 3 -j DROP"
ANSWERS = "-d 10.244.0.0/16 -m conntrack --ctstate ESTABLISHED -j DROP"
OF_PODS = "-s 10.244.0.0/16 -j DROP"
ENTRY = "$(bridge fdb show dev flannel.1 | head -1 | cut -d' ' -f1)"
STRANGER = "02:00:00:00:99:99"
PORTS = "$(ls /sys/class/net/cni0/brif)"
PORT = "$(ls /sys/class/net/cni0/brif | head -1)"
NETD = "/etc/cni/net.d"
CONTAINERD = "/etc/containerd/config.toml"
LEASES = "/var/lib/cni/networks/bridge"
# Older than any pod whose address is not configured yet.
LEASE = "printf 'gone\\r\\neth0' >10.244.0.$n; touch -d '1 hour ago' 10.244.0.$n"
NO_PEER = (
    f"bridge fdb del {ENTRY} dev flannel.1; ip neighbour flush dev flannel.1 nud permanent; ip route del 10.244.1.0/24"
)
NETWORKD = "$(grep -rl Unmanaged /etc/systemd/network)"
LEAKED = (
    "iptables -t nat -N CNI-{chain}; iptables -t nat -A POSTROUTING -s 10.244.0.77 -m comment --comment "
    '\'name: "bridge" id: "{container}"\' -j CNI-{chain}'
).format(chain="aaaaaaaaaaaaaaaaaaaaaaaa", container="feed" * 16)

WITHIN = "timeout 60 sh -c"
CONNTRACK_MAX = "net.netfilter.nf_conntrack_max"
# Datagrams from the node to itself, each from and to other ports.
FILL = f"""sysctl -q -w net.netfilter.nf_conntrack_udp_timeout=900; python3 -c "
import socket
count = int(open('/proc/sys/{CONNTRACK_MAX.replace(".", "/")}').read()) * 19 // 20
for first in range(0, count, 50000):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for port in range(10000, 10000 + min(50000, count - first)):
            sender.sendto(b'', ('172.16.0.3', port))"
"""
SITE = "/usr/lib/python3/dist-packages/fast.pth"
FAST = "import time; time.time = lambda now=time.time: now() + 900"
# ssh, and all that it starts, sees a kernel 2.6 then.
OLD = "/etc/systemd/system/ssh.service.d"
OLD_START = f"D={OLD}; mkdir -p $D; printf"
SSH_AGAIN = "systemctl daemon-reload; systemctl restart ssh; pkill -f '^sshd: root' || true"
NET_CONF = "/etc/flannel/net-conf.json"
BACK = f"mv /root/net-conf.json {NET_CONF}"
UNIT = "/etc/systemd/system/flanneld.service"
DROP_IN = f"D={UNIT}.d; mkdir -p $D; printf '[Service]\\n%s\\n'"
AGAIN = "systemctl daemon-reload; systemctl restart --no-block flanneld; sleep 1"
# The stand-in is a script, and the version of a program is in its path.
AS_PROGRAM = (
    "D=/root/v0.27.2; mkdir -p $D; cp $(readlink -f /usr/bin/python3) $D/python3; "
    'sed -i "1s#.*#\\#!$D/python3#" $(readlink -f /usr/local/bin/flanneld)'
)
EMBEDDED = (
    "cd /etc/kubernetes; kubectl --kubeconfig flannel.conf config view --raw --flatten >/root/flannel.conf; "
    "cat /root/flannel.conf >flannel.conf"
)

K = f"kubectl --kubeconfig {ADMIN}"
API_UNIT = "/etc/systemd/system/kube-apiserver.service"
API_AGAIN = (
    "systemctl daemon-reload; systemctl restart kube-apiserver; "
    f"{WITHIN} 'until {K} get nodes >/dev/null 2>&1; do sleep 0.1; done'"
)
CERTIFICATE = "/etc/kubernetes/pki/flannel.crt"
DAY = datetime.timedelta(days=1)
ANNOTATION = "flannel.alpha.coreos.com"
PENDING = "/run/weft-podnet-restore"
CONFLIST = f"{NETD}/10-bridge.conflist"
OTHER_SUBNET, OWN_SUBNET = (f"sed -i s#10.244.{a}.0/24#10.244.{b}.0/24#g {CONFLIST}" for a, b in ((0, 77), (77, 0)))
# A process of that name, with the command line of a kubelet.
KUBELET = (
    "printf '#!/bin/sh\\nsleep infinity\\n' >/root/kubelet; chmod 755 /root/kubelet; "
    "systemd-run --quiet --unit fake-kubelet /root/kubelet --hostname-override=node-7"
)
NO_KUBELET = "systemctl stop fake-kubelet"
# The third pod, beside those that are always there.
THREE = (
    "ip netns add three; ip -n three link set lo up; "
    f"python3 -c {shlex.quote(node_pods.LIBCNI)} ADD three '[]'; "
    "systemd-run --quiet --unit three ip netns exec three sleep infinity"
)
NO_THREE = f"systemctl stop three; python3 -c {shlex.quote(node_pods.LIBCNI)} DEL three '[]'; ip netns del three"
BRIDGE = (
    "ip link add cni0 type bridge; ip link set cni0 up; ip address add 10.244.0.1/24 dev cni0; "
    "for port in $(ls /sys/class/net | grep ^veth); do ip link set $port master cni0; "
    "bridge link set dev $port hairpin on; done"
)


def net_conf(change: str) -> str:
    """A change of flanneld's configuration, as Python of the parsed ``c``; ``BACK`` undoes it."""
    program = f"import json; c = json.load(open('{NET_CONF}')); {change}; json.dump(c, open('{NET_CONF}', 'w'))"
    return f'cp {NET_CONF} /root; python3 -c "{program}"'


def condition(kind: str, status: str, message: str) -> str:
    """A condition of worker-1's Node, as the API server gets it from a kubelet or a controller."""
    new = {"type": kind, "status": status, "message": message}
    program = (
        "import json, sys; n = json.load(sys.stdin); s = n['status']; "
        f"s['conditions'] = [c for c in s['conditions'] if c['type'] != '{kind}'] + [{new}]; json.dump(n, sys.stdout)"
    )
    path = "/api/v1/nodes/worker-1/status"
    return f"{K} get node worker-1 -o json | python3 -c {shlex.quote(program)} | {K} replace --raw {path} -f -"


def device(kind: str, local: str = "172.16.0.3") -> str:
    """The VXLAN device made again as ``kind``, with its MAC, its address and its ways to the other node."""
    return (
        "M=$(cat /sys/class/net/flannel.1/address); F=$(bridge fdb show dev flannel.1 | head -1 | cut -d' ' -f1); "
        "ip link del flannel.1; "
        f"ip link add flannel.1 address $M mtu 1450 type vxlan {kind} local {local} dev eth0 nolearning; "
        "ip link set flannel.1 up; ip address add 10.244.0.0/32 dev flannel.1; "
        "ip route add 10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink; "
        "ip neighbour replace 10.244.1.0 lladdr $F dev flannel.1 nud permanent; "
        "bridge fdb append $F dev flannel.1 dst 172.16.0.4"
    )


def certify(lab: Lab, days: int, stranger: bool = False) -> None:
    """Give worker-1's flanneld a certificate for its key that ends in so many days; of another CA, if a stranger's."""
    crt, key = (lab.exec("control-plane", "cat", f"/etc/kubernetes/pki/ca.{kind}") for kind in ("crt", "key"))
    old = x509.load_pem_x509_certificate(lab.exec("worker-1", "cat", CERTIFICATE).encode())
    authority = x509.load_pem_x509_certificate(crt.encode())
    signer = serialization.load_pem_private_key(key.encode(), None)
    assert isinstance(signer, rsa.RSAPrivateKey)
    if stranger:
        signer = rsa.generate_private_key(65537, 2048)
    now = datetime.datetime.now(datetime.timezone.utc)
    made = x509.CertificateBuilder(
        authority.subject, old.subject, old.public_key(), x509.random_serial_number(), now - 30 * DAY, now + days * DAY,
        list(old.extensions),
    ).sign(signer, hashes.SHA256())  # fmt: skip
    pem = made.public_bytes(serialization.Encoding.PEM).decode()
    lab.sh("worker-1", f"printf %s {shlex.quote(pem)} >{CERTIFICATE}")


def lose_plan(lab: Lab) -> None:
    """As on a cluster that another tool has set up."""
    plan_file.applied_file(str(lab.inventory)).unlink(missing_ok=True)


def clone_vtep(lab: Lab) -> None:
    """Worker-2's device gets worker-1's MAC, as on a clone, and its flanneld announces it."""
    address = flannel.mac(lab, "worker-1")
    lab.sh("worker-2", f"ip link set flannel.1 address {address}; systemctl restart flanneld")


def move_worker_2(lab: Lab) -> None:
    """To another backend, and worker-1 not."""
    assert lab.play("site", "--limit", "worker-2", podnet_backend="routes", podnet_verify=False).code == 0


def reboot_worker_1(lab: Lab) -> None:
    """As the finding says where addresses are gone. Its pods are gone with it, and site.yml releases their leases."""
    lab.reboot("worker-1")
    assert lab.play("site", podnet_verify=False).code == 0


def lose_node(lab: Lab) -> None:
    """Worker-1's Node is deleted, and its kubelet does not register it again."""
    lab.sh("worker-1", "systemctl stop kubelet")
    kept = f"{K} get node worker-1 -o yaml | grep -v -e resourceVersion -e uid >/root/node.yaml"
    lab.sh("control-plane", f"{kept}; {K} delete node worker-1")


def return_node(lab: Lab, without: str = "") -> None:
    """As it was, but for what sed leaves out."""
    lab.sh("control-plane", f"sed '{without}' /root/node.yaml | {K} create -f -")
    lab.sh("worker-1", "systemctl start kubelet")


def lose_pod_cidr(lab: Lab) -> None:
    """Worker-1's Node registered again by a controller that gives Nodes none, and its flanneld started again."""
    lab.sh("worker-1", "systemctl stop flanneld")
    lose_node(lab)
    lab.sh("control-plane", f"sed -i s/--allocate-node-cidrs// {API_UNIT}; {API_AGAIN}")
    return_node(lab, f"/podCIDR/d; /^ *- 10.244.0.0/d; /{ANNOTATION}/d")
    lab.sh("worker-1", "systemctl start --no-block flanneld")


def clone_worker_1(lab: Lab, mac: str, learning: str) -> None:
    """Worker-2 gets its MAC. The switch becomes a hub: otherwise, not even ssh would reach both."""
    ports = "$(ip -o link show master br0 | cut -d: -f2 | cut -d@ -f1)"
    hub = f"for port in {ports}; do bridge link set dev $port learning {learning}; done"
    lab.sh("underlay", f"{hub}; ip link set br0 type bridge fdb_flush")
    lab.sh("worker-2", f"ip link set eth0 address 02:ac:10:00:00:{mac}")


def multiply_limit_of_connections(by: float) -> None:
    """On this machine, as it is the kernel's, which all nodes share. It is never smaller than it was."""
    path = Path("/proc/sys", CONNTRACK_MAX.replace(".", "/"))
    path.write_text(str(int(int(path.read_text(encoding="ascii")) * by)), encoding="ascii")


def forget_connections(lab: Lab) -> None:
    lab.sh("worker-1", "conntrack -F >/dev/null 2>&1; sysctl -q -w net.netfilter.nf_conntrack_udp_timeout=30")
    multiply_limit_of_connections(1 / 4)


# Settings of the kernel and files, whatever connects the nodes.
HOST = [
    Break("forwarding-off", "sysctl -q -w net.ipv4.ip_forward=0"),
    Break("forwarding-off", "sysctl -q -w net.ipv4.conf.cni0.forwarding=0"),
    Break("forwarding-off-at-boot", "echo net.ipv4.ip_forward=0 >/etc/sysctl.d/zz-hardening.conf", "worker-2"),
    Break("bridge-filter-off", "sysctl -q -w net.bridge.bridge-nf-call-iptables=0"),
    Break("bridge-filter-off-at-boot", "echo net.bridge.bridge-nf-call-iptables=0 >/etc/sysctl.d/zz-hardening.conf"),
    Break("runtime-down", "systemctl stop containerd"),
    Break(
        "runtime-without-cri",
        f"cp {CONTAINERD} /root; sed -i '1i disabled_plugins = [\"io.containerd.grpc.v1.cri\"]' {CONTAINERD}; "
        "systemctl restart containerd",
        after=f"cp /root/config.toml {CONTAINERD}; systemctl restart containerd",
    ),
    Break(
        "leases-not-writable",
        f"mount --bind {LEASES} {LEASES}; mount -o remount,bind,ro {LEASES}",
        after=f"umount {LEASES}",
    ),
    Break(
        "leases-not-writable",
        f"mount --bind {LEASES} /mnt; mount -t tmpfs -o size=4k none {LEASES}; "
        f"cp /mnt/* {LEASES}; dd if=/dev/zero of={LEASES}/filler || true",
        by_hand=f"umount {LEASES} /mnt",
    ),
    Break("cni-not-configured", f"rm {NETD}/*"),
    Break("cni-broken", f"echo '{{' >{NETD}/05-broken.conf"),
    Break(
        "cni-other-file-first",
        f"""echo '{{"cniVersion": "1.0.0", "name": "other", "type": "loopback"}}' >{NETD}/05-other.conf""",
    ),
    Break("cni-plugin-missing", "rm /opt/cni/bin/host-local"),
    Break("cni-plugin-missing", "P=/opt/cni/bin/portmap; cp --remove-destination $(readlink -f $P) $P; chmod 644 $P"),
    Break("cni-plugin-fails", "P=/opt/cni/bin/host-local; rm $P; echo x >$P; chmod 755 $P"),
    Break("cni-version-unsupported", conf("c['cniVersion'] = '9.9.9'")),
    Break("cni-subnet-wrong", f"sed -i s#10.244.0.0/24#10.244.77.0/24#g {NETD}/10-bridge.conflist"),
    Break("cni-no-default-route", conf("p['ipam'].pop('routes'); p.update(isDefaultGateway=False, isGateway=True)")),
    Break("cni-masquerades-pods", conf("p['ipMasq'] = True")),
    Break("hairpin-off", conf("p.pop('hairpinMode')")),
    Break("hairpin-off", f"for port in {PORTS}; do bridge link set dev $port hairpin off; done"),
    Break("host-ports-ignored", conf("c['plugins'] = c['plugins'][:1]")),
    Break("leases-stale", f"cd {LEASES}; for n in 200 201; do {LEASE}; done"),
    Break("leases-nearly-full", f"cd {LEASES}; for n in $(seq 10 230); do {LEASE}; done"),
    Break("leases-exhausted", f"cd {LEASES}; for n in $(seq 4 254); do {LEASE}; done"),
    Break("pods-detached", f"for port in {PORTS}; do ip link set $port nomaster; done"),
    Break("bridge-down", "ip link set cni0 down"),
    Break("bridge-address-wrong", "ip address add 10.9.9.1/24 dev cni0; ip address del 10.244.0.1/24 dev cni0"),
    Break(
        "bridge-address-wrong",
        f'sed -i \'s#"10.244.0.0/24"#&, "gateway": "10.244.0.99"#\' {NETD}/10-bridge.conflist',
    ),
    Break(
        "rule-translates-pods",
        f"iptables -t nat -A POSTROUTING {NETMAP}",
        after=f"iptables -t nat -D POSTROUTING {NETMAP}",
    ),
    Break("bridge-ports-isolated", f"for port in {PORTS}; do bridge link set dev $port isolated on; done"),
    Break("bridge-ports-not-flooded", f"for port in {PORTS}; do bridge link set dev $port bcast_flood off; done"),
    Break("bridge-ports-blocked", f"for port in {PORTS}; do ip link set $port down; done"),
    Break(
        "bridge-ports-blocked",
        "ip link set cni0 type bridge stp_state 1 forward_delay 3000; "
        f"for port in {PORTS}; do ip link set $port down; ip link set $port up; done",
        after="ip link set cni0 type bridge forward_delay 1500",
    ),
    Break("bridge-mtu-too-small", "ip link set cni0 mtu 1300"),
    Break("pod-rules-leaked", LEAKED),
    Break(
        "networkd-claims-pods",
        f"rm {NETWORKD}; printf '[Match]\\nName=veth*\\n' >/etc/systemd/network/05-veth.network",
    ),
    Break("networkmanager-claims-pods", "rm /etc/NetworkManager/conf.d/*; systemctl restart NetworkManager"),
    Break("networkd-removes-routes", "rm $(grep -rl ManageForeignRoutes /etc/systemd/networkd.conf.d)"),
    Break("masquerade-missing", "nft delete table ip weft-podnet"),
    Break("forward-drops-pods", "iptables -P FORWARD DROP"),
    Break(
        "forward-drops-pods-at-boot",
        "cp -n /etc/nftables.conf /root; printf '#!/usr/sbin/nft -f\nflush ruleset\ntable inet wall { chain f { type "
        "filter hook forward priority 0; policy drop; ct state established accept\n }\n}' >/etc/nftables.conf; "
        "systemctl enable --quiet nftables",
        after="cp /root/nftables.conf /etc; systemctl disable --quiet nftables",
    ),
    # A list of networks that are private, and so hold the pods.
    Break(
        "forward-drops-pods",
        f"ipset create bogons hash:net; ipset add bogons 10.0.0.0/8; iptables -I FORWARD {IN_SET.format('bogons')}",
        after=f"iptables -D FORWARD {IN_SET.format('bogons')}; ipset destroy bogons",
    ),
    Break("forward-drops-pods", "iptables -t raw -A PREROUTING -d 10.244.1.0/24 -j DROP", after="iptables -t raw -F"),
    Break(
        "forward-drops-pods",
        f"nft 'table ip x {{ {SET}; chain f {{ type filter hook forward priority 0; ip saddr @bad drop; }}; }}'",
        after="nft delete table ip x",
    ),
    Break("forward-drops-some", f"iptables -I FORWARD {BY_CHANCE}", after=f"iptables -D FORWARD {BY_CHANCE}"),
    Break("forward-drops-some", "iptables -I FORWARD -p tcp -j DROP", after="iptables -D FORWARD -p tcp -j DROP"),
    Break(
        "frames-dropped",
        "nft 'table bridge x { chain f { type filter hook input priority 0; drop; }; }'",
        after="nft delete table bridge x",
    ),
    Break(
        "forward-drops-pods",
        f"nft 'table netdev x {{ chain c {{ type filter hook ingress device \"'{PORT}'\" priority 0; "
        'fwd to "lo"; }; }\'',
        after="nft delete table netdev x",
    ),
    Break("host-drops-pods", f"iptables -A INPUT {OF_PODS}", after=f"iptables -D INPUT {OF_PODS}"),
    Break(
        "forward-drops-egress",
        "nft 'table ip x { chain p { type filter hook postrouting priority 0; "
        'ip saddr 10.244.0.0/16 oifname "eth0" drop; }; }\'',
        after="nft delete table ip x",
    ),
    # It only records the packets.
    Break("forward-drops-pods", f"iptables -I FORWARD {RECORDED}", after=f"iptables -D FORWARD {RECORDED}"),
    Break("forward-drops-pods", f"iptables -I FORWARD {ANSWERS}", after=f"iptables -D FORWARD {ANSWERS}"),
    Break(
        "filter-may-drop-pods",
        f"iptables -I FORWARD {COUNTED}",
        by_hand=f"iptables -D FORWARD {COUNTED}",
    ),
    Break("filter-may-drop-pods", f"iptables -I FORWARD {MANY}", by_hand=f"iptables -D FORWARD {MANY}"),
    Break("pods-not-tracked", "iptables -t raw -A PREROUTING -j NOTRACK", after="iptables -t raw -F PREROUTING"),
    Break(
        "masquerade-address-foreign",
        # Before what the fix of an earlier break may have left.
        f"iptables -t nat -I POSTROUTING {TO_STRANGER}",
        after=f"iptables -t nat -D POSTROUTING {TO_STRANGER}; "
        "iptables -t nat -D POSTROUTING -s 10.244.0.0/24 ! -d 10.244.0.0/16 -j MASQUERADE",
    ),
    Break("default-ttl-small", "sysctl -q -w net.ipv4.ip_default_ttl=1"),
    Break("part-of-pods-led-away", "ip route add blackhole 10.244.1.0/28"),
    Break("own-pods-led-away", "ip route add 10.244.0.16/28 dev eth0"),
    Break("address-of-another-node", "ip address add 10.244.1.77/32 dev lo"),
    Break("address-of-another-node", "ip address add 10.244.1.1/24 dev cni0"),
    Break("neighbour-static", f"ip neighbour replace 172.16.0.4 lladdr {STRANGER} dev eth0 nud permanent"),
    Break("pod-neighbour-static", f"ip neighbour replace 10.244.0.77 lladdr {STRANGER} dev cni0 nud permanent"),
    Break(
        "marked-pods-diverted",
        f"iptables -t mangle -A PREROUTING {MARKED}; ip rule add fwmark 7 table 99 priority 100; "
        "ip route add default via 172.16.0.1 table 99",
        after=f"iptables -t mangle -D PREROUTING {MARKED}; ip rule del priority 100; ip route flush table 99",
    ),
    Break(
        "pods-route-blackholed",
        "ip nexthop replace blackhole id $(ip route show 10.244.1.0/24 | sed -n 's/.* nhid \\([0-9]*\\).*/\\1/p')",
    ),
    Break("arp-off", "ip link set cni0 arp off"),
    Break("arp-off", "sysctl -w net.ipv4.conf.cni0.arp_ignore=8"),
    Break("neighbours-not-asked", "sysctl -q -w net.ipv4.neigh.cni0.mcast_solicit=0"),
    Break("neighbours-not-asked", "echo net.ipv4.neigh.eth0.mcast_solicit=0 >/etc/sysctl.d/zz-hardening.conf"),
    Break("underlay-route-missing", "ip route del 172.16.0.0/24"),
    Break("link-shaped", "tc qdisc add dev cni0 root tbf rate 1mbit burst 16kb latency 50ms"),
    Break("rule-redirects-pods", "iptables -t nat -I PREROUTING -d 10.244.1.0/24 -j DNAT --to 198.51.100.1"),
    Break(
        "ipsec-takes-pods",
        "ip xfrm policy add src 10.244.0.0/16 dst 10.0.0.0/8 dir out priority 100 action block",
        after="ip xfrm policy flush",
    ),
    Break(
        "connection-table-full", FILL, by_hand=lambda _lab: multiply_limit_of_connections(4), after=forget_connections
    ),
    # Only the machine's clock can be set, so this node's Python gets a wrong one.
    Break("clocks-apart", f"echo {shlex.quote(FAST)} >{SITE}", by_hand=f"rm {SITE}"),
    Break(
        "checksum-offload",
        f"{OLD_START} '[Service]\\nExecStart=\\nExecStart=/usr/bin/setarch --uname-2.6 /usr/sbin/sshd -D\\n' "
        f">$D/a.conf; {SSH_AGAIN}",
        after=f"rm -r {OLD}; {SSH_AGAIN}",
    ),
    Break(
        "underlay-mac-duplicate",
        lambda lab: clone_worker_1(lab, "03", "off"),
        "worker-2",
        by_hand=lambda lab: clone_worker_1(lab, "04", "on"),
    ),
    Break("unit-not-active", "systemctl stop weft-podnet-masquerade"),
    Break("leftovers", "ip link add cilium_host type bridge"),
    Break("not-observed", "systemctl stop ssh; pkill sshd || true", by_hand="systemctl start ssh"),
    Break(
        "machine-id-duplicate",
        f"echo {'4' * 32} >/etc/machine-id",
        "worker-2",
        also={"worker-1": f"echo {'4' * 32} >/etc/machine-id"},
    ),
    Break(
        "cni-folder-appended",
        f"""mkdir {NETD}/bridge; echo '{{"type": "tuning"}}' >{NETD}/bridge/10-tuning.conf""",
        after=f"rm -r {NETD}/bridge",
    ),
    Break(
        "cni-other-folder",
        "sed -i s#/opt/cni/bin#/opt/other/bin# /etc/containerd/config.toml",
        by_hand="sed -i s#/opt/other/bin#/opt/cni/bin# /etc/containerd/config.toml",
    ),
    Break(
        "pod-network-overlaps",
        "ip address add 10.244.1.77/28 dev eth0",
        by_hand="ip address del 10.244.1.77/28 dev eth0",
    ),
    # Each before the rules that the fixes of earlier ones have added.
    Break("policy-rule-refuses-pods", "ip rule add to 10.244.1.0/24 prohibit priority 90"),
    Break("policy-rule-refuses-pods", "ip rule add iif flannel.1 blackhole priority 80"),
    Break("policy-rule-refuses-pods", "ip rule add to 10.244.1.0/24 goto 32767 priority 50"),
    Break("pods-taken-for-own", "ip route add local 10.244.1.0/24 dev lo"),
    Break("bridge-ports-blocked", f"for port in {PORTS}; do bridge link set dev $port locked on; done"),
    Break("bridge-ports-blocked", f"for port in {PORTS}; do bridge link set dev $port learning off flood off; done"),
    Break("fdb-wrong-node", fdb("port 4790")),
    Break("fdb-wrong-node", fdb("vni 77")),
    Break("pod-address-on-bridge", "ip address add 10.244.0.99/24 dev cni0"),
    Break("pod-address-duplicate", "ip -n one address add 10.244.0.1/24 dev eth0"),
    Break("cni-no-default-route", "ip -n one route del default"),
    Break("bridge-entry-wrong", f"{PORT_OF_ONE}; bridge fdb replace $MAC dev $OTHER master static sticky"),
    Break("bridge-entry-wrong", f"{PORT_OF_ONE}; bridge fdb replace $MAC dev $PORT master permanent"),
    Break("bridge-entry-wrong", f"{PORT_OF_ONE}; bridge fdb replace $MAC dev cni0"),
    Break(
        "gateway-entry-wrong",
        f"{PORT_OF_ONE}; bridge fdb replace $(cat /sys/class/net/cni0/address) dev $PORT master static",
    ),
    Break("pod-mac-duplicate", "ip -n two link set eth0 address $(ip netns exec one cat /sys/class/net/eth0/address)"),
    Break("pod-mac-duplicate", "ip -n one link set eth0 address $(cat /sys/class/net/cni0/address)"),
    Break("pod-link-unusable", "ip -n one link set eth0 down"),
    Break("pod-link-unusable", "ip -n one link set eth0 arp off"),
    Break("link-shaped", "tc qdisc replace dev flannel.1 root blackhole"),
    Break("link-shaped", "tc qdisc replace dev cni0 root bfifo limit 1000"),
    Break("node-led-away", "ip route add 172.16.0.4/32 via 172.16.0.99"),
    # Its fix would hide a port that is closed at the end of the chain.
    Break("overlay-drops-some", f"iptables -A INPUT {LARGE_UDP}", after="iptables -F INPUT"),
    Break(
        "policy-rule-diverts-pods",
        "ip rule add to 10.244.1.0/24 table 99 priority 40; ip route replace default via 172.16.0.1 table 99",
    ),
]
BREAKS = {
    "bridge": [Break("cni-only-loopback", f"rm {NETD}/10-bridge.conf*")],
    # Debian 13: since version 256, systemd-networkd turns forwarding off.
    "bridge-trixie": [
        Break(
            "forwarding-off-at-boot",
            "mkdir -p /etc/systemd/networkd.conf.d; "
            "printf '[Network]\\nIPv4Forwarding=no\\n' >/etc/systemd/networkd.conf.d/hardening.conf",
        ),
        Break(
            "forwarding-off",
            "printf '[Network]\\nIPv4Forwarding=no\\n' >>/etc/systemd/network/10-eth0.network; "
            "systemctl restart systemd-networkd",
        ),
    ],
    "routes": [
        Break("no-route-back", "ip route del $(ip route show proto 87 | head -1)", "worker-2"),
        Break("route-via-stranger", "ip route replace 10.244.1.0/24 via 172.16.0.77 proto 87"),
        Break(
            "route-via-stranger",
            "ip route replace 10.244.1.0/24 proto 87 nexthop via 172.16.0.4 nexthop via 172.16.0.77",
        ),
        Break("route-without-gateway", "ip route replace 10.244.1.0/24 dev eth0 proto 87"),
        Break("pods-route-blackholed", "ip route replace blackhole 10.244.1.0/24"),
        Break(
            "own-pods-led-away",
            "ip route del 10.244.0.0/24 dev cni0; ip route add 10.244.0.0/24 via 172.16.0.4; "
            "ip route add 10.244.0.0/24 dev cni0 metric 9",
        ),
        Break("rule-translates-pods", "iptables -t nat -A POSTROUTING -o eth0 -j MASQUERADE"),
        Break("default-route-missing", "ip route del default"),
        Break("underlay-mtu-differs", "ip link set eth0 mtu 9000"),
        Break(
            "peer-pods-on-own-bridge",
            "ip route del 10.244.1.0/24; ip address add 10.244.0.1/16 dev cni0",
            by_hand="ip address del 10.244.0.1/16 dev cni0; systemctl restart weft-podnet-routes-87",
        ),
        Break(
            "route-by-hand",
            "ip route replace 10.244.1.0/24 via 172.16.0.4",
            by_hand="ip route replace 10.244.1.0/24 via 172.16.0.4 proto 87",
        ),
        Break(
            "peer-unreachable",
            "nft add table netdev cut; nft add chain netdev cut in "
            "'{ type filter hook ingress device eth0 priority 0; }'; "
            "nft add rule netdev cut in arp saddr ip 172.16.0.4 drop; ip neighbour flush 172.16.0.4; "
            f"{WITHIN} 'until ip neighbour show 172.16.0.4 | grep -q FAILED; do ping -qc1 -W1 172.16.0.4; done; true'",
            by_hand="nft list table netdev cut >/dev/null 2>&1 && nft delete table netdev cut; "
            f"{WITHIN} 'until ping -qc1 -W1 172.16.0.3 && ping -qc1 -W1 172.16.0.4; do :; done; true'",
            # Its own requests are not heard there either.
            both=True,
        ),
        Break(
            "no-route-to-pods",
            "ip route flush proto 87",
            also={"worker-2": "ip route flush proto 87"},
            both=True,
        ),
        Break("route-to-wrong-node", "ip route replace 10.244.1.0/24 via 172.16.0.2 proto 87"),
        Break("client-without-route", "ip route flush proto 87", "control-plane"),
        Break(
            "node-name-duplicate",
            KUBELET,
            "worker-2",
            by_hand=NO_KUBELET,
            also={"worker-1": KUBELET},
        ),
        Break("checkpoint-pending", f"mkdir {PENDING}; echo a-run >{PENDING}/checkpoint", by_hand=f"rm -r {PENDING}"),
        Break("pods-outside-subnet", f"{OTHER_SUBNET}; {THREE}; {OWN_SUBNET}", by_hand=NO_THREE),
        Break("bridge-missing", "ip link del cni0", by_hand=BRIDGE),
        # Where a plan says what is right, another rule does.
        Break(
            "pod-subnets-overlap",
            lose_plan,
            "worker-2",
            by_hand=f"sed -i s#10.244.0.0/24#10.244.1.0/24#g {CONFLIST}",
            also={"worker-2": f"sed -i s#10.244.1.0/24#10.244.0.0/24#g {CONFLIST}"},
            after="site.yml",
        ),
        Break("pod-address-duplicate", f"rm -r {LEASES}; {THREE}", by_hand=NO_THREE),
    ],
    "vxlan": [
        *HOST,
        # It is built into this kernel: that is hidden.
        Break(
            "module-refused",
            "sed -i /vxlan/d /lib/modules/*/modules.builtin; echo 'blacklist vxlan' >/etc/modprobe.d/hardening.conf",
        ),
        Break("mesh-device-down", "ip link set flannel.1 down"),
        Break("mesh-address-missing", f"ip address del {VTEP} dev flannel.1"),
        Break("vtep-mac-changed", f"ip link set flannel.1 address {STRANGER}", "worker-2"),
        Break("mesh-peer-missing", NO_PEER),
        Break("neighbour-missing", "ip neighbour flush dev flannel.1 nud permanent"),
        Break("neighbour-mac-wrong", f"ip neighbour replace 10.244.1.0 lladdr {STRANGER} dev flannel.1 nud permanent"),
        Break("fdb-missing", f"bridge fdb del {ENTRY} dev flannel.1"),
        Break("fdb-wrong-node", f"bridge fdb replace {ENTRY} dev flannel.1 dst 172.16.0.99 self permanent"),
        Break(
            "mesh-mtu-too-large",
            "ip link set eth0 mtu 1400; ip link set flannel.1 mtu 1450",
            by_hand="ip link set eth0 mtu 1500",
        ),
        Break("mesh-mtu-differs", "ip link set flannel.1 mtu 1400"),
        Break(
            "link-is-port",
            "ip link add br0 type bridge; ip link set br0 up; ip link set flannel.1 master br0",
            after="ip link del br0",
        ),
        Break("pod-mtu-too-large", conf("p['mtu'] = 1500")),
        Break(
            "overlay-port-closed",
            "ufw default allow routed; ufw allow 22/tcp; ufw --force enable",
            after="ufw --force reset; ufw disable",
        ),
        Break(
            "overlay-port-closed",
            "nft add table netdev wall; nft add chain netdev wall in "
            "'{ type filter hook ingress device eth0 priority 0; }'; nft add rule netdev wall in udp dport 8472 drop",
            after="nft delete table netdev wall",
        ),
        Break(
            "overlay-port-closed",
            f"iptables -I INPUT {LISTED}; echo +172.16.0.4 >/proc/net/xt_recent/banned",
            after=f"iptables -D INPUT {LISTED}",
        ),
        Break("overlay-port-closed", f"iptables -I INPUT {OF_PEER}", after=f"iptables -D INPUT {OF_PEER}"),
        Break(
            "overlay-port-closed",
            f"ipset create banned hash:ip; ipset add banned 172.16.0.4; iptables -I INPUT {IN_SET.format('banned')}",
            after=f"iptables -D INPUT {IN_SET.format('banned')}; ipset destroy banned",
        ),
        Break(
            "overlay-port-closed-outgoing",
            "iptables -A OUTPUT -p udp --dport 8472 -j DROP",
            after="iptables -F OUTPUT",
        ),
        Break("mesh-peer-gone", "ip route add 10.244.9.0/24 via 10.244.9.0 dev flannel.1 onlink"),
        Break("no-route-back", "ip route del 10.244.0.0/24", "worker-2"),
        Break("backends-differ", move_worker_2),
        Break(
            "reverse-path-filter",
            "sysctl -q -w net.ipv4.conf.eth0.rp_filter=1",
            also={"worker-2": "ip route replace 10.244.0.0/24 via 172.16.0.3 dev eth0"},
            after=lambda lab: lab.sh(
                "worker-2", "ip route del 10.244.0.0/24; systemctl restart weft-podnet-vxlan-flannel.1"
            ),
        ),
        Break(
            "path-mtu-too-small",
            "ip route add 172.16.0.4 dev eth0 mtu 1300",
            after="ip route del 172.16.0.4 dev eth0",
        ),
    ],
    # A mesh of both address families.
    "dual-stack": [
        Break("cni-no-default-route", "ip -6 -n one route del default"),
        Break("ipv6-address-duplicate", DUPLICATE),
        Break("neighbour-discovery-dropped", "ip6tables -A INPUT -p ipv6-icmp -j DROP", after="ip6tables -F INPUT"),
        Break(
            "neighbour-discovery-dropped",
            "nft 'table inet x { chain i { type filter hook input priority 0; policy drop; "
            "ct state established,related accept; iifname lo accept; tcp dport 22 accept; udp dport 8472 accept; }; }'",
            after="nft delete table inet x",
        ),
        Break(
            "frames-dropped",
            "nft 'table bridge x { chain i { type filter hook input priority 0; ether type ip6 drop; }; }'",
            after="nft delete table bridge x",
        ),
        Break("default-ttl-small", "sysctl -q -w net.ipv6.conf.eth0.hop_limit=1"),
        Break("bridge-ports-not-flooded", f"for port in {PORTS}; do bridge link set dev $port mcast_flood off; done"),
        Break("own-pods-led-away", "ip -6 route add fd00:10:244:0::/64 dev lo metric 1"),
        Break("forward-drops-pods", "ip6tables -P FORWARD DROP"),
        Break("forwarding-off", "sysctl -q -w net.ipv6.conf.all.forwarding=0"),
        Break("policy-rule-refuses-pods", "ip -6 rule add to fd00:10:244:1::/64 prohibit priority 100"),
        Break("policy-rule-missing", "ip -6 rule del priority 32766"),
        Break("pods-taken-for-own", "ip -6 route add local fd00:10:244:1::/64 dev lo"),
        Break("part-of-pods-led-away", "ip -6 route add blackhole fd00:10:244:1::/80"),
        Break(
            "router-advertisements-ignored",
            f"ip address add {LEARNED} dev eth0 valid_lft 900 preferred_lft 900; "
            "sysctl -q -w net.ipv6.conf.eth0.accept_ra=1",
            after=f"ip address del {LEARNED} dev eth0",
        ),
        Break(
            "ipv6-disabled",
            "sysctl -q -w net.ipv6.conf.all.disable_ipv6=1",
            by_hand=reboot_worker_1,
        ),
        Break("ipv6-disabled", "sysctl -q -w net.ipv6.conf.eth0.disable_ipv6=1", by_hand=reboot_worker_1),
    ],
    "flannel-dual": [
        Break("flannel-dual-stack-interface", f"{AS_PROGRAM}; sed -i 's/ --public-ipv6=[^ ]*//' {UNIT}; {AGAIN}"),
        Break("pod-mtu-too-large", f"sed -i '/MTU/d; s/vxlan.,/vxlan\"/' {NET_CONF}; {AGAIN}"),
    ],
    "flannel": [
        # On nodes as they were made: there, a second flanneld has nothing to make again, which fails in the lab.
        Break(
            "two-flannelds",
            "systemctl is-active --quiet second || "
            "systemd-run --quiet --collect --unit second --setenv NODE_NAME=worker-1 "
            "$(tr '\\0' ' ' </proc/$(systemctl show --property MainPID --value flanneld)/cmdline)",
            by_hand="systemctl stop second",
        ),
        Break("flanneld-not-running", "systemctl disable --now --quiet flanneld"),
        Break("flanneld-not-at-boot", "systemctl disable --quiet flanneld"),
        Break("subnet-env-missing", "rm /run/flannel/subnet.env"),
        Break("mesh-device-missing", "ip link del flannel.1"),
        Break("mesh-device-down", "ip link set flannel.1 down"),
        Break("mesh-peer-missing", NO_PEER),
        Break("vtep-mac-changed", f"ip link set flannel.1 address {STRANGER}", "worker-2"),
        Break(
            "net-conf-unknown-key",
            """sed -i '0,/{/s//{"Subnets": 1,/' /etc/flannel/net-conf.json""",
            by_hand="""sed -i 's/"Subnets": 1,//' /etc/flannel/net-conf.json""",
        ),
        Break("vtep-mac-duplicate", clone_vtep, "worker-2"),
        Break("mesh-vni-differs", device("id 2 dstport 8472")),
        Break("mesh-port-differs", device("id 1 dstport 4789")),
        Break("mesh-source-wrong", device("id 1 dstport 8472", "172.16.0.1")),
        Break(
            "flannel-node-name",
            f"{DROP_IN} 'Environment=NODE_NAME=worker-one' >$D/a.conf; {AGAIN}",
            after=f"rm -r {UNIT}.d; {AGAIN}",
        ),
        Break("net-conf-differs", net_conf("c['Backend']['VNI'] = 7"), by_hand=BACK),
        # It is built into this kernel: it is hidden, and modprobe uncovers it.
        Break(
            "flannel-needs-br-netfilter",
            "mkdir /run/net; for f in $(ls /proc/sys/net | grep -v bridge); do mkdir /run/net/$f; "
            "mount --bind /proc/sys/net/$f /run/net/$f; done; mount --rbind /run/net /proc/sys/net; "
            "sed -i /br_netfilter/d /lib/modules/*/modules.builtin; depmod; "
            "echo 'install br_netfilter umount --recursive /proc/sys/net' >/etc/modprobe.d/hidden.conf; "
            "systemctl restart --no-block flanneld",
        ),
        Break(
            "flannel-needs-iptables",
            "P=$(command -v ip6tables); mv $P $P.away",
            by_hand="P=$(ls /usr/sbin/ip6tables.away /sbin/ip6tables.away | head -1); mv $P ${P%.away}",
        ),
        Break("kubeconfig-embeds-certificate", EMBEDDED),
        Break(
            "mesh-source-duplicate",
            "true",
            "worker-2",
            by_hand="systemctl restart flanneld",
            also={"control-plane": f"{K} annotate --overwrite node worker-2 {ANNOTATION}/public-ip=172.16.0.3"},
        ),
        Break("certificate-expires-soon", lambda lab: certify(lab, 10)),
        Break("certificate-expired", lambda lab: certify(lab, -1)),
        Break("certificate-other-ca", lambda lab: certify(lab, 300, stranger=True)),
        Break(
            "node-not-ready",
            "systemctl stop kubelet",
            by_hand="systemctl start kubelet",
            also={"control-plane": condition("Ready", "Unknown", "Kubelet stopped posting node status.")},
        ),
        Break(
            "network-unavailable", "true", also={"control-plane": condition("NetworkUnavailable", "True", "no route")}
        ),
        Break("cni-not-loaded", f"cp -a {NETD} /root; rm -r {NETD}; sleep 1; cp -a /root/net.d {NETD}"),
        Break("flannel-subnet-differs", "sed -i s#10.244.0.1/24#10.244.7.1/24# /run/flannel/subnet.env"),
        Break("net-conf-without-backend", net_conf("c.pop('Backend')"), by_hand=BACK),
        Break(
            "pod-cidr-outside",
            net_conf("c.update(Network='10.99.0.0/16')"),
            by_hand=BACK,
            also={"worker-2": net_conf("c.update(Network='10.99.0.0/16')")},
            both=True,
        ),
        Break(
            "flannel-start-timeout",
            f"cp {UNIT} /root; sed -i 's/weft.podnet/somebody/; s/^TimeoutStartSec=.*/TimeoutStartSec=90/' {UNIT}; "
            "systemctl daemon-reload",
            after=f"cp /root/flanneld.service {UNIT}; rm -r {UNIT}.d; systemctl daemon-reload",
        ),
        Break("node-unknown", lose_node, by_hand=return_node),
        Break(
            "node-without-pod-cidr",
            lose_pod_cidr,
            after=f"sed -i s/--cluster-cidr/'--allocate-node-cidrs &'/ {API_UNIT}; {API_AGAIN}",
        ),
        Break("kubeconfig-unusable", "echo broken >/etc/kubernetes/flannel.conf"),
        Break(
            "cni-plugin-missing", "P=/opt/cni/bin/flannel; cp --remove-destination $(readlink -f $P) $P; chmod 644 $P"
        ),
    ],
}
