# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file for nft is loaded where it filters nothing, and nothing stays of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.node.info import saved_filters
from support.netns import command

WALL = """flush ruleset
table {family} {name} {{
  set pods {{
    type ipv4_addr
    elements = {{ 10.0.0.1 }}
  }}
  chain FORWARD {{
    type filter hook forward priority 0; policy drop;
    {rule}
  }}
}}
"""
DROPS = WALL.format(family="inet", name="wall", rule='iifname "wg0" accept')


@pytest.mark.parametrize(
    ("text", "chains"),
    [
        (DROPS, ["FORWARD"]),
        (DROPS.replace("}", ""), []),
        (WALL.format(family="inet", name="wall", rule="ip saddr @pods accept"), []),
        (WALL.format(family="ip", name="filter", rule=""), []),
    ],
    ids=["drops", "broken", "with a named set", "of iptables"],
)
def test_a_file_is_read_as_nft_reads_it(tmp_path: Path, text: str, chains: list[str]) -> None:
    before = command("nft", "list", "ruleset")
    file = tmp_path / "nftables.conf"
    file.write_text(text)
    assert [name for each in saved_filters._of_nftables(str(file)) for name in each.chains] == chains
    assert command("nft", "list", "ruleset") == before


def test_a_file_that_never_ends_leaves_no_process(tmp_path: Path) -> None:
    endless, file = tmp_path / "endless", tmp_path / "nftables.conf"
    os.mkfifo(endless)
    file.write_text(f'include "{endless}"\n')
    assert saved_filters._of_nftables(str(file)) == []
    assert subprocess.run(["pgrep", "-f", str(file)], capture_output=True, check=False).returncode == 1
