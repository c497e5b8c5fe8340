# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What probe pods are to request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.weft.podnet.plugins.module_utils.probe import compact
from ansible_collections.weft.podnet.plugins.plugin_utils.probe import targets as _probe_targets


def probe_targets(
    hosts: Sequence[str],
    started: Sequence[Any],
    port: int,
    nodes: Sequence[Mapping[str, Any]] = (),
    addresses: Sequence[Any] = (),
) -> list[dict[str, Any]]:
    """See plugin_utils/probe/targets.py."""
    return _probe_targets.targets(hosts, [compact.read(each) for each in started], port, nodes, addresses)


class FilterModule:
    """weft.podnet's filter for verifications."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"probe_targets": probe_targets}
