# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The certificate requests of workers' flannelds, by the cluster's plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.weft.podnet.plugins.plugin_utils.flannel import settings as flannel
from ansible_collections.weft.podnet.plugins.plugin_utils.plan import plan_file


def csr_requests(cluster: Mapping[str, Any], answers: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the control plane is to sign: {name, csr, organizations} for each worker whose certificate is due.

    ``answers`` is what flannel_cert (state=requested) returned, by worker. Only the request itself is taken from it;
    the plan says whose certificate it is.
    """
    return flannel.requests(plan_file.nodes(cluster), answers)


class FilterModule:
    """weft.podnet's filter for flannel's certificates."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"csr_requests": csr_requests}
