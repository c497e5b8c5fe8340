# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the tests that run the playbooks on real nodes."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from standins.control_plane import ControlPlane
from support import flannel
from support.lab import Lab, fresh


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Nodes nobody has touched, for one test."""
    # One for each process of the test run: a lab's addresses are its own.
    with fresh(f"test-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}") as lab:
        yield lab


@pytest.fixture
def routed(lab: Lab) -> Lab:
    """The same, with the routes backend for every run."""
    lab.variables["podnet_backend"] = "routes"
    return lab


@pytest.fixture
def plane(lab: Lab) -> ControlPlane:
    """A control plane for the lab, and flannel as the backend of every run."""
    # All workers at once is quicker; rolls are tested where they matter.
    lab.variables.update(podnet_backend="flannel", podnet_serial="100%")
    return flannel.prepare(lab.name)
