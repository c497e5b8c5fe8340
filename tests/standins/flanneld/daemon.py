# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the steps of flanneld's start share, and how they end it."""

from __future__ import annotations

import queue
import time
from dataclasses import dataclass

from standins.flanneld.api import Api
from standins.flanneld.goflags import Flags
from standins.flanneld.informer import Event, Informer
from standins.flanneld.netconf import NetConf
from standins.flanneld.nodes import Names, Network


class Fatal(Exception):
    """An error line, then exit status 1."""

    def __init__(self, place: str, text: str) -> None:
        super().__init__(text)
        self.place = place


class Stopped(Exception):
    """SIGTERM or SIGINT came before the start was over."""


@dataclass
class Daemon:
    """What the steps of the start share."""

    flags: Flags
    version: tuple[int, ...]
    node: str
    api: Api
    named: Names
    conf: NetConf
    networks: tuple[Network, ...]
    informer: Informer
    events: queue.SimpleQueue[Event | None]
    stopping: bool = False
    ready: bool = False

    def stop(self, *_signal: object) -> None:
        self.stopping = True
        self.events.put(None)

    def pause(self, seconds: float) -> None:
        """Stopped as soon as a signal comes."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.2)
            if self.stopping:
                raise Stopped
