# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a CNI configuration's strings have to look like: addresses, networks, names. Shared by schema and rules."""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Any, NamedTuple, Union

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
Path = tuple[Union[str, int], ...]


class Problem(NamedTuple):
    """One thing wrong: ``path`` is "$.plugins[0].ipam.subnet" or "" (the file's name), ``message`` is for the user."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


def render(path: Path) -> str:
    """("plugins", 0, "type") -> "$.plugins[0].type"; keys that are no plain words are quoted."""
    text = "$"
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if re.fullmatch(r"\w+(-\w+)*", step) else f"[{step!r}]"
    return text


def show(value: Any) -> str:
    """A value as the user wrote it, in JSON, cut where it gets long."""
    text = f"'{value}'" if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def address(text: str) -> Address:
    """An address as Go reads it: no zone, no prefix. Raises ValueError that says what is wrong."""
    try:
        if "%" in text:
            raise ValueError
        return ipaddress.ip_address(text)
    except ValueError:
        raise ValueError("expected an IPv4 or IPv6 address") from None


def _split(text: str) -> tuple[Address, int]:
    base, slash, length = text.partition("/")
    found = address(base)
    if not slash or not length.isdigit() or not length.isascii() or int(length) > found.max_prefixlen:
        raise ValueError(f"expected a prefix length from /0 to /{found.max_prefixlen} after the address")
    return found, int(length)


def network(text: str) -> Network:
    """A network in CIDR form without host bits. Raises ValueError that names the corrected network."""
    try:
        found, length = _split(text)
    except ValueError as error:
        raise ValueError(f"{error}, such as 10.244.0.0/24" if "prefix" in str(error) else _not_a_network()) from None
    whole = ipaddress.ip_network((found, length), strict=False)
    if whole.network_address != found:
        raise ValueError(f"which has host bits set; the network is {whole}")
    return whole


def _not_a_network() -> str:
    return "expected a network in CIDR form, such as 10.244.0.0/24"


def _interface(text: str) -> None:
    try:
        _split(text)
    except ValueError:
        raise ValueError("expected an address with its prefix, such as 10.244.0.5/24") from None


def _mac(text: str) -> None:
    digits = re.sub(r"[:.-]", "", text)
    shape = r"(..:){5}..|(..-){5}..|(....\.){2}...."
    if not re.fullmatch(r"[0-9a-fA-F]{12}", digits) or not re.fullmatch(shape, text):
        raise ValueError("expected a hardware address such as 02:00:5e:10:00:01")
    if int(digits[:2], 16) & 1:
        raise ValueError("which is a multicast address; no interface can have it")


def _ifname(text: str) -> None:
    size = len(text.encode(errors="surrogatepass"))
    if not 1 <= size <= 15:
        raise ValueError(f"expected an interface name of 1 to 15 bytes, this has {size}")
    if text in (".", "..") or re.search(r"[\s/:]", text):
        raise ValueError("expected an interface name: no space, '/' or ':', and neither '.' nor '..'")


def _name(text: str) -> None:
    if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", text):
        raise ValueError("expected a network name: a letter or digit first, then letters, digits, '_', '.' and '-'")


FORMATS = {
    "ip": address,
    "cidr": network,
    "cidr-address": _interface,
    "mac": _mac,
    "ifname": _ifname,
    "cni-name": _name,
}
