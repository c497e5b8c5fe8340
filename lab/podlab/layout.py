# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of a lab and where they are: names, addresses, folders. Nothing here changes the machine."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from .run import LabError

CACHE = Path("/var/cache/weft-lab")  # root file systems and lock files: all that `down` leaves
STATE = Path("/var/lib/weft-lab")  # what running labs need: overlays, namespaces, keys
UNDERLAY = "underlay"
BRIDGE = "br0"
BRIDGE_MAC = "02:ac:10:00:00:01"  # fixed: by default it would change with the nodes that come and go
GATEWAY_V4 = "172.16.0.1"
GATEWAY_V6 = "fd00:172:16::1"
MAX_WORKERS = 200

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?")


@dataclass(frozen=True)
class Node:
    """A host of the lab; `number` is the last part of its addresses."""

    name: str
    number: int

    @property
    def ipv4(self) -> str:
        return f"172.16.0.{self.number}"

    @property
    def ipv6(self) -> str:
        return f"fd00:172:16::{self.number}"

    @property
    def mac(self) -> str:
        """Kept over reboots, as a real card's address is."""
        return f"02:ac:10:00:00:{self.number:02x}"


def parse_node(name: str) -> Node:
    """The node of that name; LabError for names that no lab has."""
    if name == "control-plane":
        return Node(name, 2)
    found = re.fullmatch(r"worker-([1-9][0-9]{0,2})", name)
    if found and int(found[1]) <= MAX_WORKERS:
        return Node(name, int(found[1]) + 2)
    raise LabError(f"{name!r} is no node's name: expected control-plane or worker-1 to worker-{MAX_WORKERS}")


def plan_nodes(workers: int) -> list[Node]:
    """The control plane and so many workers."""
    if not 0 <= workers <= MAX_WORKERS:
        raise LabError(f"--workers {workers}: expected 0 to {MAX_WORKERS}")
    return [parse_node("control-plane")] + [parse_node(f"worker-{i}") for i in range(1, workers + 1)]


@dataclass(frozen=True)
class Lab:
    """A lab of one checkout. Two checkouts may each have a lab of the same name; `id` distinguishes them."""

    name: str
    checkout: Path

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise LabError(
                f"--name {self.name!r}: expected 1 to 20 lower-case letters, digits and inner hyphens, such as `lab`"
            )

    @property
    def id(self) -> str:
        return f"{self.name}-{hashlib.sha256(str(self.checkout).encode()).hexdigest()[:6]}"

    @property
    def state(self) -> Path:
        return STATE / self.id

    @property
    def files(self) -> Path:
        """What the user works with: inventory, ssh_config, key."""
        return self.checkout / ".lab" / self.name

    @property
    def lock(self) -> Path:
        return CACHE / "locks" / f"{self.id}.lock"

    @property
    def cgroup(self) -> str:
        return f"weft-lab/{self.id}"

    def netns(self, name: str) -> Path:
        return self.state / "net" / name

    def folder(self, node: Node) -> Path:
        return self.state / "nodes" / node.name

    def node_cgroup(self, node: Node) -> str:
        return f"{self.cgroup}/{node.name}"

    def machine(self, node: Node) -> str:
        return f"{self.id}-{node.name}"

    def nodes(self) -> list[Node]:
        """The nodes that exist, running or not, in the order of their addresses."""
        folder = self.state / "nodes"
        names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
        return sorted((parse_node(n) for n in names), key=lambda node: node.number)

    def node(self, name: str) -> Node:
        """An existing node; LabError names those there are."""
        for node in self.nodes():
            if node.name == name:
                return node
        there = ", ".join(n.name for n in self.nodes())
        hint = f"its nodes: {there}" if there else f"it is not up: lab/lab up --name {self.name}"
        raise LabError(f"lab {self.name!r} has no node {name!r} ({hint})")


def labs_of(checkout: Path, state: Path = STATE) -> list[Lab]:
    """Every lab with state on this machine that was made from this checkout, or whose checkout is gone."""
    found = []
    for mark in sorted(state.glob("*/checkout")):
        owner = Path(mark.read_text(encoding="utf-8").strip())
        if owner == checkout or not owner.is_dir():
            found.append(Lab(mark.parent.name.rpartition("-")[0], owner))
    return found
