# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""node_kernel's plan and its application, on files that stand for a kernel's; real nodes meet it in tests/lab."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.module_utils.node import settings as kernel

SYSCTLS = {"net.ipv4.ip_forward": 1, "net.bridge.bridge-nf-call-iptables": "1"}


class Host:
    """Files in place of /etc and /proc/sys; loading br_netfilter brings its sysctl."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.loaded, self.code = root, list[str](), 0
        for name, value in (("net/ipv4/ip_forward", "0\n"), ("net/core/rmem", "4096\t87380\n")):
            self.proc(name).parent.mkdir(parents=True, exist_ok=True)
            self.proc(name).write_text(value)
        for name in ("MODULES_FILE", "SYSCTL_FILE", "FORMER_FILE"):
            monkeypatch.setattr(kernel, name, str(root / name))
        real = kernel.path_of
        monkeypatch.setattr(kernel, "path_of", lambda name: real(name, str(root / "sys")))

    def proc(self, name: str) -> Path:
        return self.root / "sys" / name

    def command(self, words: list[str]) -> tuple[int, str, str]:
        if words[:2] in (["modprobe", "-r"], ["systemctl", "reload"]):
            return 0, "", ""
        assert words == ["modprobe", "br_netfilter"]
        self.loaded.append(words[1])
        if self.code == 0:
            self.proc("net/bridge").mkdir(exist_ok=True)
            self.proc("net/bridge/bridge-nf-call-iptables").write_text("0\n")
        return self.code, "", "not found" if self.code else ""

    def plan(self, more: dict[str, Any] | None = None, present: bool = True) -> kernel.Plan:
        return kernel.plan(["br_netfilter"], {**SYSCTLS, **(more or {})}, present, self.command)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def test_from_nothing_and_back(host: Host) -> None:
    change = host.plan()
    assert change.changed and change.running == {
        "net.ipv4.ip_forward": ("0", "1"),
        "net.bridge.bridge-nf-call-iptables": (None, "1"),
    }
    assert change.as_diff()[-1]["before"] == "net.ipv4.ip_forward = 0\n"
    kernel.apply(change, ["br_netfilter"], host.command)
    assert host.loaded == ["br_netfilter"] and host.proc("net/ipv4/ip_forward").read_text() == "1\n"
    assert "net.ipv4.ip_forward = 1\n" in (host.root / "SYSCTL_FILE").read_text()
    assert (host.root / "MODULES_FILE").read_text().endswith("\nbr_netfilter\n")
    assert not host.plan().changed

    gone = host.plan(present=False)
    assert gone.changed and not gone.running
    kernel.remove(gone, host.command)
    assert not (host.root / "SYSCTL_FILE").exists() and host.proc("net/ipv4/ip_forward").read_text() == "1\n"
    assert not host.plan(present=False).changed


def test_what_somebody_turned_off_is_told_and_set_again(host: Host) -> None:
    kernel.apply(host.plan(), ["br_netfilter"], host.command)
    host.proc("net/ipv4/ip_forward").write_text("0\n")
    change = host.plan()
    assert not change.kept and change.running == {"net.ipv4.ip_forward": ("0", "1")}
    kernel.apply(change, ["br_netfilter"], host.command)
    # The module was there already.
    assert host.loaded == ["br_netfilter"] and not host.plan().changed


def test_space_in_a_value_does_not_count(host: Host) -> None:
    assert "net.core.rmem" not in host.plan({"net.core.rmem": "4096 87380"}).running


def test_what_the_kernel_does_not_have(host: Host) -> None:
    with pytest.raises(Refused, match="this kernel has no net.nothing"):
        kernel.apply(host.plan({"net.nothing": 1}), ["br_netfilter"], host.command)
    host.code = 1
    (host.proc("net/bridge/bridge-nf-call-iptables")).unlink()
    with pytest.raises(Refused, match="br_netfilter can't be loaded: not found"):
        kernel.apply(host.plan(), ["br_netfilter"], host.command)


def test_bad_options_are_all_told() -> None:
    found = kernel.problems(
        ["../x", "br_netfilter"], {"a b": 1, "net.x": [1], "net.y": "1\n2", "net.z": "\u00e9", "net/eth0.1/z": 0}
    )
    assert len(found) == 5 and "'../x'" in found[0] and "'a b'" in found[1], found


@pytest.mark.parametrize("name", ["net.ipv4.ip_forward", "net/ipv4/ip_forward"])
def test_paths(name: str) -> None:
    assert kernel.path_of(name) == Path("/proc/sys/net/ipv4/ip_forward")
    assert kernel.path_of("net/ipv4/conf/eth0.7/forwarding") == Path("/proc/sys/net/ipv4/conf/eth0.7/forwarding")


def test_the_file_of_an_earlier_version_goes(host: Host) -> None:
    kernel.apply(host.plan(), ["br_netfilter"], host.command)
    former = host.root / "FORMER_FILE"
    former.write_text("net.ipv4.ip_forward = 1\n")
    change = host.plan()
    assert change.changed and change.as_diff()[0]["before_header"] == str(former)
    kernel.apply(change, ["br_netfilter"], host.command)
    assert not former.exists() and not host.plan().changed


@pytest.mark.parametrize(
    ("modules", "builtin", "unloaded"),
    [
        ("ip_tables 1 0 - Live 0x0\n", "kernel/net/ipv4/ip_gre.ko\n", True),
        ("nf_tables 1 0 - Live 0x0\n", "kernel/net/ipv4/ip_gre.ko\n", False),
        ("", "kernel/net/netfilter/nf_tables.ko\n", False),
        # A kernel without modules, and a container without the host's /lib/modules: nobody knows.
        (None, "", False),
        ("", None, False),
    ],
)
def test_a_module_that_must_not_be_loaded(
    tmp_path: Path, modules: str | None, builtin: str | None, unloaded: bool
) -> None:
    for path, text in (("proc/modules", modules), (f"lib/modules/{os.uname().release}/modules.builtin", builtin)):
        (tmp_path / path).parent.mkdir(parents=True)
        if text is not None:
            (tmp_path / path).write_text(text)
    assert kernel.is_unloaded("nf_tables", str(tmp_path)) is unloaded
