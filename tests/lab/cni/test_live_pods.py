# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pods that run while their network changes: the run is refused, leaves them as they are, or drains the Node."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from standins.control_plane import ControlPlane
from support import flannel, node_pods
from support.lab import Lab, unlike

pytestmark = pytest.mark.long

HELD = "example.org/kubelet"


def made(plane: ControlPlane, name: str, owner: str, node: str = "worker-1", host_network: bool = False) -> None:
    """A Pod object. Those with the pod network stay until ``kubelet`` has ended what they stand for."""
    reference = {"apiVersion": "apps/v1", "kind": owner, "name": "x", "uid": "00000000-0000-0000-0000-000000000000"}
    metadata = {
        "name": name,
        "namespace": "default",
        "ownerReferences": [reference] if owner else [],
        "finalizers": [] if host_network else [HELD],
    }
    spec = {"nodeName": node, "hostNetwork": host_network, "containers": [{"name": "main", "image": "x"}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    plane.kubectl("create", "--validate=false", "--filename=-", stdin=json.dumps(pod))


def pods(plane: ControlPlane) -> dict[str, dict[str, Any]]:
    listed = json.loads(plane.kubectl("get", "pods", "--output=json"))["items"]
    return {each["metadata"]["name"]: each["metadata"] for each in listed}


def schedulable(plane: ControlPlane, node: str = "worker-1") -> bool:
    return plane.kubectl("get", "node", node, "--output=jsonpath={.spec.unschedulable}") != "true"


@contextlib.contextmanager
def kubelet(lab: Lab, plane: ControlPlane) -> Iterator[dict[str, bool]]:
    """Ends the pods of worker-1 that are deleted. Yields whether the Node was schedulable as each of them ended."""
    ended: dict[str, bool] = {}
    done = threading.Event()
    problems: list[BaseException] = []

    def run() -> None:
        while not done.wait(0.5):
            for name, metadata in pods(plane).items():
                if "deletionTimestamp" not in metadata:
                    continue
                ended[name] = schedulable(plane)
                if name in lab.exec("worker-1", "ip", "netns"):
                    # An evicted pod ends while its own configuration is still there, one of a DaemonSet afterwards.
                    end = node_pods.stop if name == "web" else node_pods.lose
                    end(lab, "worker-1", name)
                plane.kubectl("patch", "pod", name, "--type=merge", '--patch={"metadata": {"finalizers": null}}')

    def watched() -> None:
        try:
            run()
        except BaseException as problem:
            problems.append(problem)

    thread = threading.Thread(target=watched)
    thread.start()
    try:
        yield ended
    finally:
        done.set()
        thread.join()
    assert not problems, problems


def written(plane: ControlPlane) -> list[str]:
    """What was written to pods and Nodes by the administrator's modules, in its order."""
    return [
        f"{event['verb']} {event['objectRef']['name']} {event['objectRef'].get('subresource', '')}".strip()
        for event in plane.audit()
        if event["verb"] in ("create", "delete", "patch")
        and event.get("objectRef", {}).get("resource") in ("pods", "nodes")
        and not event["userAgent"].startswith(("kubectl", "kubelet", "flannel"))
        and event["responseStatus"]["code"] < 300
    ]


def test_a_move_to_another_backend_under_live_pods(lab: Lab, plane: ControlPlane, tmp_path: Path) -> None:
    lab.variables["podnet_verify"] = False
    # Pod subnets of its own, so that cni0's address is another one under flannel.
    hosts = {
        name: {**host, "podnet_pod_subnet": f"10.244.{number}.0/24"}
        for number, (name, host) in enumerate(lab.hosts().items(), 7)
    }
    former = lab.inventory_of(hosts)
    assert lab.play("site", inventory=former, podnet_backend="routes").code == 0
    for name in ("web", "dns"):
        assert node_pods.start(lab, "worker-1", name).startswith("10.244.7.")
    made(plane, "web", "ReplicaSet")
    made(plane, "dns", "DaemonSet")
    made(plane, "proxy", "DaemonSet", host_network=True)
    made(plane, "elsewhere", "ReplicaSet", node="worker-2")
    made(plane, "bare", "")
    before, known = lab.snapshots(), pods(plane)

    # Refused, or shown: nothing is changed.
    told = lab.play("site")
    assert told.code != 0 and "podnet_live_pods: keep, or recreate" in told.text, told.output
    told = lab.play("site", inventory=former, podnet_backend="routes", podnet_live_pods="recreate")
    assert told.code != 0 and "podnet_live_pods: recreate evicts pods through the Kubernetes API" in told.text
    told = lab.play("site", podnet_live_pods="recreate")
    assert told.code != 0 and "does not evict default/bare, since no controller" in told.text, told.output
    plane.kubectl("patch", "pod", "bare", "--type=merge", '--patch={"metadata": {"finalizers": null}}')
    plane.kubectl("delete", "pod", "bare", "--wait=false")
    kept = lab.play("site", "--check", podnet_live_pods="keep")
    assert kept.code == 0 and "new pods get addresses that are in use" in kept.text, kept.output
    assert "they keep running on the former configuration" in kept.text and "evicted" not in kept.text
    will = (
        "Node worker-1: podnet_live_pods: recreate: before the pod network bridge changes, 1 pod (default/web) is "
        "evicted; after it, 1 pod (default/dns) is deleted for DaemonSets to recreate"
    )
    dry = lab.play("site", "--check", podnet_live_pods="recreate")
    assert dry.code == 0 and will in dry.text and "Node worker-2" not in dry.text, dry.output
    assert not unlike(before, lab.snapshots()) and written(plane) == []
    assert {name: known[name] for name in pods(plane)} == pods(plane)

    # A run that fails halfway: the Node has new pods again.
    broken = flannel.variables(tmp_path, "v0.27.3", broken=True)
    with kubelet(lab, plane) as ended:
        failed = lab.play("site", podnet_live_pods="recreate", podnet_flannel_ready_timeout=10, **broken)
    assert failed.code != 0 and will in failed.text and "flanneld" in failed.text, failed.output
    assert ended == {"web": False} and schedulable(plane)
    assert written(plane) == ["patch worker-1", "create web eviction", "patch worker-1"]
    assert "dns" in lab.exec("worker-1", "ip", "netns") and "10-bridge" in lab.exec("worker-1", "ls", "/etc/cni/net.d")

    # Its controller starts it again.
    node_pods.start(lab, "worker-1", "web")
    made(plane, "web", "ReplicaSet")
    with kubelet(lab, plane) as ended:
        moved = lab.play("site", podnet_live_pods="recreate")
    assert moved.code == 0 and will in moved.text, moved.output
    assert ended == {"web": False, "dns": False} and schedulable(plane)
    assert sorted(pods(plane)) == ["elsewhere", "proxy"]
    assert written(plane)[3:] == ["patch worker-1", "create web eviction", "delete dns", "patch worker-1"]
    # Nothing of the former network is in the way of what DaemonSets start again.
    assert node_pods.start(lab, "worker-1", "dns").startswith("10.244.0.")
    assert "bridge" not in lab.sh("worker-1", "ls /var/lib/cni/networks").split()
    again = lab.play("site")
    assert again.code == 0 and set(again.changed.values()) == {0}, again.output

    # Without a pod network there is no Node for new pods.
    made(plane, "dns", "ReplicaSet")
    with kubelet(lab, plane) as ended:
        gone = lab.play("reset", podnet_live_pods="recreate")
    assert gone.code == 0 and "stays unschedulable afterwards" in gone.text, gone.output
    assert ended == {"dns": False} and not schedulable(plane) and schedulable(plane, "worker-2")
    assert "cni0" not in lab.exec("worker-1", "ip", "link")
