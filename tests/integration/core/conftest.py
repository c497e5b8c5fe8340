# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with files of its own, for what changes the kernel and files together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.mounts import Mounts
from support.netns import Namespace
from support.vxlan import underlay_host


@pytest.fixture
def node(tmp_path: Path) -> Iterator[tuple[Mounts, Namespace]]:
    with underlay_host() as host, Mounts(tmp_path) as mounts:
        yield mounts, host
