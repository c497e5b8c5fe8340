# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an address, a network, an interface's name, a MAC, an MTU, a VNI may be. Pure; the one place that decides.

Modules, the check of the inventory and filters read values here. ``read_*`` return the value or raise Unfit, whose text
goes on after the name of the item; the functions that take ``where`` and ``problems`` collect these texts.
"""

from __future__ import annotations

import ipaddress
import re
import reprlib
import socket
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, Union

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
Found = TypeVar("Found")

FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
# Nothing that is a pod CIDR is as wide as this; a wider route takes a good part of the default route's traffic.
WIDEST = 8
# host-local needs two addresses besides the network's own and the last one.
LONGEST_POD_SUBNET = {4: 30, 6: 126}
# No pod has an address of these, and no route to pods may take them: (network, what it is).
SPECIAL: tuple[tuple[Network, str], ...] = (
    (ipaddress.IPv4Network("0.0.0.0/8"), "no host's address"),
    (ipaddress.IPv4Network("127.0.0.0/8"), "loopback"),
    (ipaddress.IPv4Network("169.254.0.0/16"), "link-local"),
    (ipaddress.IPv4Network("224.0.0.0/4"), "multicast"),
    (ipaddress.IPv4Network("255.255.255.255/32"), "broadcast"),
    (ipaddress.IPv6Network("::/128"), "no host's address"),
    (ipaddress.IPv6Network("::1/128"), "loopback"),
    (ipaddress.IPv6Network("::ffff:0:0/96"), "IPv4 in IPv6's notation"),
    (ipaddress.IPv6Network("fe80::/10"), "link-local"),
    (ipaddress.IPv6Network("ff00::/8"), "multicast"),
)
# First bytes of addresses that none of SPECIAL can hold; the others need a closer look.
PLAIN = {
    4: frozenset(range(256)) - {0, 127, 169, 255} - frozenset(range(224, 240)),
    6: frozenset(range(256)) - {0, 0xFE, 0xFF},
}
MOST_VNI = 2**24 - 1
NAME_BYTES = 15
# The kernel keeps these for settings of all interfaces.
_RESERVED = frozenset({".", "..", "all", "default"})
# The host's own devices, by the names that the kernel, systemd and container tools give them.
_HOSTS_OWN = re.compile(r"lo|eth[0-9]+|en[ospx][0-9a-fA-F].*|wl[a-z]?[0-9].*|ww[a-z]?[0-9].*|docker0|flannel[.0-9-].*")
_DEVICE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")
_INTERFACE = re.compile(r"[!-~]{1,15}")
_MAC = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")
_LENGTH = re.compile(r"0|[1-9][0-9]{0,2}")
_WHOLE = re.compile(r"-?[0-9]{1,20}")
_NODE_NAME_LENGTH = 253
# Below it the kernel takes IPv6 off a device, settings included.
IPV6_MTU = 1280
LEAST_MTU = {4: 68, 6: IPV6_MTU}
MOST_MTU = 65535


class Unfit(ValueError):
    """A value is not what it must be; the text says what was found and what was expected."""


class _Repr(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 120


def shown(value: Any) -> str:
    """A value for a message: never long, never deep, whatever it is."""
    try:
        return _Repr().repr(value)
    except (ValueError, RecursionError):
        return f"a value of type {type(value).__name__}"


def _packed(text: str) -> bytes | None:
    try:
        return socket.inet_pton(FAMILIES[6 if ":" in text else 4], text)
    except (OSError, ValueError):
        return None


def special(network: Network) -> str | None:
    """What is special about (a part of) a network, in words; None for one whose addresses hosts and pods may have."""
    for reserved, words in SPECIAL:
        if reserved.version == network.version and reserved.overlaps(network):
            return f"{words} ({reserved})" if reserved.num_addresses > 1 else words
    return None


def read_address(value: Any) -> Address:
    """Any IP address, without a zone and without a length."""
    packed = _packed(value) if isinstance(value, str) else None
    if packed is None:
        zone = "; leave the zone out" if isinstance(value, str) and "%" in value else ""
        raise Unfit(f"expected an IP address such as 172.16.0.4, found {shown(value)}{zone}")
    return ipaddress.ip_address(packed)


def read_host(value: Any) -> Address:
    """An address that a node can have on the underlay: unicast, valid beyond one link."""
    found = read_address(value)
    what = special(ipaddress.ip_network(found))
    if what:
        raise Unfit(f"{found} is {what}; expected a node's address such as 172.16.0.4")
    return found


def read_gateway(value: Any) -> Address:
    """A next hop: a neighbour's address, which may be link-local."""
    found = read_address(value)
    return found if found.is_link_local else read_host(value)


def read_network(value: Any, length: bool = False) -> Network:
    """A network without host bits; a single address too, unless the ``length`` must be there."""
    if not isinstance(value, str) or not value:
        raise Unfit(f"expected a network such as 10.244.1.0/24, found {shown(value)}")
    base, slash, bits = value.partition("/")
    packed = _packed(base)
    most = 0 if packed is None else len(packed) * 8
    if packed is None or (slash and not (_LENGTH.fullmatch(bits) and int(bits) <= most)):
        zone = " (with a zone)" if "%" in base else ""
        raise Unfit(f"{shown(value)} is no network{zone}; expected one such as 10.244.1.0/24 or fd00:10:244:1::/64")
    if not slash and length:
        raise Unfit(f"{value} has no prefix length; write it as 10.244.0.0/16 or fd00:10:244::/56")
    found = ipaddress.ip_network((packed, int(bits) if slash else most), strict=False)
    if found.network_address.packed != packed:
        raise Unfit(f"{value} has host bits set; did you mean {found}?")
    return found


def read_destination(value: Any) -> Network:
    """A network that a route to pods may lead to: /8 or narrower, nothing special in it."""
    found = read_network(value)
    if found.prefixlen < WIDEST:
        what = "is" if found.prefixlen == 0 else "takes over much of"
        raise Unfit(f"{found} {what} the default route; pod networks are /{WIDEST} or narrower")
    what_else = special(found)
    if what_else:
        raise Unfit(f"{found} holds addresses that are {what_else}; pods need a network of their own")
    return found


def read_pod_cidr(value: Any) -> Network:
    """A cluster's pod network: as a destination, with its length."""
    read_network(value, length=True)
    return read_destination(value)


def read_pod_subnet(value: Any) -> Network:
    """One node's part of it: large enough for a gateway and a pod."""
    found = read_pod_cidr(value)
    longest = LONGEST_POD_SUBNET[found.version]
    if found.prefixlen > longest:
        raise Unfit(f"{found} has no room for pods; a node's part is /{longest} or wider")
    return found


def read_mac(value: Any) -> bytes:
    """A unicast MAC, packed."""
    if not isinstance(value, str) or not _MAC.fullmatch(value):
        raise Unfit(f"expected a MAC address such as 5e:0a:77:82:8c:24, found {shown(value)}")
    mac = bytes.fromhex(value.replace(":", ""))
    if mac[0] & 1 or not any(mac):
        what = "all zeroes" if not any(mac) else "a multicast address"
        raise Unfit(f"{value} is {what}; a VTEP has a unicast MAC")
    return mac


def is_mac(value: str) -> bool:
    """Is it written as a MAC? A fast check for lists of tens of thousands."""
    return _MAC.fullmatch(value) is not None


def read_interface(value: Any) -> str:
    """The name of an interface that may be there already: what the kernel takes, of printable ASCII."""
    if (
        not isinstance(value, str)
        or not _INTERFACE.fullmatch(value)
        or value in _RESERVED
        or any(character in value for character in "/:%")
    ):
        raise Unfit(
            f"{shown(value)} is no interface name (1 to {NAME_BYTES} printable ASCII characters, no space, slash, "
            "colon or per cent sign)"
        )
    return value


def read_underlay(value: Any) -> str:
    """The interface that leads to other nodes."""
    if read_interface(value) == "lo":
        raise Unfit("lo leads to no other node; expected the interface that carries the node's address")
    return str(value)


def read_device(value: Any) -> str:
    """The name of a device to be made: it becomes part of the names of files and of a systemd unit."""
    if not isinstance(value, str) or not _DEVICE.fullmatch(value) or value in _RESERVED or value == "lo":
        raise Unfit(
            f"{shown(value)} is no device name (1 to {NAME_BYTES} of letters, digits, dot, dash, underscore; "
            "not lo, all or default)"
        )
    return value


def read_bridge(value: Any) -> str:
    """The name of the pods' bridge: no name that the host's own devices have."""
    if _HOSTS_OWN.fullmatch(read_device(value)):
        raise Unfit(f"{value} is the name of a device of the host's own; expected a bridge of the pods' own, as cni0")
    return str(value)


def read_node_name(value: Any) -> str:
    """The name of a node, as a text in one line."""
    if (
        not isinstance(value, str)
        or not 0 < len(value) <= _NODE_NAME_LENGTH
        or not value.isprintable()
        or value.strip() != value
    ):
        raise Unfit(f"expected the node's name (1 to {_NODE_NAME_LENGTH} printable characters), found {shown(value)}")
    return value


def read_integer(value: Any, low: int, high: int) -> int:
    """The whole number in ``value``, an int or its text."""
    number: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, str) and _WHOLE.fullmatch(value):
        number = int(value)
    if number is None or not low <= number <= high:
        raise Unfit(f"expected a whole number from {low} to {high}, found {shown(value)}")
    return number


def collect(read: Callable[[Any], Found], value: Any, where: str, problems: list[str]) -> Found | None:
    """What ``read`` makes of a value, or None and a problem that begins with ``where``."""
    try:
        return read(value)
    except Unfit as unfit:
        problems.append(f"{where}: {unfit}")
        return None


def address(value: Any, where: str, problems: list[str]) -> Address | None:
    return collect(read_address, value, where, problems)


def host(value: Any, where: str, problems: list[str]) -> Address | None:
    return collect(read_host, value, where, problems)


def network(value: Any, where: str, problems: list[str]) -> Network | None:
    return collect(read_network, value, where, problems)


def networks(values: Any, where: str, problems: list[str]) -> list[Network]:
    """Networks or single addresses (``protect`` takes both); a text holds them separated by commas, as in Ansible."""
    if isinstance(values, str):
        values = [value.strip() for value in values.split(",") if value.strip()]
    if not isinstance(values, Iterable) or isinstance(values, (bytes, dict)):
        problems.append(f"{where}: expected a list of networks such as 10.244.1.0/24, found {shown(values)}")
        return []
    found = [network(value, f"{where}[{index}]", problems) for index, value in enumerate(values)]
    return [item for item in found if item is not None]


def integer(value: Any, low: int, high: int, where: str, problems: list[str]) -> int:
    """The number in ``value``, or ``low`` and a problem that names ``where``."""
    found = collect(lambda given: read_integer(given, low, high), value, where, problems)
    return low if found is None else found
