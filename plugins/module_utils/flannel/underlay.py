# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The interface by which flanneld reaches the other nodes."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from ..netlink import link, route, wire
from ..netlink.channel import Channel


def mtu(options: Mapping[str, Any], version: int) -> int:
    """The MTU of the interface that flanneld chooses by flannel_service's options, by default that of the default route
    of this IP version; 0 where the host has none. Raises NetlinkError.
    """
    with Channel() as channel:
        links = link.links(channel)
        by_name = {each.name: each for each in links}
        by_number = {each.number: each for each in links}
        holders = {str(interface.ip): by_number.get(number) for number, interface in link.addresses(channel)}
        publics = sorted(options["public_ip"], key=lambda each: ":" in each)
        given = options["iface"] or ([] if options["iface_can_reach"] else publics[:1])
        for each in given:
            found = by_name.get(each) or holders.get(_canonical(each))
            if found is not None:
                return found.mtu
        if given:
            return 0
        if options["iface_can_reach"]:
            by_route = by_name.get(route.way(channel, options["iface_can_reach"]).get("dev", ""))
        else:
            routes = route.dump(channel, route.FAMILIES[version], wire.TABLE_MAIN)
            defaults = [(key.metric, value.oif) for key, value in routes if key.length == 0]
            by_route = by_number.get(min(defaults)[1]) if defaults else None
        return by_route.mtu if by_route is not None else 0


def _canonical(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text
