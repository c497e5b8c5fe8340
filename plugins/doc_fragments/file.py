# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the options of modules that write files."""

from __future__ import annotations


class ModuleDocFragment:
    """Private to the collection: it may change at any time."""

    DOCUMENTATION = r"""
options:
  owner:
    description:
      - The owner of each file that the module writes, by name or number.
      - If omitted, a file that exists keeps its owner, and a new one belongs to root.
    type: str
  group:
    description:
      - The group of each file that the module writes, by name or number.
      - If omitted, a file that exists keeps its group.
    type: str
"""
