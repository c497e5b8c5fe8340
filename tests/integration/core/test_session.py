# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a login session brings (user, PATH, locale, umask) decides nothing on a host."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from support.modules import CHECKOUT, run_module
from support.netns import Namespace

# Arguments with which each module that runs on a host gets as far as the host.
HOST_MODULES: dict[str, dict[str, Any]] = {
    "cni_config": {"name": "10-x.conf", "state": "absent"},
    "flannel_cert": {"state": "absent"},
    "flannel_kubeconfig": {"state": "absent"},
    "flannel_service": {"state": "absent"},
    "pod_masquerade": {"state": "absent"},
    "pod_network_info": {},
    "pod_probe": {"state": "absent"},
    "pod_route": {"routes": []},
    "node_metrics": {"directory": "/nonexistent"},
    "node_steps": {"steps": []},
    "run_lock": {"state": "released"},
    "vxlan_peer": {"state": "absent"},
}
CONFIG = {"cniVersion": "1.0.0", "name": "x", "type": "loopback"}


def test_every_host_module_is_listed() -> None:
    modules = (CHECKOUT / "plugins/modules").glob("*.py")
    assert {
        path.stem for path in modules if "tools.begin(" in path.read_text() or "import RESOURCE" in path.read_text()
    } == set(HOST_MODULES)


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("name", HOST_MODULES)
def test_without_become_there_is_one_sentence(name: str, check: bool) -> None:
    result = run_module(name, HOST_MODULES[name], check=check, root=False)
    assert result["failed"] and result["problems"] == [result["msg"]], result
    assert result["msg"].startswith("this module needs root, but runs as nobody: set become: true"), result


@pytest.fixture
def elsewhere(tmp_path: Path) -> str:
    """A PATH that has the same programs at another place, as an administrator's own session may have."""
    for name in ("ip", "bridge", "nft", "iptables", "systemctl"):
        (tmp_path / name).symlink_to(
            next(p for p in map(Path, (f"/usr/sbin/{name}", f"/usr/bin/{name}")) if p.exists())
        )
    return f"{tmp_path}:{os.environ['PATH']}"


def test_two_administrators_write_the_same_unit(elsewhere: str) -> None:
    options = {"pod_subnets": ["10.244.0.0/24"], "cluster_cidrs": ["10.244.0.0/16"], "backend": "nftables"}
    with Namespace() as host:
        diffs = [
            run_module("pod_masquerade", options, check=True, netns=host.path, env={"PATH": path})["diff"]
            for path in (os.environ["PATH"], elsewhere, "/usr/bin")
        ]
    unit = next(entry["after"] for entry in diffs[0] if entry["after_header"].endswith(".service"))
    assert "ExecStart=/usr/sbin/nft -f" in unit
    assert diffs[0] == diffs[1] == diffs[2]


def test_folders_are_readable_whatever_the_umask_is(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        options = {"name": "20-x.conf", "conf_dir": str(tmp_path / "a/b"), "config": CONFIG, "check_plugins": False}
        assert not run_module("cni_config", options)["failed"]
    finally:
        os.umask(before)
    assert [oct(path.stat().st_mode & 0o777) for path in (tmp_path / "a", tmp_path / "a/b")] == ["0o755", "0o755"]
