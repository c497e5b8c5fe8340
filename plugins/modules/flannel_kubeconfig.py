#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kubeconfig by which flanneld finds the API server and proves who it is."""

from __future__ import annotations

DOCUMENTATION = r"""
module: flannel_kubeconfig
short_description: The kubeconfig by which flanneld reaches the API server
version_added: 0.1.0
description:
  - Writes or removes a kubeconfig of one cluster, one user and one context, all named C(default) and the context
    current.
  - Certificates and key are embedded, or named by their paths. By path, flanneld takes a renewed certificate without a
    restart; embedded, the file is all a host needs.
  - The server's URL, the CA, and that key and certificate belong together, are checked before anything is written.
  - Files are compared by meaning, so one that kubectl has written over is no change. Where the host lacks PyYAML, such
    a file is replaced once.
  - A file that holds clusters, users or contexts of other names is refused, so that no C(admin.conf) is overwritten.
author:
  - The weft.podnet maintainers (@weft-net)
requirements:
  - On the host, the Python package cryptography 38 or later (C(python3-cryptography)).
attributes:
  check_mode:
    description:
      - Nothing is changed. Certificate and key may be missing then, since an earlier task of the same dry run may make
        them.
    support: full
  diff_mode:
    description: Shows server, names, paths and the fingerprints of certificates; never anything of a key.
    support: full
options:
  path:
    description: The kubeconfig's file.
    type: path
    default: /etc/kubernetes/flannel.conf
  state:
    description: Whether the file is there.
    type: str
    choices: [present, absent]
    default: present
  server:
    description: The API server's URL, with V(https). Required with O(state=present).
    type: str
  embed:
    description: Embed CA, certificate and key, instead of naming their paths.
    type: bool
    default: true
  ca_certificate_path:
    description: The CA's certificate, by which the API server is known.
    type: path
    default: /etc/kubernetes/pki/ca.crt
  ca_certificate_content:
    description: The CA's certificate, PEM, instead of O(ca_certificate_path). It is embedded in any case.
    type: str
  client_certificate_path:
    description: The client's certificate.
    type: path
    default: /etc/kubernetes/pki/flannel.crt
  client_certificate_content:
    description: The client's certificate, PEM, instead of O(client_certificate_path). Needs O(embed=true).
    type: str
  client_key_path:
    description: The client's private key, without a passphrase.
    type: path
    default: /etc/kubernetes/pki/flannel.key
  client_key_content:
    description: The client's private key, PEM, instead of O(client_key_path). Needs O(embed=true).
    type: str
  mode:
    description:
      - The file's mode, in octal. Only the owner may write it, and only owner and group may read it.
    type: raw
    default: '0600'
  owner:
    description:
      - The file's owner, by name or number.
      - Left out, a file keeps its owner, and a new one belongs to the user that runs the module.
    type: str
  group:
    description: The file's group, by name or number. Left out, a file keeps its group.
    type: str
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

- name: Take it away
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
    - Empty in check mode while there is none, and with O(state=absent).
  returned: success
  type: str
  sample: CN=system:flannel
not_after:
  description: Until when the client's certificate is valid, UTC. Empty as RV(subject) is.
  returned: success
  type: str
  sample: "2027-11-23T03:35:36Z"
fingerprint:
  description: The SHA-256 fingerprint of the client's certificate. Empty as RV(subject) is.
  returned: success
  type: str
  sample: 5E:0A:77:82:8C:24
"""

from ansible_collections.weft.podnet.plugins.module_utils.core.resource import main as run
from ansible_collections.weft.podnet.plugins.module_utils.pki.credentials import RESOURCE


def main() -> None:
    run(RESOURCE)


if __name__ == "__main__":
    main()
