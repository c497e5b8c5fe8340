# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is judged: networks that are compared many times."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.weft.podnet.plugins.module_utils.core.networks import Network
from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis.cluster import Ranges

# Of one part of the addresses, so that many overlap.
NETWORKS = st.one_of(
    st.builds(lambda low, length: ipaddress.ip_network((0x0A000000 + low, length), strict=False),
              st.integers(0, 4095), st.integers(20, 32)),
    st.builds(lambda low, length: ipaddress.ip_network(((0xFD << 120) + low, length), strict=False),
              st.integers(0, 4095), st.integers(116, 128)),
)  # fmt: skip


@given(st.lists(NETWORKS, max_size=12), NETWORKS)
def test_networks_overlap_as_they_do_one_by_one(known: list[Network], other: Network) -> None:
    one_by_one = any(each.version == other.version and each.overlaps(other) for each in known)
    assert Ranges(known).overlap(other) is one_by_one
