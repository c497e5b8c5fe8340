# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that have imported what many calls need, and fork for each call.

The start of Python and the imports would otherwise cost more than what is tested. A call gets a session of its own, the
caller's environment, no standard input, and files for its output.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import io
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

CHECKOUT = Path(__file__).resolve().parents[2]
COLLECTIONS = str(CHECKOUT / ".collections")
TESTS = str(CHECKOUT / "tests")
SET_PARENT_DEATH_SIGNAL = 1


class Answer(NamedTuple):
    """What a call printed, and its exit code."""

    code: int
    out: str
    err: str


class Pool:
    """The processes of one program: as many as calls were ever made at once, since tests call from several threads.

    ``program`` is a file that calls ``serve``; ``env`` is what the process itself starts with, and ``python`` runs it.
    """

    def __init__(self, program: str, env: Mapping[str, str], python: str = sys.executable) -> None:
        self._program, self._python = program, python
        self._env = {**env, "PYTHONPATH": f"{COLLECTIONS}:{TESTS}"}
        self._idle: list[subprocess.Popen[str]] = []

    def call(self, request: Mapping[str, Any], env: Mapping[str, str], timeout: float) -> Answer:
        """Raises subprocess.TimeoutExpired; the call has ended then."""
        try:
            process = self._idle.pop()
        except IndexError:
            process = self._start()
        assert process.stdin and process.stdout
        process.stdin.write(json.dumps({"request": request, "env": dict(env)}) + "\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], timeout)[0]:
            process.kill()
            process.wait()
            raise subprocess.TimeoutExpired(str(request), timeout)
        answer = Answer(*json.loads(process.stdout.readline()))
        self._idle.append(process)
        return answer

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [self._python, self._program, "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self._env,
        )
        atexit.register(process.kill)
        return process


def serve(run: Callable[[dict[str, Any]], None]) -> None:
    """Answer each line of standard input. ``run`` has a process of its own for each request, which SystemExit ends."""
    # The program's own folder must not shadow what the program under test imports.
    del sys.path[0]
    for line in sys.stdin:
        call = json.loads(line)
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            child = os.fork()
            if not child:
                _called(run, call, out.fileno(), err.fileno())
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            out.seek(0)
            err.seek(0)
            print(json.dumps([code, out.read(), err.read()]), flush=True)


def _called(run: Callable[[dict[str, Any]], None], call: dict[str, Any], out: int, err: int) -> NoReturn:
    code = 1
    try:
        ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        # The call ends before its garbage matters, and looking for it takes a fifth of the time that Ansible needs.
        gc.disable()
        # As ssh gives it one.
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (out, 1), (err, 2)):
            os.dup2(source, target)
        os.environ.clear()
        os.environ.update(call["env"])
        with contextlib.redirect_stdout(io.TextIOWrapper(os.fdopen(1, "wb", closefd=False), write_through=True)):
            run(call["request"])
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
