# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""schemas/inventory.json is the one table of variables: generated files follow it, and roles read what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.weft.podnet.plugins.plugin_utils.plan import inventory

ROOT = Path(__file__).resolve().parents[3]
ROLES = sorted(role.name for role in (ROOT / "roles").iterdir())
STEPS = (ROOT / "plugins" / "plugin_utils" / "node" / "steps.py").read_text()
# What the steps of node_steps read of the plan, for the roles that run them.
SETTINGS = {f"podnet_{name}" for name in re.findall(r'setting\("(\w+)"\)', STEPS)}
STEPPED = {"node", "flannel", "flannel_certificates"}
RULES = inventory.schema()["properties"]
GIVEN = inventory.schema()["x-given"]


def test_everything_generated_is_up_to_date() -> None:
    checked = subprocess.run(
        [sys.executable, ROOT / "tools" / "variables.py", "--check"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_said_to_read_what_it_reads(role: str) -> None:
    files = [path for part in ("tasks", "vars") for path in (ROOT / "roles" / role / part).glob("*.yml")]
    # A name with a colon is given to an included role.
    named = {name for path in files for name in re.findall(r"\bpodnet_\w+\b(?!:)", path.read_text())}
    said = {
        name
        for name, rule in {**RULES, **GIVEN}.items()
        if role in {entry.partition("/")[0] for entry in rule.get("x-roles", [])}
    }
    assert named & (RULES.keys() | GIVEN.keys()) <= said
    assert said <= named | (SETTINGS if role in STEPPED else set())


def test_what_the_steps_read_is_said() -> None:
    assert {name for name in SETTINGS if not set(RULES[name].get("x-roles", [])) & STEPPED} == set()


def test_the_roles_of_the_table_have_their_entry_points() -> None:
    read = {entry for rule in [*RULES.values(), *GIVEN.values()] for entry in rule.get("x-roles", [])}
    own = set()
    for role in ROLES:
        specs = (ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text()
        for entry in yaml.safe_load(specs)["argument_specs"]:
            own.add(role if entry == "main" else f"{role}/{entry}")
    assert read <= own


def test_what_the_plays_set_is_no_variable_of_the_inventory() -> None:
    assert set(GIVEN) == inventory.OWN_FACTS
    assert not set(GIVEN) & set(RULES)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_complete(name: str) -> None:
    rule: dict[str, Any] = RULES[name]
    assert rule["description"].endswith(".")
    assert rule["x-group"] in inventory.schema()["x-groups"]
    assert not ("default" in rule and "x-unset" in rule)
    if "default" in rule:
        assert inventory.check_host("worker-1", {name: rule["default"]}) == []
