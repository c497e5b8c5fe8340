# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which file has the last word on a sysctl at boot."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.node import sysctl_files

OWN = "/etc/sysctl.d/99-weft-podnet.conf"
WANTED = {"net.ipv4.ip_forward": "1", "net.bridge.bridge-nf-call-iptables": "1"}
OFF = "net.ipv4.ip_forward=0"


def found(root: Path, files: dict[str, str]) -> list[str]:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return [
        f"{item.path.removeprefix(f'{root}/')}:{item.line} {item.key}={item.value}"
        for item in sysctl_files.overridden(WANTED, OWN, str(root))
    ]


@pytest.mark.parametrize(
    ("files", "winner"),
    [
        ({"etc/sysctl.d/50-hardening.conf": OFF, "usr/lib/sysctl.d/99-a.conf": OFF}, []),
        (
            {"etc/sysctl.d/99-zz.conf": "# net.ipv4.ip_forward = 0\n\n-net.ipv4.ip_forward = 0\n"},
            ["etc/sysctl.d/99-zz.conf:3 net/ipv4/ip_forward=0"],
        ),
        (
            {"usr/lib/sysctl.d/zz.conf": "net/ipv4/conf/all/forwarding=0"},
            ["usr/lib/sysctl.d/zz.conf:1 net/ipv4/ip_forward=0"],
        ),
        # The first folder's file hides the other, and the last word counts.
        ({"usr/lib/sysctl.d/zz.conf": "net.ipv4.ip_forward=0", "run/sysctl.d/zz.conf": ""}, []),
        ({"etc/sysctl.d/zy.conf": "net.ipv4.ip_forward=0", "etc/sysctl.d/zz.conf": "net.ipv4.ip_forward=1"}, []),
        ({"etc/sysctl.d/zz.conf": "net.ipv4.conf.*.forwarding=0\nnet.ipv4.ip_forward\n;net.ipv4.ip_forward=0"}, []),
        ({"etc/sysctl.conf": "net.ipv4.ip_forward=0"}, []),
        ({"etc/ufw/sysctl.conf": "net/ipv4/ip_forward=0", "etc/ufw/ufw.conf": "ENABLED=no\n"}, []),
        (
            {"etc/ufw/sysctl.conf": "net/ipv4/ip_forward=0", "etc/ufw/ufw.conf": "#\nENABLED=yes\n"},
            ["etc/ufw/sysctl.conf:1 net/ipv4/ip_forward=0"],
        ),
    ],
)  # fmt: skip
def test_the_last_word(tmp_path: Path, files: dict[str, str], winner: list[str]) -> None:
    assert found(tmp_path, files) == winner


def test_odd_files(tmp_path: Path) -> None:
    folder = tmp_path / "etc/sysctl.d"
    (folder / "zy.conf").mkdir(parents=True)
    (folder / "zx.conf").symlink_to("/dev/null")
    (folder / "zz.conf").symlink_to("/nowhere")
    (folder / "zw.conf").write_bytes(b"\xff\xfe=\n====\nnet.ipv4.ip_forward=0\n")
    (told,) = sysctl_files.overridden(WANTED, OWN, str(tmp_path))
    assert "line 3) is read last, and pods need 1; remove that line or set it to 1" in sysctl_files.problem(told, "1")


def test_names() -> None:
    assert sysctl_files.key("net.ipv4.conf.eth0/7.forwarding") == "net/ipv4/conf/eth0.7/forwarding"
    assert sysctl_files.key("net/ipv4/conf/eth0.7/forwarding") == "net/ipv4/conf/eth0.7/forwarding"
