# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Probe pods: containers that the host's containerd makes with the host's CNI configuration, without image or registry.

A pod's root file system is a small folder into which the host's /usr is bound read-only; its process is the host's
Python with probe_agent. Its network namespace is made beforehand and held by a mount, as the kubelet's runtime does it,
so that the pod can be taken off the network properly even after its process was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import ipaddress
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from ..core import files, lock, tools
from ..core.problems import PodnetError
from . import agent as probe_agent
from . import cni as probe_cni
from . import datagrams as probe_datagrams
from . import exchange as probe_exchange
from . import loop as probe_loop
from . import throughput as probe_throughput

NAMESPACE = "weft-podnet-verify"
HOME = Path(lock.RUN_DIR, "verify")
ROOTFS = HOME / "rootfs"
RUN_FILE = HOME / "run"
# How ctr names a container towards CNI: namespace and id.
CNI_PREFIX = f"{NAMESPACE}-"
CTR_TIMEOUT = 60
READY_TIMEOUT = 15
SOCKET = "/run/containerd/containerd.sock"
LOG_TAIL = 2000
# The agent's folder in the pods' root file system, and how Python runs what is in it.
AGENT = "agent"
BOOT = "import sys; sys.path.insert(0, sys.argv.pop(1)); from probe import agent; agent.main(*sys.argv[1:])"


class ProbeError(PodnetError):
    """Probe pods can't be made, asked or removed; the text is for the user."""


class Pod(NamedTuple):
    """A probe pod of this host: "p1", and the identity its server answers with, new for every pod ever made.

    The container's id holds a part of the identity, so that nothing a killed run left can get into its way.
    """

    name: str
    identity: str

    @property
    def container(self) -> str:
        return f"{self.name}-{self.identity[:8]}"

    @property
    def folder(self) -> Path:
        return HOME / self.container

    @property
    def socket(self) -> str:
        return str(self.folder / probe_agent.CONTROL)


def bad_arguments(params: Mapping[str, Any]) -> list[str]:
    """What is wrong with the module's arguments beyond their types, one text each."""
    limits = {
        "pods": (1, 100),
        "port": (1, 65535),
        "timeout": (0.1, 60),
        "tries": (1, 10),
        "patience": (1, 600),
        "seconds": (0.1, 10),
    }
    problems = [
        f"{name} is {params[name]}, but must be from {low} to {high}"
        for name, (low, high) in limits.items()
        if not low <= params[name] <= high
    ]
    for number, target in enumerate(params["targets"]):
        try:
            ipaddress.ip_address(target["address"])
        except ValueError:
            problems.append(f"targets[{number}].address is {target['address']!r}, but must be an IP address, no prefix")
    return problems


def preflight(socket: str) -> None:
    """Everything a probe pod needs and this host lacks, in one ProbeError."""
    problems = []
    if tools.find("ctr") is None:
        problems.append("the program ctr is missing; it comes with containerd (package containerd or containerd.io)")
    if not Path(socket).is_socket():
        problems.append(f"containerd is not running: there is no socket {socket} (systemctl status containerd)")
    if tools.find("unshare") is None:
        problems.append("the program unshare is missing (package util-linux)")
    if not probe_cni.configurations():
        problems.append(
            f"there is no CNI configuration in {probe_cni.CONF_DIR}: the node is NotReady for the same reason "
            "(cni plugin not initialized). Run the playbook site.yml first"
        )
    if problems:
        raise ProbeError("; ".join(problems))


def ctr(socket: str, *arguments: str, inherit: int | None = None) -> str:
    """Run ctr in our namespace and return its output; it inherits a descriptor if given. Raises ProbeError."""
    words = ["ctr", "--address", socket, "--namespace", NAMESPACE, *arguments]
    try:
        # A session of its own: a lost ssh connection must not stop ctr between making a pod and reporting it.
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=CTR_TIMEOUT, check=False,
            stdin=subprocess.DEVNULL, start_new_session=True, pass_fds=() if inherit is None else (inherit,),
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise ProbeError(f"ctr {arguments[0]}: {error}") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ctr: ")] or done.stderr.splitlines()
        raise ProbeError(" ".join(lines).replace("ctr: ", "", 1).strip() or f"ctr exits with {done.returncode}")
    return done.stdout


def interpreter() -> tuple[str, list[Path]]:
    """The real path of the Python that runs this, and the folders outside /usr that it needs in a pod."""
    program = Path(sys.executable).resolve()
    needed = {Path(sys.base_prefix).resolve(), program.parent}
    roots = sorted(path for path in needed if Path("/usr") not in (path, *path.parents))
    return str(program), [path for path in roots if not any(other in path.parents for other in roots)]


def build_rootfs() -> list[str]:
    """Make the root file system's folder with its mount points; the mounts as options for ctr."""
    ROOTFS.mkdir(mode=0o755, parents=True, exist_ok=True)
    binds = [Path("/usr"), *interpreter()[1]]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = Path("/") / name
        if path.is_symlink():
            (ROOTFS / name).symlink_to(path.readlink())
        elif path.is_dir():
            binds.append(path)
    cache = Path("/etc/ld.so.cache")
    if cache.exists():
        (ROOTFS / "etc").mkdir()
        (ROOTFS / "etc/ld.so.cache").touch()
        binds.append(cache)
    # containerd's default specification mounts the first five; a read-only root can't grow mount points later.
    for folder in ["proc", "sys", "dev", "run", "tmp", "control", *(str(path)[1:] for path in binds if path.is_dir())]:
        (ROOTFS / folder).mkdir(parents=True, exist_ok=True)
    package = ROOTFS / AGENT / "probe"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    for module in (probe_agent, probe_datagrams, probe_exchange, probe_loop, probe_throughput):
        (package / f"{module.__name__.rpartition('.')[2]}.py").write_text(_source(module.__name__), encoding="utf-8")
    return [f"type=bind,src={path},dst={path},options=rbind:ro" for path in binds]


def _source(module: str) -> str:
    # On a host the module runs out of a zip file, where only the loader can read the source.
    spec = importlib.util.find_spec(module)
    source = spec.loader.get_source(module) if spec and spec.loader else None  # type: ignore[attr-defined]
    if source is None:
        raise ProbeError("the probe agent's source is not part of the module that Ansible sent")
    return str(source)


def command(port: int, identity: str) -> list[str]:
    """How the agent is started in a pod."""
    return [interpreter()[0], "-I", "-S", "-c", BOOT, f"/{AGENT}", "/control", str(port), identity]


def start(socket: str, number: int, port: int, mounts: list[str]) -> Pod:
    """Make the pod p<number> and wait until its agent answers. Raises ProbeError."""
    pod = Pod(f"p{number}", uuid.uuid4().hex)
    pod.folder.mkdir(mode=0o700)
    (pod.folder / "identity").write_text(pod.identity, encoding="ascii")
    netns = _make_netns(pod)
    log = pod.folder / "log"
    options = [f"--mount={mount}" for mount in mounts]
    options.append(f"--mount=type=bind,src={pod.folder},dst=/control,options=rbind:rw")
    # CPU shares are a cgroup v1 number that a host with mixed hierarchies refuses; a pod that lives for seconds has no
    # use for them. A cgroup path of one part leaves no parent behind.
    words = [
        "run", "--detach", "--cni", "--read-only", "--rootfs", "--cpu-shares", "0",
        "--cgroup", f"/{CNI_PREFIX}{pod.container}", "--with-ns", f"network:{netns}",
        "--log-uri", f"file://{log}", "--pid-file", str(pod.folder / "pid"), *options,
        str(ROOTFS), pod.container, *command(port, pod.identity),
    ]  # fmt: skip
    held = busy()
    try:
        fcntl.flock(held, fcntl.LOCK_SH)
        ctr(socket, *words, inherit=held)
    finally:
        os.close(held)
    deadline = time.monotonic() + READY_TIMEOUT
    while not Path(pod.socket).is_socket():
        if time.monotonic() > deadline or _stopped(pod):
            said = (files.read_text(log) or "")[-LOG_TAIL:].strip()
            raise ProbeError(f"the process in probe pod {pod.name} does not run: {said or 'it says nothing'}")
        time.sleep(0.02)
    return pod


def _stopped(pod: Pod) -> bool:
    try:
        return not Path("/proc", (files.read_text(pod.folder / "pid") or "0").strip()).exists()
    except OSError:
        return True


def _make_netns(pod: Pod) -> Path:
    path = pod.folder / "netns"
    path.touch()
    done = subprocess.run(["unshare", f"--net={path}", "true"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ProbeError(f"no network namespace for probe pod {pod.name}: {done.stderr.strip()}")
    return path


def ours() -> list[Pod]:
    """The pods that exist on this host, by number."""
    found = []
    for path in HOME.glob("p*/identity"):
        found.append(Pod(path.parent.name.split("-")[0], files.read_text(path) or ""))
    return sorted(found, key=lambda pod: int(pod.name[1:]))


def describe(pod: Pod) -> dict[str, Any]:
    """A pod's addresses from both sides: ``given`` with prefix as CNI says, ``seen`` by the pod on its interface."""
    try:
        seen = probe_agent.ask(pod.socket, {}, 10)["addresses"]
    except (OSError, ValueError) as error:
        raise ProbeError(f"probe pod {pod.name} does not answer on its own host: {error}") from error
    entries = [entry for _path, entry in probe_cni.cached(f"{CNI_PREFIX}{pod.container}")]
    given = [address for entry in entries for address in probe_cni.addresses(entry)]
    if not given:
        raise ProbeError(f"CNI gave probe pod {pod.name} no address: the configuration in use has no IPAM")
    network = str(entries[0].get("networkName", ""))
    return {
        "name": pod.name,
        "id": pod.identity,
        "network": network,
        "given": given,
        "seen": seen,
        **_hairpin([name for entry in entries for name in probe_cni.interfaces(entry)]),
    }


def _hairpin(interfaces: list[str]) -> dict[str, bool]:
    """{hairpin} of the bridge port that leads to a pod; {} where there is none."""
    for name in interfaces:
        text = files.read_text(f"/sys/class/net/{name}/brport/hairpin_mode")
        if text is not None:
            return {"hairpin": text.strip() == "1"}
    return {}


def asked(identity: str, targets: list[dict[str, Any]], first: bool) -> list[dict[str, Any]]:
    """Which targets a pod tries, and which of them thoroughly.

    Every pod tries every other pod. The first pod of a node tries one pod of each node with large packets, and what is
    no pod: that depends on the nodes and not on the pods.
    """
    found = []
    measured = set()
    for target in targets:
        kind = target.get("kind", probe_agent.POD)
        if kind == probe_agent.POD and target["id"] != identity:
            place = (target["node"], ":" in target["address"])
            found.append({**target, "thorough": first and place not in measured})
            measured.add(place)
        elif kind != probe_agent.POD and first:
            found.append(target)
    return found


def probe(
    targets: list[dict[str, Any]],
    timeout: float,
    tries: int,
    of_first: Callable[[str], list[dict[str, Any]]] = lambda _identity: [],
) -> list[dict[str, Any]]:
    """Let every pod of this host try the targets, all pods at once; the first one also what ``of_first`` gives
    for its identity.

    Raises ProbeError.
    """
    rounds = -(-len(targets) // probe_agent.AT_ONCE)
    # Connecting and reading each have the time-out to themselves, and so have datagrams and large packets. Busy
    # machines get another, patient round.
    longest = rounds * 6 * timeout * (tries + probe_agent.PATIENCE) + 60
    pods = ours()

    def one(pod: Pod) -> dict[str, Any]:
        others = asked(pod.identity, targets, pod is pods[0])
        itself = of_first(pod.identity) if pod is pods[0] else []
        request = {"targets": others + itself, "timeout": timeout, "tries": tries}
        try:
            reply = probe_agent.ask(pod.socket, request, longest)
        except (OSError, ValueError) as error:
            raise ProbeError(f"probe pod {pod.name} does not answer on its own host: {error}") from error
        met = reply["results"]
        return {**describe(pod), "results": met[: len(others)], "itself": met[len(others) :]}

    with ThreadPoolExecutor(max_workers=max(1, len(pods))) as pool:
        return list(pool.map(one, pods))


def stream(target: dict[str, Any], seconds: float, timeout: float) -> dict[str, Any]:
    """How fast the first pod of this host sends to a target, as agent.stream says it. Raises ProbeError."""
    pod = ours()[0]
    request = {"stream": target, "seconds": seconds, "timeout": timeout}
    try:
        (met,) = probe_agent.ask(pod.socket, request, seconds + 2 * timeout + 60)["results"]
    except (OSError, ValueError, LookupError) as error:
        raise ProbeError(f"probe pod {pod.name} does not answer on its own host: {error}") from error
    return dict(met)


def heard() -> dict[str, list[str]]:
    """For each pod of this host, by its identity: whose datagrams arrived, if it did not reach all others itself."""
    found = {}
    for pod in ours():
        with contextlib.suppress(OSError, ValueError):
            senders = probe_agent.ask(pod.socket, {}, 5).get("heard")
            if senders:
                found[pod.identity] = senders
    return found


def busy() -> int:
    """A descriptor of the file that ctr and the CNI plugins it starts hold locked for as long as they live."""
    HOME.mkdir(mode=0o755, parents=True, exist_ok=True)
    return os.open(HOME / "busy", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)


def touch_run(run: str) -> None:
    """Note that ``run`` is at work; the file's time says when it was last heard of."""
    HOME.mkdir(mode=0o755, parents=True, exist_ok=True)
    RUN_FILE.write_text(run, encoding="ascii")


def current_run() -> tuple[str, float]:
    """The run whose pods exist here and the seconds since it was last heard of; ("", 0) for none."""
    with contextlib.suppress(OSError):
        return files.read_text(RUN_FILE) or "", max(0.0, time.time() - RUN_FILE.stat().st_mtime)
    return "", 0.0
