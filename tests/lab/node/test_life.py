# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of a cluster: set up, run again, rebooted, grown, shrunk, moved, reset."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.probe.pods import BOOT
from standins.release import build_plugins
from support.cni import BRIDGE
from support.lab import BIN, CHECKOUT, Lab, Play, unlike, until

WORKERS = ("worker-1", "worker-2")
LESSON_LOOPBACK = {"cniVersion": "1.0.0", "name": "lo", "type": "loopback"}
FOREIGN = """
ip route add 198.18.0.0/24 via 172.16.0.1
nft add table ip foreign
echo {} >/etc/cni/net.d/50-foreign.conf.off
"""


def routes(lab: Lab, node: str) -> list[str]:
    """The node's routes; whether a pod happens to hold the bridge's carrier up is no matter here."""
    return [" ".join(line.split()).removesuffix(" linkdown") for line in lab.exec(node, "ip", "route").splitlines()]


def conf(lab: Lab, node: str, name: str) -> Any:
    return json.loads(lab.exec(node, "cat", f"/etc/cni/net.d/{name}"))


@contextmanager
def gateway_server(lab: Lab, folder: Path) -> Iterator[dict[str, Any]]:
    """An HTTP server outside of the cluster, at the underlay's gateway, that reports the client it sees."""
    program = ["/usr/bin/python3", "-c", BOOT, str(CHECKOUT / "plugins" / "module_utils")]
    command = [str(CHECKOUT / "lab" / "lab"), "exec", "--name", lab.name, "underlay", "--", *program]
    server = subprocess.Popen([*command, str(folder), "8080", "gateway"])
    try:
        assert until((folder / "control.sock").exists, 60)
        yield {"node": "gateway", "pod": "gateway", "id": "gateway", "address": "172.16.0.1", "port": 8080}
    finally:
        server.terminate()
        server.wait(10)


@contextmanager
def publisher(folder: Path) -> Iterator[str]:
    """An HTTP server on this machine that offers a folder; its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def pod_request(lab: Lab, node: str, target: dict[str, Any]) -> dict[str, Any]:
    """What a pod on this node meets when it requests the target: ``source``, and the ``client`` that the server saw."""
    started = lab.module(node, "pod_probe", {"state": "started", "node": node, "pods": 1})
    assert started.code == 0, started.output
    probed = lab.module(node, "pod_probe", {"state": "probed", "targets": [target]})
    lab.module(node, "pod_probe", {"state": "absent"})
    return dict(probed.returned["pods"][0]["results"][0])


def test_a_dry_run_on_untouched_nodes_lists_all_and_changes_nothing(routed: Lab) -> None:
    lab = routed
    before = lab.snapshots()
    dry = lab.play("site", "--check", "--diff")
    assert dry.code == 0, dry.output
    assert not unlike(before, lab.snapshots())
    assert not (lab.folder / "podnet.lock.yml").exists()
    for said in (
        "+net.ipv4.ip_forward = 1",
        "+bridge -> /usr/lib/cni/bridge",
        "+10.244.1.0/24 via 172.16.0.4 dev eth0",
        "weft-podnet-routes-87.service",
        "masquerade",
        '"subnet": "10.244.0.0/24"',
        '"type": "loopback"',
    ):
        assert said in dry.output, said
    drifted = lab.play("site", "--check", podnet_drift="report")
    assert drifted.code != 0 and "worker-1 differs from the plan: kernel, plugins, routes" in drifted.text
    assert "worker-2: would change kernel, plugins, routes" in drifted.text
    assert not unlike(before, lab.snapshots())


def test_routes_from_nothing_and_what_they_survive(routed: Lab, tmp_path: Path) -> None:
    lab = routed
    first = lab.play("site")
    assert first.code == 0, first.output
    assert "worker-1: changed kernel, plugins, routes" in first.text
    as_planned = lab.play("site", "--check", podnet_drift="report")
    assert as_planned.code == 0 and "2 workers: nothing to change" in as_planned.text
    assert "12 of 12 promised pairs pass" in first.output
    again = lab.play("site", "--diff")
    assert again.code == 0 and set(again.changed.values()) == {0}, again.output

    assert "10.244.0.0/24 dev cni0 proto kernel scope link src 10.244.0.1" in routes(lab, "worker-1")
    assert "10.244.1.0/24 via 172.16.0.4 dev eth0 proto podnet" in routes(lab, "worker-1")
    assert "10.244.0.0/24 via 172.16.0.3 dev eth0 proto podnet" in routes(lab, "worker-2")
    # Outside the plain bridge backend the lesson's file has its masquerading off.
    bridge, *chained = conf(lab, "worker-1", "10-bridge.conflist")["plugins"]
    assert {**bridge, "cniVersion": "1.0.0", "name": "bridge"} == {**BRIDGE, "ipMasq": False, "hairpinMode": True}
    assert chained == [{"type": "portmap", "capabilities": {"portMappings": True}}]

    # A pod that leaves the cluster does so with its node's address.
    with gateway_server(lab, tmp_path) as target:
        met = pod_request(lab, "worker-1", target)
    assert met["source"].startswith("10.244.0.") and met["client"] == "172.16.0.3", met

    back = "10.244.1.0/24 via 172.16.0.4 dev eth0 proto podnet"
    lab.exec("worker-1", "ip", "link", "set", "eth0", "down")
    assert back not in routes(lab, "worker-1")
    lab.exec("worker-1", "ip", "link", "set", "eth0", "up")
    assert until(lambda: back in routes(lab, "worker-1"), 60), routes(lab, "worker-1")

    lab.reboot("worker-1")
    assert until(lambda: back in routes(lab, "worker-1"), 60), routes(lab, "worker-1")
    proof = lab.play("verify")
    assert proof.code == 0 and "12 of 12 promised pairs pass" in proof.output, proof.output
    with gateway_server(lab, tmp_path) as target:
        assert pod_request(lab, "worker-1", target)["client"] == "172.16.0.3"
    after = lab.play("site", "--diff", podnet_verify=False)
    assert set(after.changed.values()) == {0}, after.output


@pytest.mark.long
def test_bridge_alone_and_then_routes(routed: Lab) -> None:
    lab = routed
    bridge = lab.play("site", podnet_backend="bridge")
    assert bridge.code == 0, bridge.output
    assert "4 of 4 promised pairs pass, 12 tried" in bridge.output
    assert "worker-1 has no route to 10.244.1.0/24 (worker-2's pods)" in bridge.output
    assert conf(lab, "worker-1", "10-bridge.conf") == BRIDGE
    assert conf(lab, "worker-1", "99-loopback.conf") == LESSON_LOOPBACK
    assert conf(lab, "worker-2", "10-bridge.conf")["ipam"]["subnet"] == "10.244.1.0/24"
    assert set(lab.play("site", podnet_backend="bridge").changed.values()) == {0}

    strict = lab.play("verify", podnet_verify_scope="cluster")
    assert strict.code != 0 and "worker-2 has no route to 10.244.0.0/24" in strict.output

    moved = lab.play("site", podnet_backend="routes")
    assert moved.code == 0 and "12 of 12 promised pairs pass" in moved.output, moved.output


def test_translated_traffic_is_found(routed: Lab) -> None:
    """The lesson's file together with routes works, and breaks the model's second rule: verify must say so."""
    lab = routed
    assert lab.play("site", podnet_verify=False).code == 0
    for node in WORKERS:
        lab.exec(node, "sed", "-i", 's/"ipMasq": false/"ipMasq": true/', "/etc/cni/net.d/10-bridge.conflist")
    told = lab.play("verify", podnet_verify_scope="cluster")
    assert told.code != 0, told.output
    assert "worker-2's server saw 172.16.0.3, not the own address of worker-1's pod" in told.output


@pytest.mark.long
def test_workers_come_and_go_by_the_inventory(routed: Lab) -> None:
    lab = routed
    lab.up(3)
    everyone = lab.hosts()
    two = {name: everyone[name] for name in WORKERS}
    assert lab.play("site", inventory=lab.inventory_of(two), podnet_verify=False).code == 0
    grown = lab.play("site", inventory=lab.inventory_of(everyone))
    assert grown.code == 0 and "30 of 30 promised pairs pass" in grown.output, grown.output
    assert "10.244.2.0/24 via 172.16.0.5 dev eth0 proto podnet" in routes(lab, "worker-1")

    # worker-1 leaves; nobody else's subnet moves, and all forget the way to it.
    rest = {name: everyone[name] for name in ("worker-2", "worker-3")}
    shrunk = lab.play("site", inventory=lab.inventory_of(rest))
    assert shrunk.code == 0 and "12 of 12 promised pairs pass" in shrunk.output, shrunk.output
    assert not any(line.startswith("10.244.0.0/24") for line in routes(lab, "worker-2") + routes(lab, "worker-3"))
    assert "10.244.2.0/24 via 172.16.0.5 dev eth0 proto podnet" in routes(lab, "worker-2")


def test_reset_leaves_what_was_there_before(routed: Lab) -> None:
    lab = routed
    for node in WORKERS:
        lab.sh(node, FOREIGN)
    before = lab.snapshots()
    assert lab.play("site").code == 0
    standing = lab.snapshots()
    dry = lab.play("reset", "--check", "--diff")
    assert dry.code == 0 and not unlike(standing, lab.snapshots())
    assert "-10.244.1.0/24 via 172.16.0.4 dev eth0" in dry.output and "10-bridge.conflist" in dry.output
    gone = lab.play("reset")
    assert gone.code == 0, gone.output
    assert not unlike(before, lab.snapshots())
    assert set(lab.play("reset").changed.values()) == {0}


@pytest.mark.long
def test_plugins_from_a_published_release(lab: Lab, tmp_path: Path) -> None:
    """A release in a folder of the controller; the lock file keeps what was first seen."""
    lab.variables.update(podnet_cni_plugins_source="release", podnet_artifacts_dir=str(tmp_path))
    lab.variables.update(podnet_cni_plugins_version="v0.0.1", podnet_cache_dir=str(tmp_path / "cache"))
    archive = build_plugins(tmp_path, "v0.0.1", ["amd64", "arm64"])[0]
    released = lab.play("site")
    assert released.code == 0 and "12 of 12 promised pairs pass" in released.output, released.output
    assert archive.name in (lab.folder / "podnet.lock.yml").read_text()
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    folder = f"/opt/weft-podnet/cni_plugins/v0.0.1-{digest[:12]}"
    assert lab.exec("worker-1", "readlink", "/opt/cni/bin/bridge").strip() == f"{folder}/bridge"
    assert lab.exec("worker-1", "ls", "/opt/weft-podnet").split() == ["cni_plugins"]
    assert set(lab.play("site", podnet_verify=False).changed.values()) == {0}
    archive.write_bytes(b"another")
    refused = lab.play("site", podnet_verify=False)
    assert refused.code != 0 and "podnet.lock.yml" in refused.output
    assert lab.play("reset").code == 0
    assert lab.sh("worker-1", "ls -d /opt/weft-podnet /opt/cni/bin/bridge 2>/dev/null || true") == ""


@pytest.mark.long
def test_two_runs_at_once(lab: Lab) -> None:
    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(lambda _run: lab.play("site", podnet_verify=False), range(2)))
    # The later one is refused, unless the first was through with the workers by then.
    refused = [run for run in runs if run.code != 0]
    assert len(refused) < 2, runs[0].output + runs[1].output
    assert all("this host is held by another run: " in run.text for run in refused), refused
    proof = lab.play("site")
    assert "12 of 12 promised pairs pass" in proof.output and set(proof.changed.values()) == {0}, proof.output


@pytest.mark.long
def test_a_killed_verification_leaves_nothing_that_the_next_does_not_remove(lab: Lab) -> None:
    assert lab.play("site", podnet_verify=False).code == 0
    before = lab.snapshots()
    command = [str(BIN / "ansible-playbook"), "--inventory", str(lab.inventory), "playbooks/verify.yml"]
    killed = subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.DEVNULL, start_new_session=True)
    listing = ("ctr", "--namespace", "weft-podnet-verify", "tasks", "list", "--quiet")
    assert until(lambda: bool(lab.exec("worker-1", *listing).strip()), 60)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    proof = lab.play("verify")
    assert proof.code == 0 and "12 of 12 promised pairs pass" in proof.output, proof.output
    after = [line for line in unlike(before, lab.snapshots()) if not re.search(r"cni0|10\.244\.|/var/lib/cni", line)]
    assert not after
    for node in WORKERS:
        assert not lab.exec(node, *listing).strip()
        # host-local keeps a lock and its last address; a lease would be a file named by an address.
        assert not lab.sh(node, "ls /var/lib/cni/networks/bridge | grep '^10[.]' || true").strip()


def test_the_process_that_a_verification_leaves_on_a_node_answers_for_the_module(routed: Lab) -> None:
    lab, node = routed, "worker-1"
    assert lab.play("site", podnet_verify=False).code == 0
    before = lab.snapshots(node)

    def started() -> Any:
        # Another verification that lives is waited for.
        return lab.module(node, "pod_probe", {"state": "started", "node": node, "patience": 1}).returned

    def call(state: str, by: str, pods: Any, **environment: str) -> Play:
        args = {"state": state, "run": pods["run"], "targets": pods["targets"] if state == "probed" else []}
        done = lab.module(node, "pod_probe", {"node": node, **args}, "-vvv", **environment)
        assert ("Using module file" in done.output) == (by == "module"), done.output
        return done

    first = started()
    met = [call("probed", "process", first), call("probed", "module", first, ANSIBLE_PIPELINING="false")]
    for answer in (each.returned for each in met):
        assert answer.keys() == met[1].returned.keys()
        one, two = answer["pods"]
        assert [each["to"] for each in one["results"] + two["results"]] == [two["id"], one["id"]]
        assert all(each["udp_ms"] > 0 and "identity" not in each for each in one["results"] + two["results"])
        assert one["itself"][0]["to"] == answer["from_node"][0]["to"] == one["id"]
    second = started()
    refused = call("probed", "process", first)
    assert refused.code != 0 and f"another one (run {second['run']}) took this host over" in refused.text
    assert call("absent", "process", first).code == 0 and call("probed", "process", second).code == 0

    # Without the process, the module does the same.
    lab.sh(node, "pkill -KILL --exact podnet-verify")
    assert call("probed", "module", second).returned["pods"][0]["results"][0]["udp_ms"] > 0
    assert call("absent", "module", second).returned["heard"] == {}
    assert "are gone" in call("probed", "module", second).text
    # After a reboot a run's folder is gone, and containerd still knows its container.
    lab.sh(node, "ctr --namespace weft-podnet-verify container create --rootfs /tmp p1-left true")
    for _time in range(2):
        assert call("absent", "process", started()).returned["heard"] == {}
        assert not lab.sh(node, "pgrep --exact podnet-verify || true")
    assert "weft-podnet-verify" not in lab.exec(node, "ctr", "namespaces", "list", "--quiet")
    left = [
        line for line in unlike(before, lab.snapshots(node)) if not re.search(r"cni0|10[.]244[.]|/var/lib/cni", line)
    ]
    assert not left
