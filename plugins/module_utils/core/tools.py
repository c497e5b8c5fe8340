# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module's surroundings, the same for every caller: root, one search path for programs, one locale, one umask.

What a login session brings differs between root over ssh, sudo and su. Paths of programs are written into units, so a
path from the session's PATH would change them with each administrator.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from . import run_lock

# systemd's own default for services, and the two folders that a system without merged /usr has.
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def find(name: str) -> str | None:
    """The path of a program on this host, whatever the session's PATH is; None where it is not installed."""
    return shutil.which(name, path=SEARCH_PATH)


def call(argv: list[str], text: str | None = None, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    """Run a program with ``text`` as its input; one that can't be run or does not end in time has failed with 1."""
    try:
        return subprocess.run(
            argv, input=text, capture_output=True, encoding="utf-8", errors="replace", timeout=timeout, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(argv, 1, "", f"does not run: {error}")


def begin(module: AnsibleModule, changes: bool = True, **result: Any) -> None:
    """Every module that runs on a host calls this first. It fails, with ``result`` added, without root, and where the
    module ``changes`` what a run decides and another run holds the host.

    From here on, programs that the module starts by name are found on SEARCH_PATH and answer in English, and new files
    and folders are readable as their modes say.
    """
    if os.geteuid() != 0:
        problem = not_root()
        module.fail_json(msg=problem, problems=[problem], **result)
    os.environ.update(PATH=SEARCH_PATH, LC_ALL="C")
    os.environ.pop("LANGUAGE", None)
    os.umask(0o022)
    run_lock.begin(module, changes, **result)


def not_root() -> str:
    """The sentence for a user who forgot ``become``."""
    number = os.geteuid()
    try:
        user = pwd.getpwuid(number).pw_name
    except KeyError:
        user = f"user ID {number}"
    return (
        f"this module needs root, but runs as {user}: set become: true in the play, or ansible_become: true for "
        "this host in the inventory (where sudo asks for a password, run with --ask-become-pass)"
    )
