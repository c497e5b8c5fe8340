# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The units that restore our routes and meshes, by name.

pod_route and vxlan_peer manage them. flannel_service stops a mesh's unit while flanneld uses its device, and restarts
all of them if flanneld fails.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from .persist import UNIT_DIR, Run, systemctl


def of_routes(protocol: int | str) -> str:
    return f"weft-podnet-routes-{protocol}.service"


def of_mesh(device: str) -> str:
    return f"weft-podnet-vxlan-{device}.service"


def meshes() -> list[str]:
    """Every device on which a mesh is kept."""
    before, _mark, after = of_mesh("*").partition("*")
    return sorted(path.name.removeprefix(before).removesuffix(after) for path in Path(UNIT_DIR).glob(of_mesh("*")))


def has_mesh(device: str) -> bool:
    return Path(UNIT_DIR, of_mesh(device)).exists()


def rest(run: Run, devices: Iterable[str]) -> None:
    """Stop the meshes' units until they replay or the host boots. Raises PersistError."""
    for device in devices:
        systemctl(run, "stop", of_mesh(device))


@contextlib.contextmanager
def paused(run: Run, unit: str, rests: bool = True) -> Iterator[None]:
    """Stop a unit, if it exists, and start it afterwards, if it still does: a replay would bring back what goes."""
    rests = rests and Path(UNIT_DIR, unit).exists()
    if rests:
        run(["systemctl", "stop", unit])
    try:
        yield
    finally:
        if rests and Path(UNIT_DIR, unit).exists():
            run(["systemctl", "start", "--no-block", unit])


def resting(run: Run, devices: Iterable[str]) -> list[str]:
    """Those of these meshes whose unit was stopped: flanneld uses their devices by now, or they are gone."""
    return [device for device in devices if run(["systemctl", "is-active", "--quiet", of_mesh(device)])[0] != 0]


def replay(run: Run, devices: Iterable[str]) -> None:
    """Restart the units, which add what is missing of these meshes and of all routes. Raises PersistError."""
    routes = sorted(path.name for path in Path(UNIT_DIR).glob(of_routes("*")))
    for unit in [*routes, *map(of_mesh, devices)]:
        systemctl(run, "restart", "--no-block", unit)
