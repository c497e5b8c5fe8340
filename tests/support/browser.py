# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A headless Chromium, by its DevTools protocol: what a page asks for and complains about, and how it is laid out."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import selectors
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

PROGRAM = shutil.which("chromium")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio",
    "--disable-background-networking", "--disable-component-update", "--disable-extensions", "--hide-scrollbars",
    "--remote-debugging-pipe",
)  # fmt: skip
PATIENCE = 60.0


class Browser:
    """``events`` are the DevTools protocol's, as they came."""

    def __init__(self, profile: Path) -> None:
        assert PROGRAM is not None
        (our_read, their_write), (their_read, our_write) = os.pipe(), os.pipe()
        # Chromium reads commands from 3 and writes answers to 4; these must be none of the four.
        theirs = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 10) for each in (their_read, their_write)]
        self._process = subprocess.Popen(
            [PROGRAM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, close_fds=False,
            preexec_fn=lambda: [os.dup2(fd, number) for number, fd in enumerate(theirs, 3)],
        )  # fmt: skip
        for fd in (their_read, their_write, *theirs):
            os.close(fd)
        self._read, self._write = our_read, our_write
        self._wait = selectors.DefaultSelector()
        self._wait.register(our_read, selectors.EVENT_READ)
        self._rest = b""
        self._last = 0
        self._session = ""
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Browser:
        page = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for fd in (self._read, self._write):
            os.close(fd)

    def call(self, method: str, /, **parameters: Any) -> dict[str, Any]:
        """The answer to one command."""
        self._last += 1
        session = {"sessionId": self._session} if self._session else {}
        command = {"id": self._last, "method": method, "params": parameters, **session}
        data = memoryview(json.dumps(command).encode() + b"\0")
        while data:
            data = data[os.write(self._write, data) :]
        for message in self._messages():
            if message.get("id") == self._last:
                assert "error" not in message, message
                return dict(message["result"])
            self.events.append(message)
        raise AssertionError("Chromium ended")

    def _messages(self) -> Iterator[dict[str, Any]]:
        until = time.monotonic() + PATIENCE
        while True:
            while b"\0" in self._rest:
                message, _zero, self._rest = self._rest.partition(b"\0")
                yield json.loads(message)
            assert self._wait.select(until - time.monotonic()), "Chromium does not answer"
            block = os.read(self._read, 1 << 20)
            if not block:
                return
            self._rest += block

    def open(self, path: Path, width: int, scheme: str) -> None:
        """Show a file at a width in CSS pixels with a colour scheme, light or dark."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        del self.events[:]
        self.call("Page.navigate", url=path.as_uri())
        self.until("Page.loadEventFired")

    def until(self, method: str) -> None:
        """Wait for an event."""
        if any(event.get("method") == method for event in self.events):
            return
        for message in self._messages():
            self.events.append(message)
            if message.get("method") == method:
                return
        raise AssertionError("Chromium ended")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def told(self) -> list[dict[str, Any]]:
        """What the page wrote to the console, or the browser about it."""
        found = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
        return [event for event in self.events if event.get("method") in found]

    def requested(self) -> list[str]:
        """All addresses that were requested for the page, itself included; not what it holds itself (data:)."""
        asked = [event for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        urls = [str(event["params"]["request"]["url"]) for event in asked]
        return [url for url in urls if not url.startswith("data:")]

    def screenshot(self, path: Path) -> None:
        """The whole page."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))
