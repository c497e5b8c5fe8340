# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages of module_utils and plugin_utils import downward only, and few of each other.

A package of plugin_utils (the controller's) and the one of module_utils with the same name are one concern.
"""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

from ansible_collections.weft.podnet.plugins.module_utils.node import steps

PLUGINS = Path(__file__).resolve().parents[3] / "plugins"
HERE = "ansible_collections.weft.podnet.plugins."
MOST_ARROWS = 31


def imported(path: Path) -> set[str]:
    """Dotted names below plugins/ that a file imports from, relative imports resolved."""
    own = path.relative_to(PLUGINS).with_suffix("").parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*own[: len(own) - node.level], *(node.module or "").split(".")]
            found |= {".".join([*filter(None, base), alias.name]) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(HERE):
            found |= {f"{(node.module or '').removeprefix(HERE)}.{alias.name}" for alias in node.names}
    return found


def arrows() -> dict[str, set[str]]:
    """Package -> the packages it imports from."""
    found: dict[str, set[str]] = {}
    for room in ("module_utils", "plugin_utils"):
        for path in (PLUGINS / room).glob("*/**/*.py"):
            package = path.relative_to(PLUGINS / room).parts[0]
            names = [name.split(".") for name in imported(path)]
            found.setdefault(package, set()).update(
                parts[1] for parts in names if parts[0] in ("module_utils", "plugin_utils") and parts[1] != package
            )
    return found


def test_packages_import_in_no_circle_and_few_of_each_other() -> None:
    found = arrows()
    tuple(TopologicalSorter(found).static_order())  # Raises CycleError.
    assert not found["core"] and found["netlink"] == {"core"}
    assert sum(map(len, found.values())) <= MOST_ARROWS, found


def test_host_code_knows_nothing_of_the_controllers() -> None:
    upward = ("plugin_utils", "action", "filter", "modules")
    wrong = {
        f"{path.relative_to(PLUGINS)}: {name}"
        for path in (PLUGINS / "module_utils").rglob("*.py")
        for name in imported(path)
        if name.startswith(upward)
    }
    assert not wrong


def test_every_file_is_in_a_package() -> None:
    assert not [path for room in ("module_utils", "plugin_utils") for path in (PLUGINS / room).glob("*.py")]


def test_every_step_is_shipped_to_hosts() -> None:
    """Ansible packs what is imported by name; what node/steps.py loads by MODULES alone would be missing on a host."""
    named = imported(PLUGINS / "module_utils/node/steps.py")
    assert not [f"module_utils.{place}" for place in steps.MODULES.values() if f"module_utils.{place}" not in named]


def test_host_code_uses_nothing_that_python_3_9_lacks() -> None:
    # Its syntax is checked elsewhere; these fail where they are called.
    newer = {("zip", "strict"), ("dataclass", "slots"), ("dataclass", "kw_only"), ("", "pairwise"), ("", "bit_count")}
    found = set()
    for path in (PLUGINS / "module_utils").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                used = {(node.func.id, keyword.arg) for keyword in node.keywords} | {("", node.func.id)}
            else:
                used = {("", node.attr)} if isinstance(node, ast.Attribute) else set()
            found |= {f"{path.relative_to(PLUGINS)}: {each[1]}" for each in used & newer}
    assert not found
