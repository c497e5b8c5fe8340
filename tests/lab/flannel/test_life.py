# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The flannel backend on real nodes: made, proven, rotated, taken away.

The API server and flanneld are stand-ins, unless PODNET_REAL_BINARIES names a folder with the real ones.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
import yaml

from standins.control_plane import ControlPlane
from support.flannel import KUBECONFIG, WORKERS, mac, running
from support.lab import Lab, unlike
from support.traffic import pinging

pytestmark = pytest.mark.long

# What iptables' nft back end keeps of a chain that once held a rule; another program may use it by now.
EMPTY_CHAIN = re.compile(
    r"\S+ \+ (table ip6? (nat|filter) \{|\tchain (POSTROUTING|FORWARD) \{|\t\ttype (nat|filter) hook .*accept;|\t?\}|)"
)


FLANNEL_ON_NODE = re.compile("flannel.alpha.coreos.com/|FlannelIsUp")


def about(plane: ControlPlane, node: str) -> str:
    return plane.kubectl("get", "node", node, "--output", "json")


def test_from_nothing_and_back(lab: Lab, plane: ControlPlane) -> None:
    everyone = ("control-plane", *WORKERS)
    before = lab.snapshots(*everyone)
    dry = lab.play("site", "--check", "--diff")
    assert dry.code == 0, dry.output
    assert not unlike(before, lab.snapshots(*everyone))
    for said in ('"Type": "vxlan"', "flanneld.service", "10-flannel.conflist", "server: https://control-plane:6443"):
        assert said in dry.output, said

    made = lab.play("site", "-vvv", "--diff")
    assert made.code == 0 and "12 of 12 promised pairs pass" in made.output, made.output
    # Until the configuration is there, every Node is.
    proof = made.output.partition("PLAY [Prove that pods reach each other]")[2].splitlines()
    assert proof and not [line[:500] for line in proof if "NotReady" in line]
    assert all(FLANNEL_ON_NODE.findall(about(plane, node)) for node in WORKERS)
    for node in WORKERS:
        key = lab.exec(node, "cat", "/etc/kubernetes/pki/flannel.key")
        body = "".join(key.splitlines()[1:-1])
        assert body[:64] not in made.output and base64.b64encode(key.encode()).decode()[:64] not in made.output
    again = lab.play("site", "--diff")
    assert again.code == 0 and set(again.changed.values()) == {0}, again.output

    pids, macs = [running(lab, node) for node in WORKERS], [mac(lab, node) for node in WORKERS]
    lab.reboot("worker-1")
    back = lab.play("verify")
    assert back.code == 0 and "12 of 12 promised pairs pass" in back.output, back.output
    assert [mac(lab, node) for node in WORKERS] == macs and running(lab, "worker-2") == pids[1]
    assert set(lab.play("site", podnet_verify=False).changed.values()) == {0}

    everything: dict[str, Any] = {f"podnet_reset_{what}": True for what in ("binaries", "certificates", "rbac")}
    standing = lab.snapshots(*everyone)
    rehearsed = lab.play("reset", "--check", "--diff", **everything)
    assert rehearsed.code == 0 and not unlike(standing, lab.snapshots(*everyone)), rehearsed.output
    lab.play("reset", "--limit", "worker-2", **everything)
    assert [bool(FLANNEL_ON_NODE.search(about(plane, node))) for node in WORKERS] == [True, False]
    gone = lab.play("reset", **everything)
    assert gone.code == 0, gone.output
    assert not any(FLANNEL_ON_NODE.search(about(plane, node)) for node in WORKERS)
    assert not [line for line in unlike(before, lab.snapshots(*everyone)) if not EMPTY_CHAIN.fullmatch(line)]
    assert "system:flannel" not in plane.kubectl("get", "clusterrole", "--output", "name")
    assert set(lab.play("reset", **everything).changed.values()) == {0}


def test_one_identity_for_all(lab: Lab, plane: ControlPlane) -> None:
    """The pair is made on the control plane and carried in the kubeconfig, the same on all workers."""
    made = lab.play("site", "-vvv", "--diff", podnet_flannel_identity="shared", podnet_flannel_rbac_minimal=True)
    assert made.code == 0 and "12 of 12 promised pairs pass" in made.output, made.output
    kubeconfigs = [lab.exec(node, "cat", KUBECONFIG) for node in ("control-plane", *WORKERS)]
    assert len(set(kubeconfigs)) == 1
    secret = yaml.safe_load(kubeconfigs[0])["users"][0]["user"]["client-key-data"]
    assert secret[:64] not in made.output
    body = "".join(base64.b64decode(secret).decode().splitlines()[1:-1])
    assert body[:64] not in made.output
    for node in WORKERS:
        assert lab.exec(node, "stat", "--format=%a", KUBECONFIG).strip() == "600"
        assert lab.sh(node, "ls /etc/kubernetes/pki").split() == ["ca.crt"]
    rules = json.loads(plane.kubectl("get", "clusterrole", "system:flannel", "--output", "json"))["rules"]
    assert [rule["resources"] for rule in rules] == [["nodes"], ["nodes/status"]]
    # Nothing of it shows in a look at a worker.
    lab.sh("worker-2", f"rm {KUBECONFIG}")
    repaired = lab.play("site", podnet_flannel_identity="shared", podnet_flannel_rbac_minimal=True, podnet_verify=False)
    assert repaired.code == 0 and lab.sh("worker-2", f"ls {KUBECONFIG}")
    again = lab.play("site", podnet_flannel_identity="shared", podnet_flannel_rbac_minimal=True, podnet_verify=False)
    assert set(again.changed.values()) == {0}, again.output

    # What the kubeconfig carries is only read at the start: a rotation restarts flanneld, and no pod notices.
    before = [running(lab, node) for node in WORKERS]
    lost: list[int] = []
    with pinging(lab, lost):
        # In two batches, and still one pair for all.
        rotated = lab.play("rotate_certificates", podnet_flannel_identity="shared", podnet_serial=1)
    assert rotated.code == 0, rotated.output
    assert len({lab.exec(node, "cat", KUBECONFIG) for node in ("control-plane", *WORKERS)}) == 1
    assert lost[0] <= 1 and all(old != running(lab, node) for node, old in zip(WORKERS, before, strict=True))
