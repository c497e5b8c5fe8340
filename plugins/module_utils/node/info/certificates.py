# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates that the pod network depends on, how long they are valid, and flanneld's kubeconfig."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...core import files, processes
from ...flannel import unit as flannel_unit
from .section import Notes

AUTHORITY = "/etc/kubernetes/pki/ca.crt"
CERTIFICATES = (
    AUTHORITY,
    "/etc/kubernetes/pki/flannel.crt",
    "/var/lib/kubelet/pki/kubelet-client-current.pem",
)
KUBECONFIG = flannel_unit.ARGUMENT_SPEC["kubeconfig"]["default"]
DAY = 86400
NO_KUBECONFIG: dict[str, Any] = {"path": "", "server": "", "user_certificate": "", "problems": []}


def kubeconfig_path(words: Sequence[str]) -> str:
    return processes.option(list(words), "kubeconfig-file") or KUBECONFIG


def fields(text: str) -> dict[str, str]:
    """What a kubeconfig says about server and certificates; of several users, the last one of each."""
    return dict(json.loads(flannel_unit.kubeconfig_identity(text)))


def server(text: str | None) -> str:
    """The API server that a kubeconfig names; "" for none."""
    return fields(text).get("server", "") if text else ""


def kubeconfig(path: str, wanted: bool) -> dict[str, Any]:
    """``wanted``: flanneld runs or has a unit here, so that a missing file is a problem. Raises FileError."""
    text = files.read_text(path)
    if text is None:
        problems = [f"{path}: there is no such file"] if wanted else []
        return {**NO_KUBECONFIG, "problems": problems}
    found = fields(text)
    problems = []
    server = found.get("server", "")
    if not server.startswith("https://"):
        problems.append(f"server is {server!r}, expected an https URL" if server else "no server is named")
    certificate = found.get("client-certificate", "")
    kind = "embedded" if "client-certificate-data" in found else "path" if certificate else ""
    if kind == "path" and not Path(path).parent.joinpath(certificate).is_file():
        problems.append(f"client-certificate: there is no file {certificate}")
    if not kind and not re.search(r"(?m)^\s*(?:- )?[\"']?(token|tokenFile|exec)[\"']?\s*:", text):
        problems.append("no client certificate and no token is named")
    mode = stat.S_IMODE(Path(path).stat().st_mode)
    if mode & 0o077 and re.search(r"client-key-data|token|password", text):
        problems.append(f"mode {mode:04o} lets others read the key or token in it; expected 0600")
    return {"path": path, "server": server, "user_certificate": kind, "problems": problems}


def certificates(path: str, now: float, notes: Notes) -> list[dict[str, Any]]:
    """``path``: of the kubeconfig, whose embedded certificate counts as well."""
    texts = {each: notes.read("certificates", files.read_bytes, None, each) for each in CERTIFICATES}
    config = notes.read("certificates", files.read_text, None, path)
    embedded = fields(config).get("client-certificate-data", "") if config else ""
    if embedded:
        try:
            texts[f"{path} (embedded)"] = base64.b64decode(embedded)
        except (ValueError, binascii.Error) as error:
            notes.add(f"certificates: {path}: client-certificate-data is no base64: {error}")
    present = {name: text for name, text in texts.items() if text}
    if not present:
        return []
    # Imported only where there is something to read: the library takes longer than most of an observation.
    from ...pki import certs as pki_certs
    from ...pki import keys as pki_keys

    pki_keys.require_library()
    authority = present.get(AUTHORITY)
    # What is wrong with the CA's own file is noted below, as with every other.
    authorities: list[Any] = []
    with contextlib.suppress(ValueError):
        authorities = pki_certs.load_all(authority) if authority else []
    shown = []
    for name, text in present.items():
        found = notes.read("certificates", _one, None, name, text, authorities, now)
        shown += [found] if found else []
    return sorted(shown, key=lambda each: str(each["path"]))


def _one(name: str, pem: bytes, authorities: list[Any], now: float) -> dict[str, Any]:
    """Raises ValueError."""
    from ...pki import certs as pki_certs
    from ...pki import keys as pki_keys

    try:
        certificate = pki_certs.load_all(pem)[0]
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    until = pki_certs.validity(certificate).not_after
    found: dict[str, Any] = {
        "path": name,
        "subject": pki_certs.subject_text(certificate.subject),
        "not_before": pki_certs.stamp(pki_certs.validity(certificate).not_before),
        "not_after": pki_certs.stamp(until),
        "days_left": int((until.timestamp() - now) // DAY),
        "key_type": pki_keys.spec_of(certificate.public_key()).type,
    }
    if authorities:
        found["signed_by_ca"] = pki_certs.issuer_among(certificate, authorities) is not None
    return found
