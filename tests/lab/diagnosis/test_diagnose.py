# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""diagnose.yml and explain.yml on healthy nodes of each backend: they find nothing, and change nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from standins.control_plane import ControlPlane
from support.lab import Lab, fresh, unlike


def connect(lab: Lab, backend: str, **variables: Any) -> None:
    """A healthy lab, on which pods ran already with the last of the backends."""
    made = lab.play("site", podnet_backend=backend, podnet_verify=backend == "vxlan", **variables)
    assert made.code == 0, made.output


@pytest.fixture
def mesh() -> Iterator[Lab]:
    with fresh(f"diagnose-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}") as lab:
        yield lab


@pytest.mark.long
def test_healthy_nodes_have_no_finding_and_stay_as_they_are(mesh: Lab, tmp_path: Path) -> None:
    for backend in ("bridge", "routes", "vxlan"):
        connect(mesh, backend, podnet_report=str(tmp_path / "report.html"))
        before = mesh.snapshots("control-plane", "worker-1", "worker-2")
        healthy = mesh.play("diagnose")
        assert (healthy.code, healthy.findings) == (0, []), healthy.output
        walked = mesh.play("explain", "--extra-vars", "from=worker-1 to=worker-2")
        assert walked.code == 0 and "reaches it" in walked.output, walked.output
        assert unlike(before, mesh.snapshots("control-plane", "worker-1", "worker-2")) == []
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
def test_flannel_nodes_have_no_finding(lab: Lab, plane: ControlPlane) -> None:
    made = lab.play("site")
    assert made.code == 0, made.output
    healthy = lab.play("diagnose")
    assert (healthy.code, healthy.findings) == (0, []), healthy.output


@pytest.mark.long
def test_site_warns_of_what_it_leaves_as_it_is(mesh: Lab) -> None:
    """Before it changes anything; on healthy nodes, it has nothing to say."""
    first = mesh.play("site", podnet_backend="vxlan")
    assert (first.code, first.findings) == (0, []), first.output
    mesh.sh("worker-1", "ip rule add to 10.244.1.0/24 table 99 priority 100")
    mesh.sh("worker-1", "ip route add default via 172.16.0.1 table 99")
    mesh.sh("worker-1", "nft delete table ip weft-podnet")
    warned = mesh.play("site", podnet_backend="vxlan", podnet_verify=False)
    assert warned.code == 0, warned.output
    assert warned.findings == [("WARNING", "worker-1", "policy-rule-diverts-pods")], warned.output
    assert warned.output.index("policy-rule-diverts-pods") < warned.output.index("Hold the workers"), warned.output
