# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One inventory, one lock file: whatever its sources are called and in whatever order they come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from support.inventories import inventory, play


def subnets(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text())["pod_subnets"])


def test_production_and_staging_beside_each_other(tmp_path: Path) -> None:
    production, staging = tmp_path / "production.yml", tmp_path / "staging.yml"
    inventory(production, [1, 2, 3])
    inventory(staging, [2, 3], start="172.17.0.")
    assert play("plan", production)[0] == 0
    code, output = play("plan", staging)
    assert code == 0 and "belongs to production.yml" in " ".join(output.split()), output
    before = {file.name: file.read_text() for file in tmp_path.glob("*.lock.yml")}
    assert set(before) == {"podnet.lock.yml", "staging.podnet.lock.yml"}
    assert subnets(tmp_path / "staging.podnet.lock.yml")["worker-2"] == ["10.244.0.0/24"]
    for source in (production, staging, production):
        code, output = play("plan", source)
        assert code == 0 and "changed=0" in output, output
    assert before == {file.name: file.read_text() for file in tmp_path.glob("*.lock.yml")}


def test_two_sources_in_either_order(tmp_path: Path) -> None:
    one = inventory(tmp_path / "x" / "hosts.yml", [1, 2])
    two = inventory(tmp_path / "y" / "hosts.yml", [2, 3])
    assert play("plan", two, one)[0] == 0
    code, output = play("plan", one, two)
    assert code == 0 and "changed=0" in output, output
    assert [str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.lock.yml")] == ["x/podnet.lock.yml"]


def test_another_clusters_lock_file_is_refused(tmp_path: Path) -> None:
    path = inventory(tmp_path / "inventory.yml")
    lock = tmp_path / "podnet.lock.yml"
    lock.write_text("pod_subnets: {other-1: [10.244.7.0/24]}\n")
    code, output = play("plan", path)
    assert code != 0 and "none of its workers (other-1) is in this inventory" in output, output
    assert lock.read_text() == "pod_subnets: {other-1: [10.244.7.0/24]}\n"


def test_a_list_of_hosts_is_no_inventory_to_keep_anything_beside(tmp_path: Path) -> None:
    given = {"podnet_backend": "routes", "podnet_workers_group": "all"}
    code, output = play("plan", "172.16.0.3,172.16.0.4,", cwd=tmp_path, **given)
    assert code != 0 and "is no file; say where to keep the lock file" in output, output
    assert not list(tmp_path.iterdir())
    kept = tmp_path / "kept.yml"
    code, output = play("plan", "172.16.0.3,172.16.0.4,", cwd=tmp_path, podnet_lock_file=str(kept), **given)
    assert code == 0 and subnets(kept)["172.16.0.4"] == ["10.244.1.0/24"], output


def test_a_folder_keeps_its_lock_file_out_of_ansibles_sight(tmp_path: Path) -> None:
    folder = tmp_path / "inventory"
    inventory(folder / "hosts.yml")
    for changed in (1, 0):
        code, output = play("plan", folder, words=["-v"])
        assert code == 0 and f"changed={changed}" in output and "WARNING" not in output, output
    assert sorted(item.name for item in folder.iterdir()) == [".podnet.lock.yml", "hosts.yml"]
    (folder / ".podnet.lock.yml").rename(folder / "podnet.lock.yml")
    code, output = play("plan", folder)
    assert code != 0 and "Ansible reads it as inventory" in output and f"mv {folder}/podnet.lock.yml" in output


def test_a_worker_that_leaves_is_named(tmp_path: Path) -> None:
    path = inventory(tmp_path / "inventory.yml", [1, 2, 3])
    assert play("plan", path)[0] == 0
    inventory(path, [1, 2, 4])
    code, output = play("plan", path)
    text = " ".join(output.split())
    assert code == 0 and "worker-3 (10.244.2.0/24) left the inventory and still" in text, output
    assert "reset.yml -e podnet_reset_left=worker-3" in text
    assert subnets(tmp_path / "podnet.lock.yml")["worker-4"] == ["10.244.3.0/24"]
    code, output = play("reset", path, podnet_reset_left="worker-9")
    assert code != 0 and "the lock file does not know worker-9; those that left are: worker-3" in output, output


def test_another_size_of_subnets_says_who_keeps_what(tmp_path: Path) -> None:
    path = inventory(tmp_path / "inventory.yml")
    assert play("plan", path)[0] == 0
    code, output = play("plan", path, podnet_node_cidr_mask_size=26)
    text = " ".join(output.split())
    assert code == 0 and "26 is for workers that join from now on; worker-1 10.244.0.0/24" in text, output
