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
    assert kept.code == 0, kept.output
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
    after = [line for line in unlike(clean, lab.snapshots("worker-1")) if "90-other.conf" not in line]
    assert [line for line in after if "/etc/cni" in line or "flannel" in line.lower() or "cni0" in line] == []
    assert "90-other.conf" in lab.exec("worker-1", "ls", "/etc/cni/net.d")
    assert set(lab.play("reset", **NAMED).changed.values()) == {0}
