# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flanneld's kubeconfig."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..core import files
from ..core.problems import Refused
from ..core.resource import Call, Plan, Resource, converging
from . import certs as pki_certs
from . import files as pki_files
from . import job as pki_job
from . import keys as pki_keys
from . import kubeconfig

ARGUMENTS: dict[str, Any] = {
    "path": {"type": "path", "default": "/etc/kubernetes/flannel.conf"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "server": {"type": "str"},
    "embed": {"type": "bool", "default": True},
    "ca_certificate_path": {"type": "path", "default": "/etc/kubernetes/pki/ca.crt"},
    "ca_certificate_content": {"type": "str"},
    "client_certificate_path": {"type": "path", "default": "/etc/kubernetes/pki/flannel.crt"},
    "client_certificate_content": {"type": "str"},
    "client_key_path": {"type": "path", "default": "/etc/kubernetes/pki/flannel.key", "no_log": False},
    "client_key_content": {"type": "str", "no_log": True},
    "mode": {"type": "raw", "default": "0600"},
    "owner": {"type": "str"},
    "group": {"type": "str"},
}


class Material(NamedTuple):
    """One of CA, certificate and key: where it comes from, and its PEM, None where it isn't there yet."""

    where: str
    pem: str | None
    part: kubeconfig.Part


def material(params: dict[str, Any], option: str, check_mode: bool) -> Material:
    """Raises Refused for a file that is missing outside a dry run, or can't be read."""
    content, path = params[f"{option}_content"], Path(params[f"{option}_path"])
    if content:
        # Templates strip a text's last line end, files have it: the same either way.
        pem = content.strip() + "\n"
        return Material(f"{option}_content", pem, kubeconfig.Part(pem=pem))
    found = pki_files.read(path)
    if found is None and not check_mode:
        raise Refused([f"{path}: there is no such file; {option}_path has to name one"])
    text = None if found is None else found.decode(errors="replace").strip() + "\n"
    part = kubeconfig.Part(pem=text or "") if params["embed"] else kubeconfig.Part(path=str(path))
    return Material(str(path), text, part)


def certificates(item: Material, problems: list[str]) -> list[Any]:
    """The certificates, and what is wrong with them into ``problems``."""
    if item.pem is None:
        return []
    try:
        return list(pki_certs.load_all(item.pem.encode()))
    except ValueError as error:
        problems.append(f"{item.where}: {error}")
    return []


def wish(params: dict[str, Any], check_mode: bool) -> tuple[kubeconfig.Kubeconfig, dict[str, str]]:
    """The kubeconfig that is asked for, and facts of its certificate. Raises Refused with all problems."""
    problem = kubeconfig.server_problem(params["server"])
    problems = [problem] if problem else []
    if not params["embed"] and (params["client_certificate_content"] or params["client_key_content"]):
        problems.append(
            "client_certificate_content and client_key_content: a text has no path, so embed has to be true"
        )
    items = []
    for option in ("ca_certificate", "client_certificate", "client_key"):
        try:
            items.append(material(params, option, check_mode))
        except Refused as refused:
            problems += refused.problems
    if len(items) < 3:
        raise Refused(problems)
    ca, certificate, key = items
    certificates(ca, problems)
    client = certificates(certificate, problems)
    if key.pem is not None:
        try:
            private = pki_keys.load(key.pem.encode())
            if client and not pki_keys.same(private, client[0].public_key()):
                problems.append(f"{key.where}: is not the key of the certificate in {certificate.where}")
        except ValueError as error:
            problems.append(f"{key.where}: {error}")
    if problems:
        raise Refused(problems)
    config = kubeconfig.Kubeconfig(params["server"], ca.part, certificate.part, key.part)
    return config, pki_certs.facts(client[0] if client else None)


def plan(call: Call) -> Plan:
    """What differs in meaning, mode or owner. Raises Refused."""
    if call.params["state"] == "present":
        pki_keys.require_library()
    attributes, problems = pki_files.attribute_problems(*(call.params[key] for key in ("mode", "owner", "group")))
    problems += pki_job.path_problems(pki_job.paths(call.params))
    if problems:
        raise Refused(problems)
    path = Path(call.params["path"])
    found = pki_files.read(path)
    before = None if found is None else found.decode(errors="replace")
    names = kubeconfig.foreign_names(before or "")
    if names:
        raise Refused([f"{path}: holds entries of other names ({', '.join(names)}); give a file of flanneld's own"])
    diff = {"before_header": str(path), "after_header": str(path), "before": "", "after": ""}
    if before is not None:
        diff["before"] = kubeconfig.describe_text(before)
    if call.params["state"] == "absent":
        facts = dict.fromkeys(("subject", "not_after", "fingerprint"), "")
        return Plan(before is not None, {"path": str(path), "diff": diff, **facts}, lambda: _removed(path))
    config, certificate = wish(call.params, call.check_mode)
    write = before is None or not kubeconfig.same(before, config)
    repairs = [] if write else pki_files.repairs([(path, attributes)])

    @contextlib.contextmanager
    def applied() -> Iterator[dict[str, Any]]:
        if write:
            pki_files.write(path, kubeconfig.render(config), attributes)
        for repair in repairs:
            pki_files.repair(repair)
        yield {}

    another = ", another one" if before is not None and kubeconfig.key_differs(before, config) else ""
    diff["after"] = kubeconfig.describe(config, another) if write else diff["before"]
    diff["before"] += pki_job.text(f"{repair.path}: {repair.found}" for repair in repairs)
    diff["after"] += pki_job.text(f"{repair.path}: {repair.wanted}" for repair in repairs)
    facts = {name: certificate[name] for name in ("subject", "not_after", "fingerprint")}
    return Plan(write or bool(repairs), {"path": str(path), "diff": diff, **facts}, applied)


@contextlib.contextmanager
def _removed(path: Path) -> Iterator[dict[str, Any]]:
    files.remove(path)
    yield {}


RESOURCE = Resource(
    ARGUMENTS,
    converging(plan),
    # flannel_cert's: certificate and key have to be read as a pair.
    lock=lambda options: "flannel-cert",
    rules={
        "required_if": [("state", "present", ["server"])],
        "required_together": [("client_certificate_content", "client_key_content")],
    },
)
