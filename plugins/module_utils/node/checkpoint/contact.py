# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts this host reaches: ICMP echo requests to all of them at once, and a TCP connection to the API server.

An address counts only if it answered before the change: many networks drop echo requests.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import select
import socket
import struct
import time
from collections.abc import Iterable

from ...netlink import route
from ...netlink.channel import Channel, NetlinkError

# Seconds to wait, when a checkpoint is taken, for those who do not answer at all; whoever answers does so in
# milliseconds.
FIRST_PATIENCE = 1.0
# Seconds to wait before a host counts as cut off: long enough for neighbours that must be found again, and for a link
# that has just been set up.
PATIENCE = 5.0
# Seconds between two requests to an address that has not answered.
PAUSE = 0.2
TCP_TIMEOUT = 3.0
KINDS = {
    4: (socket.AF_INET, socket.IPPROTO_ICMP, 8, 0),
    6: (socket.AF_INET6, socket.IPPROTO_ICMPV6, 128, 129),
}


def reached(addresses: Iterable[str], api: str, patience: float) -> list[str]:
    """Those of ``addresses``, and of the API server ("host:port" or ""), that answer within ``patience`` seconds."""
    found = _echoes(list(dict.fromkeys(addresses)), patience)
    if api and _connects(api, patience):
        found.append(api)
    return found


def ways(addresses: Iterable[str]) -> dict[str, str]:
    """How the kernel sends to each address: "via GATEWAY dev NAME", "dev NAME" or "no route"."""
    found = {}
    with Channel() as channel:
        for address in addresses:
            try:
                way = route.lookup(channel, ipaddress.ip_address(address))
                gateway = f"via {way.via} " if way.via else ""
                found[address] = f"{gateway}dev {socket.if_indextoname(way.oif)}" if way.oif else "no route"
            except (NetlinkError, OSError):
                found[address] = "no route"
    return found


def _connects(api: str, patience: float) -> bool:
    host, _colon, port = api.rpartition(":")
    until = time.monotonic() + patience
    while True:
        with contextlib.suppress(OSError), socket.create_connection((host.strip("[]"), int(port)), TCP_TIMEOUT):
            return True
        if time.monotonic() > until:
            return False
        time.sleep(PAUSE)


def _echoes(addresses: list[str], patience: float) -> list[str]:
    missing = set(addresses)
    until = time.monotonic() + patience
    mark = os.getpid() & 0xFFFF
    with contextlib.ExitStack() as stack:
        sockets = {}
        for version, (family, protocol, _asks, _answers) in KINDS.items():
            with contextlib.suppress(OSError):
                sockets[version] = stack.enter_context(socket.socket(family, socket.SOCK_RAW, protocol))
        number = 0
        while missing and sockets and time.monotonic() < until:
            number += 1
            for address in missing:
                version = 6 if ":" in address else 4
                # What is refused at once may be possible a moment later.
                with contextlib.suppress(OSError):
                    sockets[version].sendto(_request(version, mark, number), (address, 0))
            _collect(sockets, mark, missing, min(until, time.monotonic() + PAUSE))
    return [address for address in addresses if address not in missing]


def _collect(sockets: dict[int, socket.socket], mark: int, missing: set[str], until: float) -> None:
    while missing:
        left = until - time.monotonic()
        ready = select.select(list(sockets.values()), [], [], left)[0] if left > 0 else []
        if not ready:
            return
        for version, sock in sockets.items():
            if sock in ready:
                data, sender = sock.recvfrom(2048)
                # A raw IPv4 socket shows the IP header.
                body = data[(data[0] & 0x0F) * 4 :] if version == 4 else data
                if len(body) >= 8 and body[0] == KINDS[version][3] and struct.unpack("!H", body[4:6])[0] == mark:
                    missing.discard(sender[0].partition("%")[0])


def _request(version: int, mark: int, number: int) -> bytes:
    kind = KINDS[version][2]
    header = struct.pack("!BBHHH", kind, 0, 0, mark, number & 0xFFFF)
    # The kernel computes the checksum of ICMPv6.
    return header if version == 6 else struct.pack("!BBHHH", kind, 0, _checksum(header), mark, number & 0xFFFF)


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
