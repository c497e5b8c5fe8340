# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands on disk brings the mesh back: the batch files replayed by iproute2, the unit's watch on the links."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.netlink.channel import Channel
from ansible_collections.weft.podnet.plugins.module_utils.routes.persist import replay_unit
from ansible_collections.weft.podnet.plugins.module_utils.vxlan import host as vxlan_host
from ansible_collections.weft.podnet.plugins.module_utils.vxlan import persist as vxlan_persist
from ansible_collections.weft.podnet.plugins.module_utils.vxlan import spec as vxlan_spec
from support.lab import until
from support.netns import Namespace
from support.vxlan import BASE, BASE6, N2, N2_6, kernel, mesh, some, underlay_host

FOUR: dict[str, Any] = {**BASE, "peers": [N2, *some(3)]}
SIX: dict[str, Any] = {**BASE6, "peers": [N2_6], "mac": "02:00:00:00:00:06"}


@pytest.fixture
def host() -> Iterator[Namespace]:
    with underlay_host() as node:
        yield node


def batches(host: Namespace, options: dict[str, Any], folder: Path) -> list[list[str]]:
    """This mesh's two files and its setting, as the commands that replay them."""
    wanted = vxlan_spec.check(options, "n1")

    def target() -> tuple[vxlan_host.Plan, dict[int, str]]:
        with Channel() as channel:
            observed = vxlan_host.observe(channel, wanted)
            return vxlan_host.decide(channel, observed, wanted), observed.names

    change, names = host.call(target)
    (folder / "ip").write_text("".join(vxlan_persist.ip_lines(change.target, wanted.name, names)))
    (folder / "bridge").write_text("".join(vxlan_persist.fdb_lines(change.target, wanted.name)))
    setting = vxlan_host.accept_ra_path(wanted.name)
    commands = [[tool, "-force", "-batch", str(folder / tool)] for tool in ("ip", "bridge")]
    return [*commands, ["sh", "-c", f"echo 0 >{setting}"]]


def replay(host: Namespace, commands: list[list[str]]) -> str:
    done = [
        subprocess.run(["ip", "netns", "exec", host.name, *words], capture_output=True, text=True, check=False)
        for words in commands
    ]
    return "".join(each.stderr for each in done)


@pytest.mark.parametrize(
    ("options", "device"),
    [(FOUR, "flannel.1"), ({**FOUR, "direct_routing": True}, "flannel.1"), (SIX, "flannel-v6.1")],
)
def test_a_replay_makes_the_very_same_mesh(
    host: Namespace, tmp_path: Path, options: dict[str, Any], device: str
) -> None:
    commands = batches(host, options, tmp_path)
    mesh(host, **options)
    good = kernel(host, device)
    host.ip("link", "del", device)
    for line in kernel(host)["nexthop"]:
        host.ip("nexthop", "del", "id", line.split()[1])
    assert kernel(host, device) != good
    assert replay(host, commands) == ""
    assert kernel(host, device) == good
    if options is SIX:
        assert " nodad " in host.ip("-6", "addr", "show", "dev", device, "scope", "global")
    assert not mesh(host, **{**options, "check": True})["changed"]
    again = replay(host, commands)
    assert "File exists" in again and kernel(host, device) == good, "a replay over a whole mesh changes nothing"


def test_a_replay_leaves_strangers_alone(host: Namespace, tmp_path: Path) -> None:
    commands = batches(host, FOUR, tmp_path)
    host.ip("route", "add", "10.128.2.0/24", "via", "172.31.0.9")
    assert "File exists" in replay(host, commands)
    found = kernel(host)["route"]
    assert (
        "10.128.2.0/24 via 172.31.0.9 dev eth0" in found
        and "10.128.1.0/24 via 10.128.1.0 dev flannel.1 onlink" in found
    )


@pytest.mark.parametrize(
    ("script", "ends"),
    [
        ("ip link set eth0 down; ip link set eth0 up", True),
        ("ip link set flannel.1 down; ip link set flannel.1 up", True),
        ("ip link del flannel.1", True),
        ("ip address add 172.31.0.77/32 dev eth0", True),
        ("ip address add 10.9.9.9/32 dev lo; ip address del 10.244.0.0/32 dev flannel.1", False),
        ("ip link add flannel.10 type vxlan id 10 dev lo dstport 9; ip link del flannel.10", False),
    ],
)
def test_the_unit_watches_for_what_takes_the_mesh_away(host: Namespace, script: str, ends: bool) -> None:
    mesh(host)
    # The addresses' own late events are over by then.
    host.settle("flannel.1")
    unit = replay_unit("vxlan_peer", "a test", ["flannel.1", "eth0"], [], ["flannel.1"])
    found = re.search(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    assert found is not None
    with subprocess.Popen(["ip", "netns", "exec", host.name, *shlex.split(found[1])]) as watch:
        try:
            assert until(lambda: _monitors(host) > 0, 30)
            host.run("sh", "-c", script)
            if ends:
                assert watch.wait(30) == 0
            else:
                with pytest.raises(subprocess.TimeoutExpired):
                    watch.wait(1)
        finally:
            watch.kill()


def _monitors(host: Namespace) -> int:
    """How many processes of this namespace listen to the kernel's events (netlink sockets with groups)."""
    sockets = host.run("cat", "/proc/net/netlink").splitlines()[1:]
    return sum(fields[1] == "0" and int(fields[3], 16) != 0 for fields in map(str.split, sockets))


def test_others_are_told_to_keep_their_hands_off() -> None:
    files = vxlan_persist.hands_off_files("flannel.1")
    link = files["/etc/systemd/network/10-weft-podnet-flannel.1.link"]
    assert "OriginalName=flannel.1" in link and "MACAddressPolicy=none" in link
    assert "Unmanaged=yes" in files["/etc/systemd/network/10-weft-podnet-flannel.1.network"]
