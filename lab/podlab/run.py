# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running programs, and showing progress to the user."""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

HEARTBEAT = 3.0  # seconds of silence after which a long step says that it is still at work
_started = time.monotonic()


class LabError(Exception):
    """What went wrong and what to do about it, for the user to read: never shown with a traceback."""


def say(message: str) -> None:
    """One line of progress on stderr, with the seconds since the command began."""
    print(f"[{time.monotonic() - _started:5.1f} s] {message}", file=sys.stderr, flush=True)


def run(args: Sequence[str | Path], stdin: str = "") -> str:
    """Run a program to its end and return its output; a failure is a LabError with what it printed."""
    try:
        done = subprocess.run([str(a) for a in args], input=stdin, text=True, capture_output=True, check=False)
    except FileNotFoundError as exc:
        raise LabError(f"{args[0]}: no such program") from exc
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
        raise LabError(f"`{' '.join(map(str, args))}` failed with {done.returncode}: {' / '.join(said[-3:])}")
    return done.stdout


def attempt(args: Sequence[str | Path], stdin: str = "") -> bool:
    """Run a program whose failure is an answer (already gone, not there yet), not an error."""
    try:
        run(args, stdin)
    except LabError:
        return False
    return True


def run_long(args: Sequence[str | Path], step: str, log: Path, env: Mapping[str, str] | None = None) -> None:
    """Run a long program with its output in `log`, saying at least every few seconds what it is doing."""
    say(f"{step} ...")
    began = last = time.monotonic()
    text = tail = ""
    with (
        log.open("a", encoding="utf-8") as out,
        subprocess.Popen(
            [str(a) for a in args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
        ) as process,
        selectors.DefaultSelector() as selector,
    ):
        assert process.stdout is not None
        selector.register(process.stdout, selectors.EVENT_READ)
        try:
            while True:
                if selector.select(timeout=max(0.0, last + HEARTBEAT - time.monotonic())):
                    chunk = os.read(process.stdout.fileno(), 65536).decode(errors="replace")
                    if not chunk:
                        break
                    out.write(chunk)
                    text = (text + chunk)[-2000:]
                    tail = next((line for line in reversed(text.splitlines()) if line.strip()), "")
                if time.monotonic() - last >= HEARTBEAT:
                    last = time.monotonic()
                    say(f"{step}: {last - began:.0f} s {tail.strip()[:90]}")
        except BaseException:
            process.kill()
            raise
        code = process.wait()
    if code != 0:
        ending = [line.strip() for line in text.splitlines() if line.strip()][-4:]
        raise LabError(f"{step} failed ({args[0]} ended with {code}): {' / '.join(ending)} (all of it: {log})")


@contextlib.contextmanager
def locked(path: Path, waiting: str) -> Iterator[None]:
    """Hold an exclusive lock. The file stays: removing it would let two holders in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        said = 0.0
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() - said > HEARTBEAT:
                    said = time.monotonic()
                    say(waiting)
                time.sleep(0.1)
        yield
