# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vxlan_peer when things go wrong: nothing half-applied, everything converges."""

from __future__ import annotations

import errno
import random
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.module_utils.core.resource import undone
from ansible_collections.weft.podnet.plugins.module_utils.netlink import channel as channel_module
from ansible_collections.weft.podnet.plugins.module_utils.netlink import nexthop
from ansible_collections.weft.podnet.plugins.module_utils.netlink.channel import Channel, NetlinkError
from ansible_collections.weft.podnet.plugins.module_utils.vxlan import apply as vxlan_apply
from ansible_collections.weft.podnet.plugins.module_utils.vxlan import host as vxlan_host
from ansible_collections.weft.podnet.plugins.module_utils.vxlan import spec as vxlan_spec
from support.modules import finish_module, start_module
from support.netns import Namespace
from support.vxlan import BASE, kernel, mesh, some, underlay_host


@pytest.fixture
def host() -> Iterator[Namespace]:
    with underlay_host() as node:
        yield node


def wanted(peers: list[dict[str, str]], **args: object) -> vxlan_spec.Spec:
    return vxlan_spec.check({**BASE, "peers": peers, **args}, "n1")


def converge(request: vxlan_spec.Spec, objects: bool = True) -> vxlan_host.Plan:
    with Channel() as channel:
        change = vxlan_host.decide(channel, vxlan_host.observe(channel, request, objects), request)
        with undone(lambda: vxlan_apply.undo(change, request, objects)):
            vxlan_apply.apply(channel, change, request, objects)
    return change


def test_a_peer_that_the_kernel_refuses_is_named_and_nothing_is_half_applied(host: Namespace) -> None:
    """No plan sees a broadcast route in the main table; the kernel says no."""
    mesh(host, some(5))
    host.ip("route", "add", "broadcast", "10.128.18.0/24", "dev", "eth0", "table", "main")
    before = kernel(host)
    result = mesh(host, some(1500, mac=3), mtu=1400)
    assert result["failed"]
    assert result["msg"].splitlines() == [
        "peers[17] worker-18: the kernel refuses: Nexthop has invalid gateway",
        "the previous mesh is restored; nothing is half-applied",
    ]
    assert kernel(host) == before
    host.ip("route", "del", "broadcast", "10.128.18.0/24", "dev", "eth0", "table", "main")
    assert mesh(host, some(1500, mac=3), mtu=1400)["changed"]


def test_a_refusal_while_the_device_is_made_leaves_no_device(host: Namespace) -> None:
    host.ip("route", "add", "broadcast", "10.128.2.0/24", "dev", "eth0", "table", "main")
    before = kernel(host)
    assert mesh(host, some(5))["failed"] and kernel(host) == before


def test_a_refusal_while_the_device_is_recreated_brings_the_old_one_back(host: Namespace) -> None:
    mesh(host, some(5))
    host.ip("route", "add", "broadcast", "10.128.9.0/24", "dev", "eth0", "table", "main")
    before = kernel(host)
    result = mesh(host, some(9), name="flannel.1", vni=7, port=4789)
    assert result["failed"] and "the previous mesh is restored" in result["msg"]
    assert kernel(host) == before and not mesh(host, some(5))["changed"]


def test_foreign_routes_forbid_recreating_the_device(host: Namespace) -> None:
    mesh(host)
    host.ip("route", "add", "10.250.0.0/24", "dev", "flannel.1")
    before = kernel(host)
    result = mesh(host, name="flannel.1", vni=7)
    assert (
        result["failed"]
        and "must be recreated, which would remove a foreign route: 10.250.0.0/24 dev flannel.1" in result["msg"]
    )
    assert kernel(host) == before


def test_losing_the_way_back_brings_the_mesh_back(host: Namespace) -> None:
    """The ssh peer sits in another node's pods; removing that peer would end the session."""
    mesh(host, some(3))
    before = kernel(host)
    result = mesh(host, some(2), env={"SSH_CONNECTION": "10.128.3.7 50000 172.31.0.11 22"})
    assert result["failed"] and "the way back is lost" in result["msg"] and kernel(host) == before


def test_answers_that_overrun_the_buffer_are_no_mystery(host: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few hundred refusals at once and next to no receive buffer: ENOBUFS, then each is asked again by itself."""
    peers = some(400)
    batch = "".join(f"route add broadcast {peer['pod_cidr']} dev eth0 table main\n" for peer in peers[100:])
    subprocess.run(["ip", "-n", host.name, "-batch", "-"], input=batch, text=True, check=True)
    mesh(host, peers[:50])
    before = kernel(host)
    lost: list[int] = []
    real = Channel.apply

    def apply(self: Channel, requests: list[channel_module.Request], chunk: int = 500) -> dict[int, NetlinkError]:
        try:
            return real(self, requests, chunk)
        except NetlinkError as error:
            lost.append(error.code)
            raise

    monkeypatch.setattr(channel_module, "QUEUE", 1)
    monkeypatch.setattr(Channel, "apply", apply)
    with pytest.raises(Refused) as refused:
        host.call(lambda: converge(wanted(peers)))
    assert lost == [errno.ENOBUFS]
    assert refused.value.problems[0] == "peers[100] worker-101: the kernel refuses: Nexthop has invalid gateway"
    assert "the previous mesh is restored" in refused.value.problems[-1]
    assert kernel(host) == before


def test_a_dump_that_changes_under_our_eyes_is_asked_again(host: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh(host, some(3000))
    again: list[float] = []
    stop = threading.Event()
    real_sleep = time.sleep

    def pause(seconds: float) -> None:
        again.append(seconds)
        real_sleep(seconds)

    monkeypatch.setattr(channel_module.time, "sleep", pause)

    def flap() -> None:
        with Channel() as channel:
            links = {link["ifname"]: link["ifindex"] for link in host.ip_json("link")}
            entry = (99, b"\xac\x1f\0\x0c", links["eth0"], False)
            while not stop.is_set():
                # In bursts, as real changes come: a dump gets through in between, however slow the machine.
                burst = time.monotonic() + 0.05
                while time.monotonic() < burst:
                    channel.apply(nexthop.put(2, 4, [entry], 0x200))
                    channel.apply([nexthop.delete(99)])
                    real_sleep(0.001)
                real_sleep(0.2)

    def observe() -> int:
        with Channel() as channel:
            return len(vxlan_host.observe(channel, wanted(some(3000))).state.nexthops)

    flapping = threading.Thread(target=lambda: host.call(flap))
    flapping.start()
    try:
        counts = {host.call(observe)}
        deadline = time.monotonic() + 30
        while not again and time.monotonic() < deadline:
            counts.add(host.call(observe))
    finally:
        stop.set()
        flapping.join()
    assert counts == {3000} and again, "no dump was interrupted: the test proves nothing"


def test_killed_many_times_the_next_run_converges(host: Namespace) -> None:
    states = [some(1200), some(800, start=400, mac=1), some(1200, mac=2)]
    random.seed(3)
    cut = 0
    for turn in range(30):
        args = {**BASE, "peers": states[turn % 3], "mtu": 1450 - turn % 2, "vni": 1 + turn // 10, "name": "mesh0"}
        process = start_module("vxlan_peer", args, netns=host.path)
        time.sleep(random.uniform(0.18, 0.45))
        cut += process.poll() is None
        process.kill()
        process.communicate()
        if turn % 10 == 9:
            assert not mesh(host, states[turn % 3], name="mesh0", mtu=args["mtu"], vni=args["vni"])["failed"]
            assert not mesh(host, states[turn % 3], name="mesh0", mtu=args["mtu"], vni=args["vni"])["changed"]
            assert len(kernel(host, "mesh0")["nexthop"]) == len(states[turn % 3])
    assert cut > 5, "hardly a run was cut off: the test proves nothing"


def test_two_runs_at_once_follow_each_other(host: Namespace) -> None:
    first, second = some(500), some(500, start=300, mac=1)
    one, two = {**BASE, "peers": first}, {**BASE, "peers": second}
    runs = [start_module("vxlan_peer", args, netns=host.path) for args in (one, two, one, two)]
    results = [finish_module(process) for process in runs]
    assert not any(result["failed"] for result in results), results
    assert sum(not mesh(host, peers, check=True)["changed"] for peers in (first, second)) == 1
    assert len(kernel(host)["nexthop"]) == 500


def test_a_kernel_without_nexthop_objects(host: Namespace) -> None:
    """Plain routes with our protocol number instead; and from one kind to the other when the kernel is renewed."""
    four = wanted(some(4))
    assert host.call(lambda: converge(four, objects=False)).changed
    found = kernel(host)
    assert "10.128.4.0/24 via 10.128.4.0 dev flannel.1 proto 87 onlink" in found["route"] and not found["nexthop"]
    assert not host.call(lambda: converge(four, objects=False)).changed
    assert host.call(lambda: converge(wanted(some(2)), objects=False)).changes.routes.remove
    assert mesh(host, some(4))["changed"] and len(kernel(host)["nexthop"]) == 4
    assert not mesh(host, some(4))["changed"]
