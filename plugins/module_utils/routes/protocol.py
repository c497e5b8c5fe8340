# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The number by which the kernel keeps the collection's routes, addresses and nexthop objects apart from all others."""

from __future__ import annotations

# 'W' for weft: no number in iproute2's rt_protos.
PROTOCOL = 87
