# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pod_network_info: the module, without the facts that a host may add to its result."""

from __future__ import annotations

from ansible_collections.weft.podnet.plugins.plugin_utils.core.host_action import HostAction


class ActionModule(HostAction):
    """C(weft.podnet.pod_network_info)."""
