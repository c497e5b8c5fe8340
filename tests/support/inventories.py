# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inventories without hosts behind them, and the playbooks run on them as far as the controller alone goes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from support.lab import BIN, CHECKOUT


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
    done = subprocess.run(
        [str(BIN / "ansible-playbook"), *(f"--inventory={source}" for source in sources), str(path), *given, *words],
        cwd=cwd,
        env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    output = done.stdout + done.stderr
    assert "Traceback" not in output, output
    return done.returncode, output
