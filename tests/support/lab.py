# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab of real nodes for tests, and the playbooks run on it as a user runs them."""

from __future__ import annotations

import contextlib
import difflib
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from support import labs, plays
from support.forks import CHECKOUT

BIN = Path(sys.executable).parent

# What a host is made of, as far as this collection could have a hand in it. File contents by checksum.
SNAPSHOT = r"""
ip -4 route show table all | sed 's/ linkdown//'
ip -6 route show table all | grep -v -e 'table local' -e fe80 -e multicast
ip -4 rule; ip -6 rule
ip -o link | cut -d: -f2 | sed 's/@.*//' | sort
nft list ruleset | sed 's/counter packets [0-9]* bytes [0-9]*/counter/'
iptables-legacy-save 2>/dev/null | grep -v '^#' || true
find /etc/cni /var/lib/cni /opt/cni /opt/weft-podnet /etc/weft-podnet /run/weft-podnet* /var/lib/weft-podnet \
    /etc/sysctl.d /etc/modules-load.d /etc/systemd/system /etc/iproute2 /etc/kubernetes /etc/flannel /run/flannel \
    /usr/local/bin \
    -path /var/lib/weft-podnet/bytecode -prune -o -printf '%p %y %m %l\n' 2>/dev/null | sort
find /run/runc /run/containerd/runc /run/containerd/io.containerd.runtime.v2.task \
    /var/lib/containerd/io.containerd.runtime.v2.task -maxdepth 1 -name '*weft*' 2>/dev/null | sort
find /etc/cni /var/lib/cni /etc/sysctl.d /etc/modules-load.d /etc/systemd/system -type f -exec md5sum {} + | sort
ctr namespaces list --quiet | grep weft
ctr --namespace weft-podnet-verify containers list --quiet
systemctl list-units --failed --all --plain --no-legend | cut -d' ' -f1 | sed 's/^/failed unit: /'
"""


class Play(NamedTuple):
    """A finished ansible-playbook: its exit code, what it printed, and its recap by host."""

    code: int
    output: str
    recap: dict[str, dict[str, int]]

    @property
    def text(self) -> str:
        """What it printed as one line, since warnings are wrapped."""
        return " ".join(self.output.split())

    @property
    def returned(self) -> dict[str, Any]:
        """What a module that was run ad hoc returned."""
        last = [match.end() for match in re.finditer(r"^\S+ \| \S+ => ", self.output, re.MULTILINE)][-1]
        return dict(json.JSONDecoder().raw_decode(self.output, last)[0])

    @property
    def changed(self) -> dict[str, int]:
        return {host: counts["changed"] for host, counts in self.recap.items()}

    @property
    def findings(self) -> list[tuple[str, str, str]]:
        """What the diagnosis found: (severity, hosts, rule)."""
        return re.findall(r"^ *(ERROR|WARNING|NOTE) (.+): .* \[([a-z0-9-]+)\]$", self.output, re.MULTILINE)

    @property
    def fixes(self) -> dict[tuple[str, str], str]:
        """The first fix of each finding as printed, "" for none, by host and rule."""
        found = {}
        for block in re.split(r"(?m)^(?= *(?:ERROR|WARNING|NOTE) .+: )", self.output)[1:]:
            head, _newline, rest = block.partition("\n")
            hosts, rule = head.partition(": ")[0].split(maxsplit=1)[1], head.rpartition("[")[2].rstrip("] ")
            fix = re.search(r"(?m)^ *fix: +(.+)$", rest)
            found.update({(host, rule): fix[1] if fix else "" for host in hosts.split(" and ")})
        return found


class Lab:
    """One lab by name. ``up`` and ``down`` cost a second or two each."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = CHECKOUT / ".lab" / name
        # Extra variables of every playbook run in this lab.
        self.variables: dict[str, Any] = {}

    @property
    def inventory(self) -> Path:
        return self.folder / "inventory.yml"

    def _lab(self, *words: str, timeout: float = 600) -> str:
        done = labs.run([words[0], "--name", self.name, *words[1:]], timeout)
        assert done.code == 0, f"lab {' '.join(words)}: {done.err or done.out}"
        return done.out

    def up(self, workers: int = 2, release: str = "") -> None:
        self._lab("up", "--workers", str(workers), *(["--release", release] if release else []))

    def down(self) -> None:
        self._lab("down")

    def reboot(self, node: str) -> None:
        self._lab("reboot", node, "--wait")

    def exec(self, node: str, *words: str) -> str:
        return self._lab("exec", node, "--", *words)

    def sh(self, node: str, script: str) -> str:
        return self.exec(node, "sh", "-c", script)

    def snapshot(self, node: str) -> list[str]:
        return self.sh(node, SNAPSHOT).splitlines()

    def snapshots(self, *nodes: str) -> dict[str, list[str]]:
        return {node: self.snapshot(node) for node in nodes or ("worker-1", "worker-2")}

    def hosts(self) -> dict[str, Any]:
        return dict(yaml.safe_load(self.inventory.read_text())["workers"]["hosts"])

    def inventory_of(self, hosts: dict[str, dict[str, Any]], name: str = "edited.yml") -> Path:
        """The lab's inventory with these workers, beside its own (and so with the same lock file)."""
        path = self.folder / name
        whole = yaml.safe_load(self.inventory.read_text())
        if path.parent == self.folder:
            whole.setdefault("all", {}).setdefault("vars", {})["podnet_lock_file"] = str(
                self.folder / "podnet.lock.yml"
            )
        path.write_text(yaml.safe_dump({**whole, "workers": {**whole["workers"], "hosts": hosts}}))
        return path

    def play(self, playbook: str, *words: str, inventory: Path | None = None, **variables: Any) -> Play:
        """Run one of the collection's playbooks, variables as extra vars."""
        return self.run(CHECKOUT / "playbooks" / f"{playbook}.yml", *words, inventory=inventory, **variables)

    def run(self, playbook: Path, *words: str, inventory: Path | None = None, **variables: Any) -> Play:
        """Run any playbook, variables as extra vars."""
        given = json.dumps({**self.variables, **variables})
        return self._ansible("ansible-playbook", [str(playbook), "--extra-vars", given, *words], inventory)

    def module(self, host: str, module: str, args: dict[str, Any], *words: str, **environment: str) -> Play:
        """Run one module ad hoc; see ``returned``."""
        called = [host, "--module-name", f"weft.podnet.{module}", "--args", json.dumps(args)]
        return self._ansible("ansible", [*called, *words], None, ANSIBLE_CALLBACK_RESULT_FORMAT="json", **environment)

    def _ansible(self, command: str, words: list[str], inventory: Path | None, **environment: str) -> Play:
        done = plays.run(command, ["--inventory", str(inventory or self.inventory), *words], environment=environment)
        recap = {
            match[1]: {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", match[2])}
            for match in re.finditer(r"^(\S+)\s+: (ok=.*)$", done.out, re.MULTILINE)
        }
        # As where a file that loops is included by a loop.
        assert "is already in use" not in done.err, done.err
        # What a playbook computes of a result that is not there.
        assert "Error while evaluating" not in done.out + done.err, done.out + done.err
        if done.code:
            # pytest shows it where a test fails, and cuts it short in an assertion.
            sys.stdout.write(done.out + done.err)
        return Play(done.code, done.out + done.err, recap)


@contextlib.contextmanager
def fresh(name: str, workers: int = 2, release: str = "") -> Iterator[Lab]:
    """A lab that nobody has touched, gone afterwards. ``release``: another one of Debian than this machine's."""
    lab = Lab(name)
    lab.down()
    # Here, as Molecule and the benchmarks use this file without the collection on Python's path.
    from ansible_collections.weft.podnet.plugins.plugin_utils.plan import plan_file

    # A lab of this name that is gone had the same inventory, and verify.yml reads the plan applied last for it.
    plan_file.applied_file(str(lab.inventory)).unlink(missing_ok=True)
    lab.up(workers, release)
    try:
        yield lab
    finally:
        lab.down()


def unlike(before: dict[str, list[str]], after: dict[str, list[str]]) -> list[str]:
    """What differs between two snapshots, a line each: "worker-1 + ..." for what is new, "-" for what is gone."""
    return [
        f"{node} {line}"
        for node in before
        for line in difflib.ndiff(before[node], after[node])
        if line.startswith(("+", "-"))
    ]


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for a condition; False when it does not come about in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
