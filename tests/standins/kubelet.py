# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for kubelet: registers the Node and keeps its Ready condition true. It runs no pods.

Ready is what the node's own containerd says of its network (CRI's Status), in kubelet's words.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import yaml

VERSION = "v1.31.4+standin"
CNI = Path("/etc/cni/net.d")
CRI = "/run/containerd/containerd.sock"
POLL = 0.2  # seconds between looks at CNI's folder
ASK = 2.0  # seconds between questions to containerd while the folder stays as it is; after a change, every POLL
SETTLE = 3.0  # seconds after a change within which containerd may come to another verdict
HEARTBEAT = 300.0  # kubelet's nodeStatusReportFrequency
PRESSURES = {
    "MemoryPressure": ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    "DiskPressure": ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    "PIDPressure": ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
}


class Refused(Exception):
    """The API server's answer is not a success."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Api(NamedTuple):
    """The API server as the kubeconfig names it. Files are read again for each request: certificates rotate."""

    server: str
    ca: str
    certificate: str
    key: str

    def call(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> dict[str, Any]:
        """Raises Refused, OSError, http.client.HTTPException."""
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(self.certificate, self.key)
        parts = urlsplit(self.server)
        connection = http.client.HTTPSConnection(parts.hostname or "", parts.port or 443, context=context, timeout=10)
        try:
            headers = {"Content-Type": content_type, "User-Agent": f"kubelet/{VERSION}"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            result = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status >= 300:
            raise Refused(answer.status, result.get("message", ""))
        return dict(result)

    def local_address(self) -> str:
        """The node's address on the way to the API server."""
        parts = urlsplit(self.server)
        target = (parts.hostname or "", parts.port or 443)
        ways = socket.getaddrinfo(*target, type=socket.SOCK_DGRAM)
        family, kind, _protocol, _name, address = min(ways, key=lambda way: way[0] != socket.AF_INET)  # IPv4 first
        with socket.socket(family, kind) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])


def read_kubeconfig(path: Path) -> Api:
    """The user, server and CA of the current context; certificates by path, as kubelet has them."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))

    def named(section: str, name: str) -> dict[str, Any]:
        return next(each[section.removesuffix("s")] for each in document[section] if each["name"] == name)

    context = named("contexts", document["current-context"])
    cluster, user = named("clusters", context["cluster"]), named("users", context["user"])
    return Api(
        cluster["server"], cluster["certificate-authority"], user["client-certificate"], user.get("client-key", "")
    )


def network_problem() -> str:
    """What keeps the node from being ready, in kubelet's words; empty if nothing does."""
    # gRPC by curl: an empty message with its five bytes of frame. No CRI client is on a node.
    asked = subprocess.run(
        [
            *("curl", "--silent", "--max-time", "5", "--http2-prior-knowledge", "--unix-socket", CRI),
            *("--header", "content-type: application/grpc", "--header", "te: trailers"),
            *("--data-binary", "@-", "http://localhost/runtime.v1.RuntimeService/Status"),
        ],
        input=b"\0" * 5,
        capture_output=True,
        check=False,
    )
    if asked.returncode:
        return "container runtime is down"
    # StatusResponse.status = 1, its conditions = 1, theirs: type = 1, status = 2, reason = 3, message = 4.
    status = next((value for number, value in fields(asked.stdout[5:]) if number == 1), b"")
    for condition in (dict(fields(value)) for number, value in fields(status) if number == 1):
        if condition.get(1) == b"NetworkReady" and not condition.get(2):
            reason, message = (condition.get(number, b"").decode() for number in (3, 4))
            return f"container runtime network not ready: NetworkReady=false reason:{reason} message:{message}"
    return "" if status else "container runtime is down"


def fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """(number, value) of a protobuf message's fields: bytes, and numbers as they are encoded."""
    place = 0

    def number() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = message[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while place < len(message):
        tag = number()
        if tag & 7 == 2:
            length = number()
            yield tag >> 3, message[place : place + length]
            place += length
        else:
            start = place
            number()
            yield tag >> 3, message[start:place]


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def conditions(problem: str, before: list[dict[str, str]]) -> list[dict[str, str]]:
    """``before``: the conditions until now; what stays keeps the time of its last change."""
    times = {(each["type"], each["status"]): each.get("lastTransitionTime") or now() for each in before}
    ready = {
        "type": "Ready",
        "status": "False" if problem else "True",
        "reason": "KubeletNotReady" if problem else "KubeletReady",
        "message": problem or "kubelet is posting ready status",
    }
    others = [
        {"type": kind, "status": "False", "reason": reason, "message": message}
        for kind, (reason, message) in PRESSURES.items()
    ]
    return [
        {"lastHeartbeatTime": now(), "lastTransitionTime": times.get((each["type"], each["status"]), now()), **each}
        for each in (*others, ready)
    ]


def described(api: Api, name: str) -> dict[str, Any]:
    """The Node as kubelet registers it, without conditions."""
    arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/arch": arch, "kubernetes.io/os": "linux"}
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    capacity = {"cpu": str(os.cpu_count()), "memory": f"{pages // 1024}Ki", "pods": "110"}
    version = subprocess.run(["containerd", "--version"], capture_output=True, text=True, check=False).stdout.split()
    release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines() if "=" in line
    )
    info = {
        "machineID": Path("/etc/machine-id").read_text(encoding="utf-8").strip(),
        "systemUUID": "",
        "bootID": Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip(),
        "kernelVersion": platform.release(),
        "osImage": release.get("PRETTY_NAME", "").strip('"'),
        "containerRuntimeVersion": f"containerd://{(version[2:3] or ['unknown'])[0].removeprefix('v')}",
        "kubeletVersion": VERSION,
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": arch,
    }
    addresses = [{"type": "InternalIP", "address": api.local_address()}, {"type": "Hostname", "address": name}]
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {"name": name, "labels": labels},
        "status": {"capacity": capacity, "allocatable": capacity, "addresses": addresses, "nodeInfo": info},
    }


def register(api: Api, name: str, problem: str) -> list[dict[str, str]]:
    """Make the Node, or renew the one there is. Returns its conditions."""
    node = described(api, name)
    now_so = conditions(problem, [])
    try:
        api.call("POST", "/api/v1/nodes", {**node, "status": {**node["status"], "conditions": now_so}})
    except Refused as refused:
        if refused.code != 409:
            raise
        there = api.call("GET", f"/api/v1/nodes/{name}")
        now_so = conditions(problem, there["status"].get("conditions", []))
        api.call("PATCH", f"/api/v1/nodes/{name}", {"metadata": node["metadata"]}, "application/merge-patch+json")
        post(api, name, {**node["status"], "conditions": now_so})
    print(f"registered node {name}; {problem or 'ready'}", flush=True)
    return now_so


def post(api: Api, name: str, status: dict[str, Any]) -> None:
    patch = {"status": status}
    api.call("PATCH", f"/api/v1/nodes/{name}/status", patch, "application/strategic-merge-patch+json")


def folder_state() -> list[tuple[str, int, int]]:
    """Changes when CNI's folder does."""
    try:
        entries = sorted(CNI.iterdir())
        return [(entry.name, entry.lstat().st_mtime_ns, entry.lstat().st_ino) for entry in entries]
    except OSError:
        return []


def run(kubeconfig: Path, name: str) -> None:
    """For ever. A server that is away or refuses is tried again each second."""
    seen = folder_state()
    changed = asked = posted = time.monotonic()
    problem = network_problem()
    told: str | None = None  # what the API server knows: nothing yet
    current: list[dict[str, str]] = []
    while True:
        state, moment = folder_state(), time.monotonic()
        if state != seen:
            seen, changed = state, moment
        if moment - asked > ASK or moment - changed < SETTLE:
            problem, asked = network_problem(), moment
        try:
            if told is None:
                current = register(read_kubeconfig(kubeconfig), name, problem)
                told, posted = problem, moment
            elif problem != told or moment - posted > HEARTBEAT:
                current = conditions(problem, current)
                post(read_kubeconfig(kubeconfig), name, {"conditions": current})
                told, posted = problem, moment
        except (Refused, OSError, http.client.HTTPException) as failure:
            print(f"{type(failure).__name__}: {failure}", file=sys.stderr, flush=True)
            time.sleep(1)
        time.sleep(POLL)


def main() -> int:
    parser = argparse.ArgumentParser(description="A stand-in for kubelet, for tests.", allow_abbrev=False)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--hostname-override", default="")
    options = parser.parse_args()
    run(options.kubeconfig, options.hostname_override or socket.gethostname().lower())
    return 0


if __name__ == "__main__":
    sys.exit(main())
