# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pods reach outside of the pod network: a process on the node itself, with the probe pods' HTTP server.

It shows with which address a pod's packets leave the cluster. It lives as long as the probe pods, and ends by itself
where its run is killed and no other follows.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

from . import agent as probe_agent
from . import pods as probe_pods

# What a target of this kind is called, and the folder.
KIND = "node"


def folder() -> Path:
    return probe_pods.HOME / KIND


def start(port: int) -> dict[str, Any]:
    """{id} of the process, or {problem} where there is none. Its files are those of the pods' root file system."""
    problem = _taken(port)
    if problem:
        return {"problem": problem}
    identity = uuid.uuid4().hex
    folder().mkdir(mode=0o700)
    with (folder() / "log").open("wb") as log:
        # A session of its own, so that it outlives the connection that this module came by.
        subprocess.Popen(
            probe_pods.command(probe_pods.ROOTFS, folder(), port, identity, KIND),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/",
        )  # fmt: skip
    return {"id": identity}


def _taken(port: int) -> str:
    """Why nothing can listen on a port of this node; "" where something can."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as handle:
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            handle.bind(("0.0.0.0", port))
    except OSError as error:
        return f"TCP port {port} is in use" if error.errno == errno.EADDRINUSE else str(error.strerror)
    return ""


def ready(timeout: float) -> bool:
    """Does it answer?"""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):
            probe_agent.ask(str(folder() / probe_agent.CONTROL), {}, timeout)
            return True
        time.sleep(0.02)
    return False


def stop() -> None:
    """End it, if it is there."""
    with contextlib.suppress(OSError, ValueError):
        probe_agent.ask(str(folder() / probe_agent.CONTROL), {"end": True}, 5)
