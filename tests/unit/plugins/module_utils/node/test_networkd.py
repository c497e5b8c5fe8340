# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of systemd-networkd's files it uses for which link: order, precedence, drop-ins, and every kind of match."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.node import networkd
from ansible_collections.weft.podnet.plugins.module_utils.node.networkd import Link

ETH0 = Link("eth0", "", "02:00:00:00:00:01", "virtio_net", "52:54:00:00:00:01", ("ens3", "enp0s3"))
POD = Link("veth0123abcd", "veth", "02:00:00:00:00:02")
BRIDGE = Link("cni0", "bridge", "02:00:00:00:00:03")
TUNNEL = Link("flannel.1", "vxlan", "02:00:00:00:00:04")
EVERY = (Link("lo", ""), ETH0, POD, BRIDGE, TUNNEL)


def put(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


@pytest.mark.parametrize(
    ("match", "names"),
    [
        ("Name=*", ["lo", "eth0", "veth0123abcd", "cni0", "flannel.1"]),
        ("Name=eth* veth*", ["eth0", "veth0123abcd"]),
        ("Name=!veth* lo", ["eth0", "cni0", "flannel.1"]),
        # networkd takes an alternative name for as good as the name.
        ("Name=!eth* lo", ["eth0", "veth0123abcd", "cni0", "flannel.1"]),
        ("Name=eth0\nName=cni0", ["eth0", "cni0"]),
        ("Name=eth0\nName=\nName=cni0", ["cni0"]),
        ("Name=*\nName=!veth*", ["lo", "eth0", "cni0", "flannel.1"]),
        # A bridge and a tunnel have a DEVTYPE, a veth has not.
        ("Type=ether", ["eth0", "veth0123abcd"]),
        ("Type=ether\nKind=!*", ["eth0"]),
        ("Kind=!veth", ["lo", "eth0", "cni0", "flannel.1"]),
        ("Type=bridge vxlan", ["cni0", "flannel.1"]),
        ("Type=loopback", ["lo"]),
        ("MACAddress=02-00-00-00-00-01 0200.0000.0002", ["eth0", "veth0123abcd"]),
        ("PermanentMACAddress=52:54:00:00:00:01", ["eth0"]),
        ("PermanentMACAddress=02:00:00:00:00:01", []),
        ("Name=enp*", ["eth0"]),
        ("Driver=virtio*", ["eth0"]),
        ("Driver=!virtio*", ["lo", "veth0123abcd", "cni0", "flannel.1"]),
        ("Driver=veth", ["veth0123abcd"]),
        # Nothing virtual has a path of hardware; whether eth0 has this one is udev's to know.
        ("Path=pci-*", []),
        ("Virtualization=container\nName=*", []),
        ("", []),
    ],
)
def test_matches(tmp_path: Path, match: str, names: list[str]) -> None:
    put(tmp_path, "etc/systemd/network/10-x.network", f"# A comment\n[Match]\n{match}\n\n[Network]\nName=none\n")
    found = networkd.network_files(str(tmp_path))
    assert networkd.used(found, EVERY) == ({found[0].path: names} if names else {})


def test_the_first_file_that_matches_is_the_only_one(tmp_path: Path) -> None:
    put(tmp_path, "usr/lib/systemd/network/10-a.network", "[Match]\nName=eth0\n")
    put(tmp_path, "run/systemd/network/20-b.network", "[Match]\nName=*\n")
    put(tmp_path, "usr/lib/systemd/network/20-b.network", "[Match]\nName=cni0\n")
    put(tmp_path, "etc/systemd/network/30-c.network", "[Match]\nName=*\n")
    put(tmp_path, "etc/systemd/network/05-masked.network", "")
    (tmp_path / "etc/systemd/network/06-masked.network").symlink_to(os.devnull)
    put(tmp_path, "usr/lib/systemd/network/06-masked.network", "[Match]\nName=*\n")
    found = networkd.network_files(str(tmp_path))
    used = {Path(path).name: (path, names) for path, names in networkd.used(found, EVERY).items()}
    assert used["10-a.network"][1] == ["eth0"] and "30-c.network" not in used
    assert used["20-b.network"] == (
        f"{tmp_path}/run/systemd/network/20-b.network",
        ["lo", "veth0123abcd", "cni0", "flannel.1"],
    )


def test_drop_ins_count(tmp_path: Path) -> None:
    put(tmp_path, "etc/systemd/network/10-a.network", "[Match]\nName=eth0\n[Link]\nUnmanaged=no\n")
    put(tmp_path, "run/systemd/network/10-a.network.d/x.conf", "[Match]\nName=cni0\n[Link]\nUnmanaged=yes\n")
    (found,) = networkd.network_files(str(tmp_path))
    assert found.unmanaged and networkd.used([found], EVERY) == {found.path: ["eth0", "cni0"]}


def test_what_can_not_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "etc/systemd/network"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "10-fifo.network")
    (folder / "20-bytes.network").write_bytes(b"[Match]\nName=\xff eth0\n")
    unreadable: list[str] = []
    (found,) = networkd.network_files(str(tmp_path), unreadable)
    assert len(unreadable) == 1 and "found a FIFO" in unreadable[0]
    assert networkd.used([found], EVERY) == {found.path: ["eth0"]}


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({}, True),
        ({"etc/systemd/networkd.conf": "[Network]\nManageForeignRoutes=no\n"}, False),
        ({"etc/systemd/networkd.conf": "[Network]\n#ManageForeignRoutes=no\n"}, True),
        (
            {
                "etc/systemd/networkd.conf": "[Network]\nManageForeignRoutes=no\n",
                "run/systemd/networkd.conf.d/10.conf": "[Network]\nManageForeignRoutes=yes\n",
            },
            True,
        ),
        (
            {
                "usr/lib/systemd/networkd.conf.d/20.conf": "[Network]\nManageForeignRoutes=off\n",
                "etc/systemd/networkd.conf.d/10.conf": "[Network]\nManageForeignRoutes=yes\n",
            },
            False,
        ),
    ],
)
def test_foreign_routes(tmp_path: Path, files: dict[str, str], wanted: bool) -> None:
    for path, text in files.items():
        put(tmp_path, path, text)
    assert networkd.manages_foreign_routes(str(tmp_path)) is wanted
