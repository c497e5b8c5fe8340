# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a module of the collection as Ansible runs it on a host: a process of its own, arguments as JSON, result as JSON.

It skips what costs 200 ms a task and tests none of our code: the controller, AnsiballZ and the connection. Modules that
are started to be killed, or with an environment of their own, start from nothing; others fork from a warm process.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from support import forks
from support.forks import CHECKOUT

CLONE_NEWNET = 0x40000000
CLONE_NEWNS = 0x00020000
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
    result raises AssertionError with what it printed. A step that is no module runs as node_steps with nothing else.
    """
    module, given = _module(name, args)
    if module != name:
        return _only(run_module(module, given, check, netns, diff, env, timeout, root, within))
    if env is None:
        request = {"args": _request(args, check, diff), "root": root, "within": within}
        whole = {"name": name, "netns": str(netns or ""), **request}
        answer = _pool.call(whole, {**os.environ, "PYTHONPATH": forks.COLLECTIONS}, timeout)
        return _result(answer.out, answer.err, answer.code)
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
    name, args = _module(name, args)
    enter_mounts = ["nsenter", "-t", str(within), "-m", "--"] if within else []
    request = _request(args, check, diff)
    path = {"PYTHONPATH": forks.COLLECTIONS, **(env or {})}["PYTHONPATH"]
    with tempfile.TemporaryFile("w+") as stdin:
        json.dump(request, stdin)
        stdin.seek(0)
        return subprocess.Popen(
            [*enter_mounts, sys.executable, __file__, name, str(netns or ""), "root" if root else ""],
            stdin=stdin,
            env={**os.environ, **(env or {}), "PYTHONPATH": f"{path}:{forks.TESTS}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def finish_module(process: subprocess.Popen[str], timeout: float = 60) -> dict[str, Any]:
    out, err = process.communicate(timeout=timeout)
    return _result(out, err, process.returncode)


def _request(args: dict[str, Any], check: bool, diff: bool) -> dict[str, Any]:
    return {"ANSIBLE_MODULE_ARGS": {**args, "_ansible_check_mode": check, "_ansible_diff": diff}}


def _result(out: str, err: str, code: int) -> dict[str, Any]:
    try:
        result = json.loads(out)
    except ValueError:
        raise AssertionError(f"the module gave no result:\n{out}\n{err}") from None
    result.setdefault("failed", code != 0)
    result.setdefault("changed", False)
    result["warnings"] = [_text(entry) for entry in result.get("warnings", [])]
    return dict(result)


def _module(name: str, args: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The module that has a concern, and its options."""
    if (CHECKOUT / "plugins" / "modules" / f"{name}.py").exists():
        return name, args
    return "node_steps", {"steps": [{"module": name, "args": args}]}


def _only(outcome: dict[str, Any]) -> dict[str, Any]:
    """The result of the one step of node_steps, as a module of its own would return it."""
    diff = outcome.pop("diff", [])
    (result,) = outcome.pop("results", None) or [{}]
    entries = diff[0] if len(diff) == 1 else diff or {"before": "", "after": ""}
    return {**outcome, **result, "diff": entries}


def _text(warning: str | dict[str, Any]) -> str:
    """ansible-core 2.19 wraps a warning's text in an event."""
    return warning if isinstance(warning, str) else str(warning["event"]["msg"])


_pool = forks.Pool(__file__, os.environ)


def _prepare() -> None:
    importlib.import_module("ansible.module_utils.basic")
    importlib.import_module("ansible.module_utils.common.arg_spec")
    steps = importlib.import_module("ansible_collections.weft.podnet.plugins.module_utils.node.steps")
    for module in steps.MODULES:
        steps.resource(module)


def _called(request: dict[str, Any]) -> None:
    if request["within"]:
        enter(f"/proc/{request['within']}/ns/mnt", CLONE_NEWNS)
    sys.argv = [request["name"]]
    _run(request["name"], request["netns"], request["root"], json.dumps(request["args"]).encode())


def enter(namespace: str, kind: int = CLONE_NEWNET) -> None:
    """Move the calling thread into a namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    if libc.setns(descriptor, kind) != 0:
        raise OSError(ctypes.get_errno(), "setns", namespace)
    os.close(descriptor)


def _main() -> None:
    name, netns, root = sys.argv[1:]
    sys.argv = [name]
    # The script's own folder must not shadow modules that the module under test imports.
    del sys.path[0]
    _run(name, netns, bool(root), sys.stdin.buffer.read())


def _run(name: str, netns: str, root: bool, request: bytes) -> None:
    if netns:
        enter(netns)
    if not root:
        # A user namespace without a mapping: nobody to all questions, though the interpreter's files stay readable.
        assert ctypes.CDLL(None).unshare(CLONE_NEWUSER) == 0
    from ansible.module_utils import basic

    basic._ANSIBLE_ARGS = request
    basic._ANSIBLE_PROFILE = "legacy"
    runpy.run_module(f"ansible_collections.weft.podnet.plugins.modules.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        _prepare()
        forks.serve(_called)
    else:
        _main()
