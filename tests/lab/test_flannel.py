# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The flannel backend on real nodes: made, rotated, upgraded, rolled back, moved to, taken away.

The API server and flanneld are stand-ins, unless PODNET_REAL_BINARIES names a folder with the real ones.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from standins.control_plane import ControlPlane
from support import flannel
from support.lab import Lab, unlike
from support.traffic import pinging

WORKERS = ("worker-1", "worker-2")
KUBECONFIG = "/etc/kubernetes/flannel.conf"


@pytest.fixture
def plane(lab: Lab) -> Iterator[ControlPlane]:
    """A control plane, and flannel as the backend of every run."""
    lab.variables["podnet_backend"] = "flannel"
    yield flannel.prepare(lab.name)


def serial(lab: Lab, node: str, path: str = "/etc/kubernetes/pki/flannel.crt") -> str:
    return lab.exec(node, "openssl", "x509", "-noout", "-serial", "-in", path).strip()


def running(lab: Lab, node: str) -> str:
    """The process that is flanneld: another one after a restart."""
    return lab.exec(node, "systemctl", "show", "flanneld", "--property=MainPID", "--value").strip()


def version(lab: Lab, node: str) -> str:
    return lab.sh(node, "/usr/local/bin/flanneld --version 2>&1").strip()


def mac(lab: Lab, node: str) -> str:
    return str(json.loads(lab.exec(node, "ip", "-json", "link", "show", "flannel.1"))[0]["address"])


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
    gone = lab.play("reset", **everything)
    assert gone.code == 0, gone.output
    assert not unlike(before, lab.snapshots(*everyone))
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
    again = lab.play("site", podnet_flannel_identity="shared", podnet_flannel_rbac_minimal=True, podnet_verify=False)
    assert set(again.changed.values()) == {0}, again.output

    # What the kubeconfig carries is only read at the start: a rotation restarts flanneld, and no pod notices.
    before = [running(lab, node) for node in WORKERS]
    lost: list[int] = []
    with pinging(lab, lost):
        rotated = lab.play("rotate_certificates", podnet_flannel_identity="shared")
    assert rotated.code == 0, rotated.output
    assert lost[0] <= 1 and all(old != running(lab, node) for node, old in zip(WORKERS, before, strict=True))


def test_certificates_are_renewed_under_traffic(lab: Lab, plane: ControlPlane) -> None:
    assert lab.play("site", podnet_verify=False, podnet_flannel_cert_days=20, podnet_flannel_renew_before=10).code == 0
    pids, serials = [[look(lab, node) for node in WORKERS] for look in (running, serial)]
    still = lab.play("site", podnet_verify=False, podnet_flannel_renew_before=19)
    assert set(still.changed.values()) == {0}, still.output
    lost: list[int] = []
    with pinging(lab, lost):
        due = lab.play("site", podnet_verify=False, podnet_flannel_renew_before=30)
    assert due.code == 0 and lost[0] <= 1, due.output
    for node, old, pid in zip(WORKERS, serials, pids, strict=True):
        assert serial(lab, node) != old and running(lab, node) == pid
        assert (
            lab.exec(node, "kubectl", "--kubeconfig", KUBECONFIG, "get", "nodes", "--output=name").count("node/") == 2
        )

    # Another CA: the API server takes it, and one run brings all workers over.
    lab.sh("control-plane", "rm /etc/kubernetes/pki/*")
    plane.up(workers=False)
    plane.join(*WORKERS)
    with pinging(lab, lost):
        moved = lab.play("site", podnet_verify=False)
    assert moved.code == 0 and lost[1] <= 1, moved.output
    for node in WORKERS:
        lab.sh(node, "cd /etc/kubernetes/pki && openssl verify -CAfile ca.crt flannel.crt")
    assert lab.play("site").code == 0


def test_an_upgrade_and_one_that_fails(lab: Lab, plane: ControlPlane, tmp_path: Path) -> None:
    assert lab.play("site", podnet_verify=False).code == 0
    newer = flannel.variables(tmp_path / "newer", "v0.27.3")
    lost: list[int] = []
    with pinging(lab, lost):
        upgraded = lab.play("site", podnet_verify=False, **newer)
    assert upgraded.code == 0 and lost[0] <= 1, upgraded.output
    assert [version(lab, node) for node in WORKERS] == ["v0.27.3"] * 2
    assert set(lab.play("site", podnet_verify=False, **newer).changed.values()) == {0}

    before = lab.snapshots()
    with pinging(lab, lost):
        bad = lab.play("site", podnet_serial=1, podnet_flannel_ready_timeout=10, podnet_verify=False,
                       **flannel.variables(tmp_path / "bad", "v0.27.4", broken=True))  # fmt: skip
    assert bad.code != 0 and "flanneld" in bad.output and lost[1] <= 1, bad.output
    # The first worker is back at what it had, and the second was never touched.
    assert [version(lab, node) for node in WORKERS] == ["v0.27.3"] * 2
    assert bad.recap["worker-2"]["changed"] == 0 and "v0.27.4" not in lab.sh("worker-2", "ls /opt/weft-podnet/*")
    # Of releases, the one in use and the last one tried are kept.
    assert not [line for line in unlike(before, lab.snapshots()) if "/opt/weft-podnet/flannel/" not in line]
    proof = lab.play("site", **newer)
    assert proof.code == 0 and "12 of 12 promised pairs pass" in proof.output, proof.output


@pytest.mark.parametrize("backend", ["bridge", "routes", "vxlan"])
def test_moved_from_another_backend(lab: Lab, plane: ControlPlane, backend: str) -> None:
    """One variable and one run; nothing of the former backend stays in the way."""
    # Pod subnets of its own, so that cni0's address is another one under flannel.
    hosts = {
        name: {**host, "podnet_pod_subnet": f"10.244.{number}.0/24"}
        for number, (name, host) in enumerate(lab.hosts().items(), 7)
    }
    former = lab.play("site", inventory=lab.inventory_of(hosts), podnet_backend=backend)
    assert former.code == 0, former.output
    moved = lab.play("site")
    assert moved.code == 0 and "12 of 12 promised pairs pass" in moved.output, moved.output
    for node in WORKERS:
        assert lab.exec(node, "ls", "/etc/cni/net.d").split() == ["10-flannel.conflist"]
        assert "10.244.7." not in lab.exec(node, "ip", "route") and "10.244.8." not in lab.exec(node, "ip", "route")
        assert lab.sh(node, "ls /etc/systemd/system | grep weft-podnet || true") == ""
        assert lab.sh(node, "ls /var/lib/cni/networks").split() == ["cbr0"]
    assert set(lab.play("site", podnet_verify=False).changed.values()) == {0}
    back = lab.play("site", podnet_backend=backend)
    assert back.code != 0 and "reset.yml" in back.output, back.output
