# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host is cut off, or only one of its peers is down."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.node.checkpoint import contact, resource

A, B, CONTROLLER, API = "192.0.2.2", "192.0.2.3", "192.0.2.1", "cp:6443"
WAYS = {A: "dev eth0", B: "dev eth0", CONTROLLER: "dev eth0"}


@pytest.mark.parametrize(
    ("contacts", "answer", "ways", "expected"),
    [
        pytest.param([A, B], [A, B], {}, [], id="all answer"),
        pytest.param([A, B], [A], {}, [], id="one is down"),
        pytest.param([A], [], {}, [], id="the only one is down"),
        pytest.param([A, B], [], {}, [A, B], id="nobody answers"),
        pytest.param([A, B], [A], {B: "dev flannel.1"}, [B], id="the way to one has turned"),
        pytest.param([A, B], [A], {B: "no route"}, [B], id="the way to one is gone"),
        pytest.param([A, API], [A], {}, [API], id="the API server is lost"),
        pytest.param([CONTROLLER, A], [A], {}, [], id="the controller has just come back"),
    ],
)
def test_only_what_the_host_did_counts(
    monkeypatch: pytest.MonkeyPatch, contacts: list[str], answer: list[str], ways: dict[str, str], expected: list[str]
) -> None:
    def reached(asked: Any, api: str, _patience: float) -> list[str]:
        return [each for each in [*asked, api] if each in answer]

    monkeypatch.setattr(contact, "reached", reached)
    monkeypatch.setattr(contact, "ways", lambda asked: {each: {**WAYS, **ways}[each] for each in asked})
    monkeypatch.setattr(resource.way_back, "ssh_peer", lambda: ipaddress.ip_address(CONTROLLER))
    warned: list[str] = []
    state = {"contacts": contacts, "api": API if API in contacts else "", "ways": WAYS}
    assert resource._cut_off(state, warned.append) == expected
    others_down = [each for each in contacts if each not in (*answer, CONTROLLER, *expected)]
    assert [line.split(" answered")[0] for line in warned] == ([", ".join(others_down)] if others_down else [])
