# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A verification of three hosts, healthy and broken: it fails, and says what the kernel shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from support.hosts import Hosts
from support.observations import first, mac, subnet, underlay
from support.probe import Verification


@pytest.fixture(scope="module", params=["routes", "vxlan"])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Verification]:
    with ExitStack() as stack:
        yield Verification(Hosts(request.param, stack), tmp_path_factory.mktemp("probe"), stack)


def failed(found: dict[str, Any]) -> set[tuple[str, str, str, str]]:
    """(from, to, kind, protocol) of what fails, nodes by their numbers; what they send themselves is not looked at."""
    return {
        (cell["from"][-1], cell["to"][-1], cell["kind"], cell["protocol"])
        for cell in found["cells"]
        if cell["ok"] is False and cell["kind"] != "node to pod"
    }


def test_a_healthy_cluster_passes_and_names_nothing(cluster: Verification) -> None:
    found = cluster.run()
    assert found["ok"] and found["findings"] == [] and found["not_checked"] == [], found["text"]
    assert all(cell["ok"] and cell["reason"] == "" and cell["latency_ms"] > 0 for cell in found["cells"])
    kinds = {(cell["kind"], cell["protocol"]) for cell in found["cells"]}
    of_pods = {(kind, protocol) for kind in ("same node", "across") for protocol in ("tcp", "udp")}
    assert kinds == of_pods | {("hairpin", "tcp"), ("egress", "tcp"), ("node to pod", "tcp")}
    size = 1450 if cluster.hosts.backend == "vxlan" else 1500
    assert f"Packets of the full size arrive ({size} bytes); pods reach themselves through a service" in found["text"]


def test_nodes_that_were_left_out_are_named(cluster: Verification) -> None:
    found = cluster.run(only=(0, 1))
    assert found["ok"] and "pods of worker-3, which this run leaves out" in found["not_checked"][0], found["text"]


# On the switch between the hosts: what neither of them sees.
NARROW = "table bridge narrow {{ chain c {{ type filter hook forward priority 0; {match} drop; }}; }}"
TABLE = "table bridge narrow"
# By name: the backend, the host (None: the switch), how it is broken and healed, what fails, and what is said.
ALL = {("1", "2"), ("2", "1")}
BREAKS: dict[str, tuple[str, int | None, str, str, set[Any], list[str]]] = {
    "path-mtu": (
        "routes",
        None,
        f"nft '{NARROW.format(match=f'ip saddr {subnet(0)} ip daddr {subnet(1)} meta length > 1400')}'",
        f"nft delete {TABLE}",
        {("1", "2", "across", "udp"), ("1", "2", "across", "tcp"), ("2", "1", "across", "tcp")},
        [
            "packets of more than 1400 bytes from worker-1's pods to worker-2's do not arrive",
            "the pods' interfaces take 1500; downloads stall",
        ],
    ),
    # Each packet that is too large is answered, so that sending the next one fails.
    "path-mtu-announced": (
        "routes",
        1,
        f"ip route change {subnet(0)} via {underlay(0)} proto 87 mtu lock 600",
        f"ip route change {subnet(0)} via {underlay(0)} proto 87",
        {("2", "1", "across", "udp")},
        ["packets of more than 600 bytes from worker-2's pods to worker-1's do not arrive", "TCP learns of it"],
    ),
    "udp-8472-one-way": (
        "vxlan",
        None,
        f"nft '{NARROW.format(match=f'ip saddr {underlay(0)} ip daddr {underlay(1)} udp dport 8472')}'",
        f"nft delete {TABLE}",
        {(one, two, "across", protocol) for one, two in ALL for protocol in ("tcp", "udp")},
        [
            "packets of worker-2's pods arrive at worker-1's pods, and none of worker-1's pods arrives at worker-2's",
            "the overlay's UDP port 8472",
        ],
    ),
    "hairpin-off": (
        "routes",
        0,
        "bridge link set dev vethp1 hairpin off",
        "bridge link set dev vethp1 hairpin on",
        {("1", "1", "hairpin", "tcp")},
        ["a pod does not reach itself through a service", "hairpin mode is off", "[hairpin-off]"],
    ),
    "masquerade-missing": (
        "routes",
        1,
        "nft --stateless list table ip weft-podnet >FOLDER/kept; nft delete table ip weft-podnet",
        "nft --file FOLDER/kept",
        {("2", "1", "egress", "tcp"), ("2", "3", "egress", "tcp")},
        ["saw the pod's own address 10.244.1.2: nothing masquerades it", "[masquerade-missing]"],
    ),
    "no-way-back": (
        "routes",
        1,
        f"ip route delete {subnet(0)}",
        f"ip route add {subnet(0)} via {underlay(0)} proto 87",
        {(one, two, "across", protocol) for one, two in ALL for protocol in ("tcp", "udp")},
        ["worker-2 has no route to 10.244.0.0/24 (worker-1's pods)", "[no-route-back]"],
    ),
    "wrong-vtep-mac": (
        "vxlan",
        1,
        f"ip neighbour replace {first(0)} lladdr 02:00:00:00:00:99 dev flannel.1 nud permanent",
        f"ip neighbour replace {first(0)} lladdr {mac(0)} dev flannel.1 nud permanent",
        {(one, two, "across", protocol) for one, two in ALL for protocol in ("tcp", "udp")},
        ["02:00:00:00:00:99", "[neighbour-mac-wrong]"],
    ),
    "a-node-alone": (
        "vxlan",
        2,
        "ip link set eth0 down",
        "ip link set eth0 up; ip route add default via 172.16.0.1",
        set(),
        ["All failures involve worker-3; no pair with another node passes."],
    ),
}


@pytest.mark.parametrize(
    ("cluster", "name"),
    [(each[0], name) for name, each in BREAKS.items()],
    indirect=["cluster"],
    ids=list(BREAKS),
    # That of the fixture: by default it is the test's where not all arguments are indirect, with new hosts for each.
    scope="module",
)
def test_a_break_fails_with_its_reason(cluster: Verification, name: str) -> None:
    _backend, number, broken, healed, cells, said = BREAKS[name]
    host = cluster.hosts.switch if number is None else cluster.hosts.hosts[number]
    host.run("sh", "-c", broken.replace("FOLDER", str(cluster.folder)))
    try:
        found = cluster.run()
    finally:
        host.run("sh", "-c", healed.replace("FOLDER", str(cluster.folder)))
    print(found["text"])
    assert not found["ok"]
    assert [text for text in said if text not in found["text"]] == [], found["text"]
    assert not cells or failed(found) == cells, found["text"]
