# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What flanneld wrote on a Node goes with a reset, and nothing else does. The API server is a stand-in."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from standins.control_plane import ControlPlane
from support.lab import Lab, Play, fresh

FLANNEL = {
    "flannel.alpha.coreos.com/backend-data": '{"VNI":1,"VtepMAC":"0a:fd:7a:fd:24:2e"}',
    "flannel.alpha.coreos.com/backend-type": "vxlan",
    "flannel.alpha.coreos.com/kube-subnet-manager": "true",
    "flannel.alpha.coreos.com/public-ip": "172.16.0.3",
}
UP = {"type": "NetworkUnavailable", "status": "False", "reason": "FlannelIsUp", "message": "Flannel is running"}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with fresh(f"forget-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}", workers=1) as lab:
        ControlPlane(lab.name).up()
        yield lab


def node(lab: Lab) -> dict[str, Any]:
    return dict(json.loads(ControlPlane(lab.name).kubectl("get", "node", "worker-1", "--output", "json")))


def reasons(lab: Lab) -> dict[str, str]:
    return {entry["type"]: entry.get("reason", "") for entry in node(lab)["status"]["conditions"]}


def forget(lab: Lab, *words: str, name: str = "worker-1", **more: str) -> Play:
    return lab.module("control-plane", "cluster_nodes", {"state": "forgotten", "node": name, **more}, *words)


@pytest.mark.long
def test_a_reset_worker_is_nobodys_peer(lab: Lab) -> None:
    plane = ControlPlane(lab.name)
    plane.kubectl("annotate", "node", "worker-1", "example.org/rack=12", *(f"{key}={FLANNEL[key]}" for key in FLANNEL))
    whole = node(lab)
    whole["status"]["conditions"] = [*whole["status"]["conditions"], UP]
    del whole["metadata"]["resourceVersion"]
    plane.kubectl("replace", "--raw", "/api/v1/nodes/worker-1/status", "-f", "-", stdin=json.dumps(whole))
    assert reasons(lab)["NetworkUnavailable"] == "FlannelIsUp"

    rehearsed = forget(lab, "--check", "--diff")
    assert rehearsed.code == 0 and "CHANGED" in rehearsed.output, rehearsed.output
    assert FLANNEL.items() <= node(lab)["metadata"]["annotations"].items() and "NetworkUnavailable" in reasons(lab)

    done = forget(lab, "--diff")
    assert done.code == 0 and "CHANGED" in done.output and "keeps what" not in done.output, done.output
    left = node(lab)["metadata"]["annotations"]
    assert left["example.org/rack"] == "12" and not [key for key in left if key in FLANNEL]
    assert "NetworkUnavailable" not in reasons(lab) and "Ready" in reasons(lab)
    again = forget(lab)
    assert again.code == 0 and "SUCCESS" in again.output, again.output


@pytest.mark.long
def test_what_can_not_be_asked_is_told(lab: Lab) -> None:
    """A Node that is gone is forgotten. Where the API does not answer, the host has been reset all the same."""
    gone = forget(lab, name="worker-9")
    assert gone.code == 0 and "SUCCESS" in gone.output and "keeps what" not in gone.output, gone.output
    silent = forget(lab, kubeconfig="/etc/kubernetes/none.conf")
    assert silent.code == 0 and "the Node worker-1 keeps what flanneld wrote there" in silent.text, silent.output
