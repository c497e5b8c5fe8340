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
  - A file that holds clusters, users or contexts of other names is refused, so that nobody's C(admin.conf) is lost.
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
      - The file's mode, in octal. Nobody but the owner may be let write it, nobody but owner and group read it.
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

import contextlib
from pathlib import Path
from typing import Any, NamedTuple

from ansible_collections.weft.podnet.plugins.module_utils import (
    files,
    kubeconfig,
    lock,
    pki_certs,
    pki_files,
    pki_job,
    pki_keys,
    tools,
)
from ansible_collections.weft.podnet.plugins.module_utils.output import Module
from ansible_collections.weft.podnet.plugins.module_utils.problems import Refused

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


def run(module: Module, attributes: pki_files.Attributes) -> dict[str, Any]:
    """Observe, plan, apply unless in check mode; returns the module's result."""
    path = Path(module.params["path"])
    found = pki_files.read(path)
    before = None if found is None else found.decode(errors="replace")
    names = kubeconfig.strangers(before or "")
    if names:
        raise Refused([f"{path}: holds entries of other names ({', '.join(names)}); give a file of flanneld's own"])
    diff = {"before_header": str(path), "after_header": str(path), "before": "", "after": ""}
    if before is not None:
        diff["before"] = kubeconfig.describe_text(before)
    if module.params["state"] == "absent":
        if not module.check_mode:
            files.remove(path)
        facts = dict.fromkeys(("subject", "not_after", "fingerprint"), "")
        return {"changed": before is not None, "path": str(path), "diff": diff, **facts}
    config, certificate = wish(module.params, module.check_mode)
    write = before is None or not kubeconfig.same(before, config)
    repairs = [] if write else pki_files.repairs([(path, attributes)])
    if not module.check_mode:
        if write:
            pki_files.write(path, kubeconfig.render(config), attributes)
        for repair in repairs:
            pki_files.mend(repair)
    another = ", another one" if before is not None and kubeconfig.key_differs(before, config) else ""
    diff["after"] = kubeconfig.describe(config, another) if write else diff["before"]
    diff["before"] += pki_job.text(f"{repair.path}: {repair.found}" for repair in repairs)
    diff["after"] += pki_job.text(f"{repair.path}: {repair.wanted}" for repair in repairs)
    facts = {name: certificate[name] for name in ("subject", "not_after", "fingerprint")}
    return {"changed": write or bool(repairs), "path": str(path), "diff": diff, **facts}


def main() -> None:
    module = Module(
        argument_spec=ARGUMENTS,
        required_if=[("state", "present", ["server"])],
        required_together=[("client_certificate_content", "client_key_content")],
        supports_check_mode=True,
    )
    tools.begin(module)
    try:
        if module.params["state"] == "present":
            pki_keys.require_library()
        attributes, problems = pki_files.attribute_problems(*(module.params[key] for key in ("mode", "owner", "group")))
        problems += pki_job.path_problems(pki_job.paths(module.params))
        if problems:
            raise Refused(problems)
        # The lock of flannel_cert: certificate and key have to be read as a pair.
        with contextlib.nullcontext() if module.check_mode else lock.hold("flannel-cert"):
            result = run(module, attributes)
    except (Refused, lock.LockError, OSError) as error:
        module.refuse(error)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
