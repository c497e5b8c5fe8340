# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a module of the collection as Ansible runs it on a host: a process of its own, arguments as JSON, result as JSON.

It skips what costs 200 ms a task and tests nothing of ours: the controller, AnsiballZ and the connection.
"""

from __future__ import annotations

import ctypes
import json
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
CLONE_NEWNET = 0x40000000
CLONE_NEWUSER = 0x10000000


def run_module(
    name: str,
    args: dict[str, Any],
    check: bool = False,
    netns: str | Path | None = None,
    diff: bool = True,
    env: dict[str, str] | None = None,
    timeout: float = 60,
    root: bool = True,
    within: int | None = None,
) -> dict[str, Any]:
    """The module's result, with ``failed`` always set and ``warnings`` as a list of texts.

    ``netns`` is the path of a network namespace (/run/netns/x, /proc/PID/ns/net) that the process enters first; ``env``
    is added to the environment; without ``root`` the module runs as the user nobody; ``within`` is
    a process whose mounts the module sees. A module that ends without a JSON
    result raises AssertionError with what it printed.
    """
    process = start_module(name, args, check, netns, diff, env, root, within)
    try:
        return finish_module(process, timeout)
    finally:
        process.kill()
        process.wait()


def start_module(
    name: str,
    args: dict[str, Any],
    check: bool = False,
    netns: str | Path | None = None,
    diff: bool = True,
    env: dict[str, str] | None = None,
    root: bool = True,
    within: int | None = None,
) -> subprocess.Popen[str]:
    """The same, begun: for two at once, or to be killed."""
    enter_mounts = ["nsenter", "-t", str(within), "-m", "--"] if within else []
    request = {"ANSIBLE_MODULE_ARGS": {**args, "_ansible_check_mode": check, "_ansible_diff": diff}}
    with tempfile.TemporaryFile("w+") as stdin:
        json.dump(request, stdin)
        stdin.seek(0)
        return subprocess.Popen(
            [*enter_mounts, sys.executable, __file__, name, str(netns or ""), "root" if root else ""],
            stdin=stdin,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT / ".collections"), **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def finish_module(process: subprocess.Popen[str], timeout: float = 60) -> dict[str, Any]:
    out, err = process.communicate(timeout=timeout)
    try:
        result = json.loads(out)
    except ValueError:
        raise AssertionError(f"the module gave no result:\n{out}\n{err}") from None
    result.setdefault("failed", process.returncode != 0)
    result.setdefault("changed", False)
    result["warnings"] = [_text(entry) for entry in result.get("warnings", [])]
    return dict(result)


def _text(warning: str | dict[str, Any]) -> str:
    """ansible-core 2.19 wraps a warning's text in an event."""
    return warning if isinstance(warning, str) else str(warning["event"]["msg"])


def enter(netns: str) -> None:
    """Move the calling thread into a network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    if libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns", netns)
    os.close(descriptor)


def _main() -> None:
    name, netns, root = sys.argv[1:]
    sys.argv = [name]
    # The script's own folder must not shadow modules that the module under test imports.
    del sys.path[0]
    if netns:
        enter(netns)
    if not root:
        # A user namespace without a mapping: nobody to all questions, though the interpreter's files stay readable.
        assert ctypes.CDLL(None).unshare(CLONE_NEWUSER) == 0
    from ansible.module_utils import basic

    basic._ANSIBLE_ARGS = sys.stdin.buffer.read()
    basic._ANSIBLE_PROFILE = "legacy"
    runpy.run_module(f"ansible_collections.weft.podnet.plugins.modules.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
