#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of a release archive, where the host looks for them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_install
short_description: Unpacks programs from a checked release archive
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Unpacks a release archive into C(/opt/weft-podnet/NAME/VERSION-DIGEST), whole or not at all. What uses it is left to
    another module, such as M(weft.podnet.flannel_service), which links to its programs.
  - The release in use and one more stay, so that the way back needs no archive.
  - An archive must hold plain files in its top level and nothing else. Folders, links, devices, setuid programs and
    paths that lead elsewhere are refused.
attributes:
  check_mode:
    description: Nothing is changed; the result is the one a run would have.
    support: full
  diff_mode:
    description: The folder of the release.
    support: full
options:
  name:
    description: What the release is of; the name of its folder. V(cni-plugins) belongs to M(weft.podnet.cni_plugins).
    type: str
    required: true
  version:
    description: The release's version. Required with O(state=present).
    type: str
  sha256:
    description: The archive's SHA-256. Required with O(version).
    type: str
  archive:
    description:
      - The archive on the host. Not needed where the release is unpacked already.
      - Without it, and where the release is not unpacked, nothing is done and RV(needs_archive) is true. So a run that
        changes nothing costs one call and no copy.
    type: path
  binaries:
    description:
      - The links that use the release, absolute paths by the names of files in the archive, which must be programs.
        Required with O(state=present).
      - A release that one of them leads into is kept. The links themselves are not touched.
    type: dict
  state:
    description: V(absent) removes all releases of this name.
    type: str
    choices: [present, absent]
    default: present
  base_dir:
    description: Where releases are kept.
    type: path
    default: /opt/weft-podnet
seealso:
  - module: weft.podnet.release_artifacts
  - module: weft.podnet.flannel_service
"""

EXAMPLES = r"""
- name: Look whether the release is on the host
  weft.podnet.release_install:
    name: flannel
    version: v0.27.2
    sha256: "{{ flannel.sha256 }}"
    binaries:
      flanneld: /usr/local/bin/flanneld
  register: release

- name: Bring it where it is not
  when: release.needs_archive
  block:
    - name: Bring the archive
      ansible.builtin.copy:
        src: "{{ flannel.path }}"
        dest: /var/tmp/flannel.tar.gz
        mode: "0644"

    - name: Unpack it
      weft.podnet.release_install:
        name: flannel
        version: v0.27.2
        sha256: "{{ flannel.sha256 }}"
        archive: /var/tmp/flannel.tar.gz
        binaries:
          flanneld: /usr/local/bin/flanneld
"""

RETURN = r"""
release:
  description: The folder of the release, empty where it is not there.
  returned: success
  type: str
  sample: /opt/weft-podnet/flannel/v0.27.2-0123456789ab
in_use:
  description: The folder that O(binaries) lead into now, empty for none.
  returned: success
  type: str
needs_archive:
  description: The release is not on the host, and neither is its archive. Nothing was done.
  returned: success
  type: bool
archive:
  description: The archive that was given, empty for none.
  returned: success
  type: str
"""

from ansible_collections.weft.podnet.plugins.module_utils.core.resource import main as run
from ansible_collections.weft.podnet.plugins.module_utils.releases.resource import RESOURCE


def main() -> None:
    run(RESOURCE)


if __name__ == "__main__":
    main()
