# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""diagnose.yml and explain.yml on real nodes: silent on healthy ones, exact on broken ones, and they change nothing.

A break is made on worker-1 (or worker-2), the one finding is expected, its fix is pasted as it is printed, and nothing
is wrong any more.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from standins.control_plane import ControlPlane
from support.lab import Lab, Play, fresh, unlike

FINDING = re.compile(r"^ *(ERROR|WARNING|NOTE) (.+): .* \[([a-z0-9-]+)\]$", re.MULTILINE)
FIX = re.compile(r"^ *fix: +(.+)$", re.MULTILINE)
ONE_ENTRY = "$(bridge fdb show dev flannel.1 | head -1 | cut -d' ' -f1)"
OTHER_NETWORK = '{"cniVersion":"1.0.0","name":"other","type":"loopback"}'
DIVERTED = "ip rule add to 10.244.1.0/24 table 99 priority 100; ip route add default via 172.16.0.1 table 99"
# By backend: the finding, where, and the command that breaks the node.
BREAKS = {
    "vxlan": [
        ("fdb-missing", "worker-1", f"bridge fdb del {ONE_ENTRY} dev flannel.1"),
        ("neighbour-missing", "worker-1", "ip neighbour flush dev flannel.1 nud permanent"),
        ("vtep-mac-changed", "worker-2", "ip link set flannel.1 address 02:00:00:00:99:99"),
        ("mesh-device-down", "worker-1", "ip link set flannel.1 down"),
        ("forwarding-off", "worker-1", "sysctl -q -w net.ipv4.ip_forward=0"),
        ("forwarding-off-at-boot", "worker-2", "echo net.ipv4.ip_forward=0 >/etc/sysctl.d/zz-hardening.conf"),
        ("forward-drops-pods", "worker-1", "iptables -P FORWARD DROP"),
        ("cni-broken", "worker-1", "echo '{' >/etc/cni/net.d/05-broken.conf"),
        ("cni-other-file-first", "worker-1", f"echo '{OTHER_NETWORK}' >/etc/cni/net.d/05-other.conf"),
        ("masquerade-missing", "worker-1", "nft delete table ip weft-podnet"),
    ],
    "routes": [
        ("no-route-back", "worker-2", "ip route del $(ip route show proto 87 | head -1)"),
        ("route-via-stranger", "worker-1", "ip route replace 10.244.1.0/24 via 172.16.0.77 proto 87"),
        ("pods-route-blackholed", "worker-1", "ip route replace blackhole 10.244.1.0/24"),
        ("policy-rule-diverts-pods", "worker-1", DIVERTED),
    ],
}


def diagnosed(lab: Lab) -> tuple[Play, list[tuple[str, str, str]]]:
    """What diagnose.yml found: (severity, hosts, rule)."""
    told = lab.play("diagnose")
    return told, FINDING.findall(told.output)


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
        told, found = diagnosed(mesh)
        assert (told.code, found) == (0, []), told.output
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
    told, found = diagnosed(lab)
    assert (told.code, found) == (0, []), told.output


@pytest.mark.long
@pytest.mark.parametrize("backend", BREAKS)
def test_a_break_is_named_and_its_fix_heals(mesh: Lab, backend: str) -> None:
    connect(mesh, backend)
    wrong = []
    for rule, node, command in BREAKS[backend]:
        mesh.sh(node, command)
        told, found = diagnosed(mesh)
        serious = {(hosts, identity) for severity, hosts, identity in found if severity != "NOTE"}
        if serious != {(node, rule)}:
            wrong.append(f"{rule}: {told.output}")
        fixes = FIX.findall(told.output)
        assert fixes, f"{rule}: {told.output}"
        if fixes[0].startswith("site.yml") or "podnet_" in fixes[0]:
            assert mesh.play("site", podnet_backend=backend, podnet_verify=False).code == 0
        else:
            mesh.sh(node, fixes[0])
        healed, left = diagnosed(mesh)
        if healed.code or [each for each in left if each[0] != "NOTE"]:
            wrong.append(f"{rule}, after {fixes[0]}: {healed.output}")
            connect(mesh, backend)
    assert not wrong, "\n\n".join(wrong)
