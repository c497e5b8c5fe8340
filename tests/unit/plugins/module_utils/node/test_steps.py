# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a step of node_steps can be."""

from __future__ import annotations

from ansible_collections.weft.podnet.plugins.module_utils.core.resource import converging
from ansible_collections.weft.podnet.plugins.module_utils.node import steps

# These do something at each call, or call other concerns.
ACTIONS = {"bridge_absent", "checkpoint", "flannel_absent", "node_preflight", "vxlan_leftovers"}


def test_every_concern_that_keeps_a_state_goes_through_the_loop() -> None:
    loop = converging(lambda _call: None).__qualname__  # type: ignore[arg-type,return-value]
    outside = {name for name in steps.MODULES if steps.resource(name).run.__qualname__ != loop}
    assert outside == ACTIONS
