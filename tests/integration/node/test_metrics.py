# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""node_metrics on a host of network namespaces: what it writes follows the host, whole and for everybody to read."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.action.node_metrics import ActionModule
from ansible_collections.weft.podnet.plugins.module_utils.pki import certs as pki_certs
from support.exposition import parse
from support.modules import run_module
from support.mounts import Mounts
from support.netns import Namespace, connect
from support.pki import CA

PEERS = ["10.244.1.0/24", "10.244.2.0/24"]
ROUTES = {"routes": [{"dst": "10.244.1.0/24", "via": "172.16.0.4"}], "purge": True, "persist": False}
NETWORK = {
    "cniVersion": "1.0.0",
    "name": 'odd"name',
    "type": "bridge",
    "ipam": {"type": "host-local", "subnet": "10.244.0.0/24"},
}


class Node:
    def __init__(self, host: Namespace, mounts: Mounts, folder: Path) -> None:
        self.host, self.mounts, self.folder = host, mounts, folder
        self.file = folder / "podnet.prom"

    def write(self, check: bool = False, **args: Any) -> dict[str, Any]:
        given = {
            "peers": PEERS,
            "steps": [{"module": "pod_route", "args": ROUTES}],
            "directory": str(self.folder),
            **args,
        }
        arguments = ActionModule.arguments(given, {"inventory_hostname": "worker-1"})
        result = self.mounts.run("node_metrics", self.host.path, check, **arguments)
        assert not result["failed"], result
        return result

    def read(self) -> dict[Any, float]:
        """Values by name, or by name and labels."""
        found = parse(self.file.read_text())
        return {name if not labels else (name, *labels.values()): value for name, labels, value in found}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with Namespace() as host, Namespace() as peer, Mounts(tmp_path) as mounts:
        connect(host, "172.16.0.3/24", peer, "172.16.0.4/24")
        yield Node(host, mounts, tmp_path / "collector")


def test_what_is_written_follows_the_host(node: Node) -> None:
    etc = node.mounts.path("/etc")
    (etc / "kubernetes/pki").mkdir(parents=True, exist_ok=True)
    (etc / "kubernetes/pki/ca.crt").write_text(pki_certs.to_pem(CA.certificate))
    (etc / "cni/net.d").mkdir(parents=True, exist_ok=True)
    (etc / "cni/net.d/10-mine.conf").write_text(json.dumps(NETWORK))
    dry = node.write(check=True)
    assert not dry["changed"] and not node.folder.exists()
    node.host.ip("route", "add", "10.244.2.0/24", "via", "172.16.0.4")
    before = time.time()
    assert not node.write(verified=False)["changed"]
    found = node.read()
    assert node.file.stat().st_mode & 0o777 == 0o644 and [path.name for path in node.folder.iterdir()] == [
        "podnet.prom"
    ]
    # The way to one is there, made by somebody; the plan's route is not.
    assert (found["podnet_peers_declared"], found["podnet_peers_present"]) == (2, 1)
    assert found["podnet_drift", "routes"] == 1
    assert found["podnet_leases_capacity", 'odd"name'] == 253 and found["podnet_leases", 'odd"name'] == 0
    expiry = next(value for name, value in found.items() if name[0] == "podnet_certificate_expiry_timestamp_seconds")
    assert expiry == int(pki_certs.validity(CA.certificate).not_after.timestamp())
    assert found["podnet_verify_success"] == 0 and abs(found["podnet_verify_timestamp_seconds"] - before) < 60
    verified = found["podnet_verify_timestamp_seconds"]
    run_module("pod_route", ROUTES, netns=node.host.path)
    node.write()
    again = node.read()
    assert again["podnet_drift", "routes"] == 0 and again["podnet_peers_present"] == 2
    # As the last verification left it.
    assert (again["podnet_verify_success"], again["podnet_verify_timestamp_seconds"]) == (0, verified)
    assert node.host.ip("route", "show", "proto", "87").split()[0] == "10.244.1.0/24"


def test_a_look_that_is_refused_leaves_its_concern_out(node: Node) -> None:
    far = {**ROUTES, "routes": [{"dst": "172.16.0.0/24", "via": "172.16.0.4"}]}
    node.write(steps=[{"module": "pod_route", "args": far}])
    found = node.read()
    assert found["podnet_peers_declared"] == 2 and not [name for name in found if name[0] == "podnet_drift"]


def test_what_was_there_is_not_trusted(node: Node) -> None:
    """Anybody may write the folder of a collector that is set up so."""
    node.folder.mkdir()
    node.file.symlink_to("/etc/shadow")
    node.write()
    assert not node.file.is_symlink() and "podnet_peers_declared 2" in node.file.read_text()
    node.file.write_bytes(b"\xff podnet_verify_success 7\n")
    node.write()
    assert "podnet_verify_success" not in node.read()


def test_removed(node: Node) -> None:
    node.write()
    assert node.write(check=True, state="absent")["changed"] and node.file.exists()
    assert node.write(state="absent")["changed"] and not node.file.exists()
    assert not node.write(state="absent")["changed"]
