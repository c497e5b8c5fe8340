# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bridge device that the CNI bridge plugin leaves behind, over netlink."""

from __future__ import annotations

import errno
from typing import NamedTuple

from ..netlink import link, wire
from ..netlink.channel import Channel, NetlinkError


class Bridge(NamedTuple):
    number: int
    ports: tuple[str, ...]
    addresses: tuple[link.Interface, ...] = ()


def find(name: str) -> Bridge | None:
    """The bridge of that name with its ports and addresses, None where no bridge is called so. Raises NetlinkError."""
    index = None
    ports: list[tuple[int, str]] = []
    with Channel() as channel:
        for body in channel.dump(wire.GETLINK, wire.IFINFOMSG.pack(0, 0, 0, 0, 0)):
            number = wire.IFINFOMSG.unpack_from(body)[2]
            attributes = wire.attributes(body, wire.IFINFOMSG.size)
            called = attributes[wire.IFLA_IFNAME].rstrip(b"\0").decode(errors="replace")
            kind = wire.attributes(attributes.get(wire.IFLA_LINKINFO, b""), 0).get(wire.IFLA_INFO_KIND, b"")
            if called == name and kind.rstrip(b"\0") == b"bridge":
                index = number
            if wire.IFLA_MASTER in attributes:
                ports.append((wire.U32.unpack(attributes[wire.IFLA_MASTER])[0], called))
        addresses = link.addresses(channel) if index is not None else []
    if index is None:
        return None
    own = tuple(address for number, address in addresses if number == index)
    return Bridge(index, tuple(sorted(port for master, port in ports if master == index)), own)


def delete(index: int) -> None:
    """Delete a link by its index; one that is gone already is no error. Raises NetlinkError."""
    with Channel() as channel:
        refused = channel.apply([(wire.DELLINK, 0, wire.IFINFOMSG.pack(0, 0, index, 0, 0))])
    for error in refused.values():
        if error.code != errno.ENODEV:
            raise NetlinkError(error.code, str(error))
