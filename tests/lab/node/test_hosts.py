# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts as others have set them up: network managers that match everything, sysctl files that have the last word."""

from __future__ import annotations

import re

import pytest

from support.lab import Lab, unlike, until

# As an image for clouds brings it: whatever looks like Ethernet gets an address by DHCP.
CATCH_ALL = "[Match]\\nType=ether\\nKind=!bridge\\nName=!eth0\\n\\n[Network]\\nDHCP=yes\\n"


def ports(lab: Lab) -> list[str]:
    return lab.sh("worker-1", "ls /sys/class/net/cni0/brif 2>/dev/null || true").split()


def pods_links(lab: Lab) -> list[str]:
    """The bridge and its ports, each with its state as NetworkManager sees it."""
    listed = lab.sh("worker-1", "nmcli --terse --fields DEVICE,STATE device").split("\n")
    return sorted(line for line in listed if line.startswith(("cni0", "veth")))


@pytest.mark.long
def test_network_managers_restart_under_live_pods_and_a_file_turns_forwarding_off(routed: Lab) -> None:
    lab = routed
    before = lab.snapshots("worker-1")
    lab.sh("worker-1", f"printf '{CATCH_ALL}' >/etc/systemd/network/20-all.network")
    lab.sh("worker-1", "printf 'net.ipv4.ip_forward = 0\\n' >/etc/sysctl.d/99-zz.conf")
    lab.sh("worker-1", "systemctl restart systemd-networkd; systemctl start NetworkManager")
    site = lab.play("site", podnet_verify=False)
    assert site.code == 0, site.output
    said = " ".join(site.output.split())
    assert (
        "net.ipv4.ip_forward: the next boot sets it to 0, since /etc/sysctl.d/99-zz.conf (line 1) is read last" in said
    )
    assert lab.module("worker-1", "pod_probe", {"state": "started", "node": "worker-1"}).code == 0
    held = ports(lab)
    assert len(held) == 2
    lab.sh("worker-1", "systemctl restart systemd-networkd && networkctl --no-pager list")
    # networkd takes links within a second or two of its start; then each of the pods' stands as unmanaged and enslaved.
    assert not until(lambda: ports(lab) != held, 5)
    assert until(lambda: lab.sh("worker-1", "networkctl list").count("enslaved    unmanaged") == 2, 10)
    lab.sh("worker-1", "systemctl restart NetworkManager; nm-online --quiet --timeout 30 || true")
    assert until(lambda: pods_links(lab) == sorted(f"{name}:unmanaged" for name in ("cni0", *held)), 10)
    assert ports(lab) == held
    assert "10.244.1.0/24 via 172.16.0.4 dev eth0 proto podnet" in lab.exec("worker-1", "ip", "route")

    # A file that comes first is named; a restart would take the pods' links.
    lab.sh("worker-1", "mv /etc/systemd/network/20-all.network /etc/systemd/network/00-all.network")
    again = lab.module(
        "worker-1", "node_steps", {"steps": [{"module": "node_kernel", "args": {"unmanaged": ["cni0"]}}]}, "--check"
    )
    assert again.code == 0 and "00-all.network: systemd-networkd uses this file for veth0123abcd" in again.text
    lab.sh("worker-1", "rm /etc/systemd/network/00-all.network /etc/sysctl.d/99-zz.conf")
    assert lab.module("worker-1", "pod_probe", {"state": "absent"}).code == 0
    assert lab.play("reset").code == 0
    left = [line for line in unlike(before, lab.snapshots("worker-1")) if "/etc/" in line]
    assert not left, left
    folders = "/etc/systemd/network /etc/systemd/networkd.conf.d /etc/NetworkManager/conf.d"
    assert "weft" not in lab.sh("worker-1", f"ls {folders} 2>/dev/null || true")


ASK = (
    "import urllib.request as u; print(u.build_opener(u.ProxyHandler({{}})).open('http://{}:9898/', timeout=5).read())"
)


@pytest.mark.long
@pytest.mark.parametrize("backend", ["routes", "vxlan"])
def test_the_control_plane_reaches_pods(lab: Lab, backend: str) -> None:
    lab.variables.update(podnet_backend=backend, podnet_clients_group="control_plane", podnet_verify=False)
    before = lab.snapshots("control-plane")
    first = lab.play("site")
    assert first.code == 0, first.output
    again = lab.play("site")
    assert again.code == 0 and set(again.changed.values()) == {0}, again.output
    for worker, subnet in (("worker-1", "10.244.0."), ("worker-2", "10.244.1.")):
        started = lab.module(worker, "pod_probe", {"state": "started", "node": worker, "pods": 1})
        assert started.code == 0, started.output
        address = re.findall(rf'"address": "({re.escape(subnet)}[0-9]+)"', started.output)[0]
        met = lab.exec("control-plane", "/usr/bin/python3", "-c", ASK.format(address))
        # The server reports whom it saw: the control plane by its underlay address.
        assert "172.16.0.2" in met, met
        assert lab.module(worker, "pod_probe", {"state": "absent"}).code == 0
    assert lab.play("reset").code == 0
    assert not unlike(before, lab.snapshots("control-plane"))
