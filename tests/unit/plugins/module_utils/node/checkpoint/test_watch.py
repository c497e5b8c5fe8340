# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The timer of the way back: started once, and started again where a killed run left it without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.node.checkpoint import watch


def test_what_is_pending_always_has_a_timer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "FOLDER", tmp_path / "restore")
    started: list[str] = []
    runs = False

    def run(words: list[str]) -> tuple[int, str, str]:
        if words[0] == "systemd-run":
            started.append(words[4])
            return 0, "", ""
        return 0 if runs else 3, "", ""

    watch.arm("/checkpoints/1", 60, run)
    assert watch.pending() == "/checkpoints/1" and started == ["--on-active=60s"]
    runs = True
    watch.arm("/checkpoints/1", 60, run)
    assert len(started) == 1
    runs = False
    watch.arm("/checkpoints/1", 60, run)
    assert len(started) == 2 and watch.pending() == "/checkpoints/1"
