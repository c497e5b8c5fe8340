# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of a restoration; its steps themselves are tested on nodes."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.node.checkpoint import restore


@pytest.mark.parametrize(
    ("whole", "silent", "cut_off", "steps"),
    [
        ([True], [[]], True, ["own", "contact"]),
        # A unit restored what was being removed, and nobody is cut off.
        ([False, True], [[], []], True, ["own", "contact", "own", "contact"]),
        ([True], [["10.0.0.1"], []], True, ["own", "contact", "network", "contact"]),
        ([False, True], [["10.0.0.1"], []], True, ["own", "contact", "network", "own", "contact"]),
        ([False, True], [["10.0.0.1"], ["10.0.0.1"]], False, ["own", "contact", "own", "contact"]),
    ],
)
def test_what_failed_is_done_again(
    monkeypatch: pytest.MonkeyPatch, whole: list[bool], silent: list[list[str]], cut_off: bool, steps: list[str]
) -> None:
    done: list[str] = []

    def step(name: str, answers: list[Any]) -> Any:
        def taken(*_words: Any) -> Any:
            done.append(name)
            return answers[done.count(name) - 1]

        return taken

    monkeypatch.setattr(restore, "_own", step("own", whole))
    monkeypatch.setattr(restore, "_silent", step("contact", silent))
    monkeypatch.setattr(restore.network, "restore", step("network", [[]]))
    checkpoint: Any = type("Checkpoint", (), {"state": {"network": {}}})
    reached = restore.everything(checkpoint, lambda _name: None, lambda _line: None, cut_off)  # type: ignore[arg-type, return-value]
    assert done == steps and reached is not bool(silent[-1])
