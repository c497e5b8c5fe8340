# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bridge device that the CNI bridge plugin leaves behind, over netlink."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..netlink import link, wire
from ..netlink.channel import Channel, NetlinkError


class Bridge(NamedTuple):
    """``without_hairpin``: pods' ports that send nothing back to where it came from. A port that is no pod's, such as
    an uplink, is none of them: it would send packets back into the network."""

    number: int
    ports: tuple[str, ...]
    addresses: tuple[link.Interface, ...] = ()
    without_hairpin: tuple[str, ...] = ()


def find(name: str) -> Bridge | None:
    """The bridge of that name with its ports and addresses, None where no bridge is called so. Raises NetlinkError."""
    index = None
    ports: list[tuple[int, str, bool]] = []
    with Channel() as channel:
        for body in channel.dump(wire.GETLINK, wire.IFINFOMSG.pack(0, 0, 0, 0, 0)):
            number = wire.IFINFOMSG.unpack_from(body)[2]
            attributes = wire.attributes(body, wire.IFINFOMSG.size)
            called = attributes[wire.IFLA_IFNAME].rstrip(b"\0").decode(errors="replace")
            info = wire.attributes(attributes.get(wire.IFLA_LINKINFO, b""), 0)
            if called == name and info.get(wire.IFLA_INFO_KIND, b"").rstrip(b"\0") == b"bridge":
                index = number
            if wire.IFLA_MASTER in attributes:
                port = wire.attributes(info.get(wire.IFLA_INFO_SLAVE_DATA, b""), 0)
                pods = info.get(wire.IFLA_INFO_KIND, b"").rstrip(b"\0") == b"veth"
                off = pods and port.get(wire.IFLA_BRPORT_MODE) == b"\0"
                ports.append((wire.U32.unpack(attributes[wire.IFLA_MASTER])[0], called, off))
        addresses = link.addresses(channel) if index is not None else []
    if index is None:
        return None
    own = tuple(address for number, address in addresses if number == index)
    its = sorted((port, off) for master, port, off in ports if master == index)
    return Bridge(index, tuple(port for port, _off in its), own, tuple(port for port, off in its if off))


@contextlib.contextmanager
def hairpin(ports: Sequence[str]) -> Iterator[None]:
    """Turn hairpin mode on for these ports, and off again if the block fails. Raises NetlinkError."""
    try:
        _set_hairpin(ports, b"\1")
        yield
    except BaseException:
        _set_hairpin(ports, b"\0")
        raise


def _set_hairpin(ports: Sequence[str], mode: bytes) -> None:
    if not ports:
        return
    data = wire.attribute(wire.IFLA_BRPORT_MODE, mode)
    slave = wire.attribute(wire.IFLA_INFO_SLAVE_KIND, b"bridge") + wire.attribute(wire.IFLA_INFO_SLAVE_DATA, data)
    head, info = wire.IFINFOMSG.pack(0, 0, 0, 0, 0), wire.attribute(wire.IFLA_LINKINFO, slave)
    named = [wire.attribute(wire.IFLA_IFNAME, port.encode() + b"\0") for port in ports]
    with Channel() as channel:
        refused = channel.apply([(wire.NEWLINK, 0, head + name + info) for name in named])
    for error in refused.values():
        # The pod has ended meanwhile.
        if error.code != errno.ENODEV:
            raise NetlinkError(error.code, str(error))


def delete(index: int) -> None:
    """Delete a link by its index; one that is gone already is no error. Raises NetlinkError."""
    with Channel() as channel:
        refused = channel.apply([(wire.DELLINK, 0, wire.IFINFOMSG.pack(0, 0, index, 0, 0))])
    for error in refused.values():
        if error.code != errno.ENODEV:
            raise NetlinkError(error.code, str(error))
