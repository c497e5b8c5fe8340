# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Probe pods without containerd: the agent over real sockets, and what a CNI DEL is given."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.probe import agent as probe_agent
from ansible_collections.weft.podnet.plugins.module_utils.probe import cni as probe_cni
from ansible_collections.weft.podnet.plugins.module_utils.probe import exchange, loop
from ansible_collections.weft.podnet.plugins.module_utils.probe import host as probe_host
from ansible_collections.weft.podnet.plugins.module_utils.probe import pods as probe_pods
from support import probe
from support.lab import until
from support.modules import run_module
from support.probe import free_port


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """An agent as a pod runs it: a script of its own, isolated from the environment."""
    port = free_port()
    process = probe.start(tmp_path, port, "me")
    yield str(tmp_path / probe_agent.CONTROL), port
    process.kill()
    process.wait()


def target(port: int, address: str = "127.0.0.1") -> dict[str, Any]:
    return {"node": "n", "pod": "p1", "id": "me", "address": address, "port": port}


def test_the_agent_tells_whom_it_sees(agent: tuple[str, int]) -> None:
    control, port = agent
    reply = probe_agent.ask(control, {"targets": [target(port)], "timeout": 3, "tries": 1}, 10)
    (result,) = reply["results"]
    assert result.pop("ms") > 0 and result.pop("udp_ms") > 0
    assert result == {"to": "me", "address": "127.0.0.1", "source": "127.0.0.1"}
    # Another one answers, by an address that is not the requested one.
    others = {**target(port), "id": "another"}
    reply = probe_agent.ask(control, {"targets": [others], "timeout": 3, "tries": 1}, 10)
    assert reply["results"][0]["identity"] == "me"
    asked = {"source": "10.0.0.1", "identity": "me", "client": "10.0.0.2", "reached": "10.0.0.3", "ms": 1}
    assert probe_agent.unexpected(target(port), asked) == {name: asked[name] for name in asked if name != "identity"}


def test_the_agent_survives_nonsense_and_closed_ports(agent: tuple[str, int]) -> None:
    control, port = agent
    with socket.socket(socket.AF_UNIX) as handle:
        handle.connect(control)
        handle.sendall(b"nonsense")
    reply = probe_agent.ask(control, {"targets": [target(free_port()), target(port)], "timeout": 1, "tries": 2}, 10)
    assert [result.get("error") for result in reply["results"]] == ["Connection refused", None]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"\xff",
        b'{"identity": "other"}',
        b"[" * 4000,
        b'{"identity": "x", "client": "y", "reached": "' + b"z" * 9000,
    ],
)
def test_an_answer_that_is_none(body: bytes) -> None:
    with pytest.raises(ValueError, match="not a probe pod's"):
        probe_agent.heard(body[: probe_agent.LONGEST])


def test_an_answer_says_nothing_but_what_is_asked() -> None:
    said = {"identity": "x", "client": 5, "reached": "z", "to": "another", "address": "10.0.0.1", "error": ""}
    assert probe_agent.heard(json.dumps(said).encode()) == {"identity": "x", "client": "5", "reached": "z"}


def test_a_silent_target_costs_its_time_out_and_no_more(agent: tuple[str, int]) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        began = time.monotonic()
        reply = probe_agent.ask(agent[0], {"targets": [target(port)] * 20, "timeout": 0.3, "tries": 2}, 10)
    assert {result["error"] for result in reply["results"]} == {"no answer within 0.3 s"}
    # One after the other they would take 12 s.
    assert time.monotonic() - began < 9


def test_a_target_gets_more_time_where_answers_take_long() -> None:
    class Busy(probe_agent.Server):
        """Takes its time for every answer, and gives the first request at ``silent`` none."""

        asked: list[int] = []

        def answer(self, handle: socket.socket, client: str) -> loop.Work[None]:
            self.asked.append(self.port)
            first = self.port == silent and self.asked.count(silent) == 1
            yield loop.Wait(handle, 0, loop.FOREVER if first else time.monotonic() + 0.3)
            yield from super().answer(handle, client)

    servers = [Busy(free_port(), "me") for _number in range(3)]
    silent = servers[0].port
    for server in servers:
        server.start()
    try:
        found = probe_agent.probe([{**target(server.port), "kind": "node"} for server in servers], 2, 1)
    finally:
        for server in servers:
            server.stop()
    assert [result.get("error") for result in found] == [None, None, None]
    assert Busy.asked.count(silent) == 2


def test_own_addresses_leave_loopback_out() -> None:
    assert not {"127.0.0.1", "::1"} & set(probe_agent.own_addresses())
    assert probe_agent.plain("::ffff:10.244.0.5") == "10.244.0.5"
    assert probe_agent.plain("fd00::5") == "fd00::5"


def entry(network: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A cached result as libcni writes it."""
    return {
        "kind": "cniCacheV1",
        "containerId": "weft-podnet-verify-p1",
        "config": base64.b64encode(json.dumps(network).encode()).decode(),
        "ifName": "eth0",
        "networkName": network["name"],
        "result": {"ips": [{"address": "10.244.0.5/24"}]},
        **more,
    }


def test_a_del_runs_the_list_backwards_with_the_result_of_the_add() -> None:
    network = {
        "cniVersion": "1.0.0",
        "name": "cbr0",
        "plugins": [
            {"type": "flannel"},
            {"type": "portmap", "capabilities": {"portMappings": True, "bandwidth": True}},
        ],
    }
    cached = entry(network, capabilityArgs={"portMappings": [{"hostPort": 80}]})
    last, first = probe_cni.plugin_inputs(cached)
    assert last["type"] == "portmap"
    assert last["runtimeConfig"] == {"portMappings": [{"hostPort": 80}]}
    assert first["type"] == "flannel"
    assert "runtimeConfig" not in first
    assert all(given["name"] == "cbr0" and given["prevResult"] == cached["result"] for given in (first, last))
    assert probe_cni.addresses(cached) == ["10.244.0.5/24"]


def test_an_old_version_gets_no_previous_result() -> None:
    (given,) = probe_cni.plugin_inputs(entry({"cniVersion": "0.3.1", "name": "b", "plugins": [{"type": "bridge"}]}))
    assert "prevResult" not in given


@pytest.mark.parametrize("config", ["%%%", "", "bnVsbA==", "e30="])
def test_a_broken_cache_is_told(config: str) -> None:
    problems = probe_cni.detach({"containerId": "weft-podnet-verify-p1", "config": config}, "")
    assert len(problems) == 1
    assert "CNI's record of weft-podnet-verify-p1 can't be used" in problems[0]


def test_only_our_leases_are_released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = tmp_path / "networks/bridge"
    network.mkdir(parents=True)
    (network / "10.244.0.2").write_text("weft-podnet-verify-p1\r\neth0")
    (network / "10.244.0.3").write_text("0123456789ab\r\neth0")
    (network / "last_reserved_ip.0").write_text("10.244.0.3")
    monkeypatch.setattr(probe_cni, "STATE_DIR", tmp_path)
    assert probe_cni.release_leases("weft-podnet-verify-") == [network / "10.244.0.2"]
    assert sorted(path.name for path in network.iterdir()) == ["10.244.0.3", "last_reserved_ip.0"]


def test_the_pod_sees_the_interpreter_wherever_it_lies() -> None:
    program, outside = probe_pods.interpreter()
    assert Path(program).is_file()
    assert program.startswith("/usr/") or any(path in Path(program).parents for path in outside)


def test_the_way_to_this_host_is_local() -> None:
    found = probe_host.diagnose(["127.0.0.1"], failed=True)
    way = {"dst": "127.0.0.1/32", "via": "", "dev": "lo", "local": True, "src": "127.0.0.1", "mtu": 0}
    assert found["ways"] == {"127.0.0.1": way}
    assert found["forwarding"].keys() == {"4"}


def test_where_nothing_fails_no_reason_is_looked_for() -> None:
    found = probe_host.diagnose(["127.0.0.1"], failed=False)
    assert found["ways"] == {} and found["forward_policy"] == {} and found["forwarding"].keys() == {"4"}


def test_all_bad_arguments_at_once() -> None:
    bad = {"node": "n", "pod": "p", "id": "i", "address": "10.0.0.0/24", "port": 1}
    result = run_module("pod_probe", {"state": "probed", "pods": 0, "port": 70000, "targets": [bad]})
    assert result["failed"]
    for part in ("pods is 0", "port is 70000", "targets[0].address is '10.0.0.0/24'"):
        assert part in result["msg"]


def test_a_host_without_containerd_is_told_what_it_lacks(tmp_path: Path) -> None:
    result = run_module("pod_probe", {"state": "started", "socket": str(tmp_path / "none.sock")}, check=True)
    assert result["failed"]
    assert f"containerd is not running: there is no socket {tmp_path}/none.sock" in result["msg"]


def test_a_host_that_lacks_something_is_observed_all_the_same(tmp_path: Path) -> None:
    result = run_module("pod_probe", {"state": "started", "socket": str(tmp_path / "none.sock")})
    assert result["failed"] and result["host"]["format"] == 1 and result["host"]["links"]


def test_the_agent_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    process = probe.start(tmp_path, free_port(), "me")
    probe_agent.ask(str(tmp_path / probe_agent.CONTROL), {"end": True}, 5)
    assert process.wait(timeout=10) == 0


def test_more_than_a_packet_passes_both_ways(agent: tuple[str, int]) -> None:
    _control, port = agent
    met = loop.run([probe_agent.bulk(target(to), 5) for to in (port, free_port())], 2)
    assert met == ["", "Connection refused"]


def test_the_throughput_of_a_connection(agent: tuple[str, int]) -> None:
    control, port = agent
    asked = {"stream": target(port), "seconds": 0.2, "timeout": 5}
    (met,) = probe_agent.ask(control, asked, 10)["results"]
    assert met["mbit_s"] > 1 and "error" not in met
    (met,) = probe_agent.ask(control, {**asked, "stream": target(free_port())}, 10)["results"]
    assert met == {"error": "Connection refused"}


def test_whose_datagrams_arrived_is_told_where_something_failed(agent: tuple[str, int]) -> None:
    control, port = agent
    ask = {"targets": [target(port)], "timeout": 1, "tries": 1}
    assert probe_agent.ask(control, ask, 20)["heard"] == []
    ask["targets"] = [target(free_port())]
    assert probe_agent.ask(control, ask, 20)["heard"] == ["me"]


def test_large_packets_and_nodes_are_tried_once_for_each_node() -> None:
    everyone = [
        {"node": node, "id": f"{node}-{pod}", "address": address, "kind": "pod"}
        for node in ("w1", "w2")
        for pod in ("p1", "p2")
        for address in ("10.244.0.5", "fd00::5")
    ]
    outside = {"node": "w2", "id": "n2", "address": "172.16.0.4", "kind": "node"}
    first = probe_pods.asked("w1-p1", [*everyone, outside], first=True)
    assert [each["id"] for each in first] == [each["id"] for each in everyone[2:]] + ["n2"]
    thorough = [(each["id"], each["address"]) for each in first if each.get("thorough")]
    assert thorough == [(pod, ip) for pod in ("w1-p2", "w2-p1") for ip in ("10.244.0.5", "fd00::5")]
    second = probe_pods.asked("w1-p2", [*everyone, outside], first=False)
    assert len(second) == 6 and not any(each["thorough"] for each in second)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"", "the connection was closed without an answer"),
        (b"SSH-2.0-OpenSSH\r\n", "the connection was closed without an answer"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", exchange.NOT_A_PODS),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", exchange.NOT_A_PODS),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", exchange.NOT_A_PODS),
        (b"x" * 70000, exchange.NOT_A_PODS),
    ],
    ids=str,
)
def test_what_answers_and_is_no_probe_pod(said: bytes, error: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()

        def answer() -> None:
            handle, _client = other.accept()
            with handle:
                handle.recv(65536)
                handle.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        (met,) = probe_agent.probe([{**target(other.getsockname()[1]), "kind": "node"}], 5, 1)
        thread.join()
    assert met["error"] == error


def test_what_was_there_in_time_counts_although_another_took_all_of_it() -> None:
    one, two = socket.socketpair()
    with one, two:

        def waiting() -> loop.Work[bool]:
            return (yield loop.Wait(one, loop.READ, time.monotonic() + 0.2))

        def busy() -> loop.Work[bool]:
            yield loop.Wait(two, loop.WRITE, loop.FOREVER)
            two.sendall(b"x")
            time.sleep(0.3)
            return False

        assert loop.run([waiting(), busy()], 2) == [True, False]


def test_a_server_outlives_a_fault_of_one_of_its_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    def faulty() -> loop.Work[None]:
        yield loop.Wait(one, loop.WRITE, loop.FOREVER)
        raise OSError("no descriptor is free")

    one, two = socket.socketpair()
    server = probe_agent.Server(free_port(), "me")
    server.loop.add(faulty())
    # Both are ready in the first turn.
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        client.sendall(exchange.request("GET", 0))
        server.start()
        answer = client.recv(4096)
    server.stop()
    assert b'"identity": "me"' in answer
    one.close()
    two.close()
    assert until(lambda: "no descriptor is free" in capsys.readouterr().err, 30)
