# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A finding of the diagnosis as text, for the diagnosis itself and for what quotes it."""

from __future__ import annotations


def block(
    severity: str, hosts: str, title: str, rule: str, evidence: str, effect: str = "", fix: str = "", site: str = ""
) -> list[str]:
    """A finding as lines. ``fix`` is pasted on the host as it is printed."""
    lines = [f"{severity.upper()} {hosts}: {title} [{rule}]", f"  found:  {evidence}"]
    lines += [f"  effect: {effect}"] if effect else []
    lines += [f"  fix:    {fix}"] if fix else []
    lines += [f"  {'or: ' if fix else 'fix:'}    {site}"] if site else []
    return lines
