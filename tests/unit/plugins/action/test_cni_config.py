# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controller says about the arguments of a cni_config task before any host is asked."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.action.cni_config import check

GOOD = {"cniVersion": "1.0.0", "name": "lo", "type": "loopback"}
BAD = {**GOOD, "mtu": 1, "prevResult": {}}

ODD_KEYS: dict[Any, Any] = {5: 1, None: 2, **GOOD}


@pytest.mark.parametrize(
    "args, pieces",
    [
        ({"config": GOOD}, []),
        ({"config": BAD}, ["a.conf: $.mtu: unknown key 'mtu'", "a.conf: $.prevResult: is reserved"]),
        ({"config": BAD, "state": "present"}, ["$.mtu", "$.prevResult"]),
        ({"config": BAD, "allow_unknown": "yes"}, ["$.prevResult"]),
        ({"config": BAD, "allow_unknown": ["odd"]}, ["$.mtu", "$.prevResult"]),
        ({"config": BAD, "state": "absent"}, []),
        ({"state": "absent"}, []),
        ({}, ["config is missing"]),
        ({"config": None}, ["config is missing"]),
        ({"config": '{"type": "loopback"}'}, ["config is a string"]),
        ({"config": "x", "state": "absent"}, ["config is a string"]),
        ({"config": [GOOD]}, ["(list), expected a dictionary"]),
        ({"config": ODD_KEYS}, ["key 5 is no string", "key None is no string"]),
        ({"config": GOOD, "name": 5}, ["5: file name"]),
    ],
)
def test_check(args: dict[str, Any], pieces: list[str]) -> None:
    problems = check({"name": "a.conf", **args})
    assert len(problems) == len(pieces), problems
    assert all(piece in problem for piece, problem in zip(pieces, problems))
