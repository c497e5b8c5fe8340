# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The summary of a run: who changed, what, and how many did not."""

from __future__ import annotations

from ansible_collections.weft.podnet.plugins.callback import summary


def test_workers_that_changed_are_named_and_the_others_counted() -> None:
    concerns: dict[str, list[str]] = {"w1": ["routes", "cni"], "w2": [], "w3": []}
    assert summary.lines(concerns, dry=False) == ["w1: changed routes, cni", "2 other workers: nothing to change"]
    assert summary.lines({"w1": ["routes"]}, dry=True) == ["w1: would change routes"]
    assert summary.lines({"w1": []}, dry=True) == ["1 worker: nothing to change"]
