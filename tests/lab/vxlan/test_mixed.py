# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster of both kinds: a node with our mesh and no daemon, and one that flanneld runs, are peers of each other.

The API server and flanneld are stand-ins, unless PODNET_REAL_BINARIES names a folder with the real ones.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from support import flannel
from support.lab import Lab, until

pytestmark = pytest.mark.long

FLANNEL = "flannel.alpha.coreos.com/"
MIXED: dict[str, Any] = {"podnet_backend": "vxlan", "podnet_publish_node_annotations": True}


def test_a_node_without_a_daemon_and_one_that_flanneld_runs(lab: Lab) -> None:
    plane = flannel.prepare(lab.name)
    hosts = lab.hosts()
    ours = lab.inventory_of({"worker-1": hosts["worker-1"]}, "ours.yml")
    # A folder of its own, as that of another team: plans and lock files are kept by the inventory's folder.
    (lab.folder / "theirs").mkdir()
    theirs = lab.inventory_of({"worker-2": hosts["worker-2"]}, "theirs/inventory.yml")
    releases = yaml.safe_load((lab.folder / "group_vars" / "workers.yml").read_text())

    def annotations(node: str) -> dict[str, str]:
        """flannel's, without their prefix."""
        every = json.loads(plane.kubectl("get", "node", node, "--output", "json"))["metadata"].get("annotations", {})
        return {key[len(FLANNEL) :]: value for key, value in every.items() if key.startswith(FLANNEL)}

    def mac(node: str) -> str:
        return str(json.loads(lab.exec(node, "ip", "-json", "link", "show", "flannel.1"))[0]["address"])

    flanneld = lab.play("site", inventory=theirs, podnet_backend="flannel", podnet_verify=False, **releases)
    assert flanneld.code == 0, flanneld.output
    mesh = lab.play("site", inventory=ours, podnet_verify=False, **MIXED)
    assert mesh.code == 0, mesh.output

    # Written as flanneld writes its own: the same keys, and the same compact JSON, in the same order.
    assert annotations("worker-2") == {
        "kube-subnet-manager": "true",
        "backend-type": "vxlan",
        "backend-data": f'{{"VNI":1,"VtepMAC":"{mac("worker-2")}"}}',
        "public-ip": "172.16.0.4",
    }
    assert annotations("worker-1") == {
        "kube-subnet-manager": "true",
        "backend-type": "vxlan",
        "backend-data": f'{{"VNI":1,"VtepMAC":"{mac("worker-1")}"}}',
        "public-ip": "172.16.0.3",
    }
    assert lab.sh("worker-1", "systemctl list-unit-files flanneld.service --no-legend || true") == ""

    # flanneld takes worker-1 for its peer a moment after the annotations are there.
    assert until(lambda: "10.244.0.0/24 via 10.244.0.0 dev flannel.1" in lab.exec("worker-2", "ip", "route"), 60)
    proof = lab.play("verify")
    assert proof.code == 0 and "12 of 12 promised pairs pass" in proof.output, proof.output
    assert "no translation" in proof.output, proof.output
    for inventory, variables in ((ours, MIXED), (theirs, {"podnet_backend": "flannel", **releases})):
        again = lab.play("site", "--diff", inventory=inventory, podnet_verify=False, **variables)
        assert again.code == 0 and set(again.changed.values()) == {0}, again.output

    # Another VTEP on flanneld's side (it takes the old one over from the annotation, where there is one): our next run
    # learns it from the API.
    before = mac("worker-2")
    lab.sh("worker-2", "systemctl stop flanneld && ip link delete flannel.1")
    plane.kubectl("annotate", "node", "worker-2", f"{FLANNEL}backend-data-")
    lab.sh("worker-2", "systemctl start flanneld")
    assert mac("worker-2") != before
    learnt = lab.play("site", inventory=ours, podnet_verify=False, **MIXED)
    assert learnt.code == 0 and learnt.changed["worker-1"] == 1, learnt.output
    assert lab.play("verify").code == 0

    # Whoever leaves is forgotten by the API; flanneld's own annotations stay.
    gone = lab.play("reset", inventory=ours, **MIXED)
    assert gone.code == 0 and annotations("worker-1") == {} and annotations("worker-2"), gone.output
