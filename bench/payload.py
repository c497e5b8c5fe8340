# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The very program that Ansible sends to a host for one task, built by ansible-core's own packager."""

from __future__ import annotations

import functools
from typing import Any

from ansible.executor.module_common import modify_module
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader, module_loader
from ansible.template import Templar

COLLECTION = "weft.podnet"


@functools.cache
def _path(name: str) -> str:
    init_plugin_loader()
    found = module_loader.find_plugin_with_context(f"{COLLECTION}.{name}")
    if found.plugin_resolved_path is None:
        raise RuntimeError(f"{COLLECTION}.{name} is not found; run this from the checkout (ansible.cfg)")
    return str(found.plugin_resolved_path)


def _sent(args: dict[str, Any]) -> dict[str, Any]:
    """The arguments as the action plugin sends them. Imported here: Ansible's own importer must be in place first."""
    from ansible_collections.weft.podnet.plugins.module_utils.vxlan.spec import pack

    return {key: pack(value) if key == "peers" else value for key, value in args.items()}


def build(name: str, args: dict[str, Any]) -> bytes:
    """A module of the collection with these arguments, as one Python program."""
    path = _path(name)
    built = modify_module(
        module_name=f"{COLLECTION}.{name}",
        module_path=path,
        module_args={**_sent(args), "_ansible_check_mode": False, "_ansible_diff": False, "_ansible_version": "2.19"},
        templar=Templar(loader=DataLoader()),
        task_vars={"ansible_python_interpreter": "/usr/bin/python3"},
        module_compression="ZIP_DEFLATED",
        remote_is_local=False,
    )
    return bytes(built.b_module_data)
