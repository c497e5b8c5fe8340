# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pods can count on: hairpin, host ports, no translation, and a range that does not run dry."""

from __future__ import annotations

import pytest

from support import node_pods
from support.lab import Lab, unlike

# As kube-proxy has it: a service's address leads to its pod, and a pod that meets itself is masqueraded.
SERVICE = """
iptables -t nat -A PREROUTING -d 10.96.0.10/32 -p tcp --dport 80 -j DNAT --to-destination {address}:8000
iptables -t nat -A POSTROUTING -s {address}/32 -d {address}/32 -j MASQUERADE
"""


def test_a_pod_reaches_itself_through_its_service_and_has_a_host_port(routed: Lab) -> None:
    lab = routed
    site = lab.play("site", podnet_verify=False, podnet_cni_chained_plugins=[{"type": "tuning", "promisc": True}])
    assert site.code == 0, site.output
    address = node_pods.start(lab, "worker-1", "own", {"hostPort": 8080, "containerPort": 8000, "protocol": "tcp"})
    other = node_pods.start(lab, "worker-1", "other")
    lab.sh("worker-1", SERVICE.format(address=address))
    assert node_pods.fetch(lab, "worker-1", "10.96.0.10:80", "other")
    assert node_pods.fetch(lab, "worker-1", "10.96.0.10:80", "own")
    assert node_pods.fetch(lab, "worker-2", "172.16.0.3:8080")
    assert "PROMISC" in lab.exec("worker-1", "ip", "netns", "exec", "own", "ip", "link", "show", "eth0")
    for pod in ("own", "other"):
        node_pods.stop(lab, "worker-1", pod)
    assert not node_pods.fetch(lab, "worker-2", "172.16.0.3:8080") and other != address


def test_a_plugin_that_nothing_installs_is_missed_before_any_node_is_touched(routed: Lab) -> None:
    lab = routed
    before = lab.snapshots()
    site = lab.play("site", podnet_cni_chained_plugins=[{"type": "acme-cni", "speed": 3}])
    assert site.code != 0 and "/opt/cni/bin lacks acme-cni" in site.output, site.output
    assert not unlike(before, lab.snapshots())


def test_a_configuration_that_sorts_first(routed: Lab) -> None:
    lab = routed
    lab.sh("worker-2", "mkdir -p /etc/cni/net.d; echo '{' >/etc/cni/net.d/05-torn.conflist")
    before = lab.snapshots()
    refused = lab.play("site")
    assert refused.code != 0, refused.output
    said = " ".join(refused.output.split())
    for piece in ("[worker-2]", "/etc/cni/net.d/05-torn.conflist", "podnet_cni_foreign"):
        assert piece in said, refused.output
    assert not unlike(before, lab.snapshots())
    removed = lab.play("site", podnet_cni_foreign="remove")
    assert removed.code == 0 and "12 of 12 promised pairs pass" in removed.output, removed.output
    left = lab.exec("worker-2", "ls", "/etc/cni/net.d").split()
    assert left[0].startswith("05-torn.conflist.") and left[0].endswith(".bak") and left[1] == "10-bridge.conflist"
    assert set(lab.play("site", podnet_verify=False).changed.values()) == {0}


@pytest.mark.long
def test_from_bridge_to_routes_under_a_live_pod_and_after_a_reboot(routed: Lab) -> None:
    """The plain file's plugin translates pod by pod; after the switch none is translated any more."""
    lab = routed
    assert lab.play("site", podnet_backend="bridge", podnet_verify=False).code == 0
    address = node_pods.start(lab, "worker-1", "old")
    assert f"-s {address}/32" in lab.exec("worker-1", "iptables-save", "-t", "nat")
    switched = lab.play("site")
    assert switched.code == 0 and "12 of 12 promised pairs pass" in switched.output, switched.output
    assert lab.exec("worker-1", "ls", "/etc/cni/net.d").split() == ["10-bridge.conflist", "99-loopback.conf"]
    assert "CNI-" not in lab.exec("worker-1", "iptables-save", "-t", "nat")
    assert node_pods.fetch(lab, "worker-1", f"{address}:8000")
    refused = lab.play("site", podnet_backend="bridge", podnet_verify=False)
    assert refused.code != 0 and "ipMasq is turned on" in " ".join(refused.output.split()), refused.output

    lab.reboot("worker-1")
    lease = f"/var/lib/cni/networks/bridge/{address}"
    lab.exec("worker-1", "test", "-e", lease)
    released = lab.play("site", podnet_verify=False)
    assert released.code == 0 and "belong to no pod and are released" in " ".join(released.output.split())
    assert lab.sh("worker-1", f"ls {lease} 2>/dev/null || echo gone").strip() == "gone"
    assert set(lab.play("site", podnet_verify=False).changed.values()) == {0}


@pytest.mark.long
def test_nodes_that_drop_what_they_forward(routed: Lab) -> None:
    """As with Docker. The rules come back with the node, and go with the reset."""
    lab = routed
    for node in ("worker-1", "worker-2"):
        lab.sh(node, "iptables -P FORWARD DROP")
    before = lab.snapshots()
    site = lab.play("site")
    assert site.code == 0 and "12 of 12 promised pairs pass" in site.output, site.output
    assert set(lab.play("site", podnet_verify=False).changed.values()) == {0}
    lab.reboot("worker-1")
    assert "-j WEFT-FORWARD" in lab.exec("worker-1", "iptables", "-S", "FORWARD")
    lab.sh("worker-1", "iptables -P FORWARD DROP")
    proof = lab.play("verify")
    assert proof.code == 0 and "12 of 12 promised pairs pass" in proof.output, proof.output
    assert lab.play("reset").code == 0
    after = lab.snapshots("worker-2")
    assert not unlike({"worker-2": before["worker-2"]}, after)
