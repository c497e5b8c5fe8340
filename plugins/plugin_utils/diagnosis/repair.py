# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands that bring back what the collection or another tool had set up, by the means that a host has. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

# Not waited for: an event of the device may end the unit's first round, which systemctl takes for a failure.
REPLAY = "systemctl restart --no-block {unit}"


def unit(units: Iterable[str], concern: str, device: str = "") -> str:
    """Of a host's units, the collection's that keeps its routes, or its mesh ("vxlan") on a device; "" for none."""
    prefix = f"weft-podnet-{concern}-"
    exact = f"{prefix}{device}.service"
    return next((name for name in units if name == exact or (not device and name.startswith(prefix))), "")


def route(units: Iterable[str], subnet: object, via: object, device: str = "", tunnel: bool = False) -> str:
    """The command that makes the route to pods; ``tunnel``: its device is one. Quoted: names come from hosts."""
    to = f"ip route replace {subnet} via {shlex.quote(str(via))}" + (f" dev {shlex.quote(device)}" if device else "")
    if tunnel:
        kept = unit(units, "vxlan", device)
        return REPLAY.format(unit=shlex.quote(kept)) if kept else f"{to} onlink"
    # Without the protocol number, it would be a foreign route to the next run.
    protocol = unit(units, "routes").removesuffix(".service").rpartition("-")[2]
    return to + (f" proto {shlex.quote(protocol)}" if protocol else "")
