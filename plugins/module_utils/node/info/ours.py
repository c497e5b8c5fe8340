# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the collection keeps on this host, and whether a run is under way."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...core import persist, run_lock
from ..checkpoint import pending
from .section import Notes
from .services import NO_UNIT, Unit, own_units


def observe(units: Mapping[str, Unit], notes: Notes) -> dict[str, Any]:
    lease = notes.read("ours.run", run_lock.seen, None)
    return {
        "units": {name: units.get(name, NO_UNIT).active for name in notes.read("ours.units", own_units, [])},
        "checkpoint_pending": notes.read("ours.checkpoint", pending.read, ""),
        "run": {"holder": lease.run.who if lease else "", "since": lease.since if lease else 0.0},
        "state_dir": notes.read("ours.state_dir", _state, []),
    }


def _state() -> list[str]:
    folder = Path(persist.STATE_DIR)
    return sorted(each.name for each in os.scandir(folder)) if folder.is_dir() else []
