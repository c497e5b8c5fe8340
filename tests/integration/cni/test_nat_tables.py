# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nat tables that iptables-nft leaves without a rule go; those with anything in them stay."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.cni import nat_tables
from support.netns import Namespace


@pytest.fixture
def host() -> Iterator[Namespace]:
    with Namespace() as made:
        yield made


def tables(host: Namespace) -> list[str]:
    return host.run("nft", "list", "tables").splitlines()


def test_what_iptables_leaves_behind_goes(host: Namespace) -> None:
    rule = ["POSTROUTING", "-j", "MASQUERADE"]
    for iptables in ("iptables-nft", "ip6tables-nft"):
        host.run(iptables, "-t", "nat", "-A", *rule)
    host.call(nat_tables.remove_empty)
    assert sorted(tables(host)) == ["table ip nat", "table ip6 nat"]
    for iptables in ("iptables-nft", "ip6tables-nft"):
        host.run(iptables, "-t", "nat", "-D", *rule)
    assert sorted(tables(host)) == ["table ip nat", "table ip6 nat"]
    host.call(nat_tables.remove_empty)
    assert tables(host) == []
    host.call(nat_tables.remove_empty)


@pytest.mark.parametrize(
    "more",
    [
        "add rule ip nat POSTROUTING ip saddr 10.0.0.0/8 masquerade",
        "add chain ip nat DOCKER",
        "add set ip nat wanted { type ipv4_addr; }",
        "add chain ip nat INPUT { type nat hook input priority 100; policy drop; }",
    ],
)
def test_whatever_is_in_use_stays(host: Namespace, more: str) -> None:
    host.run("nft", "add table ip nat")
    host.run("nft", "add chain ip nat POSTROUTING { type nat hook postrouting priority 100; policy accept; }")
    host.run("nft", more)
    before = host.run("nft", "list", "ruleset")
    host.call(nat_tables.remove_empty)
    assert host.run("nft", "list", "ruleset") == before


def test_nonsense_is_not_empty() -> None:
    for text in (b"", b"{}", b'{"nftables": [3]}', b'{"nftables": [{"chain": null}]}', b"\xff"):
        assert not nat_tables.is_empty(text)
