# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flanneld's key and certificate."""

from __future__ import annotations

from typing import Any

from ..core.resource import Call, Plan, Resource, converging
from . import job as pki_job
from . import keys as pki_keys
from . import run as pki_run

REQUEST: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "csr": {"type": "str", "required": True},
    "organizations": {"type": "list", "elements": "str", "default": []},
}
ARGUMENTS: dict[str, Any] = {
    "state": {
        "type": "str",
        "choices": ["present", "requested", "signed", "installed", "absent"],
        "default": "present",
    },
    "private_key_path": {"type": "path", "default": "/etc/kubernetes/pki/flannel.key", "no_log": False},
    "certificate_path": {"type": "path", "default": "/etc/kubernetes/pki/flannel.crt"},
    "ca_certificate_path": {"type": "path", "default": "/etc/kubernetes/pki/ca.crt"},
    "ca_certificate_content": {"type": "str"},
    "ca_private_key_path": {"type": "path", "default": "/etc/kubernetes/pki/ca.key", "no_log": False},
    "ca_passphrase": {"type": "str", "no_log": True},
    "common_name": {"type": "str", "default": "system:flannel"},
    "organizations": {"type": "list", "elements": "str", "default": []},
    "days": {"type": "int", "default": 365},
    "renew_before": {"type": "int", "default": 30},
    "key_type": {"type": "str", "choices": ["rsa", "ecdsa", "ed25519"], "default": "rsa", "no_log": False},
    "key_size": {"type": "int", "no_log": False},
    "renew_key": {"type": "bool", "default": True, "no_log": False},
    "force": {"type": "bool", "default": False},
    "requests": {"type": "list", "elements": "dict", "options": REQUEST},
    "certificate_content": {"type": "str"},
    "mode": {"type": "raw", "default": "0600"},
    "owner": {"type": "str"},
    "group": {"type": "str"},
}


def plan(call: Call) -> Plan:
    """Make, request, sign, install or remove; see pki_run."""
    state = call.params["state"]
    if state != "absent":
        pki_keys.require_library()
    return pki_run.plan(state, pki_job.check(call.params, call.check_mode))


RESOURCE = Resource(
    ARGUMENTS,
    converging(plan),
    # Signing writes nothing.
    lock=lambda options: "" if options["state"] == "signed" else "flannel-cert",
    rules={"required_if": [("state", "signed", ["requests"]), ("state", "installed", ["certificate_content"])]},
)
