# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validate flannel's net-conf.json against schemas/net-conf.json and the rules that no schema can say. Controller only.

flanneld ignores unknown keys, so with a typo the network differs from what was written.
"""

from __future__ import annotations

import functools
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from ..cni import formats as cni_formats
from ..cni import schema as cni_schema
from ..cni.formats import Problem

SCHEMA = pathlib.Path(__file__).parents[3] / "schemas" / "net-conf.json"
PORTS = {"vxlan": 8472, "udp": 8285}
WIREGUARD_PORT, WIREGUARD_PORT_V6 = 51820, 51821
# What flannel takes off the MTU of the interface between the nodes, for IPv6 too.
OVERHEAD = {"vxlan": 50, "wireguard": 80}
LEAST_IPV6_MTU = 1280
# A device's name holds 15 bytes, its VNI included.
MOST_VNI = {"flannel.": 9_999_999, "flannel-v6.": 9_999}
# The part of the schema that has each type's keys.
SECTIONS = {"vxlan": "vxlan", "host-gw": "hostGw", "wireguard": "wireguard", "ipip": "ipip", "udp": "udp"}
PSK_PATH = "$.Backend.PSK"
# A preshared key is a secret: the message about a wrong one does not show it.
PSK_PROBLEM = Problem(PSK_PATH, "is no WireGuard key; expected 32 bytes in base64, as `wg genpsk` prints them")


def check(net_conf: Any) -> list[str]:
    """Everything wrong with ``net_conf``, a line each; an empty list where flanneld reads what was meant.

    Never raises for any value; RuntimeError when the jsonschema package is missing.
    """
    cni_schema.library()
    problems: list[Problem] = []
    config = _structure(cni_schema._json(net_conf, (), problems), problems)
    problems += (_told(problem) for problem in cni_schema._schema_problems(_validator().iter_errors(config), False))
    if not problems:
        problems += _rules(config)
    return [str(problem) for problem in dict.fromkeys(problems)]


def read_backend(backend: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What flanneld reads of a ``Backend``, with keys in any case: (settings by their names, the keys it ignores)."""
    given = {str(key).lower(): (str(key), value) for key, value in backend.items()}
    types = _schema()["properties"]["Backend"]["properties"]["Type"]["enum"]
    kind = str(given.get("type", ("", ""))[1])
    known = _schema()["$defs"][SECTIONS[kind]]["properties"] if kind in types else {}
    found = {name: given.pop(name.lower())[1] for name in ("Type", *known) if name.lower() in given}
    return found, [name for name, _value in given.values()]


def udp_ports(net_conf: Mapping[str, Any]) -> list[int]:
    """The UDP ports on which nodes hear each other, for a firewall. ``net_conf`` is valid. ipip is IP protocol 4."""
    backend = net_conf["Backend"]
    kind = backend["Type"]
    if kind in PORTS:
        return [backend.get("Port") or PORTS[kind]]
    if kind != "wireguard":
        return []
    port = backend.get("ListenPort", WIREGUARD_PORT)
    if backend.get("Mode", "separate") != "separate":
        return [port]
    ports = [port] if net_conf.get("EnableIPv4", True) else []
    return ports + ([backend.get("ListenPortV6", WIREGUARD_PORT_V6)] if net_conf.get("EnableIPv6") else [])


@functools.lru_cache(maxsize=1)
def _schema() -> dict[str, Any]:
    return dict(json.loads(SCHEMA.read_text(encoding="utf-8")))


@functools.lru_cache(maxsize=1)
def _validator() -> Any:
    schema = dict(_schema())
    jsonschema, _referencing = cni_schema.library()
    formats = jsonschema.FormatChecker(formats=())
    for version in (4, 6):
        check_format = functools.partial(cni_schema._format, functools.partial(_network, version))
        formats.checks(f"ipv{version}-network", raises=ValueError)(check_format)
    base = jsonschema.Draft202012Validator
    integer = base.TYPE_CHECKER.redefine("integer", cni_schema._is_integer)
    strict = jsonschema.validators.extend(base, type_checker=integer)
    # At the $schema it meets, jsonschema goes on with its stock validator.
    del schema["$schema"]
    return strict(schema, format_checker=formats)


def _structure(config: Any, problems: list[Problem]) -> Any:
    """The configuration with the keys that decide which others are valid in correct case; adds problems for others."""
    if not isinstance(config, dict):
        return config
    config = cni_schema._recased(config, ("Backend",), (), problems)
    if isinstance(config.get("Backend"), dict):
        config["Backend"] = cni_schema._recased(config["Backend"], ("Type",), ("Backend",), problems)
    return config


def _network(version: int, text: str) -> None:
    network = cni_formats.network(text)
    if network.version != version:
        other = "IPv6Network, with EnableIPv6: true" if network.version == 6 else "Network"
        raise ValueError(f"expected an IPv{version} network; this one belongs into {other}")
    if network.prefixlen == 0:
        raise ValueError("which is every address there is; expected the pods' network, such as 10.244.0.0/16")


def _told(problem: Problem) -> Problem:
    if problem.path == PSK_PATH:
        return PSK_PROBLEM
    if problem.message == "required key 'Backend' is missing":
        hint = "flanneld would take the backend udp, which is slow; write Backend: {Type: vxlan}"
        return Problem(problem.path, f"{problem.message}; {hint}")
    return problem


def _rules(config: Mapping[str, Any]) -> Iterator[Problem]:
    kind = config["Backend"]["Type"]
    ipv6 = config.get("EnableIPv6", False)
    yield from _families(config)
    if ipv6 and kind in ("ipip", "udp"):
        yield Problem("$.EnableIPv6", f"the backend {kind} knows IPv4 only; take vxlan, host-gw or wireguard")
    if ipv6 and kind in OVERHEAD and "MTU" in config["Backend"]:
        least = LEAST_IPV6_MTU + OVERHEAD[kind]
        if config["Backend"]["MTU"] < least:
            yield Problem("$.Backend.MTU", f"found {config['Backend']['MTU']}, expected at least {least} with IPv6")
    if kind == "vxlan":
        yield from _vni(config)
    if kind == "wireguard":
        yield from _wireguard(config)


def _families(config: Mapping[str, Any]) -> Iterator[Problem]:
    for flag, default, key in (("EnableIPv4", True, "Network"), ("EnableIPv6", False, "IPv6Network")):
        enabled = config.get(flag, default)
        if enabled and key not in config:
            why = f"{flag} is true" if flag in config else f"{flag} is true where it is not given"
            yield Problem("$", f"required key '{key}' is missing: {why}")
        if not enabled and key in config:
            why = f"{flag} is false" if flag in config else f"{flag} is not given"
            yield Problem(f"$.{key}", f"flannel ignores it, as {why}; write {flag}: true, or remove it")
    if not config.get("EnableIPv4", True) and not config.get("EnableIPv6", False):
        yield Problem("$", "EnableIPv4 and EnableIPv6 are both false; one of them is needed")


def _vni(config: Mapping[str, Any]) -> Iterator[Problem]:
    prefix = "flannel-v6." if config.get("EnableIPv6") else "flannel."
    vni = config["Backend"].get("VNI", 1)
    if vni > MOST_VNI[prefix]:
        name = f"{prefix}{vni}"
        yield Problem(
            "$.Backend.VNI",
            f"found {vni}, expected at most {MOST_VNI[prefix]}: the device {name} has a name of {len(name)} bytes, "
            "and the kernel takes 15",
        )


def _wireguard(config: Mapping[str, Any]) -> Iterator[Problem]:
    backend = config["Backend"]
    mode = backend.get("Mode", "separate")
    flags = {"ipv4": config.get("EnableIPv4", True), "ipv6": config.get("EnableIPv6", False)}
    if not flags.get(mode, True):
        yield Problem("$.Backend.Mode", f"found '{mode}', but Enable{mode.replace('ip', 'IP')} is not true")
    if "ListenPortV6" in backend and not (mode == "separate" and flags["ipv6"]):
        yield Problem(
            "$.Backend.ListenPortV6",
            "is used with EnableIPv6: true and Mode: separate only; flannel ignores it here; remove it",
        )
    ports = udp_ports(config)
    if len(ports) != len(set(ports)):
        yield Problem(
            "$.Backend.ListenPortV6",
            f"found {ports[0]}, which is ListenPort too; two devices can't listen on one port",
        )
