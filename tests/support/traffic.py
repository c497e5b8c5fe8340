# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Traffic between running pods of two workers, while something is done to the workers."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from support.lab import CHECKOUT, Lab

PODS = "weft-podnet-verify"


@dataclass
class Pings:
    """What became of the pings: how many were sent, each ``interval`` seconds, and which had an answer, from 1 on."""

    interval: float
    sent: int = 0
    answered: set[int] = field(default_factory=set)

    @property
    def lost(self) -> int:
        return self.sent - len(self.answered)

    @property
    def gap(self) -> float:
        """The longest time without an answer, in seconds."""
        missing = "".join(" " if number in self.answered else "x" for number in range(1, self.sent + 1))
        return max(map(len, missing.split()), default=0) * self.interval

    @property
    def works(self) -> bool:
        """Is the last second answered? The very last ping may still have been on its way."""
        last = range(max(1, self.sent - round(1 / self.interval)), self.sent)
        return self.answered.issuperset(last)


@contextmanager
def ping(lab: Lab, node: str, address: str, interval: float, inside: Sequence[str]) -> Iterator[Pings]:
    """Ping an address on a node with a command that runs others ``inside`` a pod. Complete after the block."""
    words = ["ping", "-n", "-i", str(interval), address]
    command = [str(CHECKOUT / "lab" / "lab"), "exec", "--name", lab.name, node, "--", *inside, *words]
    pings = Pings(interval)
    # A file, since nobody reads a pipe meanwhile.
    with tempfile.TemporaryFile("w+") as output, subprocess.Popen(command, stdout=output) as running:
        time.sleep(1)
        try:
            yield pings
        finally:
            lab.exec(node, "pkill", "-INT", "--full", "--exact", " ".join(words))
            running.wait(10)
        output.seek(0)
        said = output.read()
    pings.sent = int(re.findall(r"(\d+) packets transmitted", said)[0])
    pings.answered = {int(number) for number in re.findall(r"bytes from .*icmp_seq=(\d+) ", said)}


@contextmanager
def pinging(lab: Lab, lost: list[int]) -> Iterator[None]:
    """A pod of worker-1 pings one of worker-2, 50 times a second; ``lost`` gets the number of pings without answer.

    The pods are gone afterwards. A ping on its way when it is stopped has no answer yet: one lost is as good as none.
    """
    pids, addresses = {}, {}
    for node in ("worker-1", "worker-2"):
        assert lab.module(node, "pod_probe", {"state": "started", "node": node, "pods": 1}).code == 0
        listed = lab.exec(node, "ctr", "--namespace", PODS, "tasks", "list").splitlines()[1].split()
        pids[node] = listed[1]
        shown = lab.exec(node, "nsenter", "-t", pids[node], "-n", "ip", "-4", "-json", "addr", "show", "eth0")
        addresses[node] = json.loads(shown)[0]["addr_info"][0]["local"]
    inside = ["nsenter", "-t", pids["worker-1"], "-n"]
    with ping(lab, "worker-1", addresses["worker-2"], 0.02, inside=inside) as pings:
        yield
    assert pings.sent > 50, pings
    lost.append(pings.lost)
    for node in ("worker-1", "worker-2"):
        lab.module(node, "pod_probe", {"state": "absent"})
