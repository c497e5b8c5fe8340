# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""cluster_discover writes two files that the planning takes as they are, or none; discover.yml names who is silent."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from support import kept_cluster
from support.inventories import play

ADDRESSES = {"w0": "172.16.0.3", "w1": "172.16.0.4"}
SUBNETS = {"w0": ["10.244.7.0/24"], "w1": ["10.244.3.0/24"]}
PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - weft.podnet.cluster_discover:
        observed: "{{ lookup('file', seen) | from_json }}"
        to: "{{ podnet_discover_to | default(omit) }}"
      run_once: true
      delegate_to: localhost
"""
LOCAL = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """A minimal inventory, a playbook, and what was observed."""
    variables = {"ansible_user": "root", "ansible_password": "s3cret", "ansible_become": True}
    hosts = {name: {"ansible_host": ip, **variables} for name, ip in ADDRESSES.items()}
    whole = {"kube_node": {"hosts": hosts}, "kube_control_plane": {"hosts": {"w0": None, "cp": {"ansible_port": 2222}}}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(whole))
    (tmp_path / "play.yml").write_text(PLAY)
    planned = kept_cluster.plan(
        {
            name: {"ansible_host": ip, "podnet_backend": "vxlan", "podnet_vxlan_vni": 3}
            for name, ip in ADDRESSES.items()
        },
        SUBNETS,
    )
    seen = {name: {"host": kept_cluster.observed(planned, name)} for name in ADDRESSES}
    (tmp_path / "seen.json").write_text(json.dumps(seen))
    return {"folder": tmp_path, "seen": seen}


def discover(given: dict[str, Any], *words: str, **variables: Any) -> tuple[int, str]:
    folder = given["folder"]
    more = {"seen": str(folder / "seen.json"), **variables}
    return play(folder / "play.yml", folder / "hosts.yml", words=words, cwd=folder, **more)


def test_the_written_inventory_plans_the_same_cluster(given: dict[str, Any]) -> None:
    code, output = discover(given, podnet_discover_to="adopted/here")
    assert code == 0, output
    inventory = given["folder"] / "adopted/here/inventory.yml"
    lock = inventory.with_name("podnet.lock.yml")
    content = yaml.safe_load(inventory.read_text())
    assert content["kube_node"]["vars"]["podnet_vxlan_vni"] == 3
    assert content["kube_node"]["hosts"]["w0"] == {
        "ansible_host": "172.16.0.3",
        "ansible_user": "root",
        "ansible_become": True,
    }
    # Its variables are where it comes first.
    assert content["kube_control_plane"]["hosts"] == {"w0": None, "cp": {"ansible_port": 2222}}
    assert (
        "s3cret" not in inventory.read_text() + output
        and "ansible_password: secrets are not copied" in inventory.read_text()
    )
    before = lock.read_text()
    assert yaml.safe_load(before)["pod_subnets"] == SUBNETS and inventory.stat().st_mode & 0o777 == 0o644
    code, output = play("plan", inventory)
    assert code == 0 and lock.read_text() == before, output
    assert "changed=0" in output, output


def test_files_that_exist_stay(given: dict[str, Any]) -> None:
    folder = given["folder"] / "adopted"
    folder.mkdir()
    for name in ("inventory.yml", "podnet.lock.yml"):
        (folder / name).write_text("mine\n")
    del given["seen"]["w1"]["host"]
    given["seen"]["w1"]["msg"] = "no route to host"
    (given["folder"] / "seen.json").write_text(json.dumps(given["seen"]))
    code, output = discover(given, podnet_discover_to=str(folder))
    # All problems at once.
    text = " ".join(output.split())
    assert code != 0 and text.count("exists, and is not overwritten") == 2 and "w1: no route to host" in text, output
    assert [path.read_text() for path in sorted(folder.iterdir())] == ["mine\n", "mine\n"]


def test_nothing_is_written_in_a_dry_run_or_without_a_folder(given: dict[str, Any]) -> None:
    code, output = discover(given, "--check", "--diff", podnet_discover_to="adopted")
    assert code == 0 and "+    podnet_backend: vxlan" in output and not (given["folder"] / "adopted").exists(), output
    before = sorted(given["folder"].iterdir())
    code, output = discover(given)
    assert code == 0 and "changed=0" in output and sorted(given["folder"].iterdir()) == before, output


def test_a_folder_that_cannot_be_written(given: dict[str, Any]) -> None:
    (given["folder"] / "file").write_text("")
    code, output = discover(given, podnet_discover_to="file/adopted")
    assert code != 0 and "podnet_discover_to: " in output and "expected a folder" in " ".join(output.split()), output


def test_the_playbook_names_workers_that_do_not_answer(tmp_path: Path) -> None:
    hosts = {"w0": {**LOCAL, "ansible_host": "192.0.2.1"}, "w1": {"ansible_host": "127.0.0.1", "ansible_port": 1}}
    path = tmp_path / "hosts.yml"
    path.write_text(yaml.safe_dump({"workers": {"hosts": hosts}}))
    code, output = play("discover", path, podnet_discover_to=str(tmp_path / "adopted"))
    assert code != 0 and "w1: Task failed: Failed to connect" in output, output
    assert "make it reachable, or take it out of the inventory" in " ".join(output.split()), output
    assert not (tmp_path / "adopted").exists()
