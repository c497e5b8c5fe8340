# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Traffic between running pods of two workers, while something is done to the workers."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from support.lab import CHECKOUT, Lab

PODS = "weft-podnet-verify"


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
    inside = ["nsenter", "-t", pids["worker-1"], "-n", "ping", "-n", "-q", "-i", "0.02", addresses["worker-2"]]
    command = [str(CHECKOUT / "lab" / "lab"), "exec", "--name", lab.name, "worker-1", "--", *inside]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as ping:
        time.sleep(1)
        try:
            yield
        finally:
            lab.exec("worker-1", "pkill", "-INT", "ping")
            told = ping.communicate(timeout=10)[0]
    sent, received = (int(number) for number in re.findall(r"(\d+) packets transmitted, (\d+) received", told)[0])
    assert sent > 50, told
    lost.append(sent - received)
    for node in ("worker-1", "worker-2"):
        lab.module(node, "pod_probe", {"state": "absent"})
