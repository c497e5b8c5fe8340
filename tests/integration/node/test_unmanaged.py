# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Links of pods that network managers must leave alone: whose file wins, and which pods have lost their bridge."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.core import persist
from ansible_collections.weft.podnet.plugins.module_utils.node import unmanaged
from ansible_collections.weft.podnet.plugins.module_utils.node.info import managers
from ansible_collections.weft.podnet.plugins.module_utils.node.info.section import Notes
from support.netns import Namespace

NAMES = ["cni0", "flannel*"]


@pytest.mark.parametrize(
    ("name", "text", "matched"),
    [
        ("00-all.network", "[Match]\nType=ether\n\n[Network]\nDHCP=yes\n", "veth0123abcd"),
        ("00-all.network", "[Match]\nName=*\n", "veth0123abcd"),
        ("00-all.network", "[Match]\nName=cni*\n", "cni0"),
        ("00-all.network", "[Match]\nType=ether\nKind=!veth bridge\n", ""),
        ("00-all.network", "[Match]\nName=eth* en*\n", ""),
        ("00-all.network", "[Match]\nType=ether\nMACAddress=02:00:00:00:00:01\n", ""),
        ("00-all.network", "[Network]\nDHCP=yes\n", ""),
        ("50-all.network", "[Match]\nType=ether\n", ""),
    ],
)
def test_files_that_win(tmp_path: Path, name: str, text: str, matched: str) -> None:
    for path in ("usr/lib/systemd/systemd-networkd", f"run/systemd/network/{name}"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    told = unmanaged.earlier(NAMES, str(tmp_path))
    assert len(told) == bool(matched) and f"uses this file for {matched}," in (told or ["uses this file for ,"])[0]


def test_only_managers_that_are_here(tmp_path: Path) -> None:
    assert unmanaged.texts(NAMES, root=str(tmp_path)) == {} and unmanaged.earlier(NAMES, str(tmp_path)) == []
    (tmp_path / "etc/NetworkManager").mkdir(parents=True)
    written = unmanaged.texts(NAMES, root=str(tmp_path))
    assert len(written) == 1
    text = "".join(written.values())
    assert "unmanaged-devices+=interface-name:cni0;interface-name:flannel*;interface-name:veth????????\n" in text


@pytest.mark.parametrize("name", ["10-eth0", "99-unmanaged", "weft"])
def test_an_administrators_list_does_not_undo_ours(tmp_path: Path, name: str) -> None:
    """As seen with NetworkManager 1.42: of files read in order, an assignment without "+" discards the ones before."""
    folder = tmp_path / "etc/NetworkManager/conf.d"
    folder.mkdir(parents=True)
    (folder / f"{name}.conf").write_text("[keyfile]\nunmanaged-devices=interface-name:eth0\n")
    mesh = persist.network_manager_file("weft-podnet-flannel.1")
    for path, text in {**unmanaged.texts(NAMES, root=str(tmp_path)), mesh: "[keyfile]\nunmanaged-devices+=x\n"}.items():
        (tmp_path / path[1:]).write_text(text)
    found = managers.of_network_manager({}, False, Notes(), str(tmp_path))["unmanaged"]
    assert {"interface-name:cni0", "interface-name:eth0", "x"} <= set(found)


def test_pods_that_lost_their_bridge() -> None:
    with Namespace() as host, Namespace() as pod:
        host.ip("link", "add", "cni0", "type", "bridge")
        for number, name in enumerate(("veth00000001", "veth00000002", "veth00000003", "vethother")):
            host.ip("link", "add", name, "type", "veth", "peer", "name", f"eth{number}", "netns", pod.name)
            host.ip("link", "set", name, "up")
        host.ip("link", "set", "veth00000001", "master", "cni0")
        # As the ptp plugin leads to a pod.
        host.ip("route", "add", "10.244.0.9/32", "dev", "veth00000003")
        host.ip("link", "add", "veth00000004", "type", "veth", "peer", "name", "veth00000005")
        assert host.call(unmanaged.detached) == ["veth00000002"]
        host.ip("link", "set", "veth00000002", "master", "cni0")
        assert host.call(unmanaged.detached) == []
