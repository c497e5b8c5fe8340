# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The podnet_* variables of an inventory: checked against schemas/inventory.json, defaults taken from it."""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.weft.podnet.plugins.module_utils.core import networks
from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused

from ..flannel import net_conf
from ..flannel import settings as flannel
from . import cluster

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator, FormatChecker, ValidationError

SCHEMA = Path(__file__).resolve().parents[3] / "schemas" / "inventory.json"
# Made by the plays themselves, not by the user.
OWN_FACTS = {"podnet_cluster", "podnet_node", "podnet_archives", "podnet_artifacts", "podnet_ca"}


@functools.cache
def schema() -> dict[str, Any]:
    return dict(json.loads(SCHEMA.read_text(encoding="utf-8")))


def default(name: str) -> Any:
    """A variable's default; None for one without."""
    return schema()["properties"][name].get("default")


def worker_defaults() -> dict[str, Any]:
    """The defaults of the variables that may differ between workers."""
    return {
        name: rule["default"]
        for name, rule in schema()["properties"].items()
        if rule.get("x-scope") != "cluster" and "default" in rule
    }


def complete(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A node of a plan, with the defaults of its ``settings``."""
    return {**entry, "settings": {**worker_defaults(), **entry.get("settings", {})}}


def shown(name: str, value: Any) -> Any:
    """A variable's value without what is secret in it: for messages and for the plan's file. None for a secret."""
    rule = schema()["properties"].get(name, {})
    if rule.get("x-secret"):
        return None
    hidden = rule.get("x-secret-keys", [])
    return {key: kept for key, kept in value.items() if key not in hidden} if isinstance(value, dict) else value


def kept(values: Mapping[str, Any]) -> dict[str, Any]:
    """Variables as the plan keeps them: those that have a value, without secrets."""
    found = {name: shown(name, value) for name, value in values.items()}
    return {name: value for name, value in found.items() if value is not None}


def typed(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The variables with texts read as what the schema wants: ``-e podnet_verify=false`` gives a text.

    A text that can't be read so stays one, for the check to name.
    """
    rules = schema()["properties"]
    return {name: _read(value, rules.get(name, {}).get("type")) for name, value in variables.items()}


def _read(value: Any, kind: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        if kind == "boolean":
            return boolean(value)
        if kind in ("integer", "number"):
            return int(value) if kind == "integer" else float(value)
    except (TypeError, ValueError):
        pass
    return value


def check_host(name: str, variables: Mapping[str, Any]) -> list[str]:
    """What is wrong with one worker's podnet_* variables, a line each, all at once."""
    mine = {key: value for key, value in variables.items() if key.startswith("podnet_") and key not in OWN_FACTS}
    found = [line for error in _validator().iter_errors(mine) for line in _plain(error)]
    # Keys of a mapping are quoted as they are, and may hold a line break too.
    return [f"{name}: {line}".replace("\n", "\\n") for line in [*found, *_unprintable(mine)]]


def _unprintable(variables: Mapping[str, Any]) -> list[str]:
    """Texts with a line break, a NUL or the like: none of the variables has a use for one."""
    found = []
    rest: list[tuple[str, Any]] = [
        (name, value) for name, value in variables.items() if not schema()["properties"].get(name, {}).get("x-secret")
    ]
    while rest:
        path, value = rest.pop()
        if isinstance(value, Mapping):
            rest += [(f"{path}.{networks.shown(key)}", part) for key, part in value.items()]
        elif isinstance(value, (list, tuple)):
            rest += [(f"{path}[{index}]", part) for index, part in enumerate(value)]
        elif isinstance(value, str) and not value.isprintable():
            found.append(f"{path}: {networks.shown(value)} holds a line break or another unprintable character")
    return sorted(found)


@functools.cache
def _validator() -> Draft202012Validator:
    try:
        from jsonschema import Draft202012Validator
    except ImportError as error:
        raise Refused(["jsonschema: this controller's Python lacks it; install it beside ansible-core"]) from error
    return Draft202012Validator(schema(), format_checker=_formats())


# What a text in the inventory may be (``format`` in the schema) is decided where modules have it from, too.
FORMATS: dict[str, Callable[[Any], Any]] = {
    "pod-cidr": networks.read_pod_cidr,
    "pod-subnet": networks.read_pod_subnet,
    "node-address": networks.read_host,
    "network": networks.read_network,
    "underlay": networks.read_underlay,
    "bridge": networks.read_bridge,
    "mac": networks.read_mac,
}


def _formats() -> FormatChecker:
    from jsonschema import FormatChecker

    def check(read: Callable[[Any], Any], value: Any) -> bool:
        if isinstance(value, str):
            read(value)
        return True

    checker = FormatChecker(formats=())
    for name, read in FORMATS.items():
        checker.checks(name, raises=networks.Unfit)(functools.partial(check, read))
    return checker


def _plain(error: ValidationError) -> list[str]:
    """One schema error in the user's words."""
    parts = list(error.absolute_path)
    path = "".join(str(part) if not place else f"[{part}]" for place, part in enumerate(parts))
    secret = schema()["properties"].get(path, {}).get("x-secret")
    found: Any = "(not shown)" if secret else shown(path, error.instance)
    wanted: Any = error.validator_value
    if error.validator == "additionalProperties":
        known, renamed = list(schema()["properties"]), schema()["x-renamed"]
        lines = []
        for key in sorted(set(found) - set(known)):
            if key in renamed:
                lines.append(f"{key} is now {renamed[key]}")
                continue
            near = difflib.get_close_matches(key, known, 1)
            lines.append(f"unknown variable {key}" + (f"; did you mean {near[0]}?" if near else ""))
        return lines
    if error.validator == "format":
        return [f"{path}: {error.cause}"]
    if error.validator == "enum":
        return [f"{path}: expected one of {', '.join(map(str, wanted))}, found {found!r}"]
    if error.validator == "type":
        kinds = [wanted] if isinstance(wanted, str) else wanted
        return [f"{path}: expected {' or '.join(map(str, kinds))}, found {found!r}"]
    limits = {
        "minimum": "at least",
        "maximum": "at most",
        "exclusiveMinimum": "more than",
        "minItems": "a list of at least",
        "maxItems": "a list of at most",
    }
    if str(error.validator) in limits:
        return [f"{path}: expected {limits[str(error.validator)]} {wanted}, found {found!r}"]
    description = schema()["properties"].get(path, {}).get("description", "")
    return [f"{path}: {found!r} does not fit {wanted!r}. {description}".strip()]


def common(names: Sequence[str], hosts: Mapping[str, Mapping[str, Any]], problems: list[str]) -> dict[str, Any]:
    """The values of variables that hold for the whole cluster; one that differs between workers is a problem."""
    found: dict[str, Any] = {}
    for name in names:
        by_value: dict[str, list[str]] = {}
        for host, variables in hosts.items():
            value = variables.get(name, default(name))
            by_value.setdefault(json.dumps(value, sort_keys=True, default=str), []).append(host)
            found.setdefault(name, value)
        if len(by_value) > 1 and schema()["properties"][name].keys() & {"x-secret", "x-secret-keys"}:
            problems.append(f"{name}: must be the same on all workers, found {len(by_value)} values (not shown)")
        elif len(by_value) > 1:
            told = "; ".join(f"{value} on {', '.join(where[:3])}" for value, where in by_value.items())
            problems.append(f"{name}: must be the same on all workers, found {told}")
    return found


def folded(problems: Sequence[str], names: Iterable[str]) -> list[str]:
    """Problems (``worker: text``) with those that differ in nothing but the worker in one line, each line once."""
    workers = set(names)
    by_text: dict[tuple[bool, str], list[str]] = {}
    for line in dict.fromkeys(problems):
        name, colon, text = line.partition(": ")
        is_workers = bool(colon) and name in workers
        by_text.setdefault((is_workers, text if is_workers else line), []).append(name)
    return [f"{_some(where)}: {text}" if is_workers else text for (is_workers, text), where in by_text.items()]


def _some(names: Sequence[str]) -> str:
    if len(names) > 3:
        return f"{names[0]}, {names[1]} and {len(names) - 2} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def check_passphrase(hosts: Mapping[str, Mapping[str, Any]], control_plane: str, known: bool) -> list[str]:
    """The CA's passphrase is the control plane's own variable: it is used there, and no worker's variables are."""
    name = "podnet_ca_passphrase"
    if not control_plane or known or not any(variables.get(name) for variables in hosts.values()):
        return []
    return [f"{name}: only workers have it; set it for {control_plane}, where the CA signs (or for the group all)"]


def cluster_names() -> list[str]:
    return [name for name, rule in schema()["properties"].items() if rule.get("x-scope") == "cluster"]


def worker(name: str, variables: Mapping[str, Any]) -> cluster.Worker:
    """One worker's own values; ``ansible_host`` stands in for ``podnet_node_ip`` where it is an address."""
    node_ips = _listed(variables.get("podnet_node_ip"))
    if not node_ips:
        try:
            node_ips = [str(networks.read_address(str(variables.get("ansible_host", name))))]
        except networks.Unfit:
            node_ips = []
    return cluster.Worker(
        name,
        node_ips,
        _listed(variables.get("podnet_pod_subnet")),
        variables.get("podnet_vtep_mac"),
        variables.get("podnet_node_name"),
    )


def settings(values: Mapping[str, Any]) -> cluster.Settings:
    return cluster.Settings(
        backend=values["podnet_backend"],
        pod_cidrs=_listed(values["podnet_pod_cidr"]),
        mask_sizes={4: values["podnet_node_cidr_mask_size"], 6: values["podnet_node_cidr_mask_size_ipv6"]},
        allots=not asks_the_api(values),
        vni=values["podnet_vxlan_vni"] if values["podnet_backend"] == "vxlan" else None,
    )


def asks_the_api(values: Mapping[str, Any]) -> bool:
    """Does this cluster take its workers' pod subnets from the Kubernetes API?"""
    mixed = values["podnet_backend"] == "vxlan" and values["podnet_publish_node_annotations"]
    return bool(values["podnet_backend"] == "flannel" or mixed)


def check_live_pods(values: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Pods are evicted through the Kubernetes API, which not every backend asks."""
    if asks_the_api(values):
        return []
    return [
        f"{name}: podnet_live_pods: recreate evicts pods through the Kubernetes API, which is asked with "
        "podnet_backend: flannel, and vxlan with podnet_publish_node_annotations: true; drain the Nodes yourself "
        "(kubectl drain NODE --ignore-daemonsets) before you run it, or set refuse or keep"
        for name, variables in hosts.items()
        if variables.get("podnet_live_pods") == "recreate"
    ]


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def check_flannel(values: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]] | None = None) -> list[str]:
    """What flanneld can't do, of what the inventory says."""
    problems = []
    if values["podnet_backend"] == "flannel":
        conf = flannel.net_conf(_listed(values["podnet_pod_cidr"]), values["podnet_flannel_backend"])
        problems += [f"podnet_flannel_backend: {line}" for line in net_conf.check(conf)]
        problems += [
            f"{name}: podnet_masquerade_exclude: flanneld masquerades by itself and has no exceptions; take it out"
            for name, variables in (hosts or {}).items()
            if variables.get("podnet_masquerade_exclude")
        ]
    return problems
