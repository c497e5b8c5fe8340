# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""UDP between agents over the loopback interface: who is answered, what is remembered, and how a size is found."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.probe import datagrams, loop


@pytest.fixture(params=["127.0.0.1", "::1"])
def echo(request: pytest.FixtureRequest) -> Iterator[tuple[datagrams.Echo, str, int]]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        handle.bind(("127.0.0.1", 0))
        port = handle.getsockname()[1]
    found = datagrams.Echo("me")
    opened = dict(found.open(port))
    version = 6 if ":" in request.param else 4
    if version not in opened:
        pytest.skip("no IPv6")
    serving = loop.Loop()
    serving.add(found.serve(version, opened[version]))
    threading.Thread(target=serving.run, daemon=True).start()
    yield found, request.param, port


def done(work: loop.Work[loop.T]) -> loop.T:
    return loop.run([work])[0]


def peer(address: str, port: int, identity: str = "me") -> datagrams.Peer:
    return datagrams.Peer(address, port, identity, "you")


def test_who_names_the_pod_is_answered_and_remembered(echo: tuple[datagrams.Echo, str, int]) -> None:
    served, address, port = echo
    with contextlib.closing(peer(address, port)) as one:
        assert done(one.reached(5)) and one.milliseconds is not None and one.milliseconds > 0
    assert list(served.heard) == ["you"]


def test_who_does_not_gets_nothing(echo: tuple[datagrams.Echo, str, int]) -> None:
    served, address, port = echo
    with contextlib.closing(peer(address, port, "another")) as one:
        assert not done(one.reached(0.2))
    assert not served.heard


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_port_that_refuses_is_asked_no_more_often_than_one_that_is_silent(address: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as handle:
        try:
            handle.bind((address, 0))
        except OSError:
            pytest.skip("no IPv6")
        port = handle.getsockname()[1]
    with contextlib.closing(peer(address, port)) as one:
        assert not done(one.reached(0.5))
        # One at once, and one after each pause that fits.
        assert one._count <= 4


def test_the_first_datagram_waits_for_nothing(
    monkeypatch: pytest.MonkeyPatch, echo: tuple[datagrams.Echo, str, int]
) -> None:
    _served, address, port = echo
    monkeypatch.setattr(datagrams, "PAUSES", (30.0,))
    with contextlib.closing(peer(address, port)) as one:
        assert done(one.reached(20)) and one._count == 1


@pytest.mark.parametrize("data", [b"", b"\xff\n", b"weft me you 1\n", b"weft me you 1 x\n", b"http me you 1 0\n"])
def test_what_is_no_request(data: bytes) -> None:
    assert datagrams.read(data) is None


def test_no_answer_is_larger_than_a_packet_can_be() -> None:
    request = datagrams.read(b"weft me you 1 99999999\n")
    assert request is not None and request.size == datagrams.LARGEST


@pytest.mark.parametrize("largest", [0, 100, 576, 577, 1279, 1280, 1399, 1400, 1449, 1450, 8999])
@pytest.mark.parametrize("mtu", [576, 1450, 9000])
def test_the_search_finds_the_largest_size_that_passes(monkeypatch: pytest.MonkeyPatch, largest: int, mtu: int) -> None:
    rounds = []

    def passing(_self: datagrams.Peer, sizes: set[int], answers: bool, _timeout: float) -> loop.Work[set[int]]:
        yield from ()
        rounds.append((sizes, answers))
        return {size for size in sizes if size <= largest}

    monkeypatch.setattr(datagrams.Peer, "_round", passing)
    with contextlib.closing(peer("127.0.0.1", 9)) as one:
        found = done(one._largest(mtu, answers=False, timeout=1))
    # What is smaller than any link takes is not told apart.
    assert found == (min(largest, mtu) if largest >= min(datagrams.SMALLEST, mtu) else 0)
    assert len(rounds) <= 5 and all(len(sizes) <= datagrams.SIZES_A_ROUND + 1 for sizes, _answers in rounds)


@pytest.mark.parametrize("silent", [False, True])
def test_a_machine_that_answers_late_or_not_has_no_narrow_path(
    monkeypatch: pytest.MonkeyPatch, echo: tuple[datagrams.Echo, str, int], silent: bool
) -> None:
    served, address, port = echo
    with contextlib.closing(peer(address, port)) as one:
        assert done(one.reached(5))
        monkeypatch.setattr(datagrams, "interface_mtu", lambda _address="": 1400)
        one.peer_mtu = 1400
        if silent:
            served.identity = "gone"
            assert not done(one.measure(0.3))
        else:
            whole = served.heard
            assert done(one.measure(5)) and (one.there, one.back) == (1400, 1400) and whole
