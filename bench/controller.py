# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the mesh costs the controller: Ansible runs on so many hosts that are none, no module is started."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import memory
from bench.play import Played, play

PLAYS = Path(__file__).resolve().parent / "controller_plays"


def bench(sizes: Sequence[int]) -> None:
    """The mesh for the first number of workers; the ordinary idiom for the others, and what that foretells."""
    hosts, *few = sizes
    with tempfile.TemporaryDirectory() as folder:
        print(f"controller, {hosts} workers with {hosts - 1} peers each", flush=True)
        inventory = write_inventory(Path(folder), hosts)
        played = {}
        for name in ("plan", "constant", "mesh"):
            played[name] = play(PLAYS / f"{name}.yml", inventory, podnet_backend="vxlan")
            _show(name, played[name])
        spent = _less(played["mesh"], played["constant"])
        _line("the mesh (mesh less constant)", *spent)
        plan = played["plan"]
        _line("with the whole play that plans", spent[0] + plan.seconds, spent[1] + plan.cpu)
        with memory.of_children() as peak:
            play(PLAYS / "mesh.yml", inventory, podnet_backend="vxlan")
        print(f"  {'all processes of mesh together, at most':<42}{peak.kib / 1024:>8.0f} MiB", flush=True)
    for count in few:
        with tempfile.TemporaryDirectory() as folder:
            inventory = write_inventory(Path(folder), count)
            nothing = play(PLAYS / "nothing.yml", inventory)
            ordinary = play(PLAYS / "hostvars.yml", inventory)
            spent = _less(ordinary, nothing)
            _show(f"hostvars, {count} workers", ordinary)
            _show(f"constant, {count} workers", nothing)
            _line(f"the idiom, {count} workers", *spent)
            square = (hosts / count) ** 2
            _line(f"  by the square, for {hosts} (extrapolated)", spent[0] * square, spent[1] * square)


def write_inventory(folder: Path, count: int) -> Path:
    """Workers by address, every pod subnet given, the module's connection local (nothing is connected to)."""
    # The pod CIDR must hold a /24 for each.
    lines = ["workers:", "  vars: {ansible_connection: local, podnet_pod_cidr: 10.192.0.0/12}", "  hosts:"]
    for number in range(1, count + 1):
        high, low = divmod(number, 250)
        address, subnet = f"172.20.{high}.{low + 1}", f"10.{200 + number // 256}.{number % 256}.0/24"
        lines.append(f"    worker-{number}: {{ansible_host: {address}, podnet_pod_subnet: {subnet}}}")
    path = folder / "inventory.yml"
    path.write_text("\n".join(lines) + "\n")
    return path


def _less(one: Played, other: Played) -> tuple[float, float]:
    return one.seconds - other.seconds, one.cpu - other.cpu


def _show(name: str, played: Played) -> None:
    _line(name, played.seconds, played.cpu, f"{played.rss_kib / 1024:>6.0f} MiB")


def _line(name: str, seconds: float, cpu: float, memory: str = "") -> None:
    print(f"  {name:<42}{seconds:>8.2f} s  {cpu:>8.2f} s of CPU  {memory}", flush=True)
