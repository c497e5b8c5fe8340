# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flanneld's options, settings and times."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.node.info import flannel
from ansible_collections.weft.podnet.plugins.module_utils.node.info.section import Notes
from ansible_collections.weft.podnet.plugins.module_utils.node.info.services import Unit

SCHEMA = json.loads((Path(__file__).resolve().parents[6] / "schemas/net-conf.json").read_text())


def test_keys_are_those_of_the_schema() -> None:
    """The schema stays on the controller, so the host has a list of its own."""
    assert set(flannel.KEYS) == set(SCHEMA["properties"])
    defined = {"vxlan": "vxlan", "host-gw": "hostGw", "wireguard": "wireguard", "ipip": "ipip", "udp": "udp"}
    for kind, name in defined.items():
        assert set(flannel.BACKEND_KEYS[kind]) == set(SCHEMA["$defs"][name]["properties"]), kind


@pytest.mark.parametrize(
    ("text", "conf", "problems"),
    [
        (None, {}, []),
        ("{", {}, ["it is no JSON"]),
        ("[]", {}, ["it holds no JSON object"]),
        ('{"Network": "10.0.0.0/8"}', {"Network": "10.0.0.0/8"}, ["no Backend: flanneld takes udp"]),
        ('{"backend": []}', {"backend": []}, ["Backend is no JSON object"]),
        (
            '{"network": "a", "Nets": 1, "Backend": {"type": "VXLAN", "vni": 1, "ListenPort": 2}}',
            {"network": "a", "Nets": 1, "Backend": {"type": "VXLAN", "vni": 1, "ListenPort": 2}},
            ["unknown key Nets", "unknown key Backend.ListenPort"],
        ),
        (
            '{"Backend": {"Type": "wireguard", "PSK": "secret"}, "x": [{"psk": "secret"}]}',
            {"Backend": {"Type": "wireguard", "PSK": "***"}, "x": [{"psk": "***"}]},
            ["unknown key x"],
        ),
        ('{"Backend": {"Type": "extension", "Any": 1}}', {"Backend": {"Type": "extension", "Any": 1}}, []),
    ],
)
def test_net_conf(text: str | None, conf: object, problems: list[str]) -> None:
    found, said = flannel.net_conf(text)
    assert found == conf and [line.partition(":")[0] for line in said] == [line.partition(":")[0] for line in problems]


def test_arguments_without_secrets() -> None:
    words = ["--ip-masq", "-etcd-password", "secret", "--etcd-username=secret", "--etcd-endpoints=http://a"]
    masked = ["--ip-masq", "-etcd-password", "***", "--etcd-username=***", "--etcd-endpoints=http://a"]
    assert flannel.masked(words) == masked
    shown = "{ path=/x ; argv[]=/x --ip-masq --v=1 ; ignore_errors=no ; start_time=[n/a] }"
    assert flannel.arguments(Unit({"ExecStart": shown}), []) == ["--ip-masq", "--v=1"]
    assert flannel.arguments(Unit({}), []) == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10min", 600), ("1min 30s", 90), ("1.5s", 1.5), ("infinity", 0), ("", 0), ("2h 500ms", 7200.5)],
)
def test_spans(text: str, seconds: float) -> None:
    assert flannel.span(text) == seconds


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ({"LoadState": "loaded", "ActiveState": "failed"}, True),
        ({"LoadState": "loaded", "ActiveState": "active", "NRestarts": "3"}, True),
        ({"LoadState": "loaded", "ActiveState": "active", "NRestarts": "0"}, False),
        ({"LoadState": "not-found", "ActiveState": "failed"}, False),
    ],
)
def test_the_journal_is_read_only_where_something_failed(
    monkeypatch: pytest.MonkeyPatch, said: dict[str, str], asked: bool
) -> None:
    calls: list[list[str]] = []

    def call(argv: list[str], timeout: float) -> subprocess.CompletedProcess[str]:
        calls.append(argv)
        lines = [f'E1126 12:00:0{number}.0 1 main.go:1] nodes "w{number}" not found' for number in range(9)]
        return subprocess.CompletedProcess(argv, 0, "\n".join(lines), "")

    monkeypatch.setattr(flannel.tools, "call", call)
    found = flannel.observe(Unit(said), [], Notes())
    assert bool(calls) is asked and len(found["journal"]) == (5 if asked else 0)
    assert found["meanings"] == (
        ["node_name: the API server has no Node w8; it must be the Node's name exactly"] if asked else []
    )
    assert found["unit"]["exists"] is (said["LoadState"] == "loaded")
