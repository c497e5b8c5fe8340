# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What kubernetes.core and the libraries under it say when a call fails, as one line a user can act on. Pure."""

from __future__ import annotations

import re

COLLECTION = "this controller lacks the collection kubernetes.core: ansible-galaxy collection install kubernetes.core"
CLIENT = "python3-kubernetes"
_ADDRESS = re.compile(r"host='([^']+)', port=(\d+)")
# Within a repr() of JSON: quotes inside are escaped once or more.
_STATUS = re.compile(r'"message":\s*"(.*?)"\s*,\s*"(?:reason|details|code)"', re.DOTALL)
# What is in the text, what it means, what to do. The first that fits counts.
_MEANINGS = (
    (
        r"Invalid kube-config|No such file or directory|Permission denied: '/|does not support item assignment|yaml\.",
        "the file is missing there, or is no kubeconfig",
        "set podnet_admin_kubeconfig to an administrator's kubeconfig on the control plane",
    ),
    (
        r"[Hh]ostname mismatch|doesn't match|not valid for",
        "the server's certificate is not made for this name",
        "take a name for `server:` in the kubeconfig that the certificate has",
    ),
    (
        r"certificate has expired|not yet valid",
        "the server's certificate is out of its time",
        "renew it, and compare the hosts' clocks",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|SSLCertVerification",
        "the server's certificate is not signed by the kubeconfig's CA",
        "take the kubeconfig of this cluster (after a new CA: make a new one)",
    ),
    (
        r"Name or service not known|name resolution|getaddrinfo|NameResolution",
        "the server's name can't be resolved there",
        "fix /etc/hosts or DNS on the control plane",
    ),
    (
        r"Connection refused|Connection reset|RemoteDisconnected|Connection aborted",
        "nothing answers there",
        "start kube-apiserver (crictl ps -a, journalctl -u kubelet), or correct `server:` in the kubeconfig",
    ),
    (
        r"timed out|[Tt]imeout|No route to host|unreachable",
        "there is no way to the server",
        "look at routes and firewalls between the control plane and that address",
    ),
    (
        r"\b401\b|Unauthorized",
        "the server does not accept the kubeconfig's user",
        "its certificate may be out of its time or of another CA: take a current administrator's kubeconfig",
    ),
    (
        r"\b403\b|[Ff]orbidden",
        "the kubeconfig's user may not do this",
        "take an administrator's kubeconfig (podnet_admin_kubeconfig)",
    ),
    (
        r"cannot change roleRef",
        "the ClusterRoleBinding there binds another role, and that can't be changed",
        "look who made it; delete it if nobody needs it, and run again",
    ),
    (
        r"alert (unknown ca|bad certificate|certificate|decrypt)|key values mismatch|PEM lib",
        "the server does not accept the kubeconfig's certificate",
        "take a current administrator's kubeconfig",
    ),
)


def client_missing(message: str) -> bool:
    """Is Python's Kubernetes client what the host lacks?"""
    return "Failed to import the required Python library (kubernetes)" in message


def explain(message: str, kubeconfig: str, host: str) -> str:
    """One line on a failed call: which server and kubeconfig, what is wrong, what to do."""
    if client_missing(message):
        does = "site.yml does unless podnet_manage_packages is false, but not in a dry run"
        return f"{host}: Python there lacks the Kubernetes client: install {CLIENT} ({does})"
    status = _STATUS.search(message)
    said = re.sub(r"\\+(.)", r"\1", status.group(1)) if status else ""
    address = _ADDRESS.search(message)
    server = f" (server {address.group(1)}:{address.group(2)})" if address else ""
    where = f"Kubernetes API by {kubeconfig} on {host}{server}"
    for pattern, meaning, remedy in _MEANINGS:
        if re.search(pattern, message):
            return f"{where}: {meaning}{f' ({said})' if said else ''}; {remedy}"
    # A traceback's last line says most.
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return f"{where}: {said or (lines[-1] if lines else 'no reason given')}"
