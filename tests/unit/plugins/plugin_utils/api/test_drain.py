# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Node is drained by looks and evictions that take turns, until its pods are gone or there was time enough."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.plugin_utils.api import drain as api_drain
from ansible_collections.weft.podnet.plugins.plugin_utils.api import pods as api_pods

BUDGET = "Failed to delete pod default/web due to: Cannot evict pod as it would violate the pod's disruption budget."


def pod(name: str, *owners: str, namespace: str = "default", **more: Any) -> dict[str, Any]:
    """A Pod as the API serves it; ``owners`` are kinds."""
    references = [{"apiVersion": "apps/v1", "kind": kind, "name": "x", "uid": "u"} for kind in owners]
    metadata = {"name": name, "namespace": namespace, "uid": f"uid-{name}", "ownerReferences": references}
    metadata.update(more.pop("metadata", {}))
    status = {"phase": more.pop("phase", "Running")}
    return {"metadata": metadata, "spec": more, "status": status}


WEB, DNS = pod("web", "ReplicaSet"), pod("dns", "DaemonSet", namespace="kube-system")
EMPTY = [{"name": "cache", "emptyDir": {}}]
LABELLED = {"labels": {"pod-template-generation": "1"}}


def names(pods: list[api_pods.Pod]) -> list[str]:
    return [each.name for each in pods]


def test_what_a_drain_does_to_each_pod() -> None:
    found = api_pods.sorted_out(
        [
            WEB,
            pod("set", "StatefulSet", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}),
            pod("done", phase="Succeeded"),
            pod("proxy", "ReplicaSet", hostNetwork=True),
            pod("static", "Node", metadata={"annotations": {"kubernetes.io/config.mirror": "x"}}),
            DNS,
            pod("kube-proxy", "DaemonSet", hostNetwork=True),
            pod("agent", "DaemonSet", volumes=EMPTY, metadata=LABELLED),
            pod("old-agent", "DaemonSet", volumes=EMPTY),
            pod("cache", "ReplicaSet", volumes=EMPTY),
            pod("bare"),
        ]
    )
    assert names(found.evicted) == ["default/web", "default/set", "default/done", "default/proxy"]
    assert [each.leaving for each in found.evicted] == [False, True, False, False]
    assert names(found.daemons) == ["kube-system/dns", "default/agent"]
    # As k8s_drain: it sees no label and takes the volume for a reason.
    assert names(found.holding) == ["default/old-agent", "default/cache"]
    assert names(found.unmanaged) == ["default/bare"]
    problems = api_pods.problems("n1", found)
    assert len(problems) == 2 and "default/bare, since no controller" in problems[0]
    assert "kubectl drain n1 --ignore-daemonsets --delete-emptydir-data" in problems[1]
    assert all("podnet_live_pods: keep" in line for line in problems)


def test_what_happens_is_one_line() -> None:
    found = api_pods.sorted_out([WEB, pod("api", "ReplicaSet"), DNS])
    start = "Node n1: podnet_live_pods: recreate: before the pod network bridge "
    assert api_pods.announced("n1", found, ["bridge"], removal=False) == (
        f"{start}changes, 2 pods (default/api, default/web) are evicted; after it, 1 pod (kube-system/dns) is deleted "
        "for DaemonSets to recreate"
    )
    removed = api_pods.announced("n1", found, ["bridge"], removal=True)
    assert removed.startswith(f"{start}goes, 2 pods") and "stays unschedulable afterwards" in removed
    many = api_pods.sorted_out([pod(f"web-{number}", "ReplicaSet") for number in range(9)])
    assert "9 pods (default/web-0, default/web-1, default/web-2, default/web-3, default/web-4 and 4 more)" in (
        api_pods.announced("n1", many, [], removal=False)
    )
    unknown = api_pods.announced("n1", api_pods.sorted_out([]), ["bridge"], removal=False)
    assert "unknown to the Kubernetes API" in unknown


class Cluster:
    """What kubernetes.core's modules do to the pods of one Node. A pod shuts down for ``slow`` looks."""

    def __init__(self, *pods: dict[str, Any], slow: int = 0, refusals: int = 0, why: str = BUDGET) -> None:
        self.pods, self.slow, self.refusals, self.why = list(pods), slow, refusals, why
        self.asked: list[str] = []

    def __call__(self, module: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
        self.asked.append(module)
        if module == "k8s_info":
            assert given["field_selectors"] == ["spec.nodeName=n1"]
            self.slow -= any("deletionTimestamp" in each["metadata"] for each in self.pods)
            if self.slow < 0:
                self.pods = [each for each in self.pods if "deletionTimestamp" not in each["metadata"]]
            return {"resources": [dict(each) for each in self.pods]}
        if module == "k8s":
            assert given["state"] == "absent"
            self._end({each["metadata"]["name"] for each in given["resource_definition"]})
            return {}
        assert given["name"] == "n1"
        if "state" in given:
            return {"changed": True} if given["state"] == "cordon" else {"result": "already marked schedulable."}
        assert given["delete_options"] == {"ignore_daemonsets": True}
        if self.refusals:
            self.refusals -= 1
            raise Refused([f"Kubernetes API by x on y: {self.why}"])
        self._end({each["metadata"]["name"] for each in self.pods if each is not DNS})
        return {"changed": True}

    def _end(self, names: set[str]) -> None:
        self.pods = [
            {**each, "metadata": {**each["metadata"], "deletionTimestamp": "x"}}
            if each["metadata"]["name"] in names
            else each
            for each in self.pods
        ]


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time that passes by sleeping only."""
    now = [0.0]
    monkeypatch.setattr(api_drain.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(api_drain.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


def test_a_drain_waits_until_pods_are_gone(clock: list[float]) -> None:
    cluster = Cluster(WEB, DNS, slow=3)
    assert api_drain.evict(cluster, "n1") == ["default/web"]
    # One that shuts down is not evicted again.
    assert cluster.asked.count("k8s_drain") == 1 and cluster.pods == [DNS]
    assert clock[0] == 3 * api_drain.PAUSE


def test_nothing_to_evict_asks_for_nothing() -> None:
    cluster = Cluster(DNS)
    assert api_drain.evict(cluster, "n1") == [] and cluster.asked == ["k8s_info"]


def test_a_budget_is_waited_for() -> None:
    cluster = Cluster(WEB, refusals=4)
    assert api_drain.evict(cluster, "n1") == ["default/web"] and cluster.asked.count("k8s_drain") == 5


def test_a_budget_that_never_allows_it_ends_the_drain(clock: list[float]) -> None:
    with pytest.raises(Refused) as refused:
        api_drain.evict(Cluster(WEB, refusals=9999), "n1")
    (line,) = refused.value.problems
    assert line.startswith("Node n1: default/web did not go within 600 seconds (") and "disruption budget" in line
    assert clock[0] == api_drain.PATIENCE


def test_another_refusal_ends_it_at_once(clock: list[float]) -> None:
    with pytest.raises(Refused, match="no route"):
        api_drain.evict(Cluster(WEB, refusals=1, why="no route"), "n1")
    assert clock[0] == 0


def test_what_a_drain_does_not_evict_is_found_before_it_evicts_anything() -> None:
    cluster = Cluster(WEB, pod("bare"))
    with pytest.raises(Refused, match="default/bare"):
        api_drain.evict(cluster, "n1")
    assert cluster.asked == ["k8s_info"]


def test_pods_of_daemonsets_are_deleted_and_waited_for(clock: list[float]) -> None:
    cluster = Cluster(DNS, pod("kube-proxy", "DaemonSet", hostNetwork=True), slow=2)
    assert api_drain.restart(cluster, "n1") == ["kube-system/dns"]
    assert [each["metadata"]["name"] for each in cluster.pods] == ["kube-proxy"] and clock[0] == 2 * api_drain.PAUSE
    assert api_drain.restart(cluster, "n1") == [] and cluster.asked.count("k8s") == 1
    with pytest.raises(Refused, match="kube-system/dns did not go within 600 seconds"):
        api_drain.restart(Cluster(DNS, slow=9999), "n1")


def test_whether_a_node_was_schedulable() -> None:
    assert api_drain.cordon(Cluster(), "n1") and not api_drain.uncordon(Cluster(), "n1")
