# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in for flanneld over time: nodes that go, restarts, a rotated certificate, its end, its refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.flanneld_standin import (
    CLUSTER,
    IPTABLES,
    N3_ANNOTATIONS,
    PREFIX,
    RULES,
    Cluster,
    Node,
    eventually,
    register_nodes,
    start_both,
    two_nodes,
)
from support.flanneld_standin import issue as _issue
from support.flanneld_standin import mac as _mac
from support.flanneld_standin import rules as _rules
from support.vxlan import kernel


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with two_nodes(tmp_path) as cluster:
        yield cluster


@pytest.fixture
def joined(cluster: Cluster) -> Cluster:
    return register_nodes(cluster)


def test_deletion_stop_and_restart(joined: Cluster) -> None:
    conf = {"Network": CLUSTER, "backend": {"type": "vxlan"}}
    start_both(joined, conf, "--iptables-resync=1")
    first, second = joined.nodes
    eventually(lambda: len(kernel(first.host)["fdb"]) == 2 and len(kernel(second.host)["fdb"]) == 2)
    joined.admin("DELETE", "/api/v1/nodes/n3")
    eventually(lambda: [len(kernel(first.host)[part]) for part in ("fdb", "neigh")] == [1, 1])
    eventually(lambda: not any("10.244.2.0" in line for line in kernel(first.host)["route"]))

    # Rules are repaired, peers are not.
    first.host.run("iptables", "-t", "nat", "-F", "FLANNEL-POSTRTG")
    eventually(lambda: _rules(first.host) == IPTABLES, lambda: _rules(first.host))
    first.host.ip("route", "del", "10.244.1.0/24")

    before, mac = kernel(second.host), _mac(second.host)
    assert second.stop() == 0 and "Exiting cleanly..." in second.said()
    assert kernel(second.host) == before and second.env_file.exists() and "FLANNEL" in _rules(second.host)
    second.start(conf)
    assert "VXLAN device already exists" in second.said() and kernel(second.host) == before
    second.stop()
    second.host.ip("link", "del", "flannel.1")
    second.start(conf)
    eventually(lambda: kernel(second.host)["fdb"] == before["fdb"])
    assert kernel(second.host) == before and _mac(second.host) == mac
    assert not any("10.244.1.0/24" in line for line in kernel(first.host)["route"]), "nothing repairs a peer's route"


def test_a_rotated_certificate_and_a_new_api_server(joined: Cluster) -> None:
    """n2 refers to its certificate by path: the new one is taken without a restart; the watch survives the server."""
    node = joined.nodes[1]
    node.start({"Network": CLUSTER, "Backend": {"Type": "vxlan"}}, STANDIN_CERTIFICATE_REFRESH="0.3")
    eventually(lambda: len(kernel(node.host)["fdb"]) == 1)
    _issue(joined.folder, "flannel", "/O=podnet:node:n2/CN=system:flannel", "clientAuth")
    eventually(lambda: any("podnet:node:n2" in call["user"]["groups"] for call in joined.calls(verb="watch")))
    joined.end()
    eventually(lambda: "watch ended with error" in node.said(), node.said)
    joined.serve()
    joined.register("n4", "10.244.4.0/24", {**N3_ANNOTATIONS, f"{PREFIX}/public-ip": "172.31.0.14"})
    eventually(lambda: any("10.244.4.0" in line for line in kernel(node.host)["neigh"]), node.said)
    assert len(kernel(node.host)["neigh"]) == 2 and len(joined.calls(verb="patch")) == 2


def test_what_ends_it_and_what_makes_it_wait(cluster: Cluster) -> None:
    first, second = cluster.nodes
    conf = {"Network": CLUSTER, "Backend": {"Type": "vxlan"}}
    for node in cluster.nodes:
        node.start(conf, wait=False)
    denied = r'User \\"system:flannel\\" cannot list resource \\"nodes\\" in API group \\"\\" at the cluster scope'
    eventually(lambda: denied.replace("\\\\", "\\") in first.said() and "forbidden" in second.said(), first.said)
    assert not first.env_file.exists() and first.process is not None and first.process.poll() is None
    cluster.register("n1", None)
    cluster.register("n2", "10.99.0.0/24")
    cluster.allow(RULES)
    assert first.process.wait(15) == 1 and second.process is not None and second.process.wait(15) == 1
    assert 'Error registering network: failed to acquire lease: node "n1" pod cidr not assigned' in first.said()
    assert 'subnet "10.244.0.0/16" specified in the flannel net config doesn\'t contain "10.99.0.0/24"' in second.said()

    second.start(conf, wait=False, NODE_NAME="worker2")
    eventually(lambda: 'nodes "worker2" not found' in second.said(), second.said)


def test_what_it_refuses(joined: Cluster) -> None:
    conf = json.dumps({"Network": CLUSTER, "Backend": {"Type": "vxlan"}})
    started: list[tuple[Node, str]] = []
    try:
        for text, environ, flags, said in (
            ("{", {}, (), "error parsing subnet config"),
            (conf.replace("{", '{"EnableIPv4": false, ', 1), {}, (), "none defined stack"),
            (conf, {"NODE_NAME": ""}, (), "env variables POD_NAME and POD_NAMESPACE must be set"),
            (conf, {}, ("--net-config-path=/nowhere",), "failed to read net conf: open /nowhere: no such file"),
            (conf, {}, ("--kubeconfig-file=/nowhere",), "stat /nowhere: no such file or directory"),
            (json.dumps({"Network": CLUSTER}), {}, (), "Error fetching backend: the stand-in has no backend udp"),
            (conf, {"FLANNELD_SUBNET_LEASE_RENEW_MARGIN": "0"}, (), "Invalid subnet-lease-renew-margin option"),
            (conf, {}, ("--iface=eth9",), "Failed to find interface to use that matches the interfaces and/or regexes"),
        ):
            first = joined.nodes[0]
            folder = joined.folder / str(len(started))
            folder.mkdir()
            node = Node("n1", first.host, folder, first.kubeconfig, first.binary)
            node.start(text, *flags, wait=False, **environ)
            started.append((node, said))
        for node, said in started:
            assert node.process is not None
            assert node.process.wait(20) == 1 and said in node.said(), node.said()
    finally:
        for node, _said in started:
            assert node.process is not None
            node.process.kill()
            node.process.wait()
