# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules of the diagnosis on real nodes: a break is made, the one finding is expected, and its fix is pasted.

Then nothing is wrong any more. The cluster has two workers, and pods that run on worker-1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from support import flannel, node_pods
from support.lab import Lab, Play, fresh, unlike, until

pytestmark = pytest.mark.long

PODS = ("one", "two")
# The address of the mesh's device, with its prefix.
VTEP = "$(ip -4 -o address show dev flannel.1 | awk '{print $4}')"


class Break(NamedTuple):
    """``command`` breaks a host so that ``rule`` finds it there. ``by_hand`` heals what no printed fix can.

    ``also`` is another host that gets the command, for what two hosts must not share. ``after`` undoes what the printed
    fix rightly leaves.
    """

    rule: str
    command: str
    host: str = "worker-1"
    by_hand: str = ""
    also: str = ""
    after: str = ""


def conf(change: str) -> str:
    """A change of the CNI configuration, as Python of the parsed ``c``, whose first plugin is ``p``."""
    path = "/etc/cni/net.d/10-bridge.conflist"
    program = f"import json; c = json.load(open('{path}')); p = c['plugins'][0]; {change}; "
    return f"python3 -c \"{program} json.dump(c, open('{path}', 'w'), indent=2)\""


ENTRY = "$(bridge fdb show dev flannel.1 | head -1 | cut -d' ' -f1)"
STRANGER = "02:00:00:00:99:99"
PORTS = "$(ls /sys/class/net/cni0/brif)"
NETD = "/etc/cni/net.d"
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
NET_CONF = "/etc/flannel/net-conf.json"
BACK = f"mv /root/net-conf.json {NET_CONF}"
UNIT = "/etc/systemd/system/flanneld.service"
DROP_IN = f"D={UNIT}.d; mkdir -p $D; printf '[Service]\\n%s\\n'"
AGAIN = "systemctl daemon-reload; systemctl restart --no-block flanneld; sleep 1"
EMBEDDED = (
    "cd /etc/kubernetes; kubectl --kubeconfig flannel.conf config view --raw --flatten >/root/flannel.conf; "
    "cat /root/flannel.conf >flannel.conf"
)


def net_conf(change: str) -> str:
    """A change of flanneld's configuration, as Python of the parsed ``c``; ``BACK`` undoes it."""
    program = f"import json; c = json.load(open('{NET_CONF}')); {change}; json.dump(c, open('{NET_CONF}', 'w'))"
    return f'cp {NET_CONF} /root; python3 -c "{program}"'


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


# Settings of the kernel and files, whatever connects the nodes.
HOST = [
    Break("forwarding-off", "sysctl -q -w net.ipv4.ip_forward=0"),
    Break("forwarding-off-at-boot", "echo net.ipv4.ip_forward=0 >/etc/sysctl.d/zz-hardening.conf", "worker-2"),
    Break("bridge-filter-off", "sysctl -q -w net.bridge.bridge-nf-call-iptables=0"),
    Break("bridge-filter-off-at-boot", "echo net.bridge.bridge-nf-call-iptables=0 >/etc/sysctl.d/zz-hardening.conf"),
    Break("runtime-down", "systemctl stop containerd"),
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
    Break("bridge-ports-isolated", f"for port in {PORTS}; do bridge link set dev $port isolated on; done"),
    Break("bridge-mtu-too-small", "ip link set cni0 mtu 1300"),
    Break("pod-rules-leaked", LEAKED),
    Break(
        "networkd-claims-pods",
        f"rm {NETWORKD}; printf '[Match]\\nName=veth*\\n' >/etc/systemd/network/05-veth.network",
    ),
    Break("networkd-removes-routes", "rm $(grep -rl ManageForeignRoutes /etc/systemd/networkd.conf.d)"),
    Break("masquerade-missing", "nft delete table ip weft-podnet"),
    Break("forward-drops-pods", "iptables -P FORWARD DROP"),
    Break("unit-not-active", "systemctl stop weft-podnet-masquerade"),
    Break("leftovers", "ip link add cilium_host type bridge"),
    Break("not-observed", "systemctl stop ssh; pkill sshd || true", by_hand="systemctl start ssh"),
    Break("machine-id-duplicate", f"echo {'4' * 32} >/etc/machine-id", "worker-2", also="worker-1"),
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
    Break(
        "policy-rule-diverts-pods",
        "ip rule add to 10.244.1.0/24 table 99 priority 100; ip route add default via 172.16.0.1 table 99",
    ),
]
BREAKS = {
    "bridge": [Break("cni-only-loopback", f"rm {NETD}/10-bridge.conf*")],
    "routes": [
        Break("no-route-back", "ip route del $(ip route show proto 87 | head -1)", "worker-2"),
        Break("route-via-stranger", "ip route replace 10.244.1.0/24 via 172.16.0.77 proto 87"),
        Break("route-without-gateway", "ip route replace 10.244.1.0/24 dev eth0 proto 87"),
        Break("pods-route-blackholed", "ip route replace blackhole 10.244.1.0/24"),
        Break(
            "own-pods-led-away",
            "ip route del 10.244.0.0/24 dev cni0; ip route add 10.244.0.0/24 via 172.16.0.4; "
            "ip route add 10.244.0.0/24 dev cni0 metric 9",
        ),
        Break("rule-translates-pods", "iptables -t nat -A POSTROUTING -o eth0 -j MASQUERADE"),
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
            by_hand=f"nft delete table netdev cut; {WITHIN} 'until ping -qc1 -W1 172.16.0.4; do :; done; true'",
        ),
    ],
    "vxlan": [
        *HOST,
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
        Break("pod-mtu-too-large", conf("p['mtu'] = 1500")),
        Break(
            "overlay-port-closed",
            "ufw default allow routed; ufw allow 22/tcp; ufw --force enable",
            after="ufw --force reset; ufw disable",
        ),
        Break("mesh-peer-gone", "ip route add 10.244.9.0/24 via 10.244.9.0 dev flannel.1 onlink"),
        Break("no-route-back", "ip route del 10.244.0.0/24", "worker-2"),
        Break(
            "path-mtu-too-small",
            "ip route add 172.16.0.4 dev eth0 mtu 1300",
            by_hand="ip route del 172.16.0.4 dev eth0",
        ),
    ],
    "flannel": [
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
        Break("mesh-vni-differs", device("id 2 dstport 8472")),
        Break("mesh-port-differs", device("id 1 dstport 4789")),
        Break("mesh-source-wrong", device("id 1 dstport 8472", "172.16.0.1")),
        Break(
            "flannel-node-name",
            f"{DROP_IN} 'Environment=NODE_NAME=worker-one' >$D/a.conf; {AGAIN}",
            after=f"rm -r {UNIT}.d; {AGAIN}",
        ),
        Break("net-conf-differs", net_conf("c['Backend']['VNI'] = 7"), by_hand=BACK),
        Break(
            "flannel-needs-iptables",
            "P=$(command -v ip6tables); mv $P $P.away",
            by_hand="P=$(ls /usr/sbin/ip6tables.away /sbin/ip6tables.away | head -1); mv $P ${P%.away}",
        ),
        Break("kubeconfig-embeds-certificate", EMBEDDED),
        Break("kubeconfig-unusable", "echo broken >/etc/kubernetes/flannel.conf"),
        Break(
            "cni-plugin-missing", "P=/opt/cni/bin/flannel; cp --remove-destination $(readlink -f $P) $P; chmod 644 $P"
        ),
    ],
}


class Cluster:
    """Two workers of a backend, healthy at first, with pods that run."""

    def __init__(self, lab: Lab, backend: str) -> None:
        self.lab, self.backend = lab, backend
        self.spoiled = False
        self.begin()

    def begin(self) -> None:
        """Fresh nodes, if a test has left them broken."""
        if self.spoiled:
            self.lab.down()
            self.lab.up()
        self.spoiled = False
        if self.backend == "flannel":
            self.lab.variables["podnet_serial"] = "100%"
            flannel.prepare(self.lab.name)
        self.connect()
        for pod in PODS:
            node_pods.start(self.lab, "worker-1", pod)

    def connect(self) -> None:
        made = self.lab.play("site", podnet_backend=self.backend, podnet_verify=False)
        assert made.code == 0, made.output


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with fresh(f"rules-{request.param}") as lab:
        yield Cluster(lab, request.param)


@pytest.mark.parametrize("cluster", BREAKS, indirect=True)
def test_healthy_nodes_with_pods_have_no_finding(cluster: Cluster) -> None:
    before = cluster.lab.snapshots("control-plane", "worker-1", "worker-2")
    healthy = cluster.lab.play("diagnose")
    assert (healthy.code, healthy.findings) == (0, []), healthy.output
    assert unlike(before, cluster.lab.snapshots("control-plane", "worker-1", "worker-2")) == []


@pytest.mark.parametrize(
    ("cluster", "broken"),
    [
        pytest.param(backend, each, id=f"{backend}-{each.rule}-{number}")
        for backend, breaks in BREAKS.items()
        for number, each in enumerate(breaks)
    ],
    indirect=["cluster"],
)
def test_a_break_is_named_and_its_fix_heals(cluster: Cluster, broken: Break) -> None:
    if cluster.spoiled:
        cluster.begin()
    cluster.spoiled = True
    lab = cluster.lab
    looks: list[Play] = []

    def is_found() -> bool:
        """A unit of the collection may still answer to what the former test did, and heal the break at once."""
        for host in filter(None, (broken.host, broken.also)):
            lab.sh(host, broken.command)
        looks.append(lab.play("diagnose"))
        return bool(looks[-1].findings)

    assert until(is_found, 60), looks[-1].output
    found = looks[-1]
    # A note beside it is about what a break brings along.
    named = {(host, rule) for severity, host, rule in found.findings if severity != "NOTE" or rule == broken.rule}
    assert named == {(broken.host, broken.rule)}, found.output
    fix = broken.by_hand or found.fixes[0]
    if "site.yml" in fix:
        cluster.connect()
    else:
        lab.sh(broken.host, fix)
    said: list[str] = []

    def healed() -> bool:
        again = lab.play("diagnose")
        said.append(again.output)
        return (again.code, again.findings) == (0, [])

    # A unit that is restarted is not waited for by its fix.
    assert until(healed, 60), f"after {fix}: {said[-1]}"
    if broken.after:
        lab.sh(broken.host, broken.after)
    cluster.spoiled = False
