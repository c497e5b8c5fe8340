# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for flannel's CNI plugin, for tests only: it reads subnet.env and hands a bridge's configuration on.

``standins.release`` packs it as ``flannel-<arch>``. It runs on Python 3.11's standard library.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSION = "unpacked"
SUPPORTED = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]
SUBNET_FILE = "/run/flannel/subnet.env"
DATA_DIR = "/var/lib/cni/flannel"
# CNI's error codes.
INCOMPATIBLE, ENVIRONMENT, DECODING, INVALID_CONFIG, INTERNAL = 1, 4, 6, 7, 999
# By command, what must be in the environment.
NEEDED = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"),
}
Conf = dict[str, Any]


class CniError(Exception):
    """What goes to stdout as CNI's error object."""

    def __init__(self, message: str, code: int = INTERNAL, details: str = "") -> None:
        super().__init__(message)
        self.answer: Conf = {"code": code, "msg": message, **({"details": details} if details else {})}


@dataclass(frozen=True)
class SubnetEnv:
    """subnet.env: the cluster's networks and this node's subnets, MTU in bytes, whether flanneld masquerades."""

    networks: tuple[str, ...]
    subnet: str
    ipv6_networks: tuple[str, ...]
    ipv6_subnet: str
    mtu: int
    masquerade: bool


def parse_subnet_env(text: str, path: str = SUBNET_FILE) -> SubnetEnv:
    """CniError where a line is wrong or missing."""
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    try:
        networks = {
            key: tuple(dict.fromkeys(_network(item) for item in values[key].split(","))) if values.get(key) else ()
            for key in ("FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK")
        }
        subnets = {
            key: _network(values[key]) if values.get(key) else "" for key in ("FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET")
        }
        mtu = int(values["FLANNEL_MTU"]) if "FLANNEL_MTU" in values else None
    except ValueError as problem:
        raise _unreadable(str(problem)) from problem
    missing = [*networks] if not any(networks.values()) else []
    missing += [*subnets] if not any(subnets.values()) else []
    missing += [key for key in ("FLANNEL_MTU", "FLANNEL_IPMASQ") if key not in values]
    if missing or mtu is None:
        raise _unreadable(f"{path} is missing {', '.join(missing)}")
    return SubnetEnv(
        networks=networks["FLANNEL_NETWORK"],
        subnet=subnets["FLANNEL_SUBNET"],
        ipv6_networks=networks["FLANNEL_IPV6_NETWORK"],
        ipv6_subnet=subnets["FLANNEL_IPV6_SUBNET"],
        mtu=mtu,
        masquerade=values["FLANNEL_IPMASQ"] == "true",
    )


def delegate_conf(conf: Conf, env: SubnetEnv) -> Conf:
    """The configuration that the delegate gets. CniError where ``delegate`` has what flannel sets itself."""
    delegate = dict(conf.get("delegate") or {})
    if not isinstance(delegate.get("type", ""), str):
        raise CniError("'delegate' dictionary, if present, must have (string) 'type' field")
    for key in ("name", "ipam"):
        if key in delegate:
            raise CniError(f"'delegate' dictionary must not have '{key}' field, it'll be set by flannel")
    if conf.get("runtimeConfig"):
        delegate["runtimeConfig"] = conf["runtimeConfig"]
    delegate["name"] = conf.get("name", "")
    delegate.setdefault("type", "bridge")
    # Where flanneld does not masquerade, the delegate shall.
    delegate.setdefault("ipMasq", not env.masquerade)
    delegate.setdefault("mtu", env.mtu)
    if delegate["type"] == "bridge":
        delegate.setdefault("isGateway", True)
    if conf.get("cniVersion"):
        delegate["cniVersion"] = conf["cniVersion"]
    ipam = dict(conf.get("ipam") or {})
    ipam.setdefault("type", "host-local")
    ipam["ranges"] = [[{"subnet": subnet}] for subnet in (env.subnet, env.ipv6_subnet) if subnet]
    routes = [{"dst": network} for network in (*env.networks, *env.ipv6_networks)]
    ipam["routes"] = [*(ipam.get("routes") or []), *routes]
    delegate["ipam"] = ipam
    return delegate


def execute(type_: str, command: str, stdin: str, environ: Mapping[str, str]) -> str:
    """Run the delegate found in CNI_PATH; its stdout. CniError is the delegate's own."""
    folders = environ["CNI_PATH"].split(":")
    plugin = next((path for folder in folders if (path := Path(folder) / type_).is_file()), None)
    if plugin is None:
        raise CniError(f'failed to find plugin "{type_}" in path [{" ".join(folders)}]')
    done = subprocess.run(
        [str(plugin)],
        input=stdin,
        env={**environ, "CNI_COMMAND": command},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return done.stdout
    try:
        answer = json.loads(done.stdout)
        raise CniError(answer.get("msg", ""), answer.get("code", INTERNAL), answer.get("details", ""))
    except ValueError as problem:
        raise CniError(f"netplugin failed: {done.stdout!r}") from problem


def add(conf: Conf, environ: Mapping[str, str]) -> str:
    path = conf.get("subnetFile") or SUBNET_FILE
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as problem:
        raise _unreadable(f"open {path}: {str(problem.strerror).lower()}") from problem
    delegate = delegate_conf(conf, parse_subnet_env(text, path))
    stdin = json.dumps(delegate, sort_keys=True, separators=(",", ":"))
    print(f"delegateAdd: netconf sent to delegate plugin:\n{stdin}", file=sys.stderr)
    scratch = _scratch(conf, environ)
    scratch.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch.touch(mode=0o600)
    scratch.write_text(stdin, encoding="utf-8")
    try:
        return json.dumps(json.loads(execute(delegate["type"], "ADD", stdin, environ)), indent=4)
    except CniError as problem:
        details = problem.answer.get("details")
        raise CniError(f"failed to delegate add: {problem}{f'; {details}' if details else ''}") from problem


def delete(conf: Conf, environ: Mapping[str, str]) -> str:
    """Nothing to do where the container is not known: CNI wants DEL to be repeatable."""
    scratch = _scratch(conf, environ)
    try:
        stdin = scratch.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    try:
        type_ = json.loads(stdin)["type"]
    except (ValueError, KeyError) as problem:
        print(f"failed to parse netconf: {problem}", file=sys.stderr)
        scratch.unlink(missing_ok=True)
        return ""
    execute(type_, "DEL", stdin, environ)
    scratch.unlink(missing_ok=True)
    return ""


def answer(environ: Mapping[str, str], stdin: str) -> str:
    """What goes to stdout for a command; CniError."""
    command = environ.get("CNI_COMMAND", "")
    if command == "VERSION":
        return json.dumps({"cniVersion": SUPPORTED[-1], "supportedVersions": SUPPORTED}, separators=(",", ":"))
    if command not in NEEDED:
        raise CniError(f"unknown CNI_COMMAND: {command}", ENVIRONMENT)
    missing = [name for name in NEEDED[command] if not environ.get(name)]
    if missing:
        raise CniError(f"required env variables [{','.join(missing)}] missing", ENVIRONMENT)
    try:
        conf = json.loads(stdin)
    except ValueError as problem:
        raise CniError(f"error unmarshall network config: {problem}", DECODING) from problem
    if not conf.get("name"):
        raise CniError("missing network name:", INVALID_CONFIG)
    version = conf.get("cniVersion") or "0.1.0"
    if version not in SUPPORTED:
        shown = " ".join(f'"{known}"' for known in SUPPORTED)
        details = f'config is "{version}", plugin supports [{shown}]'
        raise CniError("incompatible CNI versions", INCOMPATIBLE, details)
    # As in flannel's own: nothing is checked.
    return {"ADD": add, "DEL": delete, "CHECK": lambda _conf, _environ: ""}[command](conf, environ)


def _scratch(conf: Conf, environ: Mapping[str, str]) -> Path:
    return Path(conf.get("dataDir") or DATA_DIR) / environ["CNI_CONTAINERID"]


def _network(text: str) -> str:
    with contextlib.suppress(ValueError):
        if "/" in text:
            return str(ipaddress.ip_network(text, strict=False))
    raise ValueError(f"invalid CIDR address: {text}")


def _unreadable(reason: str) -> CniError:
    return CniError(f"failed to load flannel 'subnet.env' file: {reason}. Check the flannel pod log for this node.")


def main() -> int:
    if not os.environ.get("CNI_COMMAND"):
        print(f"CNI Plugin flannel version {VERSION} (stand-in)", file=sys.stderr)
        print(f"CNI protocol versions supported: {', '.join(SUPPORTED)}", file=sys.stderr)
        return 0
    try:
        stdin = "" if os.environ["CNI_COMMAND"] == "VERSION" else sys.stdin.read()
        print(answer(os.environ, stdin), end="")
    except CniError as problem:
        print(json.dumps(problem.answer, indent=4), end="")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
