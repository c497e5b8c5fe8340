# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flanneld on this host: its unit, its processes, its files, and what it last said where it failed."""

from __future__ import annotations

import calendar
import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ...core import documents, files, flanneld, processes, tools
from ...flannel import ready
from ...flannel import unit as flannel_unit
from .section import Notes
from .services import NO_UNIT, Unit

HIDDEN = "***"
JOURNAL_LINES = 5
# Of the journal, what the unit has said since it was last started, or of the last day.
DAY = 86400.0
# Options of flanneld whose values are not for a report.
SECRET = re.compile(r"^(--?(?:etcd-password|etcd-username|kube-api-token)(?:=|$))", re.IGNORECASE)
# The keys that flanneld reads (pkg/subnet/config.go and each backend); it ignores any other without a word.
KEYS = (
    *("EnableIPv4", "EnableIPv6", "EnableNFTables", "Network", "IPv6Network", "Backend"),
    *("SubnetMin", "SubnetMax", "SubnetLen", "IPv6SubnetMin", "IPv6SubnetMax", "IPv6SubnetLen"),
)
BACKEND_KEYS: Mapping[str, tuple[str, ...]] = {
    "vxlan": ("Type", "VNI", "Port", "MTU", "GBP", "Learning", "DirectRouting"),
    "host-gw": ("Type",),
    "wireguard": ("Type", "PSK", "ListenPort", "ListenPortV6", "MTU", "Mode", "PersistentKeepaliveInterval"),
    "ipip": ("Type", "DirectRouting"),
    "udp": ("Type", "Port"),
}
# Where k3s keeps the settings of the flannel in its own process.
K3S_NET_CONF = "/var/lib/rancher/k3s/agent/etc/flannel/net-conf.json"
SUBNET_FILE = flannel_unit.ARGUMENT_SPEC["subnet_file"]["default"]
SPAN = re.compile(r"([\d.]+)(us|ms|s|min|h|d|w|month|y)\b")
SECONDS = {
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1,
    "min": 60,
    "h": 3600,
    "d": 86400,
    "w": 604800,
    "month": 2629800,
    "y": 31557600,
}


def arguments(unit: Unit, pids: Sequence[int]) -> list[str]:
    """flanneld's command line: of the running process, else as the unit has it."""
    for pid in pids:
        words = processes.arguments(pid)
        if len(words) > 1:
            return words[1:]
    match = re.search(r"argv\[\]=(.*?) ;", unit.said.get("ExecStart", ""))
    return match[1].split()[1:] if match else []


def masked(words: Sequence[str]) -> list[str]:
    """The same without what is secret."""
    shown, hide = [], False
    for word in words:
        match = SECRET.match(word)
        shown.append(HIDDEN if hide else f"{match[1]}{HIDDEN}" if match and match[1].endswith("=") else word)
        hide = bool(match and not match[1].endswith("="))
    return shown


def observe(unit: Unit, pids: Sequence[int], notes: Notes) -> dict[str, Any]:
    words = notes.read("flannel", arguments, [], unit, pids)
    text = notes.read("flannel", files.read_text, None, unit.said["FragmentPath"]) if _file(unit) else None
    ours = flannel_unit.is_ours(text)
    path = flanneld.net_conf_path(words) if words else _net_conf_path()
    # As the process sees it, which may live in a container.
    root = f"/proc/{pids[0]}/root" if pids else ""
    conf_text = notes.read("flannel", files.read_text, None, f"{root}{path}")
    conf, problems = net_conf(conf_text)
    journal = notes.read("flannel.journal", _journal, [], unit)
    return {
        "unit": {
            "exists": unit.exists,
            "ours": ours,
            "enabled": unit.enabled,
            "active": unit.active,
            "type": unit.said.get("Type", ""),
            "start_timeout": span(unit.said.get("TimeoutStartUSec", "")),
            "node_name": notes.read("flannel", _node_name, "", unit, pids),
            "arguments": masked(words) if unit.exists else [],
            "restarts": _number(unit.said.get("NRestarts", "")),
            "since": _since(unit.said.get("ActiveEnterTimestamp", "")),
        },
        "processes": [notes.read("flannel.processes", _process, {"pid": pid}, pid, unit, ours) for pid in pids],
        "net_conf_path": path if conf_text is not None else "",
        "net_conf": conf,
        "net_conf_problems": problems,
        "subnet_env": notes.read("flannel.subnet_env", subnet_env, {}, words),
        "journal": journal,
        "meanings": ready.meanings(journal),
    }


def _file(unit: Unit) -> bool:
    return bool(unit.said.get("FragmentPath"))


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def subnet_file(words: Sequence[str]) -> str:
    return processes.option(list(words), "subnet-file") or SUBNET_FILE


def subnet_env(words: Sequence[str]) -> dict[str, str]:
    """What flanneld wrote for the CNI plugin. Raises FileError."""
    return ready.subnet_env(files.read_text(subnet_file(words)))


def _net_conf_path() -> str:
    known = (*flanneld.SETTINGS, K3S_NET_CONF)
    return next((path for path in known if os.path.lexists(path)), flanneld.NET_CONF)


def net_conf(text: str | None) -> tuple[dict[str, Any], list[str]]:
    """(net-conf.json without secrets, what flanneld reads otherwise than it is written)."""
    if text is None:
        return {}, []
    try:
        conf = documents.from_json(text)
    except ValueError as error:
        return {}, [f"it is no JSON: {error}"]
    if not isinstance(conf, dict):
        return {}, ["it holds no JSON object"]
    problems = [f"unknown key {key}" for key in conf if key.lower() not in map(str.lower, KEYS)]
    backend = next((value for key, value in conf.items() if key.lower() == "backend"), None)
    if backend is None:
        problems.append("no Backend: flanneld takes udp")
    elif not isinstance(backend, dict):
        problems.append("Backend is no JSON object")
    else:
        kind = str(next((value for key, value in backend.items() if key.lower() == "type"), "udp"))
        known = BACKEND_KEYS.get(kind.lower())
        if known:
            problems += [f"unknown key Backend.{key}" for key in backend if key.lower() not in map(str.lower, known)]
    return _without_secrets(conf), problems


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: HIDDEN if key.lower() == "psk" and each else _without_secrets(each) for key, each in value.items()}
    return [_without_secrets(each) for each in value] if isinstance(value, list) else value


def _node_name(unit: Unit, pids: Sequence[int]) -> str:
    for pid in pids:
        text = (files.read_bytes(f"/proc/{pid}/environ") or b"").decode(errors="replace")
        match = re.search(r"(?:^|\0)NODE_NAME=([^\0]*)", text)
        if match:
            return match[1]
    match = re.search(r"(?:^| )\"?NODE_NAME=([^\s\"]*)", unit.said.get("Environment", ""))
    return match[1] if match else ""


def span(text: str) -> float:
    """The seconds in a time span of systemd's (``10min 30s``); 0 for "infinity", as in units, and for none."""
    return sum(float(number) * SECONDS[name] for number, name in SPAN.findall(text))


def _since(text: str) -> float:
    """A time stamp of systemd's in UTC or local time, in seconds since the epoch; 0 for none."""
    match = re.match(r"\w+ (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (\S+)$", text)
    if not match:
        return 0.0
    moment = time.strptime(match[1], "%Y-%m-%d %H:%M:%S")
    return float(calendar.timegm(moment) if match[2] in ("UTC", "GMT") else time.mktime(moment))


def _process(pid: int, unit: Unit, ours: bool) -> dict[str, Any]:
    words = processes.arguments(pid)
    return {
        "pid": pid,
        "ours": ours and pid == unit.pid,
        "version": processes.version(pid),
        "arguments": masked(words[1:]),
    }


def _journal(unit: Unit) -> list[str]:
    """The last lines about what went wrong, where the unit failed or was started again."""
    troubled = unit.active in ("failed", "activating") or _number(unit.said.get("NRestarts", "")) > 0
    if not unit.exists or not troubled:
        return []

    def run(argv: list[str]) -> tuple[int, str, str]:
        done = tools.call(argv, timeout=5)
        return done.returncode, done.stdout, done.stderr

    return ready.journal(run, time.time() - DAY)[-JOURNAL_LINES:]


NOTHING: dict[str, Any] = {
    "unit": {
        **dict.fromkeys(("exists", "ours", "enabled"), False),
        **dict.fromkeys(("active", "type", "node_name"), ""),
        **dict.fromkeys(("start_timeout", "restarts", "since"), 0),
        "arguments": [],
    },
    "processes": [],
    "net_conf_path": "",
    "net_conf": {},
    "net_conf_problems": [],
    "subnet_env": {},
    "journal": [],
    "meanings": [],
}


def unit_of(units: Mapping[str, Unit]) -> Unit:
    return units.get(flannel_unit.UNIT, NO_UNIT)
