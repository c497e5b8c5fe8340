# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run ansible-playbook and ansible with a user's words, environment and folder, in processes forked from a warm one.

Of a user's run it leaves out the imports of Ansible and of our plugins, and the packing of modules that an earlier
run has packed: two of its five seconds. Molecule, `make demo` and the tests that kill a run start the command itself.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from support import forks

# ssh gives up a connection after ten seconds, which a busy machine may need for the handshake alone.
PATIENT = {"ANSIBLE_TIMEOUT": "120"}
SETTINGS = {"ANSIBLE_CONFIG": str(forks.CHECKOUT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", **PATIENT}
COMMANDS = {"ansible-playbook": "ansible.cli.playbook", "ansible": "ansible.cli.adhoc"}
# What these import only once they run.
LATER = ("ansible.plugins.connection.ssh", "ansible.plugins.strategy.linear", "ansible.executor.task_executor")
PLUGINS = ("action", "filter", "callback")

# Ansible reads its settings once, so each combination of them has processes of its own.
_pools: dict[tuple[tuple[str, str], ...], forks.Pool] = {}


def run(
    command: str,
    words: Iterable[str],
    cwd: Path = forks.CHECKOUT,
    timeout: float = 1500,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> forks.Answer:
    """``command`` is a key of COMMANDS; ``environment`` is added to this process' and to SETTINGS."""
    env = {**os.environ, **SETTINGS, **environment}
    settings = tuple(sorted((name, value) for name, value in env.items() if name.startswith(("ANSIBLE_", "COLUMNS"))))
    if settings not in _pools:
        _pools[settings] = forks.Pool(__file__, env)
    return _pools[settings].call({"command": command, "words": [*words], "cwd": str(cwd)}, env, timeout)


def _prepare() -> None:
    from ansible.plugins import loader

    for name in COMMANDS.values():
        importlib.import_module(name)
    for name in (
        "plugins.connection.ssh",
        "plugins.strategy.linear",
        "executor.module_common",
        "executor.task_executor",
    ):
        importlib.import_module(f"ansible.{name}")
    loader.init_plugin_loader()
    # Each run says so again, to no effect.
    warnings.filterwarnings("ignore", "AnsibleCollectionFinder has already been configured")
    for kind in PLUGINS:
        for path in (forks.CHECKOUT / "plugins" / kind).glob("[a-z]*.py"):
            importlib.import_module(f"ansible_collections.weft.podnet.plugins.{kind}.{path.stem}")


def _run(request: Mapping[str, Any]) -> None:
    os.chdir(request["cwd"])
    sys.argv = [request["command"], *request["words"]]
    importlib.import_module(COMMANDS[request["command"]]).main()


if __name__ == "__main__":
    _prepare()
    forks.serve(_run)
