# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One place for each variable: roles and schemas/inventory.json must not drift apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.weft.podnet.plugins.plugin_utils.plan import inventory

ROLES = Path(__file__).resolve().parents[3] / "roles"
# Made by the plays, not by the user.
GIVEN = inventory.OWN_FACTS


def load(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text()) or {}) if path.exists() else {}


@pytest.mark.parametrize("role", sorted(role.name for role in ROLES.iterdir()))
def test_defaults_are_those_of_the_schema(role: str) -> None:
    rules = inventory.schema()["properties"]
    for name, value in load(ROLES / role / "defaults" / "main.yml").items():
        assert name in rules, f"{role}: {name} is not in schemas/inventory.json"
        if not isinstance(value, str) or "{{" not in value:
            assert value == rules[name].get("default"), f"{role}: {name}"


@pytest.mark.parametrize("role", sorted(role.name for role in ROLES.iterdir()))
def test_argument_specs_are_those_of_the_schema(role: str) -> None:
    rules = inventory.schema()["properties"]
    for entry in load(ROLES / role / "meta" / "argument_specs.yml")["argument_specs"].values():
        for name, option in (entry.get("options") or {}).items():
            if name in GIVEN:
                continue
            assert name in rules, f"{role}: {name} is not in schemas/inventory.json"
            if "default" in option:
                assert option["default"] == rules[name].get("default"), f"{role}: {name}"
            if "choices" in option:
                assert option["choices"] == rules[name].get("enum"), f"{role}: {name}"
