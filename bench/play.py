# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks as a user runs them, measured."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench import measure
from support.modules import CHECKOUT


class Played(NamedTuple):
    """``cpu`` is of all processes together, ``rss_kib`` the largest one's peak; ``tasks`` and ``changed`` are of the
    host that had most."""

    seconds: float
    cpu: float
    rss_kib: int
    tasks: int
    changed: int


def play(playbook: Path, inventory: Path, words: Sequence[str] = (), **variables: Any) -> Played:
    """Run ansible-playbook from the checkout. Raises measure.ChildFailed."""
    program = Path(sys.executable).with_name("ansible-playbook")
    extra = ["--extra-vars", json.dumps(variables)] if variables else []
    config = f"ANSIBLE_CONFIG={CHECKOUT / 'ansible.cfg'}"
    # The plan is kept in the user's cache; a benchmark's goes with its inventory.
    cache = f"XDG_CACHE_HOME={inventory.parent / 'cache'}"
    child = measure.run(
        [
            "env",
            config,
            cache,
            "ANSIBLE_NOCOLOR=1",
            str(program),
            "--inventory",
            str(inventory),
            *extra,
            *words,
            str(playbook),
        ],
        timeout=900,
    )
    recap = [
        {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", match[1])}
        for match in re.finditer(r"^\S+\s+: (ok=.*)$", child.output, re.MULTILINE)
    ]
    if not recap:
        raise measure.ChildFailed(f"{playbook} ran on no host:\n{child.output[-2000:]}")
    tasks = max(host["ok"] for host in recap)
    changed = max(host["changed"] for host in recap)
    return Played(*child.sample, tasks, changed)
