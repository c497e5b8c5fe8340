# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""diagnose.yml and explain.yml on healthy nodes of each backend: they find nothing, and change nothing.

The nodes run this machine's release of Debian, and Debian 13 with its Python 3.13, systemd 257 and nftables.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from podlab import rootfs

from support import flannel
from support.lab import Lab, fresh, unlike


def connect(lab: Lab, backend: str, **variables: Any) -> None:
    """A healthy lab, on which pods ran already with the last of the backends."""
    made = lab.play("site", podnet_backend=backend, podnet_verify=backend == "vxlan", **variables)
    assert made.code == 0, made.output


@pytest.fixture(params=["", "trixie"], ids=["as this machine", "Debian 13"])
def nodes(request: pytest.FixtureRequest) -> Iterator[Lab]:
    if request.param and rootfs.release()[0] != "debian":
        pytest.skip("the nodes' packages come from this machine's own apt sources, and these have no Debian 13")
    with fresh(f"diagnose-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}", release=request.param) as lab:
        yield lab


@pytest.mark.long
def test_healthy_nodes_have_no_finding_and_stay_as_they_are(nodes: Lab, tmp_path: Path) -> None:
    for backend in ("bridge", "routes", "vxlan"):
        connect(nodes, backend, podnet_report=str(tmp_path / "report.html"))
        before = nodes.snapshots("control-plane", "worker-1", "worker-2")
        healthy = nodes.play("diagnose")
        assert (healthy.code, healthy.findings) == (0, []), healthy.output
        walked = nodes.play("explain", "--extra-vars", "from=worker-1 to=worker-2")
        assert walked.code == 0 and "reaches it" in walked.output, walked.output
        assert unlike(before, nodes.snapshots("control-plane", "worker-1", "worker-2")) == []
    # Of the run that sent packets.
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["verdict"]["state"] == "works", report
    assert report["pairs"]["passed"] == report["pairs"]["promised"] > 0
    assert [(way["from"], way["state"], way["kind"]) for way in report["ways"]] == [
        ("worker-1", "ok", "tunnel"),
        ("worker-2", "ok", "tunnel"),
    ]
    assert all("cni" in each["changed"] for each in report["changes"]) and len(report["changes"]) == 2
    assert "The pod network works" in (tmp_path / "report.html").read_text()


@pytest.mark.long
def test_flannel_nodes_have_no_finding(nodes: Lab) -> None:
    nodes.variables["podnet_serial"] = "100%"
    flannel.prepare(nodes.name)
    connect(nodes, "flannel")
    healthy = nodes.play("diagnose")
    assert (healthy.code, healthy.findings) == (0, []), healthy.output


@pytest.mark.long
def test_site_warns_of_what_it_leaves_as_it_is(lab: Lab) -> None:
    """Before it changes anything; on healthy nodes, it has nothing to say."""
    lab.sh("worker-2", "iptables -A INPUT -i eth0 -p udp --dport 8472 -j DROP")
    lab.sh("worker-2", "tc qdisc add dev eth0 root tbf rate 8mbit burst 16kb latency 50ms")
    before = lab.play("site", "--check", podnet_backend="vxlan")
    left = {("ERROR", "worker-2", "overlay-port-closed"), ("WARNING", "worker-2", "link-shaped")}
    assert (before.code, set(before.findings)) == (0, left), before.output
    lab.sh("worker-2", "iptables -F INPUT; tc qdisc del dev eth0 root; ip route add blackhole 10.244.0.0/24")
    refused = lab.play("site", podnet_backend="vxlan")
    assert refused.code != 0 and refused.changed["worker-1"] == refused.changed["worker-2"] == 0, refused.output
    assert "a route to its pod CIDR is there already" in refused.text, refused.output
    lab.sh("worker-2", "ip route del blackhole 10.244.0.0/24")
    first = lab.play("site", podnet_backend="vxlan")
    assert (first.code, first.findings) == (0, []), first.output
    lab.sh("worker-1", "ip rule add to 10.244.1.0/24 table 99 priority 100")
    lab.sh("worker-1", "ip route add default via 172.16.0.1 table 99")
    lab.sh("worker-1", "nft delete table ip weft-podnet")
    dry = lab.play("site", "--check", podnet_backend="vxlan")
    assert (dry.code, dry.findings) == (0, [("WARNING", "worker-1", "policy-rule-diverts-pods")]), dry.output
    warned = lab.play("site", podnet_backend="vxlan", podnet_verify=False)
    assert warned.code == 0, warned.output
    assert warned.findings == [("WARNING", "worker-1", "policy-rule-diverts-pods")], warned.output
    assert warned.output.index("policy-rule-diverts-pods") < warned.output.index("Hold the first worker"), warned.output
