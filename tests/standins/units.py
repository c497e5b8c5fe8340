# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What control planes of stand-ins and of real binaries have in common: files for nodes, units, kubeconfigs."""

from __future__ import annotations

import io
import json
import tarfile
import time
from pathlib import Path

PKI = "/etc/kubernetes/pki"
ADMIN = "/etc/kubernetes/admin.conf"
KUBELET_CONF = "/etc/kubernetes/kubelet.conf"
LIBRARY = "/usr/local/lib/weft-standins"


class Files:
    """Files for a node, as a tar archive that is unpacked at /."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[bytes, int]] = {}

    def add(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        self._files[path] = (content.encode() if isinstance(content, str) else content, mode)

    def merge(self, other: Files) -> None:
        self._files.update(other._files)

    def packed(self) -> bytes:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for path, (content, mode) in self._files.items():
                entry = tarfile.TarInfo(path.lstrip("/"))
                entry.size, entry.mode, entry.mtime = len(content), mode, int(time.time())
                archive.addfile(entry, io.BytesIO(content))
        return stream.getvalue()


def stand_ins(*names: str) -> Files:
    """Programs of this folder for a node; names may be patterns."""
    here = Path(__file__).resolve().parent
    files = Files()
    for path in (path for name in ("__init__.py", *names) for path in sorted(here.glob(name))):
        files.add(f"{LIBRARY}/standins/{path.relative_to(here)}", path.read_bytes())
    return files


def unit(description: str, start: str, after: str = "", more: str = "") -> str:
    """A service's unit. ``more``: further lines of [Service]."""
    return f"""\
[Unit]
Description={description} (weft.podnet's tests)
Wants=network-online.target
After=network-online.target {after}
StartLimitIntervalSec=0

[Service]
Environment=PYTHONPATH={LIBRARY} PYTHONDONTWRITEBYTECODE=1
ExecStart={start}
Restart=always
RestartSec=1
{more}
[Install]
WantedBy=multi-user.target
"""


def kubeconfig(server: str, cluster: dict[str, str], user: dict[str, str], name: str) -> str:
    """A kubeconfig with one context. JSON is YAML, too."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "kubernetes", "cluster": {"server": server, **cluster}}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "default", "context": {"cluster": "kubernetes", "user": name}}],
        "current-context": "default",
    }
    return json.dumps(document, indent=2) + "\n"
