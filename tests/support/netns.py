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
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from support.modules import enter

Result = TypeVar("Result")
_numbers = itertools.count()


class Namespace:
    """A network namespace of its own with ``lo`` up. Use as a context manager."""

    def __init__(self) -> None:
        self.name = f"weft-test-{os.getpid()}-{next(_numbers)}"
        self.path = Path("/run/netns") / self.name

    def __enter__(self) -> Namespace:
        command("ip", "netns", "add", self.name)
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
    left.ip("link", "add", dev, "type", "veth", "peer", "name", dev, "netns", right.name)
    for host, address in ((left, left_address), (right, right_address)):
        host.ip("addr", "add", address, "dev", dev, *(["nodad"] if ":" in address else []))
        host.ip("link", "set", dev, "up")


def command(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr or done.stdout}"
    return done.stdout
