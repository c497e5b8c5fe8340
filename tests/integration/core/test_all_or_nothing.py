# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel and files change together or not at all: full and read-only disks, immutable files, a systemd that refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.mounts import STATE_DIR, Mounts
from support.netns import Namespace
from support.vxlan import BASE, N2, some

ROUTES = [{"dst": "10.244.1.0/24", "via": "172.31.0.12"}]
MORE_ROUTES = [*ROUTES, {"dst": "10.244.2.0/24", "via": "172.31.0.13"}]
MESH: dict[str, Any] = {**BASE, "persist": True}
PODS: dict[str, Any] = {"pod_subnets": ["10.244.1.0/24"], "cluster_cidrs": ["10.244.0.0/16"], "backend": "nftables"}
# module -> arguments of a first run, and of one that changes what the first made
JOBS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "pod_route": ({"routes": ROUTES, "purge": True}, {"routes": MORE_ROUTES, "purge": True}),
    "vxlan_peer": ({**MESH, "peers": [N2]}, {**MESH, "peers": [N2, *some(3)], "mtu": 1400}),
    "pod_masquerade": (PODS, {**PODS, "exclude": ["192.168.77.0/24"]}),
}
GONE: dict[str, dict[str, Any]] = {
    "pod_route": {"routes": [], "purge": True},
    "vxlan_peer": {"state": "absent"},
    "pod_masquerade": {"state": "absent"},
}


def kernel(host: Namespace) -> list[str]:
    """All that the three modules make, without what passes by itself."""
    host.settle_meshes()
    texts = [host.ip("route", "show", "table", "all"), host.ip("-6", "route"), host.ip("nexthop")]
    texts += [host.ip("-d", "-o", "link", "show", "type", "vxlan"), host.ip("neigh", "show", "nud", "permanent")]
    texts += [host.run("nft", "list", "ruleset"), host.bridge("fdb", "show")]
    # A recreated device has a new number.
    return sorted(line.partition(": ")[2] or line for text in texts for line in text.splitlines())


def full(mounts: Mounts) -> str:
    """A tmpfs without a free byte, what was there before kept."""
    mounts.sh(
        f"mkdir -p {STATE_DIR} /tmp/was && mount -t tmpfs -o size=64k tmpfs /tmp/was && cp -a {STATE_DIR}/. /tmp/was/"
        f"&& mount --move /tmp/was {STATE_DIR} && (cat /dev/zero >{STATE_DIR}/filler 2>/dev/null; true)"
    )
    return "no space is left on its file system"


def read_only(mounts: Mounts) -> str:
    mounts.sh(f"mkdir -p {STATE_DIR} && mount --bind {STATE_DIR} {STATE_DIR} && mount -o remount,bind,ro {STATE_DIR}")
    return "its file system is read-only"


def immutable(mounts: Mounts) -> str:
    mounts.sh(f"mkdir -p {STATE_DIR} && mount -t tmpfs tmpfs {STATE_DIR} && chattr +i {STATE_DIR}")
    return "has the attribute 'immutable'; allow the change by: chattr -i"


def units_read_only(mounts: Mounts) -> str:
    mounts.sh("mount --bind /etc/systemd/system /etc/systemd/system")
    mounts.sh("mount -o remount,bind,ro /etc/systemd/system")
    return "its file system is read-only"


def refusing_restart(mounts: Mounts) -> str:
    mounts.refuse("restart")
    return "restart"


def refusing_reload(mounts: Mounts) -> str:
    mounts.refuse("daemon-reload")
    return "systemctl daemon-reload"


FAULTS = [full, read_only, immutable, units_read_only, refusing_restart, refusing_reload]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", JOBS)
def test_a_first_run_that_cannot_keep_its_files_changes_nothing(
    node: tuple[Mounts, Namespace], name: str, fault: Callable[[Mounts], str]
) -> None:
    mounts, host = node
    reason = fault(mounts)
    before = (kernel(host), mounts.state())
    result = mounts.run(name, host.path, **JOBS[name][0])
    assert result["failed"] and not result["changed"] and reason in result["msg"], result
    assert "Traceback" not in str(result) and "[Errno" not in result["msg"]
    assert (kernel(host), mounts.state()) == before


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize(
    ("what", "fault"),
    [
        ("change", full),
        ("change", read_only),
        ("removal", read_only),
        ("removal", units_read_only),
        ("removal", refusing_reload),
    ],
)
def test_a_change_that_cannot_be_kept_leaves_what_was_there(
    node: tuple[Mounts, Namespace], name: str, what: str, fault: Callable[[Mounts], str]
) -> None:
    mounts, host = node
    first, other = JOBS[name]
    assert mounts.run(name, host.path, **first)["changed"]
    reason = fault(mounts)
    before = (kernel(host), mounts.state())
    result = mounts.run(name, host.path, **(other if what == "change" else GONE[name]))
    assert result["failed"] and reason in result["msg"], result
    assert (kernel(host), mounts.state()) == before


@pytest.mark.parametrize("name", JOBS)
def test_an_immutable_file_of_ours_is_found_before_anything_changes(node: tuple[Mounts, Namespace], name: str) -> None:
    mounts, host = node
    first, other = JOBS[name]
    mounts.sh(f"mkdir -p {STATE_DIR} && mount -t tmpfs tmpfs {STATE_DIR}")
    assert mounts.run(name, host.path, **first)["changed"]
    file = next(path for path in sorted(mounts.path(STATE_DIR).iterdir()))
    mounts.sh(f"chattr +i {STATE_DIR}/{file.name}")
    before = (kernel(host), mounts.state())
    for args in (other, GONE[name]):
        result = mounts.run(name, host.path, **args)
        assert result["failed"] and f"chattr -i {STATE_DIR}/{file.name}" in result["msg"], result
        assert (kernel(host), mounts.state()) == before
    mounts.sh(f"chattr -i {STATE_DIR}/{file.name}")
    result = mounts.run(name, host.path, **other)
    assert result["changed"], result
    assert mounts.run(name, host.path, **GONE[name])["changed"]
    assert not mounts.run(name, host.path, **GONE[name])["changed"]


def test_a_kernel_that_refuses_leaves_the_files(node: tuple[Mounts, Namespace]) -> None:
    mounts, host = node
    assert mounts.run("pod_route", host.path, **JOBS["pod_route"][0])["changed"]
    # No plan sees a broadcast route in the main table; the kernel says no.
    host.ip("route", "add", "broadcast", "10.244.2.0/24", "dev", "eth0", "table", "main")
    before = (kernel(host), mounts.state())
    result = mounts.run("pod_route", host.path, **JOBS["pod_route"][1])
    assert result["failed"] and "the kernel refuses" in result["msg"], result
    assert (kernel(host), mounts.state()) == before


def test_a_sysctl_that_is_refused_takes_files_and_values_back(node: tuple[Mounts, Namespace]) -> None:
    mounts, host = node
    host.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
    before = mounts.state()
    wanted = {"net.ipv4.ip_forward": 1, "net.ipv4.no_such_thing": 1}
    result = mounts.run("node_kernel", host.path, sysctls=wanted)
    assert result["failed"] and "no net.ipv4.no_such_thing" in result["msg"], result
    assert mounts.state() == before
    assert host.run("sysctl", "-n", "net.ipv4.ip_forward").strip() == "0"


def test_a_masked_unit_is_named(node: tuple[Mounts, Namespace]) -> None:
    mounts, host = node
    mounts.sh("ln -s /dev/null /etc/systemd/system/weft-podnet-routes-87.service")
    result = mounts.run("pod_route", host.path, **JOBS["pod_route"][0])
    assert result["failed"] and "systemctl unmask weft-podnet-routes-87.service" in result["msg"], result
