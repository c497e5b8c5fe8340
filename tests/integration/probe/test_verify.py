# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A verification of three hosts, healthy and broken in the ways that pods' requests alone do not show."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from support.hosts import Hosts
from support.observations import first, mac, subnet, underlay
from support.probe import Verification


@pytest.fixture(scope="module", params=["routes", "vxlan"])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Verification]:
    with ExitStack() as stack:
        yield Verification(Hosts(request.param, stack), tmp_path_factory.mktemp("probe"), stack)


def test_a_healthy_cluster(cluster: Verification) -> None:
    found = cluster.run()
    print(found["text"])
    assert found["ok"], found["text"]
