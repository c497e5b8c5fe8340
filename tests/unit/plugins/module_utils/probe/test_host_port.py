# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host port for a probe pod: when one is made, and what the plugin is given."""

from __future__ import annotations

import base64
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.probe import cni as probe_cni
from ansible_collections.weft.podnet.plugins.module_utils.probe import host_port

FILE = {"name": "10-x.conflist", "types": ["bridge", "portmap"]}
USED = [{"kind": "host port", "container": "a"}]


@pytest.mark.parametrize(
    ("of_cni", "offered"),
    [
        ({"files": [FILE], "loaded": "10-x.conflist", "rules": USED}, True),
        ({"files": [FILE], "loaded": "10-x.conflist", "rules": [{"kind": "masquerade"}]}, False),
        ({"files": [{**FILE, "types": ["bridge"]}], "loaded": "10-x.conflist", "rules": USED}, False),
        ({"files": [FILE], "loaded": "", "rules": USED}, False),
        ({}, False),
    ],
)
def test_only_where_pods_have_host_ports(of_cni: dict[str, Any], offered: bool) -> None:
    assert host_port.offered({"cni": of_cni}) is offered


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plugin that keeps what it is given, and libcni's record of a pod."""
    network = {
        "name": "n", "cniVersion": "1.0.0",
        "plugins": [{"type": "bridge"}, {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}],
    }  # fmt: skip
    config = base64.b64encode(json.dumps(network).encode()).decode()
    results = tmp_path / "results"
    results.mkdir()
    record = {"containerId": "weft-p1", "ifName": "eth0", "config": config, "result": {"ips": []}}
    (results / "n-weft-p1-eth0").write_text(json.dumps(record))
    program = tmp_path / "portmap"
    program.write_text(f"#!/bin/sh\ncat >{tmp_path}/given; echo $CNI_COMMAND $CNI_NETNS >{tmp_path}/called\n")
    program.chmod(0o755)
    monkeypatch.setattr(probe_cni, "STATE_DIR", tmp_path)
    monkeypatch.setattr(probe_cni, "BIN_PATH", str(tmp_path))
    return tmp_path


def test_the_plugin_does_its_part_for_the_first_free_port(plugin: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1] - 1
        made = host_port.add("weft-p1", "/run/ns", port)
    assert made["host_port"] > port + 1
    assert (plugin / "called").read_text() == "ADD /run/ns\n"
    given = json.loads((plugin / "given").read_text())
    mapping = {"hostPort": made["host_port"], "containerPort": port, "protocol": "tcp"}
    assert given["runtimeConfig"] == {"portMappings": [mapping]}
    assert (given["name"], given["snat"], given["prevResult"]) == ("n", True, {"ips": []})
    # A DEL of the pod is given the same.
    ((_path, entry),) = probe_cni.cached("weft-p1")
    assert [each.get("runtimeConfig") for each in probe_cni.plugin_inputs(entry)] == [given["runtimeConfig"], None]


def test_a_plugin_that_fails_is_quoted(plugin: Path) -> None:
    (plugin / "portmap").write_text("#!/bin/sh\necho no iptables >&2; exit 1\n")
    assert host_port.add("weft-p1", "/run/ns", 30000) == {"host_port_problem": "no iptables"}


def test_a_plugin_that_is_missing_is_named(plugin: Path) -> None:
    (plugin / "portmap").unlink()
    assert "portmap is in none of" in host_port.add("weft-p1", "/run/ns", 30000)["host_port_problem"]
