# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flannel's net-conf.json from the plan, and what workers' certificates ask. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def organization(node_name: str) -> str:
    """The group in a worker's own certificate: all workers are one user, and the audit log shows which one it was."""
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


def underlay(pod_cidrs: Sequence[str], node_ips: Sequence[str], iface: str = "") -> dict[str, list[str]]:
    """flanneld's interface as flannel_service's options {iface, public_ip}, for the address families of the pods.

    ``iface``: a name or an address in place of the node's own. Of two families flanneld takes the IPv4 address by
    --iface and the IPv6 address by --public-ipv6; before v0.27.4 nothing else gives it both.
    """
    if iface and not _is_address(iface):
        return {"iface": [iface], "public_ip": []}
    addresses = {":" in ip: ip for ip in (*node_ips, *([iface] if iface else []))}
    families = {":" in cidr for cidr in pod_cidrs}
    found = [addresses[six] for six in sorted(families) if six in addresses]
    return {"iface": found[:1] or list(node_ips[:1]), "public_ip": found[1:]}


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def requests(nodes: Iterable[Mapping[str, Any]], answers: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each node of the plan that sent a signing request: its name, the request, and the groups it gets.

    ``answers`` are the results of flannel_cert (state=requested) by the node's name. They are data of that node, and
    nothing but the request is used.
    """
    found = []
    for node in nodes:
        answer = answers.get(node["name"])
        csr = answer.get("csr") if isinstance(answer, Mapping) else None
        if isinstance(csr, str) and csr:
            groups = [organization(node.get("node_name") or node["name"])]
            found.append({"name": node["name"], "csr": csr, "organizations": groups})
    return found
