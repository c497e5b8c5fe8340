# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packets are followed where a way is broken, up to the hop where they are lost."""

from __future__ import annotations

from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis.report import model, packets
from support import observed_cluster, reports


def test_a_packet_ends_where_it_is_lost() -> None:
    given = reports.given()
    given["observations"]["worker-3"]["fdb"] = []
    (packet,) = model.report(given)["packets"]
    assert (packet["from"], packet["to"]) == ("worker-3", "worker-1")
    assert (packet["source"], packet["target"]) == (observed_cluster.pod(3), observed_cluster.pod(1))
    assert [hop["kind"] for hop in packet["hops"] if hop["verdict"] == "broken"] == ["fdb"]
    assert packet["conclusion"][0].startswith("stops at worker-3, fdb: ")


def test_an_answer_that_is_lost_is_followed_from_the_other_node() -> None:
    given = reports.given("routes")
    routes = given["observations"]["worker-2"]["routes"]
    routes[:] = [route for route in routes if route["dst"] != "10.244.0.0/24"]
    # Only pods on worker-1 wait in vain.
    matrix = reports.matrix(3, lambda one, other: "no answer" if (one, other) == ("worker-1", "worker-2") else "")
    first = model.report(given, matrix)["packets"][0]
    assert (first["from"], first["to"], first["source"]) == ("worker-2", "worker-1", observed_cluster.pod(2))


def test_one_packet_for_each_node_and_a_few_at_most() -> None:
    given = reports.given(workers=6)
    for host in given["observations"].values():
        host["fdb"] = []
    found = model.report(given)["packets"]
    assert [each["from"] for each in found] == [f"worker-{number}" for number in range(1, packets.MOST + 1)]


def test_without_pods_or_observations_there_is_none() -> None:
    matrix = reports.matrix(3, lambda one, other: "no answer" if one != other else "")
    assert model.report(reports.given(), matrix)["packets"] == []
    assert model.report({"observations": {}}, matrix)["packets"] == []
    given = reports.given()
    given["observations"]["worker-3"]["fdb"] = []
    given["observations"]["worker-3"]["cni"]["pods"] = []
    assert model.report(given)["packets"] == []
