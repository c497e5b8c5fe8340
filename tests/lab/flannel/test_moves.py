# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters of other backends move to flannel."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from standins.control_plane import ControlPlane
from support import flannel
from support.flannel import WORKERS
from support.lab import Lab, unlike, until

pytestmark = pytest.mark.long


@pytest.mark.parametrize("backend", ["bridge", "routes", "vxlan"])
def test_moved_from_another_backend_and_back(lab: Lab, plane: ControlPlane, backend: str) -> None:
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
    again = lab.play("site", podnet_verify=False)
    assert set(again.changed.values()) == {0} and "2 workers: nothing to change" in again.text
    # Neither held nor configured.
    assert again.output.count("skipping: no hosts matched") == 2, again.output

    before = lab.snapshots()
    dry = lab.play("site", "--check", "--diff", podnet_backend=backend)
    assert dry.code == 0 and "-device flannel.1" in dry.output and "worker-2: would change flannel" in dry.text, (
        dry.output
    )
    assert not unlike(before, lab.snapshots())
    # Each worker gets what is the other's with flannel, whose routes lead there until it is gone.
    leases = [lab.sh(node, ". /run/flannel/subnet.env; echo $FLANNEL_SUBNET").strip() for node in WORKERS]
    crossed = lab.inventory_of(
        {
            name: {**host, "podnet_pod_subnet": str(ipaddress.ip_interface(lease).network)}
            for (name, host), lease in zip(lab.hosts().items(), reversed(leases))
        }
    )
    back = lab.play("site", inventory=crossed, podnet_backend=backend)
    assert back.code == 0 and "promised pairs pass" in back.output, back.output
    for node in WORKERS:
        assert "10-bridge" in lab.exec(node, "ls", "/etc/cni/net.d") and "flannel" not in lab.exec(
            node, "ls", "/etc/cni/net.d"
        )
        assert (
            lab.sh(node, "ls -d /run/flannel /etc/flannel /etc/systemd/system/flanneld.service 2>/dev/null || true")
            == ""
        )
        assert "FLANNEL" not in lab.sh(node, "iptables-save; ip6tables-save; nft list ruleset")
        assert "weft-podnet" in lab.sh(node, "ls /etc/systemd/system /etc/sysctl.d")
        assert not lab.sh(node, "systemctl --failed --plain --no-legend")
    again = lab.play("site", inventory=crossed, podnet_backend=backend, podnet_verify=False)
    assert again.code == 0 and set(again.changed.values()) == {0}, again.output
    assert lab.play("site", podnet_verify=False).code == 0


def routes(lab: Lab, node: str) -> str:
    """The kernel says "linkdown" a moment after the last pod has gone."""
    return lab.exec(node, "ip", "route").replace(" linkdown", "")


def test_a_move_that_fails_brings_the_mesh_back(lab: Lab, plane: ControlPlane, tmp_path: Path) -> None:
    """flanneld takes the mesh's device, and does not come up: the device, its peers and its unit return."""
    assert lab.play("site", podnet_backend="vxlan").code == 0
    before = {node: (flannel.mac(lab, node), routes(lab, node)) for node in WORKERS}
    moved = lab.play("site", podnet_flannel_ready_timeout=10, **flannel.variables(tmp_path, "v0.27.3", broken=True))
    assert moved.code != 0 and "the mesh on flannel.1 is back" in " ".join(moved.output.split()), moved.output
    for node in WORKERS:

        def same(node: str = node) -> bool:
            links = lab.exec(node, "ip", "-brief", "link")
            return "flannel.1" in links and (flannel.mac(lab, node), routes(lab, node)) == before[node]

        assert until(same, 60), routes(lab, node)
        assert "flanneld" not in lab.exec(node, "ls", "/etc/systemd/system")
    again = lab.play("site", podnet_backend="vxlan")
    assert again.code == 0 and "12 of 12 promised pairs pass" in again.output, again.output
    assert set(again.changed.values()) == {0}, again.output
