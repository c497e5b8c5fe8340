# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan as a file on the controller: written once a run, read by whoever needs a node's part of it.

Ansible re-evaluates ``hostvars`` and every element of a structure for each host that looks at it: 1,000 workers that
look at a plan of 1,000 nodes cost minutes. A file costs each of them a millisecond.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.weft.podnet.plugins.module_utils import files


def path(inventory_dir: str | None) -> Path:
    """Where the plan of the inventory in this folder is kept, in the user's cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "weft-podnet"
    name = hashlib.sha256(str(inventory_dir or "").encode()).hexdigest()[:16]
    return cache / f"plan-{name}.json"


def write(inventory_dir: str | None, plan: Mapping[str, Any]) -> None:
    """Raises OSError."""
    files.write_atomic(path(inventory_dir), json.dumps(plan))


def read(file: str | Path) -> dict[str, Any]:
    """The whole plan. Raises OSError, ValueError."""
    return dict(_parse(str(file), Path(file).stat().st_mtime_ns))


@functools.lru_cache(maxsize=4)
def _parse(file: str, _stamp: int) -> dict[str, Any]:
    return dict(json.loads(Path(file).read_text(encoding="utf-8")))


def nodes(cluster: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The nodes of a plan, which it holds itself or names a ``file`` for. Raises OSError, ValueError."""
    return list(cluster["nodes"] if "nodes" in cluster else read(cluster["file"])["nodes"])


def peers(cluster: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Nodes outside of the inventory that flanneld runs, as vxlan_peer's peers. Raises OSError, ValueError."""
    whole = cluster if "nodes" in cluster else read(cluster["file"])
    return list(whole.get("peers", []))
