# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What another pod network left is removed where the user names it, and never by default."""

from __future__ import annotations

from typing import Any

import pytest

from support.lab import Lab, unlike

# What a kube-flannel DaemonSet leaves on a node: the state of flanneld v0.28.9 and of its plugin, and the bridge cni0.
LEFT = r"""
set -e
ip link add flannel.1 mtu 1450 type vxlan id 1 dstport 8472 local 172.16.0.3 dev eth0 nolearning
ip address add 10.244.0.0/32 dev flannel.1
ip link set flannel.1 up
ip route add 10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink
ip link add cni0 type bridge
ip address add 10.244.0.1/24 dev cni0
ip link set cni0 up
iptables -t nat -N FLANNEL-POSTRTG
iptables -t nat -A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
iptables -t nat -A FLANNEL-POSTRTG -s 10.244.0.0/16 ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE
iptables -N FLANNEL-FWD
iptables -A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD
iptables -A FLANNEL-FWD -s 10.244.0.0/16 -j ACCEPT
mkdir -p /run/flannel /etc/kube-flannel /var/lib/cni/flannel /var/lib/cni/networks/cbr0
echo 'FLANNEL_SUBNET=10.244.0.1/24' >/run/flannel/subnet.env
echo '{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}' >/etc/kube-flannel/net-conf.json
echo '{"cniVersion": "0.3.1", "name": "cbr0", "plugins": [{"type": "flannel"}]}' >/etc/cni/net.d/10-flannel.conflist
echo '{}' >/var/lib/cni/flannel/0123
touch /var/lib/cni/networks/cbr0/lock
# As the CNI documentation names a file made by hand, and as site.yml names its own.
echo '{"cniVersion": "0.3.1", "name": "mynet", "type": "bridge", "ipam": {"type": "host-local"}}' \
    >/etc/cni/net.d/10-bridge.conf
echo '{"cniVersion": "0.3.1", "name": "other", "type": "loopback"}' >/etc/cni/net.d/90-other.conf
"""
NAMED: dict[str, Any] = {"podnet_reset_foreign": ["flannel", "cni0"]}


@pytest.mark.long
def test_what_kube_flannel_left_goes_by_name_only(routed: Lab) -> None:
    lab = routed
    lab.sh("worker-1", "mkdir -p /etc/cni/net.d; iptables -t nat -S >/dev/null; iptables -S >/dev/null")
    clean = lab.snapshots("worker-1")
    lab.sh("worker-1", LEFT)
    left = lab.snapshots("worker-1")
    kept = lab.play("reset")
    assert kept.code == 0 and "/etc/cni/net.d/10-bridge.conf on worker-1 stays" in kept.text, kept.output
    assert unlike(left, lab.snapshots("worker-1")) == []

    dry = lab.play("reset", "--check", "--diff", **NAMED)
    assert dry.code == 0 and unlike(left, lab.snapshots("worker-1")) == [], dry.output
    for named in ("-device flannel.1", "-device cni0", "chain FLANNEL-POSTRTG", "-/etc/cni/net.d/10-flannel.conflist"):
        assert named in dry.output, dry.output

    # A pod still uses the bridge, and a flanneld the rest.
    lab.sh("worker-1", "ip link add pod0 type veth peer name pod1; ip link set pod0 master cni0")
    lab.sh("worker-1", "cp /bin/sleep /root/flanneld; systemd-run --quiet --unit=byhand /root/flanneld 1000")
    refused = lab.play("reset", **NAMED)
    assert refused.code != 0 and "cni0: pods still use this bridge (pod0)" in refused.text, refused.output
    assert "flanneld still runs here" in refused.text and "delete daemonset kube-flannel-ds" in refused.text
    lab.sh("worker-1", "ip link del pod0; systemctl stop byhand; rm /root/flanneld")

    gone = lab.play("reset", **NAMED)
    assert gone.code == 0 and gone.changed["worker-1"] == 1, gone.output
    # What is not flannel's stays, and so does the empty chains' table.
    stay = ("90-other.conf", "10-bridge.conf")
    after = [line for line in unlike(clean, lab.snapshots("worker-1")) if not any(name in line for name in stay)]
    assert [line for line in after if "/etc/cni" in line or "flannel" in line.lower() or "cni0" in line] == []
    assert lab.exec("worker-1", "ls", "/etc/cni/net.d").split() == sorted(stay)
    assert set(lab.play("reset", **NAMED).changed.values()) == {0}


# What Calico v3.30 leaves when its DaemonSet is deleted: a node of VXLAN and BGP, both of its data planes for rules.
CALICO = r"""
set -e
ip link add vxlan.calico mtu 1450 type vxlan id 4096 dstport 4789 local 172.16.0.3 dev eth0 nolearning
ip address add 192.168.10.0/32 dev vxlan.calico
ip link set vxlan.calico up
ip route add 192.168.20.0/26 via 192.168.20.0 dev vxlan.calico onlink proto 80
ip route add blackhole 192.168.10.0/26 proto 80
ip route add blackhole 192.168.11.0/26 proto bird
ip route add 192.168.30.0/26 via 172.16.0.4 dev eth0 proto bird
ip -6 route add blackhole fd00:20::/122 dev lo proto 80
iptables -N cali-FORWARD
iptables -N cali-to-wl-dispatch
iptables -A cali-FORWARD -m comment --comment cali:1 -j cali-to-wl-dispatch
iptables -A cali-to-wl-dispatch -m comment --comment cali:2 -j DROP
iptables -I FORWARD -m comment --comment cali:3 -j cali-FORWARD
iptables -A FORWARD -m comment --comment cali:4 -m mark --mark 0x10000/0x10000 -j ACCEPT
iptables -t raw -N cali-PREROUTING
iptables -t raw -A PREROUTING -m comment --comment cali:5 -j cali-PREROUTING
nft add table ip calico
nft add table arp calico-arp
mkdir -p /var/lib/calico
echo worker-1 >/var/lib/calico/nodename
echo '{"name": "k8s-pod-network", "cniVersion": "0.3.1", "plugins": [{"type": "calico"}]}' \
    >/etc/cni/net.d/10-calico.conflist
echo secret >/etc/cni/net.d/calico-kubeconfig
"""


@pytest.mark.long
def test_what_calico_left_goes_by_name_only(routed: Lab) -> None:
    lab = routed
    # A table of iptables stays once it is there, as do its own chains.
    there = "iptables {0} -j ACCEPT; iptables {1} -j ACCEPT"
    tables = [there.format(f"-{do} FORWARD", f"-t raw -{do} PREROUTING") for do in "AD"]
    lab.sh("worker-1", f"mkdir -p /etc/cni/net.d; {'; '.join(tables)}")
    clean = lab.snapshots("worker-1")
    lab.sh("worker-1", CALICO)
    left = lab.snapshots("worker-1")
    kept = lab.play("reset", podnet_reset_foreign=["flannel", "cni0"])
    assert kept.code == 0 and unlike(left, lab.snapshots("worker-1")) == [], kept.output

    named: dict[str, Any] = {"podnet_reset_foreign": ["calico"]}
    dry = lab.play("reset", "--check", "--diff", **named)
    assert dry.code == 0 and unlike(left, lab.snapshots("worker-1")) == [], dry.output
    for each in (
        "-device vxlan.calico",
        "-route 192.168.30.0/26 via 172.16.0.4",
        "chain cali-FORWARD",
        "arp calico-arp",
    ):
        assert each in dry.output, dry.output

    lab.sh("worker-1", "ip link add cali0123 type veth peer name pod1; cp /bin/sleep /root/calico-node")
    lab.sh("worker-1", "systemd-run --quiet --unit=byhand /root/calico-node 1000")
    refused = lab.play("reset", **named)
    assert refused.code != 0 and "pods still use its links (cali0123)" in refused.text, refused.output
    assert "calico-node still runs here" in refused.text, refused.output
    # A BIRD of the host's own keeps its routes.
    lab.sh("worker-1", "ip link del cali0123; systemctl stop byhand; mv /root/calico-node /root/bird")
    lab.sh("worker-1", "systemd-run --quiet --unit=byhand /root/bird 1000")
    assert lab.play("reset", **named).code == 0
    assert lab.exec("worker-1", "ip", "route", "show", "proto", "bird").count("\n") == 2
    lab.sh("worker-1", "systemctl stop byhand; rm /root/bird")

    gone = lab.play("reset", **named)
    assert gone.code == 0 and gone.changed["worker-1"] == 1, gone.output
    assert unlike(clean, lab.snapshots("worker-1")) == []
    assert set(lab.play("reset", **named).changed.values()) == {0}
