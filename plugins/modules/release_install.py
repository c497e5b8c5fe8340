#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of a release archive, where the host looks for them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_install
short_description: Installs programs from a checked release archive, and goes back to the previous release
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Unpacks a release archive into C(/opt/weft-podnet/NAME/VERSION-DIGEST), whole or not at all, and links its programs
    to where the host looks for them. All programs of a release are switched by one rename.
  - The previous release stays, so that O(state=previous) goes back without the archive.
  - An archive must hold plain files in its top level and nothing else. Folders, links, devices, setuid programs and
    paths that lead elsewhere are refused.
attributes:
  check_mode:
    description: Nothing is changed; the result is the one a run would have.
    support: full
  diff_mode:
    description: Where the links to the programs lead.
    support: full
options:
  name:
    description: What the release is of; the name of its folder. V(cni-plugins) belongs to M(weft.podnet.cni_plugins).
    type: str
    required: true
  version:
    description:
      - The release's version. Required with O(state=present).
      - With O(state=previous), the release to go back from. If another one is in use, nothing is done, so a second run
        does not go back further. Without it, the release in use is left, whatever it is.
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
      - Where to link the programs: absolute paths by the names of files in the archive. Required with O(state=present).
      - Links of this module that are no longer listed are removed.
    type: dict
  adopt:
    description:
      - Keep a foreign file that is at a destination as C(*.podnet-orig). Otherwise the module refuses to replace it.
      - O(state=absent) restores it.
    type: bool
    default: false
  state:
    description:
      - V(present) installs the release and switches to it.
      - V(unpacked) only brings the release to the host. What uses it is left to another module, such as
        M(weft.podnet.flannel_service); a release that one of O(binaries) leads to is kept.
      - V(previous) switches back to the previous release, which then has no previous one.
      - V(absent) removes all links and releases of this name.
    type: str
    choices: [present, unpacked, previous, absent]
    default: present
  base_dir:
    description: Where releases are kept.
    type: path
    default: /opt/weft-podnet
seealso:
  - module: weft.podnet.release_artifacts
"""

EXAMPLES = r"""
- name: Look whether the release is on the host, and switch to it if so
  weft.podnet.release_install: &release
    name: flannel
    version: v0.27.2
    sha256: "{{ flannel.sha256 }}"
    binaries:
      flanneld: /usr/local/bin/flanneld
  register: release

- name: Install it where it is not
  when: release.needs_archive
  block:
    - name: Bring the archive
      ansible.builtin.copy:
        src: "{{ flannel.path }}"
        dest: /var/tmp/flannel.tar.gz
        mode: "0644"

    - name: Install the release
      weft.podnet.release_install:
        name: flannel
        version: v0.27.2
        sha256: "{{ flannel.sha256 }}"
        archive: /var/tmp/flannel.tar.gz
        binaries:
          flanneld: /usr/local/bin/flanneld

- name: Go back from v0.27.2 to the previous release
  weft.podnet.release_install:
    name: flannel
    version: v0.27.2
    sha256: "{{ flannel.sha256 }}"
    state: previous
"""

RETURN = r"""
release:
  description: The folder of the release in use, empty for none.
  returned: success
  type: str
  sample: /opt/weft-podnet/flannel/v0.27.2-0123456789ab
previous:
  description: The folder of the release that O(state=previous) goes back to, empty for none.
  returned: success
  type: str
needs_archive:
  description: The release is not on the host; give its archive. Nothing was done.
  returned: success
  type: bool
"""

from ansible_collections.weft.podnet.plugins.module_utils.core.resource import main as run
from ansible_collections.weft.podnet.plugins.module_utils.releases.resource import RESOURCE


def main() -> None:
    run(RESOURCE)


if __name__ == "__main__":
    main()
