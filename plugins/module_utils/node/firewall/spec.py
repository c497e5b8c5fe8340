# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pods need of a host's firewall. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ...core.networks import Network, network
from ...core.problems import Refused

ARGUMENT_SPEC: dict[str, Any] = {
    "udp_ports": {"type": "list", "elements": "int", "default": []},
    "sources": {"type": "list", "elements": "str", "default": []},
    "pod_cidrs": {"type": "list", "elements": "str", "default": []},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}

# A firewall walks its rules one by one, and ufw takes half a second to add one.
MOST_SOURCES = 64


class Spec(NamedTuple):
    """UDP ``ports`` open to ``sources`` (none: to every address), and forwarding from and to ``pods``; all sorted."""

    ports: list[int]
    sources: list[Network]
    pods: list[Network]


NOTHING = Spec([], [], [])


def wanted(options: Mapping[str, Any]) -> Spec:
    """The module's options, read and checked. Raises Refused with every problem at once."""
    if options["state"] == "absent":
        return NOTHING
    problems = [
        f"udp_ports: {port} is no UDP port; expected 1 to 65535"
        for port in options["udp_ports"]
        if not 1 <= port <= 65535
    ]
    sources = _networks(options["sources"], "sources", problems)
    pods = _networks(options["pod_cidrs"], "pod_cidrs", problems)
    if problems:
        raise Refused(problems)
    return Spec(sorted(set(options["udp_ports"])), few(sources), _sorted(pods))


def _networks(values: Iterable[str], option: str, problems: list[str]) -> list[Network]:
    found: list[Network] = []
    for value in values:
        parsed = network(value, option, problems)
        if parsed is None:
            continue
        if parsed.prefixlen == 0:
            problems.append(f"{option}: {value} is every address; name the networks that are meant")
        found.append(parsed)
    return found


def few(sources: Iterable[Network], most: int = MOST_SOURCES) -> list[Network]:
    """At most ``most`` networks per address family that hold all ``sources``.

    The sources themselves where they are few enough; else all are widened to the longest prefix that makes them so.
    """
    result: list[Network] = []
    for version, bits in ((4, 32), (6, 128)):
        networks = {source for source in sources if source.version == version}
        prefix = bits
        while len(networks) > most:
            prefix -= 1
            networks = {net if net.prefixlen <= prefix else net.supernet(new_prefix=prefix) for net in networks}
        result += networks
    return _sorted(result)


def _sorted(networks: Iterable[Network]) -> list[Network]:
    return sorted(set(networks), key=lambda net: (net.version, int(net.network_address), net.prefixlen))


def printed(network: Network) -> str:
    """A single address without its prefix length, as both firewalls print it."""
    return str(network.network_address if network.prefixlen == network.max_prefixlen else network)
