#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The private key and client certificate by which flanneld is known to the API server."""

from __future__ import annotations

DOCUMENTATION = r"""
module: flannel_cert
short_description: Manage the key and client certificate that flanneld presents to the API server
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Makes a private key and a client certificate that the cluster's CA signs, and renews both before the certificate
    expires.
  - With O(state=present), key, certificate and CA are all on one host, the control plane.
  - With O(state=requested), O(state=signed) and O(state=installed), run one after the other, the key is made on the
    host that uses it and never leaves it. Only a signing request and a certificate are transferred.
  - Certificates are compared by meaning. A certificate is renewed when it is about to expire, is not valid yet, belongs
    to another key, has another subject, CA, usage or kind of key, or can't be read. Otherwise nothing is changed.
  - A certificate never outlives its CA. Its validity begins five minutes in the past, for hosts whose clock is a little
    behind.
  - A new key waits in a file beside the old one, O(private_key_path) with C(.pending) appended, until its certificate
    is available. Then each is put in place by one rename. If a run is killed in between, the next one completes it.
requirements:
  - the Python package cryptography 38 or later on the host (Debian's python3-cryptography)
extends_documentation_fragment:
  - weft.podnet.host
  - weft.podnet.host.changes
  - weft.podnet.file
attributes:
  check_mode:
    description:
      - Nothing is changed. The result is that of a real run, but describes the certificate that exists now.
      - With O(state=requested), a new key is not stored but its request is returned, so that O(state=signed) and
        O(state=installed) can run in check mode too.
    support: full
  diff_mode:
    description: Shows subject, issuer, validity, kind of key and the reasons. No part of a key is shown.
    support: full
options:
  state:
    description:
      - V(present) makes the key and the certificate, and signs it, on this host.
      - V(requested) makes the key, and returns RV(csr) when a certificate is needed.
      - V(signed) checks and signs the O(requests) of other hosts. It writes nothing on this host.
      - V(installed) checks O(certificate_content) and puts it beside its key.
      - V(absent) removes key, pending key and certificate.
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
      - The file may hold several, for example while a CA is being replaced. The one that belongs to the CA's key signs.
        Where that key is not available, a certificate by any of them is accepted.
      - A CA is refused if its key is weak or unsupported (anything but RSA of 2048 to 8192 bits with a public exponent
        of 65537 or more, ECDSA on a NIST curve, and Ed25519), or if its certificate is signed with MD5 or SHA-1. This
        applies to O(ca_certificate_content) too. In a file with several, such a CA is ignored, unless its key has to
        sign or no other CA is usable.
    type: path
    default: /etc/kubernetes/pki/ca.crt
  ca_certificate_content:
    description: The CA's certificate, PEM, instead of O(ca_certificate_path).
    type: str
  ca_private_key_path:
    description: The CA's private key, for O(state=present) and O(state=signed).
    type: path
    default: /etc/kubernetes/pki/ca.key
  ca_passphrase:
    description: The passphrase of the CA's private key, if it is encrypted.
    type: str
  common_name:
    description: The common name of the subject, which is the user's name for Kubernetes.
    type: str
    default: system:flannel
  organizations:
    description:
      - The organizations of the subject, which are the user's groups for Kubernetes.
      - With O(state=signed), each request has its own.
    type: list
    elements: str
    default: []
  days:
    description:
      - The number of days for which a new certificate is valid, at most V(3650). Changing it renews no certificate.
    type: int
    default: 365
  renew_before:
    description:
      - Renew a certificate that has less than this many days left. It has to be less than O(days).
      - It applies to O(state=present) and O(state=requested).
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
        O(key_type=ecdsa), where it selects the NIST curve. It is ignored with O(key_type=ed25519).
      - If omitted, V(2048) or V(256).
    type: int
  renew_key:
    description:
      - Make a new key with every new certificate, so that a key that leaked unnoticed is useful for one certificate's
        lifetime at most.
      - This costs nothing if the key stays on the host that uses it, as with O(state=requested). A key that was copied
        to other hosts has to be copied again.
      - V(false) keeps a key of the right kind.
    type: bool
    default: true
  force:
    description: Renew now, whatever the certificate's state. Every run with it renews again.
    type: bool
    default: false
  requests:
    description:
      - What to sign with O(state=signed). The common name of all requests has to be O(common_name).
      - An empty list signs nothing, but still checks the CA and its key.
    type: list
    elements: dict
    suboptions:
      name:
        description: Whose request this is. The certificate has this name in RV(certificates).
        type: str
        required: true
      csr:
        description:
          - The signing request, PEM, of 16 KiB at most. It has to be signed by its own key, and its subject has to
            consist of O(common_name) and O(requests[].organizations).
          - It only proves possession of the key. A request for extensions (other names, C(CA:TRUE)), a weak key, the
            CA's own key, and a key that appears in another request are refused.
        type: str
        required: true
      organizations:
        description: The organizations that the certificate gets. A request for any others is refused.
        type: list
        elements: str
        default: []
  certificate_content:
    description: The certificate to put in place with O(state=installed), PEM.
    type: str
  mode:
    description:
      - The private key's mode, in octal, V(0600), V(0400), V(0640) or V(0440). Any other is refused, so that only the
        owner can write the key, and only owner and group can read it.
    type: raw
    default: '0600'
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
  description: Why a certificate is needed, or was made, and why anything else changed, one text for each reason.
  returned: success, O(state) other than V(signed)
  type: list
  elements: str
  sample: ["the certificate expires on 2026-12-01T03:35:36Z, in 7 days, which is under 30"]
subject:
  description:
    - The subject of the certificate that is in place; in check mode, of the one that exists now. Empty if there is
      none.
  returned: success, O(state) other than V(signed)
  type: str
  sample: CN=system:flannel, O=podnet:node:worker-1
issuer:
  description: The name of the certificate's issuer.
  returned: success, O(state) other than V(signed)
  type: str
  sample: CN=kubernetes
serial:
  description: The certificate's serial number, hexadecimal.
  returned: success, O(state) other than V(signed)
  type: str
  sample: 3F0A77828C245E0A77828C24
not_before:
  description: The time from which the certificate is valid, UTC.
  returned: success, O(state) other than V(signed)
  type: str
  sample: "2026-11-23T03:30:36Z"
not_after:
  description: The time until which the certificate is valid, UTC.
  returned: success, O(state) other than V(signed)
  type: str
  sample: "2027-11-23T03:35:36Z"
fingerprint:
  description: The certificate's SHA-256 fingerprint, as C(openssl x509 -fingerprint -sha256) prints it.
  returned: success, O(state) other than V(signed)
  type: str
  sample: 5E:0A:77:82:8C:24
renewal_needed:
  description: Whether a certificate has to be signed and installed.
  returned: success, O(state=requested)
  type: bool
reason:
  description: Why a certificate is needed, in one text. Empty if none is needed.
  returned: success, O(state=requested)
  type: str
  sample: there is no private key; there is no certificate
csr:
  description: The signing request, PEM. Empty if no certificate is needed.
  returned: success, O(state=requested)
  type: str
certificates:
  description: The signed certificates, PEM, by the name of their request.
  returned: success, O(state=signed)
  type: dict
problems:
  description: What is wrong, one line for each problem.
  returned: failure
  type: list
  elements: str
"""

from ansible_collections.weft.podnet.plugins.module_utils.core.resource import main as run
from ansible_collections.weft.podnet.plugins.module_utils.pki.resource import RESOURCE


def main() -> None:
    run(RESOURCE)


if __name__ == "__main__":
    main()
