# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flannel's net-conf.json from the plan, and what workers' certificates ask. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def organization(node_name: str) -> str:
    """The group in a worker's own certificate: all workers are one user, and the audit log can tell them apart."""
    return f"podnet:node:{node_name}"


def net_conf(pod_cidrs: Sequence[str], backend: Mapping[str, Any]) -> dict[str, Any]:
    """flannel's net-conf.json for these pod CIDRs, one a family."""
    conf: dict[str, Any] = {}
    for cidr in pod_cidrs:
        conf["IPv6Network" if ":" in cidr else "Network"] = cidr
    if "IPv6Network" in conf:
        conf["EnableIPv6"] = True
    if "Network" not in conf:
        conf["EnableIPv4"] = False
    return {**conf, "Backend": dict(backend)}


def requests(hosts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """From workers' variables: for each whose certificate is due, what the control plane is to sign."""
    found = []
    for variables in hosts:
        asked = variables.get("__podnet_flannel_request") or {}
        if asked.get("csr"):
            name = variables["inventory_hostname"]
            node_name = variables.get("podnet_node_name", name)
            found.append({"name": name, "csr": asked["csr"], "organizations": [organization(node_name)]})
    return found
