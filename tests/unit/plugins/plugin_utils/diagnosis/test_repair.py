# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands that repair, whatever a host calls its devices and units."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis import repair, table

SUBNET, VIA = "10.244.1.0/24", "172.16.0.4"


@given(st.text(alphabet="ab{}';$ \\", min_size=1, max_size=15), st.booleans())
def test_a_name_stays_one_word_of_one_command(name: str, tunnel: bool) -> None:
    fix = table.filled(table.literal(repair.route([], SUBNET, VIA, name, tunnel)), {})
    words = ["ip", "route", "replace", SUBNET, "via", VIA, "dev", name]
    assert shlex.split(fix) == [*words, "onlink"] if tunnel else shlex.split(fix) == words
    unit = f"weft-podnet-vxlan-{name}.service"
    again = table.filled(table.literal(repair.route([unit], SUBNET, VIA, name, tunnel=True)), {})
    assert shlex.split(again) == ["systemctl", "restart", "--no-block", unit]


@pytest.mark.parametrize(("device", "found"), [("", "weft-podnet-vxlan-a.10.service"), ("a.1", "")])
def test_a_unit_of_a_longer_name_is_another_devices(device: str, found: str) -> None:
    assert repair.unit(["other.service", "weft-podnet-vxlan-a.10.service"], "vxlan", device) == found
