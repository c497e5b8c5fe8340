# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A port of the node that leads to a probe pod, by the plugin portmap, as the runtime makes one for a pod.

Only where a pod of the node has a host port already: the plugin makes chains that it never removes, and a verification
leaves nothing behind. The port goes with the pod, as its other rules do.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from typing import Any

from ..core import files
from . import cni as probe_cni

# What a target of this kind is called.
KIND = "port"
PLUGIN = "portmap"
# The ports after the probe pods' own that are looked at for a free one.
MOST = 20


def offered(host: Mapping[str, Any]) -> bool:
    """Does the node's configuration have host ports, and does a pod use one? ``host``: as pod_network_info has it."""
    of_cni = host.get("cni") or {}
    types = [file["types"] for file in of_cni.get("files") or [] if file["name"] == of_cni.get("loaded")]
    used = any(rule.get("kind") == "host port" for rule in of_cni.get("rules") or [])
    return used and any(PLUGIN in each for each in types)


def add(container: str, netns: str, port: int) -> dict[str, Any]:
    """Give a pod a host port that leads to its ``port``: {host_port}, or {host_port_problem}."""
    for path, entry in probe_cni.cached(container):
        free = next((number for number in range(port + 1, port + 1 + MOST) if number < 65536 and _is_free(number)), 0)
        if not free:
            return {"host_port_problem": f"no TCP port from {port + 1} to {port + MOST} is free"}
        mapping = {"hostPort": free, "containerPort": port, "protocol": "tcp"}
        entry["capabilityArgs"] = {"portMappings": [mapping]}
        # First into libcni's record, from which the pod is removed: without it, the plugin's DEL removes nothing.
        files.write_atomic(path, json.dumps(entry))
        problem = probe_cni.add(entry, PLUGIN, netns)
        return {"host_port_problem": problem} if problem else {"host_port": free}
    return {}


def _is_free(port: int) -> bool:
    """Does no program listen on it? The rules would keep packets from it."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as handle:
            handle.bind(("0.0.0.0", port))
    except OSError:
        return False
    return True
