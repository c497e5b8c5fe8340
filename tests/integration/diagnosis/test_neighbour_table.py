# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rule neighbour-table-full, its break and its fix, with this machine as the node.

No lab node can show it: the limit, and the number of entries, are visible in a machine's own network namespace only.
"""

from __future__ import annotations

import ipaddress
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ansible_collections.weft.podnet.plugins.module_utils.netlink import neigh
from ansible_collections.weft.podnet.plugins.module_utils.netlink.channel import Channel
from support import inventories
from support.lab import Play, until
from support.mounts import Mounts
from support.netns import Namespace

LIMIT = Path("/proc/sys/net/ipv4/neigh/default/gc_thresh3")
RULE = "neighbour-table-full"
# This process' user, root, without ssh and without sudo.
MACHINE = {
    "ansible_connection": "local",
    "ansible_host": "127.0.0.1",
    "ansible_become": False,
    "ansible_python_interpreter": sys.executable,
}
MAC = "02:00:00:00:00:01"


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Mounts]:
    """Where a fix writes its files. The machine's limit is as before after the test."""
    before = LIMIT.read_text()
    (tmp_path / "host").mkdir()
    with Mounts(tmp_path / "host") as mounts:
        yield mounts
    LIMIT.write_text(before)


def test_a_full_table_of_neighbours_is_named_and_its_fix_heals(tmp_path: Path, files: Mounts) -> None:
    """The entries are those of a pod's network namespace, which the table of the machine counts as well."""
    path = tmp_path / "inventory.yml"
    path.write_text(yaml.safe_dump({"workers": {"hosts": {"machine": MACHINE}}}))
    looks: list[Play] = []

    def look() -> set[str]:
        looks.append(Play(*inventories.play("diagnose", path), {}))
        return rules(looks[-1])

    def is_found() -> bool:
        """The kernel forgets entries that nothing uses after a minute or so."""
        fill(host, entries)
        return RULE in look()

    # More than nine tenths of the limit, and less than the whole, whatever the machine itself has.
    entries = int(LIMIT.read_text()) * 19 // 20
    # Whatever else is wrong with this machine, which has no pod network.
    others = look() - {RULE}
    with Namespace() as host:
        host.ip("link", "add", "pods", "type", "bridge")
        host.ip("link", "set", "pods", "up")
        assert until(is_found, 60), looks[-1].output
        assert rules(looks[-1]) == {*others, RULE}
        files.sh(looks[-1].fixes["machine", RULE])
        fill(host, entries)
        assert look() == others, looks[-1].output
        assert files.path("/etc/sysctl.d/zzz-pod-network.conf").read_text().split("=")[1] == LIMIT.read_text()


def rules(look: Play) -> set[str]:
    return {rule for _severity, _hosts, rule in look.findings}


def fill(host: Namespace, entries: int) -> None:
    first = ipaddress.IPv4Address("10.0.0.1")
    lines = [f"neigh replace {first + number} lladdr {MAC} dev pods nud reachable\n" for number in range(entries)]
    subprocess.run(["ip", "-n", host.name, "-batch", "-"], input="".join(lines), text=True, check=True)


def test_entries_that_no_limit_counts_are_recognized() -> None:
    """A mesh's are permanent, and a routing daemon's are marked, whatever their state."""
    kinds = {2: "nud permanent", 3: "nud stale extern_learn", 4: "nud reachable", 5: "nud noarp"}

    def lasting() -> dict[str, bool]:
        with Channel() as channel:
            return {str(ipaddress.ip_address(each.address)): each.lasting for each in neigh.everywhere(channel)}

    with Namespace() as host:
        host.ip("link", "add", "pods", "type", "bridge")
        host.ip("link", "set", "pods", "up")
        for number, kind in kinds.items():
            for prefix in ("192.0.2.", "fd00::"):
                host.ip("neigh", "add", f"{prefix}{number}", "lladdr", MAC, "dev", "pods", *kind.split())
        found = host.call(lasting)
    for prefix in ("192.0.2.", "fd00::"):
        assert {number for number in kinds if not found[f"{prefix}{number}"]} == {4}
