# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""containerd's configuration, as far as CNI is concerned: TOML, of which Python 3.9 has no reader."""

from __future__ import annotations

import re


def configured(config: str, key: str) -> list[str]:
    """The texts that the configuration gives a key, in order; ``key`` is a regular expression."""
    lines = re.findall(rf"^\s*{key}\s*=\s*(.+)$", config, re.MULTILINE)
    return [value for line in lines for value in re.findall(r"[\"']([^\"']+)[\"']", line)]
