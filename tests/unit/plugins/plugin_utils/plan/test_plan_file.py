# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a run belongs to that run and to nobody else."""

from __future__ import annotations

import multiprocessing
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.plugin_utils.core import host_facts
from ansible_collections.weft.podnet.plugins.plugin_utils.plan import inventory, plan_file

PLAN: dict[str, Any] = {"backend": "routes", "nodes": []}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weft-podnet" / "plans"


def test_a_forked_task_finds_the_plan_of_its_run() -> None:
    """Ansible evaluates keywords in its main process and runs tasks in processes that it forks."""
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    task = context.Process(target=lambda: answers.put(str(plan_file.run_file())))
    task.start()
    assert answers.get(timeout=60) == str(plan_file.run_file())
    task.join()


def test_another_run_has_another_plan_and_it_goes_with_the_run(cache: Path) -> None:
    plan_file.write(plan_file.run_file(), PLAN)
    code = (
        "from ansible_collections.weft.podnet.plugins.plugin_utils.plan import plan_file as p;"
        "p.write(p.run_file(), {'backend': 'vxlan', 'nodes': []}); print(p.run_file())"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    other = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert plan_file.read_run() == PLAN and Path(other.stdout.strip()).exists()
    plan_file.sweep()
    assert list(cache.iterdir()) == [plan_file.run_file()]


def test_nobody_else_reads_it(cache: Path) -> None:
    cache.mkdir(mode=0o755, parents=True)
    plan_file.write(plan_file.run_file(), PLAN)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert stat.S_IMODE(plan_file.run_file().stat().st_mode) == 0o600


@pytest.mark.parametrize("where", ["weft-podnet", "weft-podnet/plans", "."])
def test_nobody_else_replaces_it(cache: Path, where: str) -> None:
    cache.mkdir(parents=True)
    place = cache.parent.parent / where
    os.chown(place, 65534, 65534)
    with pytest.raises(Refused, match="belongs to the user nobody.*set XDG_CACHE_HOME"):
        plan_file.write(plan_file.run_file(), PLAN)
    os.chown(place, 0, 0)
    place.chmod(0o777)
    with pytest.raises(Refused, match="can be written by other users"):
        plan_file.write(plan_file.run_file(), PLAN)
    assert not plan_file.run_file().exists()


def test_a_link_in_its_place(cache: Path, tmp_path: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(Refused, match="is a link"):
        plan_file.write(plan_file.run_file(), PLAN)


def test_the_applied_plan_belongs_to_the_inventory() -> None:
    one = plan_file.applied_file(["/inventory/production.yml"])
    assert one != plan_file.applied_file(["/inventory/staging.yml"])
    assert plan_file.applied_file(["/a", "/b"]) == plan_file.applied_file(["/b", "/a"])


@pytest.mark.parametrize("name", ["podnet_ca_key", "__podnet_artifacts", "inventory_hostname", "inventory_dir"])
def test_facts_are_no_variables(name: str) -> None:
    assert not host_facts.check({"hostname": "w0", "distribution": "Debian"}) and not host_facts.check(None)
    assert name in host_facts.check({"hostname": "w0", name: "/etc/kubernetes/pki/ca.key"})[0]


def test_the_passphrase_is_the_control_planes() -> None:
    hosts = {"w0": {"podnet_ca_passphrase": "secret"}}
    line = inventory.check_passphrase(hosts, "cp", known=False)[0]
    assert "set it for cp" in line and "secret" not in line
    assert not inventory.check_passphrase(hosts, "cp", known=True)
    assert not inventory.check_passphrase({"w0": {}}, "cp", known=False)
