# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way of one packet, hop by hop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis import explain as _explain


def explain(
    hosts: Sequence[str], source: Any, target: Any, observed: Sequence[Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """See plugin_utils/diagnosis/explain.py. ``observed`` are results of pod_network_info in the order of ``hosts``."""
    if observed is None:
        return _explain.check(hosts, source, target)
    seen: dict[str, Any] = {}
    unseen: dict[str, str] = {}
    for name, result in zip(hosts, observed, strict=True):
        host = result.get("host")
        if isinstance(host, Mapping):
            seen[name] = host
        else:
            unseen[name] = str(result.get("msg") or "not asked in this run")
    return _explain.explain(seen, source, target, unseen)


class FilterModule:
    """weft.podnet's filter for explanations."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"explain": explain}
