# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks find the workers in the inventory as it is, or fail and say what it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from support.inventories import inventory, play

LYING = """
- ansible.builtin.import_playbook: {plan}
- hosts: "{{{{ groups | weft.podnet.hosts(hostvars | default({{}})) }}}}"
  gather_facts: false
  tasks:
    - ansible.builtin.set_fact: {{podnet_workers_group: control_plane}}
- hosts: "{{{{ groups | weft.podnet.hosts(hostvars | default({{}})) }}}}"
  gather_facts: false
  tasks:
    - ansible.builtin.debug: {{msg: "here is {{{{ inventory_hostname }}}}"}}
"""


@pytest.mark.parametrize("playbook", ["site", "plan", "reset", "rotate_certificates", "verify", "diagnose"])
def test_no_workers_is_a_failure(tmp_path: Path, playbook: str) -> None:
    code, output = play(playbook, inventory(tmp_path / "inventory.yml", group="nodes"))
    assert code != 0
    assert "no group workers or kube_node has hosts; groups with hosts are control_plane (1), nodes (2)" in output
    assert "set podnet_workers_group" in output


@pytest.mark.parametrize("playbook", ["site", "plan", "verify", "diagnose"])
def test_an_inventory_that_is_not_there_is_a_failure(tmp_path: Path, playbook: str) -> None:
    code, output = play(playbook, tmp_path / "inventroy.yml")
    assert code != 0 and "does the path after -i exist" in output, output


def test_kubesprays_groups_and_a_group_by_variable(tmp_path: Path) -> None:
    code, output = play("plan", inventory(tmp_path / "a" / "inventory.yml", group="kube_node"))
    assert code == 0, output
    by_variable = inventory(tmp_path / "b" / "inventory.yml", group="nodes", podnet_workers_group="nodes")
    code, output = play("plan", by_variable)
    assert code == 0, output
    for name in "ab":
        assert list(yaml.safe_load((tmp_path / name / "podnet.lock.yml").read_text())["pod_subnets"]) == [
            "worker-1",
            "worker-2",
        ]
    # Nothing is reached there, but the workers are asked and not the control plane.
    asked = inventory(tmp_path / "b" / "inventory.yml", group="nodes", podnet_workers_group="nodes",
                      ansible_connection="local", ansible_become=False)  # fmt: skip
    code, output = play(Path(__file__).with_name("hosts_of_plays.yml"), asked, words=["--limit", "worker-2"])
    assert code == 0 and "here is worker-2" in output and "here is worker-1" not in output, output


def test_a_hosts_facts_do_not_choose_the_next_plays_hosts(tmp_path: Path) -> None:
    playbook = tmp_path / "lying.yml"
    playbook.write_text(LYING.format(plan=Path(__file__).resolve().parents[3] / "playbooks" / "plan.yml"))
    code, output = play(playbook, inventory(tmp_path / "inventory.yml", ansible_connection="local"))
    assert code == 0 and "here is worker-1" in output and "here is control-plane" not in output, output


def test_each_problem_is_printed_once(tmp_path: Path) -> None:
    code, output = play("plan", inventory(tmp_path / "inventory.yml", range(1, 11), podnet_bakend="routes"))
    assert code != 0
    assert output.count("podnet_bakend") == 1, output
    assert "worker-1, worker-10 and 8 more: unknown variable podnet_bakend; did you mean podnet_backend?" in output


@pytest.mark.parametrize(
    "given", [{"podnet_backend": "flannel"}, {"podnet_backend": "vxlan", "podnet_publish_node_annotations": True}]
)
def test_whoever_asks_the_api_needs_a_control_plane(tmp_path: Path, given: dict[str, Any]) -> None:
    path = inventory(tmp_path / "inventory.yml", podnet_control_plane_group="masters")
    code, output = play("plan", path, **given)
    assert code != 0 and "podnet_control_plane_group: the group 'masters' has no hosts" in output, output
    assert play("plan", path)[0] == 0
