# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON without end and paths with a NUL: a line for the user, wherever they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.cni import config as cni
from ansible_collections.weft.podnet.plugins.module_utils.core import documents
from ansible_collections.weft.podnet.plugins.module_utils.core import flanneld as vxlan_flanneld
from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.module_utils.flannel import unit as flannel_unit
from support.modules import run_module

DEEP = "[" * 100_000
NUL = "/tmp/a\0b"


def test_brackets_without_end() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        documents.from_json(DEEP)
    assert flannel_unit.parse_net_conf(DEEP) is None
    assert "is no JSON" in str(cni.version_problem(DEEP, "1.0.0"))
    with pytest.raises(cni.Broken, match="it is no JSON"):
        cni.parse("10-x.conf", DEEP)


@pytest.mark.parametrize("conf", [DEEP, '{"Backend": {"Type": "vxlan", "VNI": "a word"}}'])
def test_the_configuration_of_a_flanneld_that_nobody_can_read(tmp_path: Path, conf: str) -> None:
    process = tmp_path / "77"
    for folder, target in ((tmp_path / "self" / "ns", "net:[1]"), (process / "ns", "net:[1]")):
        folder.mkdir(parents=True)
        (folder / "net").symlink_to(target)
    (process / "comm").write_text("flanneld\n")
    (process / "cmdline").write_text("flanneld\0--net-config-path=/net-conf.json\0")
    (process / "root").mkdir()
    (process / "root" / "net-conf.json").write_text(conf)
    assert vxlan_flanneld.running(str(tmp_path)) == [vxlan_flanneld.Daemon(77, None)]


@pytest.mark.parametrize(
    ("module", "option", "more"),
    [
        ("cni_config", "conf_dir", {"name": "10-x.conf", "state": "absent"}),
        ("node_preflight", "conf_dir", {}),
        ("flannel_cert", "private_key_path", {"common_name": "system:flannel"}),
    ],
)
def test_a_nul_in_a_path(module: str, option: str, more: dict[str, Any]) -> None:
    result = run_module(module, {option: NUL, **more}, check=True)
    assert result["failed"] and f"{option}: '/tmp/a\\x00b' holds a line break, a NUL" in result["msg"]


def test_paths_that_are_fine() -> None:
    spec = {"a": {"type": "path"}, "b": {"type": "str"}}
    documents.check_paths({"a": "/etc/über", "b": "x\ny"}, spec)
    documents.check_paths({"a": None}, spec)
    with pytest.raises(Refused):
        documents.check_paths({"a": "x\ny"}, spec)
