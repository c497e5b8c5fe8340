# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A unit that replays the former state at the worst moment does not bring back what is removed."""

from __future__ import annotations

from typing import Any

import pytest

from support.mounts import STATE_DIR, Mounts
from support.netns import Namespace
from support.vxlan import BASE, N2, some

GONE_ROUTE = {"dst": "10.244.2.0/24", "via": "172.31.0.13"}
ROUTES: dict[str, Any] = {"routes": [{"dst": "10.244.1.0/24", "via": "172.31.0.12"}, GONE_ROUTE], "purge": True}
MESH: dict[str, Any] = {**BASE, "persist": True, "purge": True}
# module, what the unit replays, a first run, a run that removes a part of it, and one that removes all
CASES = [
    pytest.param(
        "pod_route",
        f"ip -force -batch {STATE_DIR}/routes-87.batch",
        ROUTES,
        {**ROUTES, "routes": ROUTES["routes"][:1]},
        {"routes": [], "purge": True},
        id="pod_route",
    ),
    pytest.param(
        "vxlan_peer",
        f"ip -force -batch {STATE_DIR}/vxlan-flannel.1.ip; bridge -force -batch {STATE_DIR}/vxlan-flannel.1.bridge",
        {**MESH, "peers": [N2, *some(3)]},
        {**MESH, "peers": [N2]},
        {"state": "absent"},
        id="vxlan_peer",
    ),
]


def kernel(host: Namespace) -> list[str]:
    host.settle_meshes()
    texts = [host.ip("route"), host.ip("neigh", "show", "nud", "permanent"), host.bridge("fdb", "show")]
    return sorted(line for text in texts for line in text.splitlines())


@pytest.mark.parametrize(("name", "replay", "first", "fewer", "none"), CASES)
def test_what_is_removed_stays_removed(
    node: tuple[Mounts, Namespace],
    name: str,
    replay: str,
    first: dict[str, Any],
    fewer: dict[str, Any],
    none: dict[str, Any],
) -> None:
    mounts, host = node
    nothing = kernel(host)
    assert mounts.run(name, host.path, **fewer)["changed"]
    wanted = kernel(host)
    assert mounts.run(name, host.path, **first)["changed"] and kernel(host) != wanted
    mounts.busy(f"({replay}) >/dev/null 2>&1")
    active = mounts.state()["active"]
    assert active
    for args, state in ((fewer, wanted), (none, nothing)):
        done = mounts.run(name, host.path, **args)
        assert done.get("changed") and not done.get("failed"), done
        assert kernel(host) == state
        assert mounts.state()["active"] == (active if args is fewer else [])
        assert not mounts.run(name, host.path, **args)["changed"]
