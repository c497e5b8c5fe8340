# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pod_network_report: what a run found out about the pod network, written to the controller in three forms."""

from __future__ import annotations

import errno
import json
import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible.plugins.action import ActionBase

from ansible_collections.weft.podnet.plugins.filter import diagnosis
from ansible_collections.weft.podnet.plugins.module_utils.core import files
from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.module_utils.node import steps
from ansible_collections.weft.podnet.plugins.module_utils.probe import compact
from ansible_collections.weft.podnet.plugins.plugin_utils.core import host_facts
from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis.report import junit, model, page

ARGUMENTS: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "hosts": {"type": "list", "elements": "str"},
    "observed": {"type": "list", "elements": "dict"},
    "cluster": {"type": "dict", "default": {}},
    "api": {"type": "dict", "default": {}},
    "workers": {"type": "list", "elements": "str", "default": []},
    "matrix": {"type": "dict"},
    "looked": {"type": "list", "elements": "dict", "default": []},
    "applied": {"type": "list", "elements": "dict", "default": []},
}
ENDING = ".html"
# A host's answer is data: nothing but these words is taken from it.
CONCERNS = {steps.concern(module) for module in steps.MODULES}


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        # A report is no state of a host, so writing one changes nothing.
        result = {**super().run(tmp, task_vars), "changed": False}
        variables = task_vars or {}
        _spec, args = self.validate_argument_spec(ARGUMENTS)
        try:
            host_facts.require_honest(variables)
            paths = _checked(Path(args["path"]).absolute())
            if args["hosts"] is None:
                return result
            report = model.report(
                _observations(args),
                compact.read(args["matrix"]),
                _changes(args),
                time.time(),
            )
            if not self._task.check_mode:
                _write(paths, report)
                self._display.display(f"Report: {paths['html']} (and {paths['json'].name}, {paths['xml'].name})")
        except Refused as refused:
            return {**result, "failed": True, "msg": str(refused), "problems": refused.problems}
        return {**result, "verdict": report["verdict"], "paths": {name: str(path) for name, path in paths.items()}}


def _checked(path: Path) -> dict[str, Path]:
    """The three files by their kind. Raises Refused where they can't be written."""
    if path.suffix != ENDING:
        raise Refused([f"path: {path}: expected a name that ends in {ENDING}, such as report{ENDING}"])
    paths = {kind: path.with_suffix(f".{kind}") for kind in ("html", "json", "xml")}
    try:
        problem = _place(path.parent)
        problems = [problem] if problem else [line for each in paths.values() for line in _file(each)]
    except OSError as error:
        problems = [error.strerror or str(error)]
    if problems:
        raise Refused([f"path: {path}: {line}" for line in problems])
    return paths


def _place(folder: Path) -> str:
    """Why no file can be written there, "" where it can. Raises OSError."""
    if not folder.is_dir():
        found = "is no folder" if folder.exists() else "there is no such folder on the controller"
        return f"{folder}: {found}; create it, or name another"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"{folder}: you may not write there; name another folder"
    return ""


def _file(path: Path) -> list[str]:
    """What keeps a file from being replaced. Raises OSError."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return []
    # A link is replaced, whoever made it and wherever it leads: it is not followed.
    if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
        return []
    return [f"{path.name}: found {files.kind(mode)}, expected a file or nothing; name another path"]


def _write(paths: Mapping[str, Path], report: Mapping[str, Any]) -> None:
    """All three, each replaced whole. Raises Refused."""
    texts = {
        "json": json.dumps(report, indent=1, ensure_ascii=False) + "\n",
        "xml": junit.document(report),
        "html": page.render(report),
    }
    mask = os.umask(0o077)
    os.umask(mask)
    try:
        with files.Staged(restorable=False) as staged:
            for kind, text in texts.items():
                staged.write(paths[kind], text, 0o666 & ~mask)
            staged.commit()
    except OSError as error:
        reason = files.explained(error)
        if error.errno in (errno.EACCES, errno.EPERM):
            reason = files.FileError(
                error.errno, "you may not replace it; remove it, or name another path", error.filename
            )
        raise Refused([f"path: {reason}"]) from error


def _observations(args: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of findings.diagnose. Raises Refused."""
    observed = args["observed"]
    try:
        # A verification without observations tells of no host that it could not be looked at.
        hosts = args["hosts"] if observed is not None else []
        return diagnosis.arguments(hosts, observed or [], args["cluster"], args["api"], args["workers"])
    except AnsibleFilterError as error:
        raise Refused([str(error)]) from error


def _changes(args: Mapping[str, Any]) -> dict[str, list[str]] | None:
    """By host, the concerns that the run changed; None where it looked at no host."""
    changes: dict[str, list[str]] = {}
    for name, look, applied in zip(args["hosts"], args["looked"], args["applied"], strict=False):
        if not applied or applied.get("failed"):
            continue
        # What connects a node is changed by tasks before the last one: the look knows of them.
        told = [each for result in (look, applied) for each in _concerns(result)]
        changed = [each for each in dict.fromkeys(told) if each in CONCERNS]
        if changed:
            changes[name] = changed
    return changes if any(args["looked"]) else None


def _concerns(result: Mapping[str, Any]) -> list[str]:
    given = result.get("concerns")
    return [each for each in given if isinstance(each, str)] if isinstance(given, (list, tuple)) else []
