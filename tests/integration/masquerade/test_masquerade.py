# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pod_masquerade against the kernel: real TCP between a pod, its node and the world, and the rules around ours."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.masquerade import boot as masquerade_boot
from ansible_collections.weft.podnet.plugins.module_utils.masquerade import rules as masquerade
from support.modules import run_module
from support.netns import Namespace, connect

OPTIONS: dict[str, Any] = {
    "pod_subnets": ["10.244.1.0/24", "fd00:10:244:1::/64"],
    "cluster_cidrs": ["10.244.0.0/16", "fd00:10:244::/56"],
    "exclude": ["192.168.77.0/24", "fd77::/64"],
    "persist": False,
}
BACKENDS = ["nftables", "iptables"]
PORT = 8077
# Tells every client the address it is seen with, on IPv4 and IPv6.
SERVER = f"""
import socket
server = socket.create_server(("::", {PORT}), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    connection, peer = server.accept()
    connection.sendall(peer[0].removeprefix("::ffff:").encode())
    connection.close()
"""
CLIENT = f"""
import socket, sys
with socket.create_connection((sys.argv[1], {PORT}), timeout=5) as connection:
    print(connection.recv(100).decode())
"""


@pytest.fixture
def node() -> Iterator[Namespace]:
    """A host without any rule."""
    with Namespace() as host:
        yield host


@pytest.fixture
def world() -> Iterator[tuple[Namespace, Callable[[str], str]]]:
    """pod - node - outside, routed both ways. Gives the node, and a function: the pod's address as a server sees it.

    Outside has another node's pods (10.244.2.7, fd00:10:244:2::7), a routed site (192.168.77.7, fd77::7) and the rest
    of the world (203.0.113.7, 2001:db8::7).
    """
    with Namespace() as pod, Namespace() as node, Namespace() as outside:
        connect(node, "10.244.1.1/24", pod, "10.244.1.5/24", dev="cni0")
        connect(node, "172.31.0.2/24", outside, "172.31.0.1/24")
        for host, address, dev in (
            (node, "fd00:10:244:1::1/64", "cni0"),
            (pod, "fd00:10:244:1::5/64", "cni0"),
            (node, "fd00:aa::2/64", "eth0"),
            (outside, "fd00:aa::1/64", "eth0"),
        ):
            host.ip("addr", "add", address, "dev", dev, "nodad")
        for address in ("10.244.2.7", "192.168.77.7", "203.0.113.7"):
            outside.ip("addr", "add", f"{address}/32", "dev", "lo")
        for address in ("fd00:10:244:2::7", "fd77::7", "2001:db8::7"):
            outside.ip("addr", "add", f"{address}/128", "dev", "lo", "nodad")
        for host, gateway4, gateway6 in ((pod, "10.244.1.1", "fd00:10:244:1::1"), (node, "172.31.0.1", "fd00:aa::1")):
            host.ip("route", "add", "default", "via", gateway4)
            host.ip("-6", "route", "add", "default", "via", gateway6)
        outside.ip("route", "add", "10.244.1.0/24", "via", "172.31.0.2")
        outside.ip("-6", "route", "add", "fd00:10:244:1::/64", "via", "fd00:aa::2")
        node.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        words = ["ip", "netns", "exec", outside.name, sys.executable, "-c", SERVER]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                assert server.stdout.readline() == "ready\n"
                yield node, lambda address: pod.run(sys.executable, "-c", CLIENT, address).strip()
            finally:
                server.terminate()


def converge(node: Namespace, *, check: bool = False, **args: Any) -> dict[str, Any]:
    return run_module("pod_masquerade", {**OPTIONS, **args}, check=check, netns=node.path)


def snapshot(node: Namespace) -> str:
    """All rules, and the tables that there are: what anybody's tool would show. Reading makes no table."""
    parts = [node.run("nft", "list", "ruleset")]
    for command_name in ("iptables-legacy-save", "ip6tables-legacy-save"):
        # The comments hold the time.
        parts += [line for line in node.run(command_name).splitlines() if not line.startswith("#")]
    return "\n".join(parts)


def handles(node: Namespace) -> list[str]:
    """Handles are never given twice: the same ones mean that nothing was loaded again."""
    return [line for line in node.run("nft", "-a", "list", "ruleset").splitlines() if "handle" in line]


def plant(node: Namespace) -> None:
    """Foreign rules, in nftables and in both of iptables' tables, with the names that are common."""
    node.run("nft", "add table inet theirs; add chain inet theirs post { type nat hook postrouting priority srcnat; }")
    node.run("nft", "add rule inet theirs post ip saddr 10.88.0.0/16 masquerade")
    for tool, source in (("iptables-legacy", "172.17.0.0/16"), ("ip6tables-legacy", "fd17::/64")):
        node.run(tool, "-t", "nat", "-N", "THEIRS")
        node.run(tool, "-t", "nat", "-A", "POSTROUTING", "-s", source, "-j", "THEIRS")
        node.run(tool, "-t", "nat", "-A", "THEIRS", "-j", "MASQUERADE")


@pytest.mark.parametrize("backend", BACKENDS)
def test_only_traffic_that_leaves_the_cluster_is_masqueraded(
    world: tuple[Namespace, Callable[[str], str]], backend: str
) -> None:
    node, seen_by = world
    assert (seen_by("203.0.113.7"), seen_by("2001:db8::7")) == ("10.244.1.5", "fd00:10:244:1::5")
    assert converge(node, backend=backend)["backend"] == backend
    assert (seen_by("203.0.113.7"), seen_by("2001:db8::7")) == ("172.31.0.2", "fd00:aa::2")
    assert (seen_by("10.244.2.7"), seen_by("fd00:10:244:2::7")) == ("10.244.1.5", "fd00:10:244:1::5")
    assert (seen_by("192.168.77.7"), seen_by("fd77::7")) == ("10.244.1.5", "fd00:10:244:1::5")
    converge(node, state="absent")
    assert (seen_by("203.0.113.7"), seen_by("2001:db8::7")) == ("10.244.1.5", "fd00:10:244:1::5")


@pytest.mark.parametrize("backend", BACKENDS)
def test_run_run_again_and_removal_beside_the_rules_of_others(node: Namespace, backend: str) -> None:
    plant(node)
    before = snapshot(node)
    dry = converge(node, backend=backend, check=True)
    assert dry["changed"] and snapshot(node) == before
    real = converge(node, backend=backend)
    assert real["changed"] and real["diff"] == dry["diff"]
    # Each of their lines still stands, in their order.
    present = iter(snapshot(node).splitlines())
    assert all(line in present for line in before.splitlines())
    loaded, text = handles(node), snapshot(node)
    again = converge(node, backend=backend, exclude=list(reversed(OPTIONS["exclude"])))
    assert not again["changed"] and again["diff"] == []
    assert (handles(node), snapshot(node)) == (loaded, text)
    dry = converge(node, state="absent", check=True)
    assert dry["changed"] and snapshot(node) == text
    gone = converge(node, state="absent")
    assert gone["changed"] and gone["diff"] == dry["diff"]
    assert snapshot(node) == before
    assert not converge(node, state="absent")["changed"]


def test_nftables_leaves_an_untouched_host_untouched(node: Namespace) -> None:
    before = snapshot(node)
    assert before == ""
    converge(node, state="absent")
    converge(node, check=True)
    assert snapshot(node) == before
    converge(node)
    assert "*nat" not in snapshot(node)
    converge(node, state="absent")
    assert snapshot(node) == before


LEGACY_DAMAGE = {
    "a rule is gone": "-D WEFT-PODNET -d 192.168.77.0/24 -j RETURN",
    "a rule too many": "-I WEFT-PODNET -j RETURN",
    "the jump is gone": f"-D {masquerade.JUMP}",
    "the jump stands twice": f"-A {masquerade.JUMP}",
    "another jump": "-A POSTROUTING -p tcp -j WEFT-PODNET",
    "the chain is empty": "-F WEFT-PODNET",
    "all of nat is empty": "-F",
}


@pytest.mark.parametrize("damage", LEGACY_DAMAGE.values(), ids=LEGACY_DAMAGE)
def test_iptables_damage_is_shown_and_repaired(node: Namespace, damage: str) -> None:
    converge(node, backend="iptables")
    whole = snapshot(node)
    node.run("iptables-legacy", "-t", "nat", *damage.split())
    damaged = snapshot(node)
    assert damaged != whole
    dry = converge(node, check=True)
    assert snapshot(node) == damaged
    result = converge(node)
    assert result["changed"] and result["backend"] == "iptables" and result["diff"] == dry["diff"]
    # IPv6 was whole, so the diff is about IPv4 alone, and about what was damaged.
    (entry,) = result["diff"]
    own = [line for line in damaged.split("*nat")[1].splitlines() if "WEFT-PODNET" in line]
    assert entry["before"].splitlines() == [line.replace(" [0:0]", "") for line in own]
    assert snapshot(node) == whole
    assert not converge(node)["changed"]


def _nft_handle(node: Namespace, text: str) -> str:
    (line,) = [line for line in node.run("nft", "-a", "list", "ruleset").splitlines() if text in line]
    return line.split()[-1]


@pytest.mark.parametrize("damage", ["rule", "extra", "chain", "table", "dormant"])
def test_nftables_damage_is_shown_and_repaired(node: Namespace, damage: str) -> None:
    converge(node)
    whole = snapshot(node)
    node.run("nft", {
        "rule": f"delete rule ip weft-podnet postrouting handle {_nft_handle(node, '192.168.77.0/24')}",
        "extra": "insert rule ip weft-podnet postrouting return",
        "chain": "flush chain ip weft-podnet postrouting",
        "table": "delete table ip weft-podnet",
        "dormant": "add table ip weft-podnet { flags dormant; }",
    }[damage])  # fmt: skip
    damaged = snapshot(node)
    assert damaged != whole
    result = converge(node)
    (entry,) = result["diff"]
    removed = set(entry["after"].splitlines()) - set(entry["before"].splitlines())
    if damage == "rule":
        assert removed == {"\t\tip daddr 192.168.77.0/24 return"}
    shown = [line for line in damaged.partition("table ip6")[0].splitlines() if line]
    assert entry["before"].splitlines() == (shown if damage != "table" else [])
    assert sorted(snapshot(node).splitlines()) == sorted(whole.splitlines())
    assert not converge(node)["changed"]


def test_the_backend_follows_the_host_and_then_stays(node: Namespace) -> None:
    assert converge(node, check=True)["backend"] == "nftables"
    # A table without rules is no sign of life: any listing makes one.
    node.run("iptables-legacy", "-t", "filter", "-L")
    assert converge(node, check=True)["backend"] == "nftables"
    node.run("iptables-legacy", "-t", "filter", "-A", "INPUT", "-s", "192.0.2.1", "-j", "DROP")
    assert converge(node)["backend"] == "iptables"
    node.run("iptables-legacy", "-t", "filter", "-F")
    assert not converge(node)["changed"]
    switched = converge(node, backend="nftables")
    assert switched["changed"] and "WEFT-PODNET" not in snapshot(node)
    node.run("iptables-legacy", "-t", "filter", "-A", "INPUT", "-s", "192.0.2.1", "-j", "DROP")
    assert not converge(node)["changed"]
    assert converge(node, backend="iptables")["changed"]
    assert "weft-podnet {" not in snapshot(node)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_changed_policy_replaces_the_rules(node: Namespace, backend: str) -> None:
    converge(node, backend=backend)
    changed = converge(node, backend=backend, pod_subnets=["10.244.1.0/24"], exclude=["::ffff:1.2.3.0/120", "10.1.2.3"])
    assert changed["changed"] and "fd00" not in snapshot(node)
    both: dict[str, Any] = {
        "pod_subnets": ["10.244.1.0/24", "fd00:10:244:1::/64"],
        "cluster_cidrs": ["10.244.0.0/16", "fd00:10:244::/48"],
    }
    assert converge(node, backend=backend, **both)["changed"]
    assert not converge(node, backend=backend, **both)["changed"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_runs_at_once_end_in_one_set_of_rules(node: Namespace, backend: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _number: converge(node, backend=backend), range(2)))
    assert sorted(result["changed"] for result in results) == [False, True], results
    assert not converge(node, backend=backend)["changed"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_loaded_at_boot_is_what_the_module_makes(node: Namespace, backend: str, tmp_path: Path) -> None:
    defaults = {name: spec["default"] for name, spec in masquerade.ARGUMENT_SPEC.items()}
    policy = masquerade.policy({**defaults, **OPTIONS})
    if backend == "nftables":
        bundle = masquerade_boot.nft_bundle(policy, "nft")
    else:
        names = {4: "iptables-legacy", 6: "ip6tables-legacy"}
        tools = {
            version: masquerade_boot.Legacy(name, f"{name}-save", f"{name}-restore") for version, name in names.items()
        }
        bundle = masquerade_boot.iptables_bundle(policy, tools)
    for path, text in bundle.files.items():
        (tmp_path / Path(path).name).write_text(text)
    starts = [line for line in bundle.files[masquerade_boot.UNIT_PATH].splitlines() if line.startswith("ExecStart=")]
    for line in [*starts, *starts]:
        start = line.removeprefix("ExecStart=").replace("/etc/weft-podnet", str(tmp_path))
        node.run(*shlex.split(start))
    assert not converge(node, backend=backend)["changed"]


def test_bad_ranges_are_told_at_once_and_touch_nothing(node: Namespace) -> None:
    result = converge(node, pod_subnets=["10.244.1.1/24", "10.1.0.0/24"], exclude=["nonsense"])
    assert result["failed"] and len(result["msg"].splitlines()) == 3, json.dumps(result)
    assert snapshot(node) == ""
