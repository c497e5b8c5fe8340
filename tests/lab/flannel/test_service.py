# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flannel_service on a real node with a real systemd. Its flanneld is a stand-in: it needs no API server, leaves what
flanneld leaves (device, route, chains, subnet.env), and can be made to fail."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from support.flannel_service import BY_PATH, NODE, STANDIN, Node, bring_the_module
from support.lab import Lab, fresh, unlike, until


def texts(result: dict[str, Any]) -> str:
    return json.dumps(result["diff"])


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with fresh(f"svc-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}", workers=1) as lab:
        bring_the_module(lab)
        yield lab


@pytest.fixture
def node(lab: Lab) -> Iterator[Node]:
    node = Node(lab)
    for version, behaviour in (("v1", "good"), ("v2", "good again"), ("v3", "bad"), ("v4", "mute")):
        node.write(f"/opt/fake/{version}/flanneld", STANDIN.replace("BEHAVIOUR", behaviour), "755")
    node.write("/etc/kubernetes/flannel.conf", BY_PATH, "600")
    yield node
    node.call(state="absent")


def release(version: str) -> dict[str, str]:
    return {"/usr/local/bin/flanneld": f"/opt/fake/{version}/flanneld"}


def test_from_nothing_and_back(node: Node) -> None:
    before = node.snapshot()
    rehearsed = node.call(check=True)
    assert rehearsed["changed"] and not rehearsed["failed"], rehearsed
    assert node.snapshot() == before
    applied = node.play()
    assert applied["changed"] and not applied["failed"], applied
    assert applied["diff"] == rehearsed["diff"]
    assert applied["subnet"] == "10.244.0.1/24"
    assert json.loads(node.sh("cat /etc/flannel/net-conf.json")) == {
        **node.args["net_conf"],
        "EnableNFTables": False,
    }
    assert node.sh("systemctl is-active flanneld; systemctl is-enabled flanneld").split() == ["active", "enabled"]
    # systemd has a word for each setting that it does not know.
    assert node.sh("journalctl -b -o cat | grep -i 'flanneld.service.*unknown' || true") == ""
    first = node.invocation()
    again = node.call()
    assert not again["changed"], again["diff"]
    assert node.invocation() == first
    gone = node.call(check=True, state="absent")
    removed = node.call(state="absent")
    assert removed["diff"] == gone["diff"]
    for trace in ("device flannel.1", "route 10.244.2.0/24", "FLANNEL-FWD", "FLANNEL-POSTRTG", "subnet.env"):
        assert trace in texts(removed)
    assert unlike({NODE: before}, {NODE: node.snapshot()}) == []
    assert not node.call(state="absent")["changed"]


def test_restarts_only_for_what_needs_it(node: Node) -> None:
    assert node.call()["changed"]
    first = node.invocation()
    # By path, flanneld reads a new certificate itself.
    node.write("/etc/kubernetes/pki/flannel.crt", "another certificate")
    # The same in meaning.
    same = {"EnableNFTables": False, "Backend": {"DirectRouting": True, "Type": "vxlan"}, "Network": "10.244.0.0/16"}
    node.write("/etc/flannel/net-conf.json", json.dumps(same))
    assert not node.call()["changed"]
    assert node.invocation() == first
    embedded = BY_PATH.replace("client-certificate: /etc/kubernetes/pki/flannel.crt", "client-certificate-data: QUJD")
    node.write("/etc/kubernetes/flannel.conf", embedded, "600")
    result = node.call()
    assert not result["failed"] and result["restarted"], result
    assert "QUJD" not in json.dumps(result)
    second = node.invocation()
    assert second != first
    wider = {"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan", "VNI": 7, "MTU": 1400}}
    refused = node.call(net_conf=wider)
    assert refused["failed"] and "VNI from 1 to 7 while flanneld runs" in refused["msg"], refused
    result = node.call(net_conf=wider, backend_change=True)
    assert not result["failed"], result["msg"]
    assert result["restarted"] and "device flannel.1" in texts(result)
    assert node.sh("ls /sys/class/net | grep flannel").split() == ["flannel.7"]
    assert "10.244.2.0/24" not in node.sh("ip route")
    assert not node.call(net_conf=wider)["changed"]


def test_a_killed_run_is_completed_by_the_next_one(node: Node) -> None:
    assert node.call()["changed"]
    first = node.invocation()
    # As a run leaves it that is killed between writing and restarting.
    rehearsed = node.call(check=True, binaries=release("v2"))
    unit = next(entry["after"] for entry in rehearsed["diff"] if entry["after_header"].endswith("/flanneld.service"))
    node.write("/etc/systemd/system/flanneld.service", unit)
    node.sh("ln -sfn /opt/fake/v2/flanneld /usr/local/bin/flanneld")
    result = node.call(binaries=release("v2"))
    assert result["restarted"] and not result["failed"], result
    assert node.invocation() != first
    for harm in ("systemctl stop flanneld", "rm /run/flannel/subnet.env"):
        node.sh(harm)
        assert node.call(binaries=release("v2"))["restarted"]
    assert not node.call(binaries=release("v2"))["changed"]


def test_a_bad_version_goes_back(node: Node) -> None:
    assert not node.call()["failed"]
    settled = node.snapshot()
    result = node.call(binaries=release("v3"))
    assert result["failed"]
    for piece in (
        "ends again and again",
        'nodes "worker-1" not found',
        "that means: node_name: the API server has no",
        "the former state is back",
    ):
        assert piece in result["msg"], result["msg"]
    assert unlike({NODE: settled}, {NODE: node.snapshot()}) == []
    assert not node.call()["changed"]


def test_one_that_is_never_ready_goes_back(node: Node) -> None:
    other_device = {"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan", "VNI": 9}}
    before = node.snapshot()
    result = node.call(binaries=release("v4"), ready_timeout=1)
    assert result["failed"] and "flanneld was not running" in result["msg"], result["msg"]
    assert unlike({NODE: before}, {NODE: node.snapshot()}) == []
    assert not node.call()["failed"]
    settled = node.snapshot()
    # Long enough for the journal to say why, on a busy machine too.
    result = node.call(binaries=release("v4"), ready_timeout=10, net_conf=other_device, backend_change=True)
    assert result["failed"]
    for piece in ("not become ready within 10 s: flanneld.service is activating", "RBAC", "the former state is back"):
        assert piece in result["msg"], result["msg"]
    assert unlike({NODE: settled}, {NODE: node.snapshot()}) == []


def test_a_run_killed_while_it_waits_is_taken_back_as_a_whole(node: Node) -> None:
    assert not node.call()["failed"]
    settled = node.snapshot()
    args = {**node.args, "binaries": release("v4"), "ready_timeout": 60}
    run = threading.Thread(target=node.lab.module, args=(NODE, "flannel_service", args))
    run.start()
    assert until(lambda: "activating" in node.invocation(), 60)
    # The module on the node, as by a lost connection: it is the process that holds the lock.
    node.sh("kill -9 $(ls -l /proc/[0-9]*/fd/* 2>/dev/null | sed -n 's|.* /proc/\\([0-9]*\\)/fd/.*flannel.lock|\\1|p')")
    run.join(30)
    assert "v4" in node.sh("readlink /usr/local/bin/flanneld")
    result = node.call(binaries=release("v4"), ready_timeout=1)
    assert result["failed"] and "the former state is back" in result["msg"], result["msg"]
    assert unlike({NODE: settled}, {NODE: node.snapshot()}) == []


def of(**backend: Any) -> dict[str, Any]:
    return {"Network": "10.244.0.0/16", "Backend": backend}


def test_a_former_backends_routes_do_not_win(node: Node) -> None:
    """A route of host-gw to one node's pods is longer than WireGuard's: their traffic would stay unencrypted."""
    assert not node.call(net_conf=of(Type="host-gw"))["failed"]
    # The user's own, inside the pod network: over a device, and to what is no part of it.
    for other in ("10.244.9.0/24 dev eth0", "10.99.0.0/24 via 172.16.0.1"):
        node.sh(f"ip route replace {other}")
    before, running = node.snapshot(), node.invocation()
    wireguard = of(Type="wireguard")
    refused = node.call(check=True, net_conf=wireguard)
    assert refused["failed"] and "Type from host-gw to wireguard while flanneld runs" in refused["msg"], refused
    assert "podnet_flannel_backend_change" in refused["msg"]
    failed = node.call(net_conf=wireguard, backend_change=True, binaries=release("v3"))
    assert failed["failed"] and "the former state is back" in failed["msg"], failed["msg"]
    assert unlike({NODE: before}, {NODE: node.snapshot()}) == [] and node.invocation() != running
    rehearsed = node.call(check=True, net_conf=wireguard, backend_change=True)
    assert "route 10.244.2.0/24 via 172.16.0.1 dev eth0" in texts(rehearsed)
    changed = node.call(net_conf=wireguard, backend_change=True)
    assert not changed["failed"] and changed["diff"] == rehearsed["diff"], changed
    assert "dev flannel-wg" in node.sh("ip route get 10.244.2.5")
    routes = node.sh("ip route")
    assert "10.244.9.0/24 dev eth0" in routes and "10.99.0.0/24 via 172.16.0.1" in routes
    assert not node.call(net_conf=wireguard)["changed"]
    node.sh("ip route del 10.244.9.0/24; ip route del 10.99.0.0/24")
    back = node.call(net_conf=of(Type="host-gw"), backend_change=True)
    assert not back["failed"] and "flannel-wg" not in node.sh("ls /sys/class/net"), back
    assert "10.244.2.0/24 via 172.16.0.1" in node.sh("ip route")


def test_a_former_rule_set_goes(node: Node) -> None:
    """flanneld's own clean-up can't remove its chains, since jumps lead to them."""
    chains = "iptables-nft-save | grep FLANNEL; iptables-legacy-save | grep FLANNEL; true"
    assert not node.call()["failed"] and "-j FLANNEL-POSTRTG" in node.sh(chains)
    node.sh("iptables-nft -A FORWARD -s 192.0.2.1 -j DROP")
    changed = node.call(nftables="true")
    assert not changed["failed"] and "chain FLANNEL-FWD" in texts(changed), changed
    assert node.sh(chains) == "" and "flannel-ipv4" in node.sh("nft list tables")
    assert "192.0.2.1" in node.sh("iptables-nft-save")
    assert not node.call(nftables="true")["changed"]
    back = node.call(nftables="false")
    assert not back["failed"] and "table ip flannel-ipv4" in texts(back), back
    assert "-j FLANNEL-POSTRTG" in node.sh(chains) and "flannel-ipv4" not in node.sh("nft list tables")
    assert not node.call(nftables="false")["changed"]
    node.sh("iptables-nft -D FORWARD -s 192.0.2.1 -j DROP")


def test_kubelet_does_not_wait_for_ever(node: Node) -> None:
    """At boot, with an API server that does not answer: kubelet starts after a while, and flanneld is tried again."""
    kubelet = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n"
    node.write("/etc/systemd/system/kubelet.service", kubelet)
    try:
        assert not node.call(before_kubelet=True)["failed"]
        # The same with less patience, so that the test has it too.
        node.sh("sed -i s/TimeoutStartSec=.*/TimeoutStartSec=3/ /etc/systemd/system/flanneld.service")
        node.sh(
            "ln -sfn /opt/fake/v4/flanneld /usr/local/bin/flanneld; systemctl daemon-reload; systemctl stop flanneld"
        )
        node.sh("systemctl start --no-block flanneld; systemctl start --no-block kubelet")
        active = "systemctl is-active kubelet || true"
        assert node.sh(active).strip() in ("inactive", "activating")
        assert until(lambda: node.sh(active).strip() == "active", 30)
        node.sh("ln -sfn /opt/fake/v1/flanneld /usr/local/bin/flanneld")
        node.sh("sed -i s/TimeoutStartSec=3/TimeoutStartSec=120/ /etc/systemd/system/flanneld.service")
        node.sh("systemctl daemon-reload")
        assert until(lambda: node.sh("systemctl is-active flanneld || true").strip() == "active", 90)
    finally:
        node.sh("systemctl stop kubelet; rm /etc/systemd/system/kubelet.service; systemctl daemon-reload")


def test_what_somebody_else_made(node: Node) -> None:
    node.write("/usr/local/bin/flanneld", "#!/bin/sh\n", "755")
    node.write("/etc/systemd/system/flanneld.service", "[Service]\nExecStart=/bin/true\n")
    result = node.call(check=True)
    assert result["failed"]
    assert "/etc/systemd/system/flanneld.service: was not written by this collection; set adopt: true" in result["msg"]
    assert "/usr/local/bin/flanneld: was not installed by this collection" in result["msg"]
    left_alone = node.call(state="absent")
    assert not left_alone["changed"]
    result = node.call(adopt=True)
    assert result["changed"] and not result["failed"], result
    assert not node.call()["changed"]
    node.call(state="absent")
    assert node.sh("cat /usr/local/bin/flanneld /etc/systemd/system/flanneld.service.podnet-orig").splitlines() == [
        "#!/bin/sh",
        "[Service]",
        "ExecStart=/bin/true",
    ]
    node.sh("rm /usr/local/bin/flanneld /etc/systemd/system/flanneld.service.podnet-orig")


def test_refusals_before_anything_is_touched(node: Node) -> None:
    before = node.snapshot()
    result = node.play(net_conf={"network": "10.244.0.1/16"}, node_name="Worker 1")
    assert result["failed"] and "did you mean 'Network'" in result["msg"] and "Backend" in result["msg"]
    result = node.play(node_name="Worker 1", api_url="control-plane:6443", healthz_port=80)
    assert result["failed"] and len(result["problems"]) == 3
    node.sh("rm /etc/kubernetes/flannel.conf")
    result = node.play(binaries=release("v0"))
    assert result["failed"] and "/opt/fake/v0/flanneld" in result["msg"] and "kubeconfig: there is no" in result["msg"]
    assert unlike({NODE: before}, {NODE: node.snapshot()}) == []


def test_the_preshared_key_stays_hidden(node: Node) -> None:
    key = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3I="
    result = node.play("--check", net_conf={"Network": "10.244.0.0/16", "Backend": {"Type": "wireguard", "PSK": key}})
    assert not result["failed"], result["msg"]
    assert key not in node.output and "(hidden)" in texts(result)
