# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which host this is: names, versions, clock. Nothing of it identifies the machine to others."""

from __future__ import annotations

import hashlib
import os
import time
from typing import Any

from ...core import files
from .section import Notes


def observe(notes: Notes) -> dict[str, Any]:
    name = os.uname()
    machine = (notes.read("machine_id", files.read_bytes, None, "/etc/machine-id") or b"").strip()
    boot = notes.read("boot_id", files.read_text, None, "/proc/sys/kernel/random/boot_id") or ""
    release = os_release(notes.read("os", files.read_text, None, "/etc/os-release") or "")
    return {
        "hostname": name.nodename,
        # Two clones of one machine have the same; the ID itself is confidential (machine-id(5)).
        "machine_id": hashlib.sha256(machine).hexdigest()[:12] if machine else "",
        "boot_id": boot.strip(),
        "kernel": name.release,
        "os": release,
        "time": time.time(),
    }


def os_release(text: str) -> dict[str, str]:
    values = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and not key.startswith("#"):
            values[key] = value.strip("\"'")
    return {
        "id": values.get("ID", ""),
        "version": values.get("VERSION_ID", ""),
        "name": values.get("PRETTY_NAME", ""),
    }
