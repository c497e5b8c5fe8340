# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is flanneld ready, and if not, why: systemd's view, subnet.env, its device, and its journal."""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..core import files
from ..core.persist import Run
from .unit import STATE_VARIABLE, UNIT

PROPERTIES = "ActiveState,SubState,UnitFileState,LoadState,FragmentPath,MainPID,InvocationID,NRestarts,Result"
POLL = 0.2
JOURNAL_LINES = 15
IFF_UP = 1
# What flanneld logs when it can't work, and what to do about it. The first pattern that matches a line is reported.
MEANINGS = (
    (r'nodes? "([^"]+)" not found', "node_name: the API server has no Node {0}; it must be the Node's name exactly"),
    (r"is forbidden: User", "RBAC: the ClusterRole and ClusterRoleBinding system:flannel are missing or too narrow"),
    (r"Unauthorized", "the API server does not accept the certificate in kubeconfig; issue it from this cluster's CA"),
    (r"failed to read net conf", "net_conf_path: flanneld can't read its configuration"),
    (r"br_netfilter|bridge-nf-call-iptables", "the kernel module br_netfilter is not loaded: modprobe br_netfilter"),
    (r"pod ?cidr not assigned", "the Node has no podCIDR: kube-controller-manager needs --allocate-node-cidrs=true"),
    (
        r"(?i)(cidr|subnet).*(does not contain|doesn't contain|not (in|within|inside|belong))",
        "the Node's podCIDR is outside of net_conf's Network; the two must agree (--cluster-cidr)",
    ),
    (r"x509: certificate has expired or is not yet valid", "a certificate has expired, or this node's clock is wrong"),
    (r"x509:|tls: ", "the CA in kubeconfig and the API server do not fit each other; make both of one CA"),
    (r"connection refused|no route to host|i/o timeout|no such host", "api_url: the API server can't be reached"),
    (r"POD_NAME and POD_NAMESPACE must be set", "flanneld was started without NODE_NAME"),
    (
        r"Link not found|must be the same with v4",
        "iface: an address family has no address on this interface; give the node an IPv4 and an IPv6 address on one "
        "interface (podnet_node_ip takes both), or take flanneld v0.27.4 or later",
    ),
    (
        r"(?i)operation not supported|protocol not supported|unknown device type",
        "the kernel has no support for the backend's devices: load its module (vxlan, wireguard, ipip or tun), or "
        "install the kernel's extra modules, or choose another Backend Type",
    ),
    (r"(?i)no interface|failed to find.*interface|Could not find", "iface: no interface of this host fits"),
    (r"status=203/EXEC", "the program can't be executed: is it for this machine's architecture?"),
    (r"permission denied|Permission denied", "a file can't be read: it must belong to root"),
)


class Service(NamedTuple):
    """systemd's view of the unit, and the digest that its process was started with ("" for none)."""

    active: str
    sub: str
    enabled: str
    load: str
    fragment: str
    pid: int
    invocation: str
    restarts: int
    result: str
    digest: str

    @property
    def started(self) -> bool:
        """Is it to run: at work, starting, or between two attempts?"""
        return self.active in ("active", "activating", "reloading", "deactivating")


class NotReady(Exception):
    """flanneld does not become ready; the text says what was waited for."""


def service(run: Run) -> Service:
    _code, out, _err = run(["systemctl", "show", UNIT, f"--property={PROPERTIES}"])
    found = dict(line.partition("=")[::2] for line in out.splitlines())
    pid = int(found.get("MainPID") or 0)
    return Service(
        found.get("ActiveState", ""),
        found.get("SubState", ""),
        found.get("UnitFileState", ""),
        found.get("LoadState", ""),
        found.get("FragmentPath", ""),
        pid,
        found.get("InvocationID", ""),
        int(found.get("NRestarts") or 0),
        found.get("Result", ""),
        _digest(pid),
    )


def _digest(pid: int) -> str:
    try:
        environment = (files.read_bytes(f"/proc/{pid}/environ") if pid else None) or b""
    except OSError:
        return ""
    match = re.search(rf"(?:^|\0){STATE_VARIABLE}=(\w*)".encode(), environment)
    return match[1].decode() if match else ""


def subnet_env(text: str | None) -> dict[str, str]:
    return dict(line.partition("=")[::2] for line in (text or "").splitlines() if "=" in line)


def missing(now: Service, conf: Mapping[str, Any], subnet_file: str) -> str:
    """What keeps flanneld from being ready, "" where nothing does."""
    if now.active != "active":
        return f"{UNIT} is {now.active} ({now.sub})"
    return _subnet_problem(subnet_env(files.read_text(subnet_file)), conf, subnet_file) or _device_problem(conf)


def _subnet_problem(found: Mapping[str, str], conf: Mapping[str, Any], subnet_file: str) -> str:
    if not found:
        return f"there is no {subnet_file}"
    for enabled, key, prefix in (
        (conf.get("EnableIPv4", True), "Network", "FLANNEL_"),
        (conf.get("EnableIPv6", False), "IPv6Network", "FLANNEL_IPV6_"),
    ):
        if not enabled:
            continue
        network, subnet = found.get(f"{prefix}NETWORK", ""), found.get(f"{prefix}SUBNET", "")
        try:
            whole = ipaddress.ip_network(conf[key])
            part: Any = ipaddress.ip_network(subnet, strict=False)
            fits = ipaddress.ip_network(network) == whole and part.version == whole.version and part.subnet_of(whole)
        except ValueError:
            fits = False
        if not fits:
            return (
                f"{subnet_file} says {prefix}NETWORK={network} and {prefix}SUBNET={subnet}, "
                f"expected a subnet of {conf[key]}"
            )
    return ""


def _device_problem(conf: Mapping[str, Any]) -> str:
    if conf["Backend"]["Type"] != "vxlan":
        return ""
    vni = conf["Backend"].get("VNI", 1)
    wanted = [f"flannel.{vni}"] if conf.get("EnableIPv4", True) else []
    wanted += [f"flannel-v6.{vni}"] if conf.get("EnableIPv6") else []
    down = [name for name in wanted if not _is_up(name)]
    return f"the device {' and '.join(down)} is not up" if down else ""


def _is_up(device: str) -> bool:
    flags = files.read_text(f"/sys/class/net/{device}/flags")
    return flags is not None and bool(int(flags, 16) & IFF_UP)


def wait(run: Run, conf: Mapping[str, Any], subnet_file: str, former: Service, seconds: float) -> None:
    """Return once a flanneld started after ``former`` is ready. Raises NotReady: in time, or when it fails twice."""
    deadline = time.monotonic() + seconds
    while True:
        now = service(run)
        fresh = now.invocation != former.invocation
        why = missing(now, conf, subnet_file) if fresh else f"{UNIT} has not started yet"
        if not why:
            return
        if fresh and (now.active == "failed" or (now.restarts >= 1 and now.sub == "auto-restart")):
            raise NotReady(f"flanneld ends again and again ({now.result})")
        if time.monotonic() > deadline:
            raise NotReady(f"flanneld did not become ready within {seconds:.0f} s: {why}")
        time.sleep(POLL)


def journal(run: Run, since: float) -> list[str]:
    """The last lines of the unit's journal since a time (seconds since the epoch), repetitions left out."""
    arguments = ["--unit", UNIT, "--since", f"@{int(since)}", "--output", "cat", "--no-pager", "--lines", "200"]
    code, out, _err = run(["journalctl", *arguments])
    return last_lines(out.splitlines()) if code == 0 else []


def last_lines(lines: list[str]) -> list[str]:
    """The most important lines: klog's I lines only if there are no others, and the last one of equal messages."""
    kept: dict[str, str] = {}
    for line in lines:
        # klog: severity, date, time, thread, place] text
        match = re.match(r"[IWEF]\d{4} \S+ +\d+ (\S+\] .*)", line)
        if line.strip():
            message = match[1] if match else line
            kept.pop(message, None)
            kept[message] = line.strip()
    telling = [line for line in kept.values() if not re.match(r"I\d{4} ", line) or meanings([line])]
    return (telling or list(kept.values()))[-JOURNAL_LINES:]


def meanings(lines: list[str]) -> list[str]:
    """What the known messages among these lines mean, in the order of their weight."""
    found = {}
    for line in lines:
        for number, (pattern, text) in enumerate(MEANINGS):
            match = re.search(pattern, line)
            if match:
                found[number] = text.format(*match.groups()) if match.groups() else text
                break
    return [found[number] for number in sorted(found)]
