# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image for real pods' sandboxes, made on a worker of its own `sleep`: nodes reach no registry.

Writes a docker archive to standard output, for `ctr --namespace k8s.io images import -`. A pod that mounts the node's
/usr, /lib and /lib64 by hostPath can run more than sleep in it.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import re
import subprocess
import sys
import tarfile
from pathlib import Path

PROGRAM = "/usr/bin/sleep"


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def _layer() -> bytes:
    """The program and the libraries it is linked to, under the names it looks for."""
    linked = subprocess.run(["ldd", PROGRAM], capture_output=True, text=True, check=True).stdout
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in (PROGRAM, *re.findall(r"(/\S+) \(", linked)):
            _add(archive, name.lstrip("/"), Path(name).read_bytes(), 0o755)
    return stream.getvalue()


def image(name: str) -> bytes:
    """A docker archive of one image of that name."""
    layer = _layer()
    config = json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Entrypoint": [PROGRAM], "Cmd": ["infinity"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    )
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}])
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        _add(archive, "layer.tar", layer)
        _add(archive, "config.json", config.encode())
        _add(archive, "manifest.json", manifest.encode())
    return stream.getvalue()


if __name__ == "__main__":
    sys.stdout.buffer.write(image(sys.argv[1]))
