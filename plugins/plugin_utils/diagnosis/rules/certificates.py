# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates that the pod network depends on."""

from __future__ import annotations

from collections.abc import Iterator

from ..cluster import Node
from ..observation import Certificate
from ..table import ERROR, OBSERVED, WARNING, Concern, Found, found

CERTIFICATES = Concern(
    "Certificates",
    "flanneld and the kubelet show the API server client certificates of the cluster's CA. flanneld goes on with "
    "what it "
    "knows when the API refuses it, so an expired certificate is noticed when the next node joins.",
)
# The kubelet renews its own long before; flannel's is renewed by site.yml below podnet_flannel_renew_before.
SOON = 30.0


def is_flannels(certificate: Certificate) -> bool:
    return "flannel" in certificate.path or "system:flannel" in certificate.subject


def renewal(certificate: Certificate) -> str:
    """The command that renews it on the host; "" where there is none."""
    if "kubelet" in certificate.path:
        return "rm -f {path} && systemctl restart kubelet"
    return "" if is_flannels(certificate) or certificate.path.endswith("ca.crt") else "kubeadm certs renew all"


@CERTIFICATES.rule(
    "certificate-expired",
    ERROR,
    "A certificate has expired",
    effect="The API refuses flanneld or the kubelet: the node learns of no change, and flanneld does not start again.",
    see="openssl x509 -noout -enddate -in <path>",
    fix="",
    site="rotate_certificates.yml renews flanneld's",
    source="lesson 12",
    explains=("flanneld-not-running", "subnet-env-missing"),
    hosts=OBSERVED,
)
def certificate_expired(node: Node) -> Iterator[Found]:
    """Its end is in the past, by the host's own clock."""
    for each in node.host.certificates:
        if each.days_left is not None and each.days_left < 0:
            yield found(f"{each.path} ({each.subject}) ended on {each.not_after}", fix=renewal(each), path=each.path)


@CERTIFICATES.rule(
    "certificate-expires-soon",
    WARNING,
    "A certificate expires soon",
    effect="Then the API refuses flanneld or the kubelet, and the node learns of no change.",
    see="openssl x509 -noout -enddate -in <path>",
    fix="",
    site="rotate_certificates.yml renews flanneld's",
    source="lesson 12",
    hosts=OBSERVED,
)
def certificate_expires_soon(node: Node) -> Iterator[Found]:
    """Less than 30 days are left or, for flanneld's certificate, less than podnet_flannel_renew_before."""
    for each in node.host.certificates:
        given = node.cluster.setting("flannel_renew_before") if is_flannels(each) else None
        limit = given if isinstance(given, (int, float)) else SOON
        if each.days_left is not None and 0 <= each.days_left < limit:
            evidence = f"{each.path} ({each.subject}) ends on {each.not_after}, in {each.days_left:.0f} days"
            yield found(evidence, fix=renewal(each), path=each.path)


@CERTIFICATES.rule(
    "certificate-other-ca",
    ERROR,
    "A certificate is not signed by the cluster's CA",
    effect="The API refuses flanneld (Unauthorized), so the node gets no pod network once flanneld starts again.",
    see="openssl verify -CAfile /etc/kubernetes/pki/ca.crt <path>",
    fix="",
    site="rotate_certificates.yml",
    source="lesson 12, 13",
    explains=("flanneld-not-running", "subnet-env-missing", "kubeconfig-unusable"),
    hosts=OBSERVED,
)
def certificate_other_ca(node: Node) -> Iterator[Found]:
    """The signature does not fit the CA on the host: the cluster was made again, or the file is another cluster's."""
    for each in node.host.certificates:
        if each.signed_by_ca is False:
            yield found(f"{each.path} ({each.subject})")
