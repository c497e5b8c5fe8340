# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a report may be written, and what this run is known to have changed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.action import pod_network_report as action
from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis.report import model
from support import reports


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("report.pdf", "expected a name that ends in .html"),
        (".html", "expected a name that ends in .html"),
        ("missing/report.html", "there is no such folder on the controller"),
        ("file/report.html", "is no folder"),
        ("folder.html", "found a folder, expected a file or nothing"),
        ("fifo.html", "fifo.xml: found a FIFO"),
        (f"{'x' * 300}.html", "File name too long"),
    ],
)
def test_a_path_that_can_not_be_written_is_refused(tmp_path: Path, path: str, expected: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.html").mkdir()
    os.mkfifo(tmp_path / "fifo.xml")
    with pytest.raises(Refused, match=expected):
        action._checked(tmp_path / path)


def test_the_three_files_are_replaced_and_readable_as_the_user_wants(tmp_path: Path) -> None:
    paths = action._checked(tmp_path / "my.cluster.html")
    assert sorted(path.name for path in paths.values()) == ["my.cluster.html", "my.cluster.json", "my.cluster.xml"]
    report = model.report(reports.hostile(), reports.hostile_matrix())
    before = os.umask(0o027)
    try:
        for _time in range(2):
            action._write(paths, report)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}
    assert len(list(tmp_path.iterdir())) == 3


def test_what_the_run_changed_is_what_the_look_found_on_workers_that_were_configured() -> None:
    args: dict[str, Any] = {
        "hosts": ["worker-1", "worker-2", "worker-3", "worker-4"],
        "looked": [
            {"concerns": ["vxlan", "<b>", {}]},
            {"concerns": ["routes"]},
            {"concerns": ["cni"]},
            {"concerns": 5},
        ],
        "applied": [{"concerns": ["cni"]}, {}, {"failed": True}, {"concerns": 5}],
    }
    known = sorted(action.CONCERNS & {"vxlan", "cni"})
    assert {"cni"} <= set(known)
    changes = action._changes(args)
    assert changes is not None and list(changes) == ["worker-1"] and sorted(changes["worker-1"]) == known
    # verify.yml on its own knows nothing of that.
    assert action._changes({"hosts": ["worker-1"], "looked": [{}], "applied": [{}]}) is None
