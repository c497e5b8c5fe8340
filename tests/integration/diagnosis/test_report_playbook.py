# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""podnet_report as far as the controller alone goes: what is refused before any host is asked, and what is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from support import inventories

# Nothing listens there, so every host is unreachable at once.
NOWHERE: dict[str, Any] = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_user": "nobody"}


def files(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir()}


@pytest.mark.parametrize("playbook", ["diagnose", "verify", "site"])
def test_a_place_where_no_report_can_be_is_refused_before_any_host_is_asked(tmp_path: Path, playbook: str) -> None:
    path = inventories.inventory(tmp_path / "inventory.yml")
    code, output = inventories.play(playbook, path, podnet_report=str(tmp_path / "missing" / "r.html"))
    assert code == 2 and "UNREACHABLE" not in output
    assert "there is no such folder on the controller; create it, or name another" in " ".join(output.split())


def test_hosts_that_do_not_answer_make_a_report_too(tmp_path: Path) -> None:
    path = inventories.inventory(tmp_path / "inventory.yml")
    target = tmp_path / "reports" / "today.html"
    target.parent.mkdir()
    precious = tmp_path / "precious"
    precious.write_text("kept")
    # Somebody may have put links there: they are replaced, not followed.
    target.symlink_to(precious)
    (target.parent / "today.json").symlink_to(tmp_path / "made-elsewhere")
    code, output = inventories.play("diagnose", path, words=["--check"], podnet_report=str(target), **NOWHERE)
    assert code == 2 and "UNREACHABLE" in output
    assert target.is_symlink() and files(target.parent) == {"today.html", "today.json"}
    code, output = inventories.play("diagnose", path, podnet_report="today.html", cwd=target.parent, **NOWHERE)
    assert code == 2 and f"Report: {target} (and today.json, today.xml)" in output
    assert files(target.parent) == {"today.html", "today.json", "today.xml"} and not target.is_symlink()
    assert precious.read_text() == "kept" and not (tmp_path / "made-elsewhere").exists()
    report = json.loads((target.parent / "today.json").read_text())
    assert report["verdict"]["headline"] == "Not every host could be looked at"
    assert {node["name"]: node["state"] for node in report["nodes"]} == dict.fromkeys(
        ("control-plane", "worker-1", "worker-2"), "error"
    )
    assert "Not every host could be looked at" in target.read_text()
    suite = ElementTree.parse(target.parent / "today.xml").getroot()[0]
    assert (suite.attrib["tests"], suite.attrib["failures"]) == ("3", "3")
