#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CNI plugins in the runtime's folder."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cni_plugins
short_description: Puts CNI plugins where the container runtime looks for them
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Links every plugin of the distribution's folder, of another folder, or of a checked release archive into O(bin_dir).
  - A release is unpacked into a folder of its own under C(/opt/weft-podnet), whole or not at all; the one before stays.
  - A plugin in O(bin_dir) that is no link of this module's stays as it is and is reported.
attributes:
  check_mode:
    description: Nothing is changed; the result is the one a run would have.
    support: full
  diff_mode:
    description: The links that differ.
    support: full
options:
  bin_dir:
    description: Where the container runtime looks for plugins.
    type: path
    default: /opt/cni/bin
  source:
    description: A folder on the host that holds plugins. Without it and O(archive), the distribution's.
    type: path
  archive:
    description: A release archive on the host, with the plugins at its top level.
    type: path
  sha256:
    description: The archive's SHA-256.
    type: str
  room:
    description:
      - The bytes that the archive and what is in it take. A host with less left is refused before anything is written.
    type: int
    default: 0
  state:
    description: Whether the links are to be there. V(absent) removes all links of this module's, and the releases.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Link the distribution's plugins
  weft.podnet.cni_plugins:

- name: Install a release that lies on the host
  weft.podnet.cni_plugins:
    archive: /srv/cni-plugins-linux-amd64-v1.6.2.tgz
    sha256: "{{ sha256_of_the_release }}"
"""

RETURN = r"""
source:
  description: The folder that the links lead to.
  returned: success
  type: str
foreign:
  description: Plugins of others that stay in the way of ours.
  returned: success
  type: list
  elements: str
"""

from pathlib import Path
from typing import Any

from ansible_collections.weft.podnet.plugins.module_utils import plugin_links, release_archive, tools
from ansible_collections.weft.podnet.plugins.module_utils.output import Module
from ansible_collections.weft.podnet.plugins.module_utils.problems import Refused

PACKAGE = "containernetworking-plugins"


def source(module: Module) -> Path | None:
    """The folder to link to; None while a dry run's package or archive is not there yet. Raises Refused."""
    options = module.params
    if options["archive"]:
        folder = plugin_links.release_folder(options["sha256"])
        if folder.is_dir():
            return folder
        problem = release_archive.room_problem(folder, options["room"])
        if problem:
            raise Refused([problem])
        return None if module.check_mode else plugin_links.unpack(options["archive"], options["sha256"])
    given = Path(options["source"]) if options["source"] else plugin_links.distribution_folder()
    if given is not None and given.is_dir():
        return given
    if module.check_mode:
        return None
    where = str(given) if given else " nor ".join(plugin_links.DISTRIBUTION_FOLDERS)
    raise Refused(
        [f"source: there is no folder {where} on this host; install the package {PACKAGE}, or give an archive"]
    )


def run(module: Module) -> dict[str, Any]:
    bin_dir = Path(module.params["bin_dir"])
    present = module.params["state"] == "present"
    folder = source(module) if present else None
    if present and folder is None:
        awaited = module.params["archive"] or f"the package {PACKAGE}"
        return {
            "changed": True,
            "source": "",
            "foreign": [],
            "diff": {"before": "", "after": f"plugins of {awaited}\n"},
        }
    links = plugin_links.plan(bin_dir, folder)
    changed = bool(links.make or links.remove)
    if not module.check_mode:
        if changed:
            plugin_links.apply(bin_dir, links)
        plugin_links.forget_releases(bin_dir, all_of_them=not present)
        if not present:
            plugin_links.forget_folder(bin_dir)
    before = "".join(f"{name} -> {target}\n" for name, target in sorted(links.remove.items()))
    after = "".join(f"{name} -> {target}\n" for name, target in sorted(links.make.items()))
    header = str(bin_dir)
    diff = {"before_header": header, "after_header": header, "before": before, "after": after}
    return {"changed": changed, "source": str(folder or ""), "foreign": links.foreign, "diff": diff}


def main() -> None:
    module = Module(
        argument_spec={
            "bin_dir": {"type": "path", "default": "/opt/cni/bin"},
            "source": {"type": "path"},
            "archive": {"type": "path"},
            "sha256": {"type": "str"},
            "room": {"type": "int", "default": 0},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        mutually_exclusive=[("source", "archive")],
        required_together=[("archive", "sha256")],
        supports_check_mode=True,
    )
    tools.begin(module)
    try:
        result = run(module)
    except (Refused, OSError) as error:
        module.refuse(error)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
