# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of network namespaces: real kernel objects, gone with the test."""

from __future__ import annotations

import concurrent.futures
import itertools
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from support.modules import enter

Result = TypeVar("Result")
_numbers = itertools.count()


class Namespace:
    """A network namespace of its own with ``lo`` up. Use as a context manager.

    Its links do no IPv6 duplicate address detection (`all/accept_dad` brings it back): that ends a second or two after
    a link came up, and adds a route then.
    """

    def __init__(self) -> None:
        self.name = f"weft-test-{os.getpid()}-{next(_numbers)}"
        self.path = Path("/run/netns") / self.name

    def __enter__(self) -> Namespace:
        command("ip", "netns", "add", self.name)
        self.run("sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad")
        self.ip("link", "set", "lo", "up")
        return self

    def __exit__(self, *_exc: object) -> None:
        command("ip", "netns", "delete", self.name)

    def ip(self, *words: str) -> str:
        return command("ip", "-n", self.name, *words)

    def ip_json(self, *words: str) -> list[dict[str, Any]]:
        text = command("ip", "-n", self.name, "-j", *words)
        return list(json.loads(text)) if text.strip() else []

    def run(self, *words: str) -> str:
        return command("ip", "netns", "exec", self.name, *words)

    def address(self, dev: str, address: str) -> None:
        """Give ``dev``, which is up, an address with a prefix. The routes of an IPv6 one come a moment later."""
        self.ip("addr", "add", address, "dev", dev, *(["nodad"] if ":" in address else []))
        if ":" in address:
            self.settle(dev)

    def settle(self, dev: str, seconds: float = 30) -> None:
        """Wait until the kernel has done what it does by itself after ``dev`` came up: it has its IPv6 link-local
        address, no address is under examination, and all of ``dev`` have their local route. From then on routes change
        by nobody's hand."""
        deadline = time.monotonic() + seconds
        while True:
            found = {link["ifname"]: link.get("addr_info", []) for link in self.ip_json("addr")}
            own = {each["local"]: each["scope"] for each in found[dev] if each["family"] == "inet6"}
            routed = {route["dst"] for route in self.ip_json("-6", "route", "show", "table", "local", "dev", dev)}
            examined = any(each.get("tentative") for each in itertools.chain(*found.values()))
            if "link" in own.values() and not examined and own.keys() <= routed:
                return
            assert time.monotonic() < deadline, f"{self.name}: {dev} does not settle: {found}"
            time.sleep(0.02)

    def settle_meshes(self) -> None:
        """``settle`` for every VXLAN device that is up: one that was recreated a moment ago is still examined."""
        for link in self.ip_json("link", "show", "up", "type", "vxlan"):
            self.settle(link["ifname"])

    def bridge(self, *words: str) -> str:
        return command("bridge", "-n", self.name, *words)

    def call(self, function: Callable[[], Result]) -> Result:
        """Call a function in this namespace: in a thread of its own, since a namespace belongs to a thread."""

        def there() -> Result:
            enter(str(self.path))
            return function()

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            return pool.submit(there).result()


def connect(left: Namespace, left_address: str, right: Namespace, right_address: str, dev: str = "eth0") -> None:
    """A cable between two hosts, ``dev`` on both ends, with an address and prefix each."""
    # Two ends of one index, as fresh namespaces give them, look to the kernel like no link to elsewhere: it would then
    # take up to a second to notice that the cable is in.
    index = str(100 + next(_numbers))
    left.ip("link", "add", dev, "index", index, "type", "veth", "peer", "name", dev, "netns", right.name)
    for host, address in ((left, left_address), (right, right_address)):
        host.ip("addr", "add", address, "dev", dev, *(["nodad"] if ":" in address else []))
        host.ip("link", "set", dev, "up")
    for host in (left, right):
        host.settle(dev)


def command(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr or done.stdout}"
    return done.stdout
