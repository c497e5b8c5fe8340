#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The private key and client certificate by which flanneld is known to the API server."""

from __future__ import annotations

DOCUMENTATION = r"""
module: flannel_cert
short_description: The key and client certificate that flanneld shows the API server
version_added: 0.1.0
description:
  - Makes a private key and a client certificate that the cluster's CA signs, and renews both in time.
  - With O(state=present) key, certificate and CA are all on one host, the control plane.
  - With O(state=requested), O(state=signed) and O(state=installed), run one after the other, the key is made on the
    host that uses it and never leaves it. Only a signing request and a certificate travel.
  - Certificates are compared by meaning. One is renewed when it nears its end, is not valid yet, belongs to another
    key, has another subject, CA, usage or kind of key, or can't be read. Otherwise nothing is touched.
  - A certificate never outlives its CA. It is valid from five minutes ago, for hosts whose clock is a little behind.
  - A new key waits in a file beside the old one, O(private_key_path) with C(.pending) added, until its certificate is
    there. Then both take their places by one rename each. When a run is killed in between, the next one completes it.
author:
  - The weft.podnet maintainers (@weft-net)
requirements:
  - On the host, the Python package cryptography 38 or later (C(python3-cryptography)).
attributes:
  check_mode:
    description:
      - Nothing is changed. The result is that of a real run, but describes the certificate that exists now.
      - O(state=requested) returns the request of a key that is kept nowhere, so that O(state=signed) and
        O(state=installed) can run in check mode too.
    support: full
  diff_mode:
    description: Shows subject, issuer, validity, kind of key and the reasons; never anything of a key.
    support: full
options:
  state:
    description:
      - V(present), key and certificate are there, made and signed on this host.
      - V(requested), the key is there, and RV(csr) is returned when a certificate is needed.
      - V(signed), the O(requests) of other hosts are checked and signed. Nothing is written on this host.
      - V(installed), O(certificate_content) is checked and put beside its key.
      - V(absent), key, pending key and certificate are removed.
    type: str
    choices: [present, requested, signed, installed, absent]
    default: present
  private_key_path:
    description: The private key's file.
    type: path
    default: /etc/kubernetes/pki/flannel.key
  certificate_path:
    description: The certificate's file. Its mode is 0644.
    type: path
    default: /etc/kubernetes/pki/flannel.crt
  ca_certificate_path:
    description:
      - The CA's certificate.
      - It is refused where its key is weak (RSA under 2048 bits) or odd (no NIST curve), or where it is signed with MD5
        or SHA-1.
      - A file may hold several, as while a CA is replaced. The one that belongs to the CA's key signs. Where that key
        is not at hand, a certificate by any of them is good.
    type: path
    default: /etc/kubernetes/pki/ca.crt
  ca_certificate_content:
    description: The CA's certificate as a text, instead of O(ca_certificate_path).
    type: str
  ca_private_key_path:
    description: The CA's private key, for O(state=present) and O(state=signed).
    type: path
    default: /etc/kubernetes/pki/ca.key
  ca_passphrase:
    description: The passphrase of the CA's private key, where that is encrypted.
    type: str
  common_name:
    description: The common name of the subject, for Kubernetes the user's name.
    type: str
    default: system:flannel
  organizations:
    description:
      - The organizations of the subject, for Kubernetes the user's groups.
      - With O(state=signed) each request has its own.
    type: list
    elements: str
    default: []
  days:
    description:
      - For how many days a new certificate is valid, V(3650) at most. A change of this alone renews nothing.
    type: int
    default: 365
  renew_before:
    description:
      - Renew a certificate that has less than this many days left. It has to be less than O(days).
      - This counts with O(state=present) and O(state=requested).
    type: int
    default: 30
  key_type:
    description: The kind of private key.
    type: str
    choices: [rsa, ecdsa, ed25519]
    default: rsa
  key_size:
    description:
      - The key's size in bits. V(2048), V(3072) or V(4096) with O(key_type=rsa), V(256), V(384) or V(521) with
        O(key_type=ecdsa), where it names the NIST curve.
      - Left out, V(2048) or V(256).
    type: int
  renew_key:
    description:
      - Make a new key with every new certificate. A key that leaked unnoticed is then of use for one certificate's
        life at most, and it costs nothing, since the key never leaves this host.
      - V(false) keeps a key of the right kind.
    type: bool
    default: true
  force:
    description: Renew now, whatever the certificate's state. Every run does so again.
    type: bool
    default: false
  requests:
    description:
      - What to sign with O(state=signed). The common name of all of them has to be O(common_name).
      - An empty list signs nothing, but still checks the CA and its key.
    type: list
    elements: dict
    suboptions:
      name:
        description: Whose request this is. It names the certificate in the result.
        type: str
        required: true
      csr:
        description:
          - The signing request, PEM, of 16 KiB at most. It has to be signed by its own key, and to name the subject of
            O(common_name) and O(requests[].organizations).
          - It proves a key and decides nothing. One that asks for extensions (other names, C(CA:TRUE)) is refused, and
            so is a weak key, the CA's own key, and a key that another request has too.
        type: str
        required: true
      organizations:
        description: The organizations this name is to have. A request for any others is refused.
        type: list
        elements: str
        default: []
  certificate_content:
    description: The certificate to put in place with O(state=installed), PEM.
    type: str
  mode:
    description:
      - The private key's mode, in octal. Only the owner may write it, and only owner and group may read it.
    type: raw
    default: '0600'
  owner:
    description:
      - The owner of key and certificate, by name or number.
      - Left out, a file keeps its owner, and a new one belongs to the user that runs the module.
    type: str
  group:
    description: The group of key and certificate, by name or number. Left out, a file keeps its group.
    type: str
seealso:
  - module: weft.podnet.flannel_kubeconfig
  - name: PKI certificates and requirements
    description: How Kubernetes takes a user's name and groups from a certificate.
    link: https://kubernetes.io/docs/setup/best-practices/certificates/
"""

EXAMPLES = r"""
- name: One identity for all nodes, made on the control plane
  weft.podnet.flannel_cert:

- name: An identity for each node, 1 of 3, on the worker
  weft.podnet.flannel_cert:
    state: requested
    organizations: ["podnet:node:{{ inventory_hostname }}"]
  register: requested

- name: An identity for each node, 2 of 3, on the control plane
  weft.podnet.flannel_cert:
    state: signed
    requests:
      - name: "{{ inventory_hostname }}"
        csr: "{{ requested.csr }}"
        organizations: ["podnet:node:{{ inventory_hostname }}"]
  delegate_to: control-plane
  register: signed
  when: requested.renewal_needed

- name: An identity for each node, 3 of 3, on the worker
  weft.podnet.flannel_cert:
    state: installed
    certificate_content: "{{ signed.certificates[inventory_hostname] }}"
    organizations: ["podnet:node:{{ inventory_hostname }}"]
  when: requested.renewal_needed

- name: A key on an elliptic curve, renewed two months ahead
  weft.podnet.flannel_cert:
    key_type: ecdsa
    renew_before: 60
"""

RETURN = r"""
reasons:
  description: Why a certificate is needed, or was made, and why anything else changed. One text each.
  returned: success, O(state) other than V(signed)
  type: list
  elements: str
  sample: ["the certificate expires on 2026-12-01T03:35:36Z, in 7 days, which is under 30"]
subject:
  description: The subject of the certificate that is in place. In check mode of the one there now. Empty for none.
  returned: success, O(state) other than V(signed)
  type: str
  sample: CN=system:flannel, O=podnet:node:worker-1
issuer:
  description: The name of its issuer.
  returned: success, O(state) other than V(signed)
  type: str
  sample: CN=kubernetes
serial:
  description: Its serial number, hexadecimal.
  returned: success, O(state) other than V(signed)
  type: str
  sample: 3F0A77828C245E0A77828C24
not_before:
  description: From when on it is valid, UTC.
  returned: success, O(state) other than V(signed)
  type: str
  sample: "2026-11-23T03:30:36Z"
not_after:
  description: Until when it is valid, UTC.
  returned: success, O(state) other than V(signed)
  type: str
  sample: "2027-11-23T03:35:36Z"
fingerprint:
  description: Its SHA-256 fingerprint, written as C(openssl x509 -fingerprint -sha256) does.
  returned: success, O(state) other than V(signed)
  type: str
  sample: 5E:0A:77:82:8C:24
renewal_needed:
  description: Whether a certificate has to be signed and installed.
  returned: success, O(state=requested)
  type: bool
reason:
  description: Why, in one text. Empty where none is needed.
  returned: success, O(state=requested)
  type: str
  sample: there is no private key; there is no certificate
csr:
  description: The signing request, PEM. Empty where no certificate is needed.
  returned: success, O(state=requested)
  type: str
certificates:
  description: The signed certificates, PEM, by the name of their request.
  returned: success, O(state=signed)
  type: dict
"""

from ansible_collections.weft.podnet.plugins.module_utils.core.resource import main as run
from ansible_collections.weft.podnet.plugins.module_utils.pki.resource import RESOURCE


def main() -> None:
    run(RESOURCE)


if __name__ == "__main__":
    main()
