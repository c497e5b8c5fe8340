# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook explain as far as the controller alone goes: what it refuses, and hosts that do not answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support import inventories

# Nothing listens there, so every host is unreachable at once.
NOWHERE: dict[str, Any] = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_user": "nobody"}


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ({}, ["from: missing; give the IP address", "to: missing; give the IP address"]),
        ({"from": "woker-1", "to": "10.244.0.0/24"}, ["did you mean worker-1?", "to: expected an IP address"]),
        ({"from": "10.244.0.5", "to": "fd00::5"}, ["from: 10.244.0.5 is IPv4, and to: fd00::5 is IPv6"]),
    ],
)
def test_ends_are_checked_together_before_any_host_is_asked(
    tmp_path: Path, ends: dict[str, Any], expected: list[str]
) -> None:
    code, output = inventories.play("explain", inventories.inventory(tmp_path / "inventory.yml"), **ends)
    assert code == 2
    assert all(text in output for text in expected), output
    assert "UNREACHABLE" not in output


def test_hosts_that_do_not_answer_make_the_way_unknown(tmp_path: Path) -> None:
    path = inventories.inventory(tmp_path / "inventory.yml")
    code, output = inventories.play("explain", path, **{**NOWHERE, "from": "worker-1", "to": "10.244.1.5"})
    assert code == 2
    assert "=> not known: worker-1 could not be observed" in output
