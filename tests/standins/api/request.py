# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a request asks for, as kube-apiserver reads its address."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

_NAME = re.compile(r"(?:^|,)metadata\.name=([^,]+)")
TRUE = ("1", "true", "True")


class Request(NamedTuple):
    """``resource`` is empty for an address that is no resource's, such as /healthz."""

    verb: str
    path: str
    uri: str
    query: dict[str, str]
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""

    @property
    def dry_run(self) -> bool:
        return self.query.get("dryRun") == "All"


def parse(method: str, uri: str) -> Request:
    parts = urlsplit(uri)
    query = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
    segments = [unquote(part) for part in parts.path.split("/") if part]
    bare = Request(method.lower(), parts.path.rstrip("/") or "/", uri, query)
    if len(segments) >= 3 and segments[0] == "api":
        group, version, rest = "", segments[1], segments[2:]
    elif len(segments) >= 4 and segments[0] == "apis":
        group, version, rest = segments[1], segments[2], segments[3:]
    else:
        return bare
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 1:
        namespace = rest[1]
        if len(rest) > 2 and rest[2] not in ("status", "finalize"):
            rest = rest[2:]
    resource, name, subresource = (*rest, "", "")[:3]
    watching = query.get("watch") in TRUE
    verb = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}.get(
        method, ""
    )
    if verb == "get" and not name:
        verb = "watch" if watching else "list"
    if verb == "delete" and not name:
        verb = "deletecollection"
    if not name and (selected := _NAME.search(query.get("fieldSelector", ""))):
        name = selected[1]
    return Request(verb, bare.path, uri, query, group, version, resource, subresource, namespace, name)
