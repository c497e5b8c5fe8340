# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules that hand packets to a program, such as one that prevents intrusions. Without the program, they drop."""

from __future__ import annotations

import re
from pathlib import Path

from ...core import files
from .rulesets import UNHEARD, Chain, Table

LISTENING = "proc/net/netfilter/nfnetlink_queue"
# What iptables-save and nft print. Without a number it is the first queue; one that is computed stays as it is.
HANDED = re.compile(
    r"-j NFQUEUE --queue-(?:num|balance) (\d+)(?::(\d+))?(?!.*--queue-bypass)|-j QUEUE$"
    r"|(?<!\S)queue(?: flags (?!\S*bypass)\S+)?(?: (?:num|to) (\d+)(?:-(\d+))?)?(?: fanout)?(?=$| comment)"
)


def listening(root: str = "/") -> set[int]:
    """The queues of this network namespace that a program reads. Raises FileError."""
    lines = (files.read_text(Path(root, LISTENING)) or "").splitlines()
    return {int(line.split()[0]) for line in lines if line.split()}


def marked(table: Table, heard: set[int]) -> Table:
    """The same table, with UNHEARD at the end of rules whose queues no program reads."""
    chains = {name: _marked(chain, heard) for name, chain in table.chains.items()}
    return table._replace(chains=chains)


def _marked(chain: Chain, heard: set[int]) -> Chain:
    if not any("QUEUE" in line or "queue" in line for line in chain.lines):
        return chain
    return chain._replace(lines=tuple(_rule(line, heard) for line in chain.lines))


def _rule(line: str, heard: set[int]) -> str:
    found = HANDED.search(line)
    if found is None:
        return line
    first = int(found[1] or found[3] or 0)
    last = int(found[2] or found[4] or first)
    return line if heard.intersection(range(first, last + 1)) else f"{line}{UNHEARD}"
