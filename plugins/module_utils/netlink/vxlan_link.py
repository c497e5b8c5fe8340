# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One VXLAN device: what the kernel says of it, and its making and changing.

Reading is raw netlink; pyroute2 makes and changes the link, and is imported only when there is something to do.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ..core.problems import PodnetError
from . import wire
from .channel import Channel, NetlinkError, Request

_PORT = struct.Struct("!H")
# include/uapi/linux/if_link.h, IFLA_VXLAN_*
_ID, _LINK, _LOCAL, _LEARNING, _VXLAN_PORT, _LOCAL6 = 1, 3, 4, 7, 15, 17
# What flannel leaves at the kernel's default: attribute -> name and default. A flag counts as 1 when it is there.
_EXTRA = {
    2: ("group", 0),
    5: ("ttl", 0),
    6: ("tos", 0),
    8: ("ageing", 300),
    9: ("limit", 0),
    10: ("port_range", 0),
    11: ("proxy", 0),
    12: ("rsc", 0),
    13: ("l2miss", 0),
    14: ("l3miss", 0),
    16: ("group6", 0),
    18: ("udp_csum", 1),
    19: ("udp_zero_csum6_tx", 0),
    20: ("udp_zero_csum6_rx", 0),
    23: ("gbp", 0),
    25: ("collect_metadata", 0),
    26: ("label", 0),
    27: ("gpe", 0),
    28: ("ttl_inherit", 0),
    30: ("vnifilter", 0),
}
# Those of them that pyroute2 takes as plain numbers, so that a device can be made again as it was.
_RESTORED = ("ttl", "tos", "ageing", "limit", "proxy", "rsc", "l2miss", "l3miss", "gbp")
CREATE_ONLY = ("vni", "port", "underlay", "extra")


class PyrouteMissing(PodnetError):
    """pyroute2 is needed and can't be imported; the text is for the user."""


class Device(NamedTuple):
    """``local`` and ``mac`` are packed, ``underlay`` is an interface's index, ``extra`` what is not at its default."""

    name: str
    vni: int
    port: int
    underlay: int
    local: bytes
    mtu: int
    mac: bytes
    learning: bool = False
    txqueuelen: int = 0
    up: bool = True
    extra: tuple[tuple[str, int], ...] = ()


class Found(NamedTuple):
    """A link by its index (``number``) and kind; ``device`` is None unless it is a VXLAN device."""

    number: int
    kind: str
    mac: bytes
    device: Device | None


def read(channel: Channel, name: str) -> Found | None:
    """The link of that name, None where there is none. Raises NetlinkError."""
    wanted = wire.attribute(wire.IFLA_IFNAME, os.fsencode(name) + b"\0")
    try:
        body = channel.ask(wire.GETLINK, wire.IFINFOMSG.pack(0, 0, 0, 0, 0) + wanted)
    except NetlinkError as error:
        if error.code == errno.ENODEV:
            return None
        raise
    _family, _type, index, flags, _mask = wire.IFINFOMSG.unpack_from(body)
    attributes = wire.attributes(body, wire.IFINFOMSG.size)
    info = wire.attributes(attributes.get(wire.IFLA_LINKINFO, b""), 0)
    kind = info.get(wire.IFLA_INFO_KIND, b"").rstrip(b"\0").decode()
    mac = attributes.get(wire.IFLA_ADDRESS, b"")
    if kind != "vxlan":
        return Found(index, kind, mac, None)
    data = wire.attributes(info.get(wire.IFLA_INFO_DATA, b""), 0)
    device = Device(
        name,
        wire.u32(data.get(_ID)),
        _PORT.unpack(data[_VXLAN_PORT])[0],
        wire.u32(data.get(_LINK)),
        data.get(_LOCAL) or data.get(_LOCAL6) or b"",
        wire.u32(attributes.get(wire.IFLA_MTU)),
        mac,
        any(data.get(_LEARNING, b"")),
        wire.u32(attributes.get(wire.IFLA_TXQLEN)),
        bool(flags & wire.IFF_UP),
        tuple(_extra(data)),
    )
    return Found(index, kind, mac, device)


def _extra(data: Mapping[int, bytes]) -> Iterator[tuple[str, int]]:
    for kind, (name, default) in _EXTRA.items():
        if kind in data:
            value = int.from_bytes(data[kind], sys.byteorder) if data[kind] else 1
            if value != default:
                yield name, value


def make(device: Device) -> None:
    """Create the device, down. Raises NetlinkError, PyrouteMissing."""
    extra = {f"vxlan_{name}": value for name, value in device.extra if name in _RESTORED}
    with _pyroute() as ipr:
        ipr.link(
            "add",
            ifname=device.name,
            kind="vxlan",
            address=mac_text(device.mac),
            mtu=device.mtu,
            txqlen=device.txqueuelen,
            vxlan_id=device.vni,
            vxlan_link=device.underlay,
            vxlan_port=device.port,
            **_data(device),
            **extra,
        )


def change(index: int, old: Device, new: Device) -> None:
    """Set what differs and can be set in place. Raises NetlinkError, PyrouteMissing."""
    plain: dict[str, Any] = {}
    if old.mtu != new.mtu:
        plain["mtu"] = new.mtu
    if old.mac != new.mac:
        plain["address"] = mac_text(new.mac)
    if old.txqueuelen != new.txqueuelen:
        plain["txqlen"] = new.txqueuelen
    if old.up != new.up:
        plain["state"] = "up" if new.up else "down"
    with _pyroute() as ipr:
        if (old.local, old.learning) != (new.local, new.learning):
            ipr.link("set", index=index, kind="vxlan", vxlan_id=new.vni, **_data(new))
        if plain:
            ipr.link("set", index=index, **plain)


def _data(device: Device) -> dict[str, Any]:
    local = "vxlan_local" if len(device.local) == 4 else "vxlan_local6"
    family = socket.AF_INET if len(device.local) == 4 else socket.AF_INET6
    return {local: socket.inet_ntop(family, device.local), "vxlan_learning": int(device.learning)}


def delete(channel: Channel, index: int) -> None:
    """One that is gone already is no error. Raises NetlinkError."""
    for error in channel.apply([(wire.DELLINK, 0, wire.IFINFOMSG.pack(0, 0, index, 0, 0))]).values():
        if error.code != errno.ENODEV:
            raise error


def mac_text(mac: bytes) -> str:
    return mac.hex(":")


def addresses(channel: Channel, family: int, index: int) -> dict[tuple[bytes, int], int]:
    """The addresses of a link: (packed address, prefix length) -> protocol number, 0 for none. Raises NetlinkError."""
    found = {}
    for body in channel.dump(wire.GETADDR, wire.IFADDRMSG.pack(family, 0, 0, 0, index)):
        family_, length, _flags, scope, number = wire.IFADDRMSG.unpack_from(body)
        if number != index or family_ != family or scope != wire.SCOPE_UNIVERSE:
            continue
        attributes = wire.attributes(body, wire.IFADDRMSG.size)
        packed = attributes.get(wire.IFA_LOCAL) or attributes[wire.IFA_ADDRESS]
        found[packed, length] = (attributes.get(wire.IFA_PROTO) or b"\0")[0]
    return found


def add_address(family: int, index: int, address: bytes, protocol: int) -> Request:
    """A single address, marked as ours where the kernel keeps such a mark (5.18 and newer; older ones ignore it)."""
    return (wire.NEWADDR, wire.CREATE | wire.REPLACE, _address(family, index, address, bytes([protocol])))


def delete_address(family: int, index: int, address: bytes) -> Request:
    return (wire.DELADDR, 0, _address(family, index, address, b""))


def _address(family: int, index: int, address: bytes, protocol: bytes) -> bytes:
    # No other node can have the address of our VTEP, so it need not wait until IPv6 has asked them.
    parts = [wire.IFADDRMSG.pack(family, len(address) * 8, wire.IFA_F_NODAD, wire.SCOPE_UNIVERSE, index)]
    parts += [wire.attribute(wire.IFA_LOCAL, address), wire.attribute(wire.IFA_ADDRESS, address)]
    if protocol:
        parts.append(wire.attribute(wire.IFA_PROTO, protocol))
    return b"".join(parts)


def require() -> tuple[Any, Any]:
    """pyroute2's socket class and its exception, imported only where needed: that takes 100 ms. Raises PyrouteMissing.

    Called before a device is deleted and recreated, to check that it can be.
    """
    try:
        from pyroute2 import IPRoute
        from pyroute2.netlink.exceptions import NetlinkError as Refusal
    except ImportError as error:
        from ..core import interpreter

        raise PyrouteMissing(
            f"pyroute2 is needed to make or change the VXLAN device, and {sys.executable} can't import it ({error}); "
            f"{interpreter.remedy('pyroute2')}"
        ) from error
    return IPRoute, Refusal


@contextlib.contextmanager
def _pyroute() -> Iterator[Any]:
    """pyroute2's socket; its refusals as NetlinkError."""
    socket_class, refusal = require()
    try:
        with socket_class() as ipr:
            yield ipr
    except refusal as error:
        text = str(error.args[1]) if len(error.args) > 1 else ""
        raise NetlinkError(error.code or 0, text) from error
