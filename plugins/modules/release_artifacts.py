#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_artifacts
short_description: Fetch release files to the controller, and check them
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Fetches the archives of flannel, flannel's CNI plugin and the standard CNI plugins, for all architectures of the
    cluster, and checks each against its SHA-256. The controller downloads a file once and keeps it.
  - A SHA-256 comes from O(sha256) or else from the lock file. A file that is in neither is checked against the
    publisher's SHA-256, with a warning (first use). The publisher provides it in a C(.sha256) beside the file or, for
    flannel, which has none, in GitHub's answer about the release (the asset's C(digest)).
  - The lock file keeps every SHA-256 that a file was checked against, and it is enforced from then on.
  - Each archive is read to its end. It must hold its program, and nothing but plain files in its top level.
  - It runs on the controller and contacts no host. Proxies and certificates are those of the controller's environment.
attributes:
  check_mode:
    description: The lock file is not written. Files are downloaded into the cache, so that a dry run checks them.
    support: full
  diff_mode:
    description: Shows the lock file before and after.
    support: full
options:
  components:
    description:
      - Versions by component, as their release is tagged. Components are V(flannel), V(flannel_cni) and V(cni_plugins).
      - A component without a version is left out.
    type: dict
    required: true
  architectures:
    description:
      - The architectures of the cluster's nodes, as releases name them (V(amd64), V(arm64), V(arm), V(ppc64le),
        V(s390x), V(riscv64); V(386) and V(mips64le) for some).
      - The names that Debian and the kernel use (V(x86_64), V(aarch64), V(armv7l)) are accepted as well.
    type: list
    elements: str
    required: true
  url:
    description:
      - A mirror. It holds every file under its upstream name in one folder, and C(.sha256) files beside them unless the
        lock file or O(sha256) has the digests. The publishers are not contacted then.
      - Not together with O(dir).
    type: str
  dir:
    description: A folder on the controller with the same content as a mirror. Files are used where they are.
    type: path
  release_base:
    description: Where publishers keep their releases.
    type: str
    default: https://github.com
  api_base:
    description: Where GitHub's REST interface is.
    type: str
    default: https://api.github.com
  sha256:
    description: Your own SHA-256 digests, by file name. They take precedence over the lock file and the publisher.
    type: dict
  require_lock:
    description: Refuse a file that is neither in O(sha256) nor in the lock file.
    type: bool
    default: false
  lock_file:
    description: Where SHA-256 digests are kept. If omitted, C(podnet.lock.yml) beside the inventory.
    type: str
  cache_dir:
    description: Where the controller keeps downloaded files. If omitted, C(weft-podnet) in the user's cache folder.
    type: path
  timeout:
    description: The number of seconds for which a download may receive nothing.
    type: int
    default: 30
seealso:
  - module: weft.podnet.node_steps
"""

EXAMPLES = r"""
- name: Fetch and check what the nodes need
  weft.podnet.release_artifacts:
    components:
      flannel: v0.27.2
      flannel_cni: v1.7.1-flannel2
      cni_plugins: v1.9.1
    architectures: [amd64, arm64]
  run_once: true
  delegate_to: localhost
  register: release

- name: Use a folder of the controller, and nothing that is not locked
  weft.podnet.release_artifacts:
    components:
      flannel: v0.27.2
    architectures: [x86_64]
    dir: /srv/releases
    require_lock: true
  run_once: true
  delegate_to: localhost
"""

RETURN = r"""
artifacts:
  description: All files, checked.
  returned: success
  type: list
  elements: dict
  contains:
    component:
      description: The component that the file belongs to.
      type: str
    version:
      description: The component's version.
      type: str
    architecture:
      description: The architecture, as releases name it.
      type: str
    name:
      description: The file's upstream name.
      type: str
    path:
      description: Where the file is on the controller.
      type: str
    sha256:
      description: The file's SHA-256.
      type: str
    checked_by:
      description: Where the SHA-256 comes from, V(user), V(lock) or V(publisher).
      type: str
      sample: lock
    room:
      description: The number of bytes that the file takes on a host, together with what is unpacked from it.
      type: int
problems:
  description: What is wrong, one line for each problem.
  returned: failure
  type: list
  elements: str
"""
