# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services, network managers and sysctls out of what systemd prints and files say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.core import processes
from ansible_collections.weft.podnet.plugins.module_utils.node import networkd, sysctl_files
from ansible_collections.weft.podnet.plugins.module_utils.node.info import host, managers, services, sysctls
from ansible_collections.weft.podnet.plugins.module_utils.node.info.section import MOST, Notes

KEY = "net.ipv4.conf.all.rp_filter"


def put(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_units() -> None:
    shown = "LoadState=loaded\nActiveState=active\nEnvironment=A=b c=d\n\nLoadState=not-found\nActiveState=inactive\n"
    units = services.parse(["docker.service", "k3s.service"], shown)
    assert units["docker.service"].exists and not units["k3s.service"].exists
    assert units["docker.service"].said["Environment"] == "A=b c=d"
    assert services.services(units, {"kube-proxy": [7]}) == [
        {"name": "docker", "running": True, "enabled": False},
        {"name": "kube-proxy", "running": True, "enabled": False},
    ]
    with pytest.raises(services.ServicesError, match="found 2 answers, expected 3"):
        services.parse(["a", "b", "c"], shown)


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["flanneld", "--subnet-file=/a"], "/a"),
        (["flanneld", "-subnet-file", "/a"], "/a"),
        (["flanneld", "--subnet-file=/a", "-subnet-file", "/b"], "/b"),
        (["flanneld", "subnet-file=/a"], ""),
        (["flanneld", "--subnet-file"], ""),
    ],
)
def test_options_of_go_programs(words: list[str], value: str) -> None:
    assert processes.option(words, "subnet-file") == value


def test_network_manager(tmp_path: Path) -> None:
    put(tmp_path, "usr/lib/NetworkManager/conf.d/90-last.conf", "[keyfile]\nunmanaged-devices=mac:02:00\n")
    put(tmp_path, "usr/lib/NetworkManager/conf.d/10-gone.conf", "[keyfile]\nunmanaged-devices=interface-name:x\n")
    put(tmp_path, "run/NetworkManager/conf.d/10-gone.conf", "[keyfile]\nunmanaged-devices+=interface-name:y,type:z\n")
    put(tmp_path, "etc/NetworkManager/NetworkManager.conf", "[main]\nunmanaged-devices=a\n[keyfile]\n#no\n")
    put(tmp_path, "etc/NetworkManager/conf.d/00.conf", "[keyfile]\nunmanaged-devices+=interface-name:cni0\n")
    put(tmp_path, "etc/NetworkManager/conf.d/01.conf", "[keyfile]\nunmanaged-devices-=type:z\n")
    for number, managed in ((2, "true"), (3, "false"), (9, "true")):
        put(tmp_path, f"run/NetworkManager/devices/{number}", f"[device]\nmanaged={managed}\n")
    notes = Notes()
    names = {2: "eth0", 3: "cni0"}
    found = managers.of_network_manager(names, True, notes, str(tmp_path))
    unmanaged = ["interface-name:cni0", "interface-name:y", "mac:02:00"]
    assert found == {"running": True, "unmanaged": unmanaged, "managed": ["eth0"]} and not notes.problems
    assert managers.of_network_manager(names, False, notes, str(tmp_path))["managed"] == []


@pytest.mark.parametrize(
    ("files", "value", "winner"),
    [
        ({}, None, ""),
        ({"etc/sysctl.d/10.conf": "net.ipv4.conf.all.rp_filter=1"}, "1", "etc/sysctl.d/10.conf"),
        # A line in full wins over any pattern, also an earlier one.
        (
            {"etc/sysctl.d/10.conf": f"{KEY}=1", "etc/sysctl.d/90.conf": "net.ipv4.conf.*.rp_filter=2"},
            "1",
            "etc/sysctl.d/10.conf",
        ),
        ({"etc/sysctl.d/90.conf": "net.ipv4.conf.*.rp_filter=2"}, "2", "etc/sysctl.d/90.conf"),
        ({"etc/sysctl.d/90.conf": "net.ipv4.conf.*.rp_filter=2\n-net.ipv4.conf.all.rp_filter\n"}, None, ""),
        (
            {"etc/sysctl.d/10.conf": "net.ipv4.*=1", "etc/sysctl.d/90.conf": "net/ipv4/conf/a*/rp_filter = 0"},
            "0",
            "etc/sysctl.d/90.conf",
        ),
        (
            {"etc/sysctl.d/50.conf": f"{KEY}=1", "usr/lib/sysctl.d/50.conf": f"{KEY}=0"},
            "1",
            "etc/sysctl.d/50.conf",
        ),
        (
            {
                "etc/sysctl.d/zz.conf": "net.ipv4.conf.all.rp_filter=1",
                "etc/ufw/ufw.conf": "ENABLED=yes",
                "etc/ufw/sysctl.conf": "net/ipv4/conf/all/rp_filter=0",
            },
            "0",
            "etc/ufw/sysctl.conf",
        ),
    ],
)
def test_what_the_next_boot_sets(tmp_path: Path, files: dict[str, str], value: str | None, winner: str) -> None:
    for path, text in files.items():
        put(tmp_path, path, text)
    found = sysctl_files.winners(["net/ipv4/conf/all/rp_filter"], str(tmp_path)).get("net/ipv4/conf/all/rp_filter")
    assert (found.value if found else None) == value
    assert not found or found.path == str(tmp_path / winner)


def test_sysctls_by_their_names(tmp_path: Path) -> None:
    put(tmp_path, "proc/sys/net/ipv4/conf/flannel.1/rp_filter", "0\n")
    put(tmp_path, "proc/sys/net/ipv4/ip_forward", "1\n")
    put(tmp_path, "etc/sysctl.d/99.conf", "net.ipv4.conf.all.forwarding=0\nnet.bridge.bridge-nf-call-iptables=1\n")
    names = sysctls.names(["eth0.5"], ["flannel.1"], ["cni0"])
    assert "net.ipv6.conf.eth0/5.accept_ra" in names
    found = sysctls.sysctls(names, {}, Notes(), str(tmp_path))
    path = str(tmp_path / "etc/sysctl.d/99.conf")
    assert found == {
        # Two names of one switch.
        "net.ipv4.ip_forward": {"now": "1", "boot": "0", "file": path},
        "net.ipv4.conf.flannel/1.rp_filter": {"now": "0", "boot": "", "file": ""},
        "net.bridge.bridge-nf-call-iptables": {"now": "", "boot": "1", "file": path},
    }
    later = {"net/ipv4/ip_forward": networkd.Setting("1", "/etc/systemd/networkd.conf")}
    found = sysctls.sysctls(names, later, Notes(), str(tmp_path))
    assert found["net.ipv4.ip_forward"] == {"now": "1", "boot": "1", "file": "/etc/systemd/networkd.conf"}


def test_requests_for_neighbours_are_returned_where_they_are_unusual(tmp_path: Path) -> None:
    put(tmp_path, "proc/sys/net/ipv4/neigh/eth0/mcast_solicit", "3\n")
    put(tmp_path, "proc/sys/net/ipv4/neigh/eth0/app_solicit", "0\n")
    put(tmp_path, "proc/sys/net/ipv4/neigh/cni0/mcast_solicit", "0\n")
    put(tmp_path, "proc/sys/net/ipv4/neigh/cni0/app_solicit", "1\n")
    put(tmp_path, "etc/sysctl.d/99.conf", "net.ipv6.neigh.eth0.mcast_solicit=0\n")
    found = sysctls.sysctls(sysctls.names(["eth0"], [], ["cni0"]), {}, Notes(), str(tmp_path))
    assert found == {
        "net.ipv4.neigh.cni0.app_solicit": {"now": "1", "boot": "", "file": ""},
        "net.ipv4.neigh.cni0.mcast_solicit": {"now": "0", "boot": "", "file": ""},
        "net.ipv6.neigh.eth0.mcast_solicit": {"now": "", "boot": "0", "file": str(tmp_path / "etc/sysctl.d/99.conf")},
    }


def test_modules(tmp_path: Path) -> None:
    put(tmp_path, "usr/lib/modules-load.d/a.conf", "br-netfilter\n")
    put(tmp_path, "etc/modules-load.d/b.conf", "# vxlan\n")
    put(tmp_path, "sys/module/vxlan/refcnt", "0")
    path = f"{tmp_path}/usr/lib/modules-load.d/a.conf"
    assert sysctls.modules(str(tmp_path)) == {
        "br_netfilter": {"loaded": False, "boot": path, "refused": ""},
        "vxlan": {"loaded": True, "boot": "", "refused": ""},
    }


@pytest.mark.parametrize(
    ("files", "refusing"),
    [
        ({"etc/modprobe.d/a.conf": "  blacklist   br-netfilter"}, "etc/modprobe.d/a.conf"),
        ({"lib/modprobe.d/a.conf": "install br_netfilter /bin/false # no"}, "lib/modprobe.d/a.conf"),
        ({"run/modprobe.d/a.conf": "install br_netfilter /usr/bin/true"}, "run/modprobe.d/a.conf"),
        ({"etc/modprobe.d/a.conf": "#blacklist br_netfilter\noptions br_netfilter x=1\nblacklist\n"}, ""),
        ({"etc/modprobe.d/a.conf": "install br_netfilter modprobe --ignore-install br_netfilter"}, ""),
        # A file in /etc replaces one of its name.
        ({"etc/modprobe.d/a.conf": "", "usr/lib/modprobe.d/a.conf": "blacklist br_netfilter"}, ""),
        ({"etc/modprobe.d/a.txt": "blacklist br_netfilter"}, ""),
        # What is built in can't be refused; what is loaded as a module can, at the next boot.
        ({"etc/modprobe.d/a.conf": "blacklist br_netfilter", "proc/sys/net/bridge/x": "1"}, ""),
        (
            {
                "etc/modprobe.d/a.conf": "blacklist br_netfilter",
                f"lib/modules/{os.uname().release}/modules.builtin": "kernel/net/bridge/br_netfilter.ko\n",
            },
            "",
        ),
        (
            {
                "etc/modprobe.d/a.conf": "blacklist br_netfilter",
                "proc/sys/net/bridge/x": "1",
                "proc/modules": "bridge 4096 1 br_netfilter, Live 0x0\nbr_netfilter 32768 0 - Live 0x0\n",
            },
            "etc/modprobe.d/a.conf",
        ),
    ],
)
def test_modules_that_are_refused_by_a_file(tmp_path: Path, files: dict[str, str], refusing: str) -> None:
    for path, text in files.items():
        put(tmp_path, path, text)
    refused = sysctls.modules(str(tmp_path))["br_netfilter"]["refused"]
    assert refused == (f"{tmp_path}/{refusing}" if refusing else "")


@pytest.mark.parametrize(
    ("line", "refusing"),
    [
        ("quiet module_blacklist=x,br_netfilter", "module_blacklist"),
        ('module_blacklist="br_netfilter"', "module_blacklist"),
        ("modprobe.blacklist=x,br-netfilter modprobe.blacklist=y", "modprobe.blacklist"),
        # The kernel compares whole names as they are, and the last parameter replaces the others.
        ("module_blacklist=br-netfilter", ""),
        ("module_blacklist=br_netfilter module_blacklist=x", ""),
        ("modprobe.blacklist=br_netfilter_x blacklist=br_netfilter", ""),
        ("nomodule", ""),
    ],
)
def test_modules_that_the_command_line_refuses(tmp_path: Path, line: str, refusing: str) -> None:
    put(tmp_path, "proc/cmdline", f"BOOT_IMAGE=/vmlinuz {line}\n")
    refused = sysctls.modules(str(tmp_path))["br_netfilter"]["refused"]
    assert refused == (f"/proc/cmdline: {refusing}" if refusing else "")
    # A part of the kernel.
    put(tmp_path, "proc/sys/net/bridge/x", "1")
    assert sysctls.modules(str(tmp_path))["br_netfilter"]["refused"] == ""


def test_os_release() -> None:
    text = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n# VERSION_ID=1\nVERSION_ID="12"\nodd\n'
    assert host.os_release(text) == {"id": "debian", "version": "12", "name": "Debian GNU/Linux 12 (bookworm)"}


def test_notes_keep_what_fails_from_the_rest() -> None:
    notes = Notes()

    def fail(error: Exception) -> None:
        raise error

    assert notes.read("a", fail, [], FileNotFoundError(2, "No such file or directory", "/x")) == []
    assert notes.read("b", fail, {}, KeyError("odd")) == {}
    assert notes.read("b", fail, {}, KeyError("odd")) == {}
    assert notes.problems == ["a: /x: No such file or directory", "b: can't be read (KeyError: 'odd')"]


def test_everything_is_bounded() -> None:
    notes = Notes()
    found = notes.bounded("", {"routes": list(range(MOST + 5)), "cni": {"files": [{"error": "x" * 9000}]}, "n": None})
    assert len(found["routes"]) == MOST and notes.truncated == {"routes": MOST + 5}
    assert len(found["cni"]["files"][0]["error"]) < 4100 and found["n"] is None
