# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CNI configurations as a runtime reads them. Pure: text and dictionaries in, answers out."""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ..core import documents

EXTENSIONS = (".conf", ".conflist", ".json")
# The temporary file that replaces a configuration has a name 14 bytes longer; file systems end at 255.
FILE_NAME_BYTES = 240
DATA_DIR = "/var/lib/cni/networks"
# The collection's own files, by their names: they carry no mark.
OUR_FILES = ("10-bridge.*", "10-flannel.*")


def file_name_problem(name: Any) -> str | None:
    """Why ``name`` can't be the file of a configuration, or None."""
    found = f"file name: found {str(name)!r}, expected"
    if not isinstance(name, str) or not name:
        return f"{found} a name such as 10-bridge.conf"
    if "/" in name or "\\" in name:
        return f"{found} a name without a path; the directory is conf_dir"
    if name.startswith("."):
        return f"{found} one that does not start with a dot"
    if not name.isprintable() or len(name.encode(errors="surrogatepass")) > FILE_NAME_BYTES:
        return f"{found} at most {FILE_NAME_BYTES} bytes and no control characters"
    if not name.endswith(EXTENSIONS):
        return f"{found} one that ends in .conf, .conflist or .json: runtimes read no other"
    return None


def runtime_order(names: Iterable[str]) -> list[str]:
    """The names that containerd (go-cni) considers, in its order: three extensions, sorted by whole name, bytewise."""
    return sorted((name for name in names if name.endswith(EXTENSIONS)), key=os.fsencode)


def render(config: Mapping[str, Any]) -> str:
    """The file's text: indented, keys in the given order."""
    return json.dumps(config, indent=2) + "\n"


def same_meaning(one: Any, other: Any) -> bool:
    """Do two JSON values say the same? Key order does not count, types do: true is not 1, 1 is not 1.0."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def get(mapping: Any, key: str, default: Any = None) -> Any:
    """A key's value as Go's decoder finds it: the exact key, else one that differs in case only."""
    if not isinstance(mapping, Mapping):
        return default
    if key in mapping:
        return mapping[key]
    for found, value in mapping.items():
        if isinstance(found, str) and found.lower() == key.lower():
            return value
    return default


class Broken(ValueError):
    """A file that libcni refuses to load, or an answer that no plugin gives; the text says why."""


def parse(name: str, text: str | None) -> dict[str, Any]:
    """The configuration in a file, as far as libcni checks it at load time. Raises Broken. ``None`` is unreadable."""
    if text is None:
        raise Broken("it can't be read")
    try:
        config = documents.from_json(text)
    except (ValueError, RecursionError) as error:
        raise Broken(f"it is no JSON: {error}") from None
    if not isinstance(config, dict):
        raise Broken("it holds no JSON object")
    if not name.endswith(".conflist"):
        if not _text(get(config, "type")):
            raise Broken("it has no 'type' (a list must end in .conflist)")
        return config
    if not _text(get(config, "name")):
        raise Broken("the list has no 'name'")
    members = get(config, "plugins")
    if not isinstance(members, list) or not members:
        raise Broken("the list has no 'plugins'")
    if not all(_text(get(member, "type")) for member in members):
        raise Broken("a plugin of the list has no 'type'")
    return config


class Loaded(NamedTuple):
    """``name`` of the file the runtime loads and what it holds; or ``broken``: the first file and why nothing loads."""

    name: str | None
    config: dict[str, Any] | None
    broken: str | None


def loaded(files: Mapping[str, str | None]) -> Loaded:
    """What containerd loads of a directory (file name -> text, None if unreadable) with its default max_conf_num of 1.

    The first file in its order is the only one that counts; where that one is broken, nothing is loaded at all.
    """
    for name in runtime_order(files):
        try:
            return Loaded(name, parse(name, files[name]), None)
        except Broken as error:
            return Loaded(None, None, f"{name}: {error}")
    return Loaded(None, None, None)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def members(config: Mapping[str, Any]) -> list[Any]:
    """The plugins of a list; a single configuration is its own only plugin."""
    listed = get(config, "plugins")
    return listed if isinstance(listed, list) else [config]


def required_plugins(config: Mapping[str, Any]) -> list[str]:
    """The binaries that a configuration needs, sorted: plugins, their ipam, and what flannel delegates to."""
    needed: list[Any] = []
    for plugin in members(config):
        kind, ipam = get(plugin, "type"), get(plugin, "ipam", {})
        needed += [kind, get(ipam, "type")]
        if kind == "flannel":
            needed += [get(get(plugin, "delegate", {}), "type", "bridge"), get(ipam, "type", "host-local")]
    return sorted(
        {kind for kind in needed if isinstance(kind, str) and kind.isprintable() and kind and "/" not in kind}
    )


def masquerades(config: Mapping[str, Any]) -> bool | None:
    """Do its plugins translate what pods send out? None where only flannel's plugin knows, by what flanneld writes."""
    listed = members(config)
    if any(get(plugin, "type") == "flannel" for plugin in listed):
        return None
    return any(get(plugin, "type") in ("bridge", "ptp") and get(plugin, "ipMasq") is True for plugin in listed)


def host_ports(config: Mapping[str, Any]) -> bool:
    """Can its pods have host ports?"""
    return any(get(plugin, "type") == "portmap" for plugin in members(config))


class Network(NamedTuple):
    """What pods of a network depend on; two configurations with equal values serve the same pods.

    ``bridge`` is the host device, None where the plugin makes none; ``data_dir`` holds host-local's leases, None with
    another ipam; ``ranges`` is host-local's address ranges in one form, as JSON.
    """

    name: str
    bridge: str | None
    data_dir: str | None
    ipam: str | None
    ranges: str


def network(config: Mapping[str, Any]) -> Network:
    """The network that a configuration describes. Invalid values are left out and raise no error."""
    bridge: str | None = None
    ipam: Any = {}
    kind: Any = None
    for plugin in members(config):
        if get(plugin, "type") == "bridge":
            bridge = _text(get(plugin, "bridge")) or "cni0"
        delegate = get(plugin, "delegate", {})
        if get(plugin, "type") == "flannel":
            kind = "host-local"
            if get(delegate, "type", "bridge") == "bridge":
                bridge = _text(get(delegate, "bridge")) or "cni0"
        if isinstance(get(plugin, "ipam"), dict):
            ipam = get(plugin, "ipam")
            kind = get(ipam, "type") or kind
    local = kind == "host-local"
    return Network(
        name=_text(get(config, "name")),
        bridge=bridge,
        data_dir=(_text(get(ipam, "dataDir")) or DATA_DIR) if local else None,
        ipam=kind if isinstance(kind, str) else None,
        ranges=json.dumps(ranges(ipam), sort_keys=True) if local else "[]",
    )


def ranges(ipam: Any) -> list[Any]:
    """host-local's ranges with the older top-level form put first, as the plugin itself does."""
    keys = ("subnet", "rangeStart", "rangeEnd", "gateway")
    top = {key: get(ipam, key) for key in keys if get(ipam, key) is not None}
    listed = get(ipam, "ranges")
    return ([[top]] if top else []) + (listed if isinstance(listed, list) else [])


def lease_addresses(names: Iterable[str]) -> list[str]:
    """Of the file names in host-local's directory, those that are leases, in address order."""
    found = []
    for name in names:
        try:
            found.append(ipaddress.ip_address(name))
        except ValueError:
            continue
    return [str(each) for each in sorted(found, key=lambda each: (each.version, int(each)))]


def version_problem(output: str, wanted: str) -> str | None:
    """Why a plugin's answer to CNI_COMMAND=VERSION does not cover the cniVersion ``wanted``, or None."""
    try:
        supported = versions(output)
    except Broken as error:
        return str(error)
    if wanted not in supported:
        return f"it does not support cniVersion {wanted}, only {', '.join(supported)}"
    return None


def versions(output: str) -> list[str]:
    """What a plugin's answer to CNI_COMMAND=VERSION says it supports. Raises Broken."""
    try:
        answer = documents.from_json(output)
    except ValueError:
        raise Broken(f"its answer to CNI_COMMAND=VERSION is no JSON: {output.strip()[:80]!r}") from None
    supported = get(answer, "supportedVersions")
    if not isinstance(supported, list):
        raise Broken(f"it does not answer CNI_COMMAND=VERSION: {_text(get(answer, 'msg')) or output.strip()[:80]}")
    return list(map(str, supported))


def default_route(config: Mapping[str, Any]) -> bool:
    """Do its plugins give pods a default route?"""
    for plugin in members(config):
        if get(plugin, "isDefaultGateway") is True or get(get(plugin, "delegate"), "isDefaultGateway") is True:
            return True
        for ipam in (get(plugin, "ipam"), get(get(plugin, "delegate"), "ipam")):
            listed = get(ipam, "routes")
            if isinstance(listed, list) and any(get(route, "dst") in ("0.0.0.0/0", "::/0") for route in listed):
                return True
    return False


def hairpin(config: Mapping[str, Any]) -> bool:
    """Does its bridge send a pod's packets back to that pod?"""
    return any(
        get(plugin, "hairpinMode") is True or get(get(plugin, "delegate"), "hairpinMode") is True
        for plugin in members(config)
    )
