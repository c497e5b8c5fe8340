# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that stays on the node as long as it has probe pods.

It is what pods reach outside of the pod network: the probe pods' HTTP server, which shows with which address a pod's
packets leave the cluster. And it answers the calls of the module that follow, since Ansible takes longer to start a
module than the module takes to ask the pods. It ends by itself where its run is killed and no other follows.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import resource
import shlex
import socket
import sys
import time
import traceback
import uuid
from pathlib import Path
from typing import Any

from . import agent as probe_agent
from . import pods as probe_pods

# What a target of this kind is called, and the folder.
KIND = "node"
# Those that it answers for the module.
STATES = ("probed", "measured", "absent")
# What `sh` runs in that folder to call this process: the module's options in, its result out, both as JSON.
CALL = "call"
# Without the socket, or a whole answer from it, it fails, and Ansible starts the module. It connects when it has all
# that it sends, so that a controller that is cut off keeps nobody waiting. What `socket` adds to `_socket` takes as
# long to import as Python takes to start.
_CLIENT = """
import _socket, sys
asked = sys.stdin.buffer.read()
connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
connection.connect(sys.argv[1])
connection.sendall(b'{"call": ' + asked + b'}')
connection.shutdown(_socket.SHUT_WR)
sys.stdout.buffer.write(b"".join(iter(lambda: connection.recv(65536), b"")))
"""
# In that process itself, what serves the socket.
_agent: probe_agent.Agent | None = None


def folder() -> Path:
    return probe_pods.HOME / KIND


def _control() -> str:
    return str(folder() / probe_agent.CONTROL)


def start(port: int, called: probe_agent.Called) -> dict[str, Any]:
    """{id} of the process, or {problem} where there is none. ``called`` answers the calls of the module."""
    problem = _taken(port)
    if problem:
        return {"problem": problem}
    identity = uuid.uuid4().hex
    folder().mkdir(mode=0o700)
    client = [sys.executable, "-I", "-S", "-c", _CLIENT, _control()]
    (folder() / CALL).write_text(f"exec {shlex.join(client)}\n", encoding="utf-8")
    # A copy of this process, which has all that is needed and would take long to load again.
    if os.fork() == 0:
        _serve(port, identity, called)
    return {"id": identity}


def _serve(port: int, identity: str, called: probe_agent.Called) -> None:
    """Be that process. Never returns."""
    global _agent
    try:
        # What the module holds is not to be tidied up by its copy.
        gc.freeze()
        # So that it outlives the connection that the module came by, which waits for the end of its output.
        os.setsid()
        os.chdir("/")
        log = os.open(folder() / "log", os.O_WRONLY | os.O_CREAT, 0o600)
        for number, descriptor in enumerate((os.open(os.devnull, os.O_RDONLY), log, log)):
            os.dup2(descriptor, number)
        # Among them the lock, which would be held.
        for number in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
            with contextlib.suppress(OSError):
                if number > 2:
                    os.close(number)
        # Everybody who connects to the port takes one.
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", closefd=False)
        with contextlib.suppress(OSError):
            Path("/proc/self/comm").write_text("podnet-verify", encoding="ascii")
        _agent = probe_agent.serving(port, identity, _guarded(called))
        _agent.control(_control())
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _guarded(called: probe_agent.Called) -> probe_agent.Called:
    """The same, with a ValueError for whatever goes wrong: a call that has no answer is left to the module."""

    def guarded(given: dict[str, Any]) -> dict[str, Any]:
        try:
            return called(given)
        except Exception:
            traceback.print_exc()
            raise ValueError("the call has no answer") from None

    return guarded


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
            probe_agent.ask(_control(), {}, timeout)
            return True
        time.sleep(0.02)
    return False


def is_here() -> bool:
    """Is this that process?"""
    return _agent is not None


def stop() -> None:
    """End it, if it is there. The process itself ends with its answer."""
    if _agent:
        _agent.ends = True
        return
    with contextlib.suppress(OSError, ValueError):
        probe_agent.ask(_control(), {"end": True}, 5)
