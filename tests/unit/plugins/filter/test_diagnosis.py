# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter findings, from what modules return."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.weft.podnet.plugins.filter.diagnosis import findings
from ansible_collections.weft.podnet.plugins.plugin_utils.api import nodes as api_nodes
from support.observations import NAMES, World, mac, subnet, underlay

PREFIX = "flannel.alpha.coreos.com/"


def observed(world: World) -> list[dict[str, Any]]:
    return [{"host": world.hosts[name], "changed": False} for name in NAMES]


def resource(number: int, **status: Any) -> dict[str, Any]:
    """A Node object as kubernetes.core returns it."""
    data = f'{{"VNI":1,"VtepMAC":"{mac(number)}"}}'
    annotations = {f"{PREFIX}public-ip": underlay(number), f"{PREFIX}backend-data": data}
    conditions = [{"type": "Ready", "status": "True", "message": "kubelet is posting ready status"}]
    return {
        "metadata": {"name": NAMES[number], "annotations": annotations},
        "spec": {"podCIDRs": [subnet(number)]},
        "status": {
            "conditions": conditions,
            "addresses": [{"type": "InternalIP", "address": underlay(number)}],
            **status,
        },
    }


def test_a_healthy_cluster_with_its_api() -> None:
    world = World("flannel")
    api = {"nodes": api_nodes.summary(map(resource, range(3)))}
    result = findings(NAMES, observed(world), world.plan, api)
    assert result["findings"] == [] and "3 Nodes of the Kubernetes API" in result["text"]


def test_what_the_api_says_counts() -> None:
    world = World("flannel")
    unready = {"conditions": [{"type": "Ready", "status": "False", "message": "PLEG is not healthy"}]}
    api = {"nodes": api_nodes.summary([resource(0), resource(1, **unready), resource(2)])}
    (finding,) = findings(NAMES, observed(world), world.plan, api)["findings"]
    assert (finding["rule"], finding["host"], finding["evidence"]) == (
        "node-not-ready",
        "worker-2",
        "PLEG is not healthy",
    )


def test_a_host_without_an_observation_and_an_api_that_does_not_answer_say_why() -> None:
    world = World("vxlan")
    answers = observed(world)
    answers[1] = {"unreachable": True, "msg": "Connection timed out"}
    result = findings(NAMES, answers, world.plan, {"msg": "the API server refused the connection", "failed": False})
    assert [(each["rule"], each["host"], each["evidence"]) for each in result["findings"]] == [
        ("not-observed", "worker-2", "Connection timed out")
    ]
    assert "no Kubernetes API (the API server refused the connection)" in result["text"]
    assert not result["ok"] and result["hosts"] == ["worker-1", "worker-3"]


def test_the_configured_folder_counts_where_the_runtime_reads_another() -> None:
    world = World("routes")
    world[2]["cni"].update(files=[], loaded="", conf_dir="/etc/cni/other.d")
    world[2]["runtime"]["conf_dir"] = "/etc/cni/other.d"
    (finding,) = findings(NAMES, observed(world), world.plan)["findings"]
    assert finding["rule"] == "cni-other-folder" and "not from /etc/cni/net.d" in finding["evidence"]


def test_a_module_that_does_not_run_says_why() -> None:
    answer = {"msg": "Module result deserialization failed", "module_stderr": "sh: python3: not found\nmore"}
    (finding,) = findings(["worker-1"], [answer])["findings"]
    assert finding["evidence"] == "Module result deserialization failed: sh: python3: not found"


def test_each_host_needs_an_answer() -> None:
    with pytest.raises(AnsibleFilterError, match="3 hosts and 1 observations"):
        findings(NAMES, [{}])
