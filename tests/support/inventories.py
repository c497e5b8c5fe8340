# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inventories without hosts behind them, and the playbooks run on them as far as the controller alone goes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from support import plays
from support.forks import CHECKOUT


def inventory(
    path: Path, workers: Iterable[int] = (1, 2), group: str = "workers", start: str = "172.16.0.", **variables: Any
) -> Path:
    """An inventory of the backend routes: worker-N has the address ``start`` + N + 2; ``variables`` are all hosts'."""
    hosts = {f"worker-{number}": {"ansible_host": f"{start}{number + 2}"} for number in workers}
    control = {"hosts": {"control-plane": {"ansible_host": f"{start}2"}}}
    whole = {"all": {"vars": {"podnet_backend": "routes", **variables}}, "control_plane": control}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({**whole, group: {"hosts": hosts}}))
    return path


def play(
    playbook: str | Path, *sources: str | Path, words: Iterable[str] = (), cwd: Path = CHECKOUT, **variables: Any
) -> tuple[int, str]:
    """Run a playbook with these inventory sources; its exit code and what it printed."""
    path = playbook if isinstance(playbook, Path) else CHECKOUT / "playbooks" / f"{playbook}.yml"
    given = ["--extra-vars", json.dumps(variables)] if variables else []
    sources_given = [f"--inventory={source}" for source in sources]
    done = plays.run("ansible-playbook", [*sources_given, str(path), *given, *words], cwd, timeout=300)
    output = done.out + done.err
    assert "Traceback" not in output, output
    return done.code, output
