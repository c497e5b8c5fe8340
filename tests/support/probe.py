# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verifications without containers: the probe pods' process in network namespaces, judged as the playbook does it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ansible_collections.weft.podnet.plugins.module_utils.probe import agent, pods, service
from ansible_collections.weft.podnet.plugins.module_utils.probe import host as probe_host
from ansible_collections.weft.podnet.plugins.plugin_utils.probe import targets as probe_targets
from ansible_collections.weft.podnet.plugins.plugin_utils.probe.advice import Carrier
from ansible_collections.weft.podnet.plugins.plugin_utils.probe.matrix import matrix
from support.hosts import LENGTHS, Hosts
from support.netns import Namespace
from support.observations import NAMES, World, first

# In a pod the files lie in a package of their own, here in the collection's.
PACKAGE = Path(agent.__file__).parents[1]
PORT = 9898


def free_port() -> int:
    with socket.socket() as handle:
        handle.bind(("127.0.0.1", 0))
        return int(handle.getsockname()[1])


def start(folder: Path, port: int, identity: str, netns: str = "") -> subprocess.Popen[bytes]:
    """Start an agent as a pod runs it, isolated from the environment, and wait until it answers on its socket."""
    inside = ["ip", "netns", "exec", netns] if netns else []
    words = [sys.executable, "-I", "-S", "-c", pods.BOOT, str(PACKAGE), str(folder), str(port), identity]
    process = subprocess.Popen([*inside, *words], cwd="/")
    deadline = time.monotonic() + 30
    while not (folder / agent.CONTROL).exists():
        assert process.poll() is None and time.monotonic() < deadline, f"the agent {identity} does not start"
        time.sleep(0.01)
    return process


class Pod:
    """A pod on a host's bridge, as the plugin connects it."""

    def __init__(self, hosts: Hosts, number: int, pod: int, folder: Path, stack: ExitStack) -> None:
        host, mtu, version = hosts.hosts[number], hosts.mtu, hosts.version
        self.name = f"p{pod}"
        self.identity = f"{number}-{pod}"
        self.address = first(number, version, pod + 1)
        self.given = f"{self.address}/{LENGTHS[version]}"
        self.port = f"vethp{pod}"
        self.space = stack.enter_context(Namespace())
        self.folder = folder / self.identity
        host.ip("link", "add", self.port, "mtu", mtu, "type", "veth", "peer", "name", "eth0", "netns", self.space.name)
        host.ip("link", "set", self.port, "master", "cni0", "up")
        host.bridge("link", "set", "dev", self.port, "hairpin", "on")
        self.space.ip("link", "set", "eth0", "mtu", mtu, "up")
        self.space.ip("address", "add", self.given, "dev", "eth0", *(["nodad"] if version == 6 else []))
        self.space.ip("route", "add", "default", "via", first(number, version, 1))


class Verification:
    """Two probe pods on each of three hosts, for as many verifications as a test makes."""

    def __init__(self, hosts: Hosts, folder: Path, stack: ExitStack) -> None:
        self.hosts = hosts
        self.folder = folder
        self.pods = [[Pod(hosts, number, pod, folder, stack) for pod in (1, 2)] for number in range(len(hosts.hosts))]

    def run(self, only: tuple[int, ...] = (0, 1, 2)) -> dict[str, Any]:
        """What podnet_matrix says of these hosts, with new processes in the pods."""
        seen = [each for each in self.hosts.findings() if each["host"] in [NAMES[number] for number in only]]
        with ExitStack() as stack:
            family = service.FAMILY[self.hosts.version]
            for number in only:
                rules = self.folder / "rules"
                rules.write_text(service.rules([self.pods[number][0].address], PORT))
                self.hosts.hosts[number].run("nft", "--file", str(rules))
                stack.callback(self.hosts.hosts[number].run, "nft", "delete", "table", family, service.TABLE)
                for pod in self.pods[number]:
                    self._serve(stack, pod.folder, pod.identity, pod.space.name)
                node = f"node-{number}"
                self._serve(stack, self.folder / node, node, self.hosts.hosts[number].name)
            return self._judged(only, seen)

    @staticmethod
    def _serve(stack: ExitStack, folder: Path, identity: str, netns: str) -> None:
        folder.mkdir()
        stack.callback(shutil.rmtree, folder)
        process = start(folder, PORT, identity, netns)
        stack.callback(process.wait)
        stack.callback(process.kill)

    def _judged(self, only: tuple[int, ...], findings: list[dict[str, Any]]) -> dict[str, Any]:
        plan = World(self.hosts.backend, (self.hosts.version,)).plan
        names = [NAMES[number] for number in only]
        started = [self._started(number) for number in only]
        targets = probe_targets.targets(names, started, PORT, plan["nodes"])
        with ThreadPoolExecutor() as pool:
            probed = list(pool.map(lambda number: self._probed(number, targets), only))
        removed = [self._removed(number) for number in only]
        nodes = [{**node, "settings": plan["settings"]} for node in plan["nodes"]]
        carrier = Carrier(self.hosts.backend, ports=(8472,) if self.hosts.backend == "vxlan" else ())
        return matrix(names, started, probed, nodes, "cluster", removed, findings, targets, carrier=carrier)

    def _started(self, number: int) -> dict[str, Any]:
        targets = [
            {"node": NAMES[number], "pod": pod.name, "id": pod.identity, "address": pod.address, "port": PORT}
            for pod in self.pods[number]
        ]
        return {"targets": targets, "node": {"id": f"node-{number}"}}

    def _probed(self, number: int, targets: list[dict[str, Any]]) -> dict[str, Any]:
        own = self.pods[number]

        def of_pod(pod: Pod) -> dict[str, Any]:
            asked = pods.asked(pod.identity, targets, pod is own[0])
            back = {
                "id": pod.identity,
                "kind": service.KIND,
                "address": service.ADDRESS[self.hosts.version],
                "port": PORT,
            }
            itself = [back] if pod is own[0] else []
            request = {"targets": asked + itself, "timeout": 1, "tries": 2}
            reply = agent.ask(str(pod.folder / agent.CONTROL), request, 60)
            met = {"results": reply["results"][: len(asked)], "itself": reply["results"][len(asked) :]}
            return {**self._described(number, pod), "seen": reply["addresses"], **met}

        def on_host() -> tuple[list[dict[str, Any]], dict[str, Any]]:
            asked = [each for each in pods.asked("", targets, True) if each.get("thorough", True)]
            met = agent.probe(asked, 1, 2)
            return met, probe_host.diagnose([target["address"] for target in targets], failed=True)

        with ThreadPoolExecutor() as pool:
            node = pool.submit(self.hosts.hosts[number].call, on_host)
            met = list(pool.map(of_pod, own))
        return {"pods": met, "from_node": node.result()[0], "routing": node.result()[1]}

    def _described(self, number: int, pod: Pod) -> dict[str, Any]:
        flag = self.hosts.hosts[number].run("cat", f"/sys/class/net/{pod.port}/brport/hairpin_mode").strip()
        return {
            "name": pod.name, "id": pod.identity, "network": "podnet", "given": [pod.given],
            "hairpin": flag == "1",
        }  # fmt: skip

    def _removed(self, number: int) -> dict[str, Any]:
        asked = {pod.identity: agent.ask(str(pod.folder / agent.CONTROL), {}, 10) for pod in self.pods[number]}
        return {"heard": {identity: reply["heard"] for identity, reply in asked.items() if reply["heard"]}}
