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
  description: Foreign plugins, which stay although a link of this module would have the same name.
  returned: success
  type: list
  elements: str
"""

from ansible_collections.weft.podnet.plugins.module_utils.cni.plugins import RESOURCE
from ansible_collections.weft.podnet.plugins.module_utils.core.resource import main as run


def main() -> None:
    run(RESOURCE)


if __name__ == "__main__":
    main()
