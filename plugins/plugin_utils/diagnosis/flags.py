# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flanneld's command line. Pure."""

from __future__ import annotations

from collections.abc import Sequence

# Those that need no value.
SWITCHES = {
    *("kube-subnet-mgr", "ip-masq", "iptables-forward-rules", "ip-blackhole-route", "logtostderr", "alsologtostderr"),
    *("ip-masq-fully-random-disable", "set-node-network-unavailable", "use-multi-cluster-cidr"),
}


def parse(words: Sequence[str]) -> dict[str, list[str]]:
    """The flags of a command line by name, each with its values; of a switch, "true" or what is given."""
    found: dict[str, list[str]] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or not word.strip("-"):
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if not equals:
            value = "true" if name in SWITCHES or not rest else rest.pop(0)
        found.setdefault(name, []).append(value)
    return found
