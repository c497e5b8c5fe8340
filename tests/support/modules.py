# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a module of the collection as Ansible runs it on a host: a process of its own, arguments as JSON, result as JSON.

It skips what costs 200 ms a task and tests none of our code: the controller, AnsiballZ and the connection. The start of
Python and the import of Ansible's own code cost as much again, so one process that has done both forks for each call.
Modules that are started to be killed, or with an environment of their own, start from nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import importlib
import io
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
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
        answer = _ask({"name": name, "netns": str(netns or ""), **request}, timeout)
        return _result(answer["out"], answer["err"], answer["code"])
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


class _Server:
    """A process that has imported what every module needs, and forks for each call."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT / ".collections")},
        )
        atexit.register(self.process.kill)

    def ask(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps({**request, "env": dict(os.environ)}) + "\n")
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], timeout)[0]:
            self.process.kill()
            raise subprocess.TimeoutExpired(request["name"], timeout)
        return dict(json.loads(self.process.stdout.readline()))


# Those that wait for a call: tests run modules in several threads at once.
_idle: list[_Server] = []


def _ask(request: dict[str, Any], timeout: float) -> dict[str, Any]:
    try:
        server = _idle.pop()
    except IndexError:
        server = _Server()
    answer = server.ask(request, timeout)
    _idle.append(server)
    return answer


def _serve() -> None:
    """Answer each line of standard input, a request, with a line: {out, err, code}."""
    del sys.path[0]
    importlib.import_module("ansible.module_utils.basic")
    importlib.import_module("ansible.module_utils.common.arg_spec")
    steps = importlib.import_module("ansible_collections.weft.podnet.plugins.module_utils.node.steps")
    for module in steps.MODULES:
        steps.resource(module)
    for line in sys.stdin:
        request = json.loads(line)
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            child = os.fork()
            if not child:
                _called(request, out.fileno(), err.fileno())
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            out.seek(0)
            err.seek(0)
            print(json.dumps({"out": out.read(), "err": err.read(), "code": code}), flush=True)


def _called(request: dict[str, Any], out: int, err: int) -> None:
    """The child's way: a session of its own, as ssh gives it one, then the module."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (out, 1), (err, 2)):
            os.dup2(source, target)
        os.environ.clear()
        os.environ.update(request["env"], PYTHONPATH=str(CHECKOUT / ".collections"))
        if request["within"]:
            enter(f"/proc/{request['within']}/ns/mnt", CLONE_NEWNS)
        sys.argv = [request["name"]]
        with contextlib.redirect_stdout(io.TextIOWrapper(os.fdopen(1, "wb", closefd=False), write_through=True)):
            _run(request["name"], request["netns"], request["root"], json.dumps(request["args"]).encode())
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


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
    _serve() if sys.argv[1:] == ["--serve"] else _main()
