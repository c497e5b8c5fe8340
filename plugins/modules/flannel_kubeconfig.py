#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kubeconfig by which flanneld finds the API server and proves who it is."""

from __future__ import annotations

DOCUMENTATION = r"""
module: flannel_kubeconfig
short_description: Manage the kubeconfig by which flanneld reaches the API server
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Writes or removes a kubeconfig with one cluster, one user and one context, all named C(default). The context is the
    current one.
  - The certificates and the key are embedded, or named by their paths. With paths, flanneld uses a renewed certificate
    without a restart. With embedding, the host needs no other file.
  - Before anything is written, the module checks the server's URL and the CA, and that the key belongs to the
    certificate.
  - Files are compared by meaning, so a file that kubectl has rewritten is not a change. If the host lacks PyYAML, such
    a file is replaced once.
  - A file that holds clusters, users or contexts of other names is refused, so that no C(admin.conf) is overwritten.
requirements:
  - the Python package cryptography 38 or later on the host (Debian's python3-cryptography)
extends_documentation_fragment:
  - weft.podnet.host
  - weft.podnet.host.changes
  - weft.podnet.file
attributes:
  check_mode:
    description:
      - Nothing is changed. The CA, the certificate and the key may be missing then, since an earlier task of the same
        dry run may make them.
    support: full
  diff_mode:
    description: Shows server, names, paths and the fingerprints of certificates. No part of a key is shown.
    support: full
options:
  path:
    description: The kubeconfig's file.
    type: path
    default: /etc/kubernetes/flannel.conf
  state:
    description: Whether the file should exist.
    type: str
    choices: [present, absent]
    default: present
  server:
    description: The API server's URL, with V(https). Required with O(state=present).
    type: str
  embed:
    description: Embed the CA, the certificate and the key, instead of naming their paths.
    type: bool
    default: true
  ca_certificate_path:
    description: The CA's certificate, by which flanneld verifies the API server.
    type: path
    default: /etc/kubernetes/pki/ca.crt
  ca_certificate_content:
    description: The CA's certificate, PEM, instead of O(ca_certificate_path). It is always embedded.
    type: str
  client_certificate_path:
    description: The client's certificate.
    type: path
    default: /etc/kubernetes/pki/flannel.crt
  client_certificate_content:
    description:
      - The client's certificate, PEM, instead of O(client_certificate_path). Requires O(client_key_content) and
        O(embed=true).
    type: str
  client_key_path:
    description: The client's private key, without a passphrase.
    type: path
    default: /etc/kubernetes/pki/flannel.key
  client_key_content:
    description:
      - The client's private key, PEM, instead of O(client_key_path). Requires O(client_certificate_content) and
        O(embed=true).
    type: str
  mode:
    description:
      - The file's mode, in octal, V(0600), V(0400), V(0640) or V(0440). Any other is refused, so that only the owner
        can write the file, and only owner and group can read it.
    type: raw
    default: '0600'
seealso:
  - module: weft.podnet.flannel_cert
  - name: Organizing Cluster Access Using kubeconfig Files
    description: What a kubeconfig is.
    link: https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/
"""

EXAMPLES = r"""
- name: A kubeconfig that holds everything
  weft.podnet.flannel_kubeconfig:
    server: https://control-plane:6443

- name: A kubeconfig that names the files beside it, so that a renewed certificate needs no restart
  weft.podnet.flannel_kubeconfig:
    server: https://control-plane:6443
    embed: false

- name: Remove the kubeconfig
  weft.podnet.flannel_kubeconfig:
    state: absent
"""

RETURN = r"""
path:
  description: The kubeconfig's file.
  returned: success
  type: str
  sample: /etc/kubernetes/flannel.conf
subject:
  description:
    - The subject of the client's certificate.
    - Empty with O(state=absent), and in check mode if there is no certificate yet.
  returned: success
  type: str
  sample: CN=system:flannel
not_after:
  description: The time until which the client's certificate is valid, UTC. Empty if RV(subject) is.
  returned: success
  type: str
  sample: "2027-11-23T03:35:36Z"
fingerprint:
  description: The SHA-256 fingerprint of the client's certificate. Empty if RV(subject) is.
  returned: success
  type: str
  sample: 5E:0A:77:82:8C:24
problems:
  description: What is wrong, one line for each problem.
  returned: failure
  type: list
  elements: str
"""

from ansible_collections.weft.podnet.plugins.module_utils.core.resource import main as run
from ansible_collections.weft.podnet.plugins.module_utils.pki.credentials import RESOURCE


def main() -> None:
    run(RESOURCE)


if __name__ == "__main__":
    main()
