# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of systemd-networkd's files it uses for which link: order, precedence, drop-ins, and every kind of match; and
which sysctls they set.
"""

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


LINK, CONF = "etc/systemd/network/10-a.network", "etc/systemd/networkd.conf"
DEVICE = "net/ipv4/conf/eth0/forwarding"
ALL_4, ALL_6 = "net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"


def of_eth0(*lines: str) -> str:
    return "\n".join(["[Match]", "Name=eth0", "[Network]", *lines, ""])


@pytest.mark.parametrize(
    ("release", "files", "wanted"),
    [
        (257, {}, {}),
        (257, {LINK: of_eth0("DHCP=yes"), CONF: "[Network]\n#IPv4Forwarding=no\n"}, {}),
        # Links that no file concerns keep the host's value; those of a file get it again.
        (257, {CONF: "[Network]\nIPv4Forwarding=off\n"}, {ALL_4: ("0", CONF)}),
        (
            257,
            {LINK: of_eth0(), CONF: "[Network]\nIPv4Forwarding=no\nIPv6Forwarding=no\n"},
            {ALL_4: ("0", CONF), ALL_6: ("0", CONF), DEVICE: ("0", CONF)},
        ),
        (
            257,
            {LINK: of_eth0("IPv4Forwarding=yes"), CONF: "[Network]\nIPv4Forwarding=no\n"},
            {ALL_4: ("0", CONF), DEVICE: ("1", LINK)},
        ),
        # Whatever is later counts, but for an odd value; an empty one takes the setting back.
        (
            256,
            {
                LINK: of_eth0("IPv4Forwarding=yes", "IPv4ReversePathFilter=strict"),
                f"run/{LINK[4:]}.d/50.conf": "[Network]\nIPv4Forwarding=No\nIPv4ReversePathFilter=often\n",
                f"{LINK}.d/60.conf": "[Network]\nIPv4Forwarding=maybe\n",
            },
            {DEVICE: ("0", f"run/{LINK[4:]}.d/50.conf"), "net/ipv4/conf/eth0/rp_filter": ("1", LINK)},
        ),
        (
            257,
            {CONF: "[Network]\nIPv4Forwarding=no\n", f"{CONF}.d/a.conf": "[Network]\nIPv4Forwarding=\n"},
            {},
        ),
        # Masquerading turns forwarding on for the host, and does not where networkd.conf turns it off.
        (
            257,
            {LINK: of_eth0("IPMasquerade=both")},
            {ALL_4: ("1", LINK), ALL_6: ("1", LINK), DEVICE: ("1", LINK)},
        ),
        (
            257,
            {LINK: of_eth0("IPMasquerade=yes"), CONF: "[Network]\nIPv4Forwarding=no\n"},
            {ALL_4: ("0", CONF), DEVICE: ("1", LINK)},
        ),
        (257, {LINK: of_eth0("IPForward=no", "IPv6SendRA=yes", "IPv6Forwarding=no")}, {}),
        (257, {LINK: "[Match]\nName=eth0\n[Link]\nUnmanaged=yes\n[Network]\nIPv4Forwarding=no\n"}, {}),
        (257, {LINK: "[Match]\nName=lo\n[Network]\nIPv4Forwarding=no\n"}, {}),
        # An earlier file may be the one that networkd uses, and another can't be.
        (
            257,
            {"etc/systemd/network/05.network": "[Match]\nHost=node-*\n", LINK: of_eth0("IPv4Forwarding=no")},
            {},
        ),
        (
            257,
            {
                "usr/lib/systemd/network/05.network": "[Match]\nName=host0\nVirtualization=container\n",
                LINK: of_eth0("IPv4Forwarding=no"),
            },
            {DEVICE: ("0", LINK)},
        ),
        # Earlier versions do not know these, and turn forwarding on only.
        (255, {LINK: of_eth0("IPv4Forwarding=no"), CONF: "[Network]\nIPv4Forwarding=no\n"}, {}),
        (254, {LINK: of_eth0("IPForward=no", "IPv4ReversePathFilter=strict")}, {}),
        (255, {LINK: of_eth0("IPv4ReversePathFilter=loose")}, {"net/ipv4/conf/eth0/rp_filter": ("2", LINK)}),
        (252, {LINK: of_eth0("IPForward=yes")}, {ALL_4: ("1", LINK), ALL_6: ("1", LINK)}),
        (252, {LINK: of_eth0("IPForward=ipv6")}, {ALL_6: ("1", LINK)}),
        (252, {LINK: of_eth0("IPMasquerade=yes", "IPv6SendRA=yes")}, {ALL_4: ("1", LINK), ALL_6: ("1", LINK)}),
        (0, {LINK: of_eth0("IPForward=yes", "IPv4Forwarding=no")}, {}),
    ],
)
def test_sysctls(tmp_path: Path, release: int, files: dict[str, str], wanted: dict[str, tuple[str, str]]) -> None:
    for path, text in files.items():
        put(tmp_path, path, text)
    if release:
        put(tmp_path, f"usr/lib/systemd/libsystemd-shared-{release}.so", "")
    expected = {key: (value, f"{tmp_path}/{path}") for key, (value, path) in wanted.items()}
    assert networkd.sysctls(EVERY, str(tmp_path)) == expected


@pytest.mark.parametrize(
    ("paths", "version"),
    [
        ([], 0),
        (["usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-257.so"], 257),
        (["usr/lib/systemd/libsystemd-shared-252.so", "usr/lib/systemd/libsystemd-shared-252-46.el9.so"], 252),
        (["usr/lib64/systemd/libsystemd-shared-257.7-1.fc42.so"], 257),
        (["usr/lib/systemd/libsystemd-shared-next.so"], 0),
        # Left from before an upgrade.
        (["usr/lib/systemd/libsystemd-shared-255.so", "usr/lib/systemd/libsystemd-shared-257.so"], 257),
    ],
)
def test_version(tmp_path: Path, paths: list[str], version: int) -> None:
    for path in paths:
        put(tmp_path, path, "")
    assert networkd.version(str(tmp_path)) == version
