# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubeconfig files: where the API server is and who this client is. YAML's block style and JSON are read."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Access:
    """A certificate or key is data in PEM, or the path of a file that is read again for every connection."""

    server: str
    ca: bytes | None = None
    cert: bytes | Path | None = None
    key: bytes | Path | None = None
    token: str = ""
    insecure: bool = False
    server_name: str = ""


def load(path: str, server: str = "") -> Access:
    """The current context's access. ValueError has the text that flanneld puts behind its own words."""
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError as problem:
        raise ValueError(f"stat {path}: no such file or directory") from problem
    except OSError as problem:
        raise ValueError(
            f'error loading config file "{path}": open {path}: {str(problem.strerror).lower()}'
        ) from problem
    try:
        config = read_yaml(text)
    except ValueError as problem:
        raise ValueError(f'error loading config file "{path}": {problem}') from problem
    context = _named(config, "contexts", config.get("current-context", "")).get("context") or {}
    cluster = _named(config, "clusters", context.get("cluster", "")).get("cluster") or {}
    user = _named(config, "users", context.get("user", "")).get("user") or {}
    address = server or cluster.get("server", "")
    if not address:
        raise ValueError(
            "invalid configuration: no configuration has been provided, "
            "try setting KUBERNETES_MASTER environment variable"
        )
    ca = _pem(cluster, "certificate-authority", file)
    cert, key = _pem(user, "client-certificate", file), _pem(user, "client-key", file)
    problems = []
    for what, value in (("client-cert", cert), ("client-key", key), ("certificate-authority", ca)):
        if isinstance(value, Path):
            try:
                value.read_bytes()
            except OSError as problem:
                reason = str(problem.strerror).lower()
                problems.append(
                    f"unable to read {what} {value} for {context.get('user')} due to open {value}: {reason}"
                )
    if problems:
        raise ValueError(
            f"invalid configuration: [{', '.join(problems)}]"
            if problems[1:]
            else f"invalid configuration: {problems[0]}"
        )
    return Access(
        server=address.rstrip("/"),
        # Read once: client-go reloads the client's certificate, not the CA's.
        ca=ca.read_bytes() if isinstance(ca, Path) else ca,
        cert=cert,
        key=key,
        token=user.get("token", ""),
        insecure=cluster.get("insecure-skip-tls-verify") in (True, "true"),
        server_name=cluster.get("tls-server-name", ""),
    )


def _named(config: dict[str, Any], kind: str, name: str) -> dict[str, Any]:
    return next((item for item in config.get(kind) or [] if item.get("name") == name), {})


def _pem(section: dict[str, Any], name: str, file: Path) -> bytes | Path | None:
    data = section.get(f"{name}-data")
    if data:
        try:
            return base64.b64decode(data, validate=True)
        except binascii.Error as problem:
            raise ValueError(f"illegal base64 data in {name}-data") from problem
    return file.parent / section[name] if section.get(name) else None


def read_yaml(text: str) -> dict[str, Any]:
    """A kubeconfig's mapping. Block mappings and lists of plain and quoted scalars, and JSON; all scalars are texts."""
    if text.lstrip().startswith("{"):
        value = json.loads(text)
    else:
        lines = []
        for number, line in enumerate(text.splitlines(), start=1):
            bare = line.strip()
            if bare and not bare.startswith("#") and bare != "---":
                lines.append((len(line) - len(line.lstrip()), bare, number))
        value = _block(lines, lines[0][0]) if lines else {}
        if lines:
            raise ValueError(f"yaml: line {lines[0][2]}: did not find expected key")
    if not isinstance(value, dict):
        raise ValueError("couldn't get version/kind; json parse error: a mapping is expected")
    return value


Line = tuple[int, str, int]


def _block(lines: list[Line], indent: int) -> Any:
    if lines[0][1] == "-" or lines[0][1].startswith("- "):
        items = []
        while lines and lines[0][0] == indent and (lines[0][1] == "-" or lines[0][1].startswith("- ")):
            _indent, text, number = lines.pop(0)
            rest = text[1:].lstrip()
            if rest:
                # What stands behind the dash opens a block of its own, that much further in.
                lines.insert(0, (indent + len(text) - len(rest), rest, number))
            items.append(_nested(lines, indent))
        return items
    if not _key(lines[0][1]):
        return _scalar(lines.pop(0)[1])
    mapping: dict[str, Any] = {}
    while lines and lines[0][0] == indent:
        _indent, text, number = lines[0]
        found = _key(text)
        if not found:
            raise ValueError(f"yaml: line {number}: could not find expected ':'")
        lines.pop(0)
        key, rest = found
        # A list may stand as far out as its key.
        at_key = bool(lines) and lines[0][0] == indent and (lines[0][1] == "-" or lines[0][1].startswith("- "))
        mapping[key] = _scalar(rest) if rest else _nested(lines, indent - 1 if at_key else indent)
    return mapping


def _nested(lines: list[Line], indent: int) -> Any:
    return _block(lines, lines[0][0]) if lines and lines[0][0] > indent else None


def _key(text: str) -> tuple[str, str] | None:
    found = re.fullmatch(r"""("[^"]*"|'[^']*'|[^\s"'{\[][^:]*)\s*:(?:\s+(.*))?""", text)
    return (found[1].strip("\"'"), found[2] or "") if found else None


def _scalar(text: str) -> Any:
    if text.startswith('"'):
        return json.loads(re.match(r'"(?:[^"\\]|\\.)*"', text)[0])  # type: ignore[index]
    if text.startswith("'"):
        return text[1 : text.rindex("'")].replace("''", "'")
    plain = re.sub(r"\s+#.*", "", text)
    if plain[:1] in ("{", "[", "|", ">", "&", "*") and plain not in ("{}", "[]"):
        raise ValueError(f"yaml: the stand-in reads block style and JSON only, not {plain[:20]!r}")
    return {"{}": {}, "[]": [], "null": None, "~": None}.get(plain, plain)
