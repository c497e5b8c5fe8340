# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's control plane as kubectl sees it."""

from __future__ import annotations

import json

from standins.control_plane import ControlPlane
from support.lab import Lab, until

NOT_READY = (
    "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady "
    "message:Network plugin returns error: cni plugin not initialized"
)
LOOPBACK = '{"cniVersion":"1.0.0","name":"lo","type":"loopback"}'


def test_nodes_turn_ready_by_a_cni_configuration(lab: Lab) -> None:
    plane = ControlPlane(lab.name)
    plane.up()

    def states() -> dict[str, str]:
        """By node: empty for a ready one, else why it is not."""
        found = {}
        for node in json.loads(plane.kubectl("get", "nodes", "-o", "json"))["items"]:
            ready = next(each for each in node["status"]["conditions"] if each["type"] == "Ready")
            found[node["metadata"]["name"]] = "" if ready["status"] == "True" else ready["message"]
        return found

    # A real kubelet adds to its message at first.
    assert until(lambda: states() == {"worker-1": NOT_READY, "worker-2": NOT_READY}, 60), states()
    wide = plane.kubectl("get", "nodes", "-o", "wide").splitlines()
    assert [line.split()[:2] for line in wide[1:]] == [["worker-1", "NotReady"], ["worker-2", "NotReady"]]
    assert "172.16.0.3" in wide[1] and "172.16.0.4" in wide[2]
    cidrs = plane.kubectl("get", "nodes", "-o", "jsonpath={.items[*].spec.podCIDR}")
    assert cidrs == "10.244.0.0/24 10.244.1.0/24"

    lab.sh("worker-1", f"echo '{LOOPBACK}' >/etc/cni/net.d/.x.tmp && cd /etc/cni/net.d && mv .x.tmp 99-loopback.conf")
    plane.kubectl("wait", "--for=condition=Ready", "node", "worker-1", "--timeout=20s")
    assert states() == {"worker-1": "", "worker-2": NOT_READY}
    lab.sh("worker-1", "rm /etc/cni/net.d/99-loopback.conf")
    assert until(lambda: states()["worker-1"] == NOT_READY, 60)

    # A second run makes no second authority, and loses nobody.
    authority = lab.exec("control-plane", "cat", "/etc/kubernetes/pki/ca.crt")
    plane.up()
    assert lab.exec("worker-1", "cat", "/etc/kubernetes/pki/ca.crt") == authority
    assert set(states()) == {"worker-1", "worker-2"}
    kubelets = {event["user"].get("username") for event in plane.audit()}
    assert {"system:node:worker-1", "system:node:worker-2", "kubernetes-admin"} <= kubelets
    assert lab.sh("control-plane", "stat -c %a /etc/kubernetes/pki/ca.key /etc/kubernetes/admin.conf").split() == [
        "600",
        "600",
    ]
