# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A kubeconfig of one cluster, one user and one context, all named ``default``: rendered, read, described. Pure.

It is rendered by hand, since its shape is fixed and hosts may lack PyYAML. A file that equals our own text needs no
reading. Another one is read with PyYAML, or as JSON where PyYAML is missing; if it can't be read, it counts as
different, which at worst replaces a file of the same meaning once.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from . import certs as pki_certs

try:
    import yaml

    HAS_YAML = True
except ImportError:
    HAS_YAML = False

NAME = "default"
HIDDEN = "(hidden)"
# Any name an entry of a kubeconfig has, in YAML's block style and in JSON.
_NAMES = re.compile(r'^[\s\-{]*"?name"?\s*:\s*"?([^"\s,}]+)', re.MULTILINE)


class Part(NamedTuple):
    """A CA, certificate or key: embedded as PEM, or by the path of its file."""

    pem: str = ""
    path: str = ""


class Kubeconfig(NamedTuple):
    server: str
    ca: Part
    certificate: Part
    key: Part


def server_problem(server: str) -> str:
    """What keeps ``server`` from being an API server's URL; empty for a good one."""
    expected = "expected the API server's https URL, such as https://control-plane:6443"
    try:
        url = urlsplit(server)
        port = url.port
    except ValueError as error:
        return f"server: found {server!r} ({error}), {expected}"
    bad = (
        url.scheme != "https" or not url.hostname or port == 0 or url.query or url.fragment or url.username is not None
    )
    if bad or re.search(r"[\s\"'\\\x00-\x1f]", server):
        return f"server: found {server!r}, {expected}"
    return ""


def document(config: Kubeconfig) -> dict[str, Any]:
    """The kubeconfig as data, in the order in which kubectl writes it."""
    cluster = {**_part("certificate-authority", config.ca), "server": config.server}
    user = {**_part("client-certificate", config.certificate), **_part("client-key", config.key)}
    return {
        "apiVersion": "v1",
        "clusters": [{"cluster": cluster, "name": NAME}],
        "contexts": [{"context": {"cluster": NAME, "user": NAME}, "name": NAME}],
        "current-context": NAME,
        "kind": "Config",
        "users": [{"name": NAME, "user": user}],
    }


def render(config: Kubeconfig) -> str:
    """The kubeconfig as YAML in kubectl's style."""
    lines: list[str] = []
    for key, value in document(config).items():
        if isinstance(value, str):
            lines.append(f"{key}: {_scalar(value)}")
            continue
        lines.append(f"{key}:")
        for field, content in value[0].items():
            lead = "- " if field == next(iter(value[0])) else "  "
            if isinstance(content, str):
                lines.append(f"{lead}{field}: {_scalar(content)}")
            else:
                lines.append(f"{lead}{field}:")
                lines += [f"    {name}: {_scalar(text)}" for name, text in content.items()]
    return "\n".join(lines) + "\n"


def parse(text: str) -> dict[str, Any] | None:
    """A kubeconfig as data; None where it is none, or only PyYAML could read it and this host lacks it."""
    try:
        data = yaml.safe_load(text) if HAS_YAML else json.loads(text)
    except Exception:  # PyYAML's own classes, ValueError, RecursionError: whatever it is, it can't be read.
        return None
    return data if isinstance(data, dict) else None


def same(text: str, config: Kubeconfig) -> bool:
    """Does the file's text mean this kubeconfig? Empty preferences, which kubectl adds, mean nothing."""
    if text == render(config):
        return True
    data = parse(text)
    if data is None:
        return False
    return {key: value for key, value in data.items() if key != "preferences" or value} == document(config)


def foreign_names(text: str) -> list[str]:
    """Names in a kubeconfig that our files never have: a user who gives the path of admin.conf must not lose it."""
    names = set(_NAMES.findall(text))
    data = parse(text) or {}
    for collection in ("clusters", "users", "contexts"):
        entries = data.get(collection)
        names |= {str(item.get("name")) for item in entries or () if isinstance(item, dict)}
    return sorted(names - {NAME})


def describe(config: Kubeconfig, key_note: str = "") -> str:
    """The kubeconfig for a diff, without the key."""
    return _lines(document(config), key_note)


def describe_text(text: str) -> str:
    """The same of a file's text."""
    data = parse(text)
    if data is None:
        return "(a file that can't be read as a kubeconfig here)\n"
    return _lines(data, "")


def key_differs(text: str, config: Kubeconfig) -> bool:
    """Is another key embedded in the file?"""
    return bool(text) and _field(parse(text) or {}, "users", "user").get("client-key-data") != _part(
        "client-key", config.key
    ).get("client-key-data")


def _lines(data: Mapping[str, Any], key_note: str) -> str:
    cluster, user = _field(data, "clusters", "cluster"), _field(data, "users", "user")
    context = _field(data, "contexts", "context")
    lines = [
        f"server: {cluster.get('server', '')}",
        f"cluster: {_name(data, 'clusters')}, user: {_name(data, 'users')}",
        f"context: {_name(data, 'contexts')} ({context.get('cluster', '')}, {context.get('user', '')})",
        f"current-context: {data.get('current-context', '')}",
    ]
    for field in ("certificate-authority", "client-certificate"):
        lines.append(_shown(field, cluster if field.startswith("certificate") else user))
    if "client-key-data" in user:
        lines.append(f"client-key-data: {HIDDEN}{key_note}")
    if "client-key" in user:
        lines.append(f"client-key: {user['client-key']}")
    # Whatever else there is may be a secret (a token, a proxy's password): its name alone is shown.
    names = ("certificate-authority", "client-certificate", "client-key")
    known = {"server", "cluster", "user", *(f"{name}{end}" for name in names for end in ("", "-data"))}
    lines += [f"{name}: {HIDDEN}" for name in sorted({*map(str, cluster), *map(str, user), *map(str, context)} - known)]
    return "".join(f"{line}\n" for line in lines)


def _shown(field: str, entry: Mapping[str, Any]) -> str:
    embedded = entry.get(f"{field}-data")
    if embedded is None:
        return f"{field}: {entry.get(field, '')}"
    if not embedded:
        return f"{field}-data: (not there yet)"
    try:
        certificates = pki_certs.load_all(base64.b64decode(embedded))
    except (ValueError, TypeError):
        return f"{field}-data: (no certificate)"
    return f"{field}-data: {', '.join(f'SHA-256 {pki_certs.fingerprint(item)}' for item in certificates)}"


def _field(data: Mapping[str, Any], collection: str, entry: str) -> dict[str, Any]:
    """The first cluster, user or context; empty where the file is of another shape."""
    try:
        found = data[collection][0][entry]
    except (KeyError, IndexError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _name(data: Mapping[str, Any], collection: str) -> str:
    try:
        return ", ".join(str(item["name"]) for item in data[collection])
    except (KeyError, TypeError):
        return "(none)"


def _part(field: str, part: Part) -> dict[str, str]:
    if part.path:
        return {field: part.path}
    return {f"{field}-data": base64.b64encode(part.pem.encode()).decode()}


def _scalar(text: str) -> str:
    """Plain where YAML takes it as a text without quotes, else quoted, all but plain ASCII escaped."""
    if re.fullmatch(r"[A-Za-z/]([A-Za-z0-9/:._+=\-]*[A-Za-z0-9/._+=\-])?", text):
        return text
    plain = (sign if " " <= sign <= "~" and sign not in '"\\' else f"\\U{ord(sign):08X}" for sign in text)
    return f'"{"".join(plain)}"'
