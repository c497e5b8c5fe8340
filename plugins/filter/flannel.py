# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flanneld's configuration and its certificate requests, computed from the cluster's plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.weft.podnet.plugins.plugin_utils.flannel import settings as flannel
from ansible_collections.weft.podnet.plugins.plugin_utils.plan import plan_file
from ansible_collections.weft.podnet.plugins.plugin_utils.releases.artifacts import OTHER_NAMES


def net_conf(cluster: Mapping[str, Any], backend: Mapping[str, Any]) -> dict[str, Any]:
    """flannel's net-conf.json for the plan's pod network, without EnableNFTables, which is each host's own."""
    return flannel.net_conf(cluster["pod_cidrs"], backend)


def flanneld_underlay(cluster: Mapping[str, Any], node: Mapping[str, Any], iface: str = "") -> dict[str, list[str]]:
    """flanneld's interface and public addresses on this node of the plan: {iface, public_ip}."""
    return flannel.underlay(cluster["pod_cidrs"], node["node_ips"], iface)


def csr_requests(cluster: Mapping[str, Any], answers: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the control plane is to sign: {name, csr, organizations} for each worker whose certificate is due.

    ``answers`` is what flannel_cert (state=requested) returned, by worker. Only the request itself is taken from it;
    the plan says whose certificate it is.
    """
    return flannel.requests(plan_file.nodes(cluster), answers)


def batches(cluster: Mapping[str, Any]) -> Any:
    """How many workers change at a time, as a play's ``serial``: with flannel what podnet_serial says, else all.

    All of them, too, where the backend's settings change: pods of workers that differ do not reach each other.
    """
    if not rolls(cluster) or cluster["settings"]["podnet_flannel_backend_change"]:
        return "100%"
    return cluster["settings"]["podnet_serial"]


def rolls(cluster: Mapping[str, Any]) -> bool:
    """Does one worker's failure end the run? With flannel it does; routes and meshes are each worker's own affair."""
    return cluster.get("backend") == "flannel"


def release_folders(artifacts: Sequence[Mapping[str, str]], architecture: str) -> dict[str, str]:
    """Where release_install unpacks the files of one architecture, by component."""
    return {
        item["component"]: f"/opt/weft-podnet/{item['component']}/{item['version']}-{item['sha256'][:12]}"
        for item in artifacts
        if item["architecture"] == architecture
    }


def release_room(artifacts: Sequence[Mapping[str, Any]], architecture: str) -> list[dict[str, Any]]:
    """The room that the files of one architecture take on a node: {folder, bytes} of each release."""
    folders = release_folders(artifacts, architecture)
    return [
        {"folder": folders[item["component"]], "bytes": item["room"]}
        for item in artifacts
        if item["architecture"] == architecture
    ]


def release_file(artifacts: Sequence[Mapping[str, Any]], component: str, architecture: str) -> dict[str, Any]:
    """The file of one component for a machine, whose architecture may be named as the kernel names it."""
    wanted = (component, OTHER_NAMES.get(architecture, architecture))
    return next(dict(item) for item in artifacts if (item["component"], item["architecture"]) == wanted)


class FilterModule:
    """weft.podnet's filters for the flannel backend."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "net_conf": net_conf,
            "flanneld_underlay": flanneld_underlay,
            "csr_requests": csr_requests,
            "batches": batches,
            "rolls": rolls,
            "release_folders": release_folders,
            "release_room": release_room,
            "release_file": release_file,
        }
