# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts that override the inventory. Pure.

Ansible puts what a module returns as ``ansible_facts`` above role defaults and a host's inventory variables,
``inventory_hostname`` included. Modules of this collection return none, but others do, and a compromised host can add
facts to any result. So every task of this collection checks them first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused

MOST_NAMES = 3


def check(facts: Mapping[str, Any] | None) -> list[str]:
    """What is wrong with a host's facts (``ansible_facts``), in one line; empty for good ones."""
    taken = sorted(key for key in facts or () if str(key).lstrip("_").startswith(("podnet_", "inventory_")))
    if not taken:
        return []
    more = f" and {len(taken) - MOST_NAMES} more" if len(taken) > MOST_NAMES else ""
    return [
        f"its facts hold {', '.join(taken[:MOST_NAMES])}{more}, which only the inventory may say. A host that returns "
        "such facts may be compromised; if a play of your own sets them, write set_fact without cacheable, and clear "
        "the fact cache (ansible-playbook --flush-cache)"
    ]


def require_honest(variables: Mapping[str, Any]) -> None:
    """Refuse to work with the variables of a host whose facts replace the inventory's. Raises Refused."""
    problems = check(variables.get("ansible_facts"))
    if problems:
        raise Refused(problems)
