# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""release_artifacts: release files brought to the controller and checked, before any host is touched."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.plugin_utils.core import host_facts
from ansible_collections.weft.podnet.plugins.plugin_utils.plan import lock_file, plan_file
from ansible_collections.weft.podnet.plugins.plugin_utils.releases import artifacts
from ansible_collections.weft.podnet.plugins.plugin_utils.releases.fetch import Digest, Fetched, Source, fetch

ARGUMENTS: dict[str, Any] = {
    "components": {"type": "dict", "required": True},
    "architectures": {"type": "list", "elements": "str", "required": True},
    "url": {"type": "str"},
    "dir": {"type": "path"},
    "release_base": {"type": "str", "default": artifacts.RELEASES},
    "api_base": {"type": "str", "default": artifacts.RELEASES_API},
    "sha256": {"type": "dict"},
    "require_lock": {"type": "bool", "default": False},
    "lock_file": {"type": "str"},
    "cache_dir": {"type": "path"},
    "timeout": {"type": "int", "default": 30},
}


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _validation, options = self.validate_argument_spec(ARGUMENTS)
        try:
            host_facts.require_honest(task_vars or {})
            return {**result, **self._artifacts(options, (task_vars or {}).get("inventory_dir"))}
        except Refused as refused:
            return {**result, "failed": True, "changed": False, "msg": str(refused), "problems": refused.problems}

    def _artifacts(self, options: dict[str, Any], inventory_dir: str | None) -> dict[str, Any]:
        wanted, own = _checked(options)
        path = lock_file.path(options["lock_file"], inventory_dir)
        locked = lock_file.read(path).digests()
        known = {name: Digest(sha256, "lock", str(path)) for name, sha256 in locked.items()}
        known |= {name: Digest(sha256, "user", "") for name, sha256 in own.items()}
        source = _source(options)
        tell = self._display.display
        fetched = fetch(wanted, known, source, options["require_lock"], lambda line: tell(f"Downloading {line}"))
        before, after = self._locked(path, fetched)
        first = [item for item in fetched if item.digest.checked_by == "publisher"]
        return {
            "changed": before != after,
            "diff": {"before_header": str(path), "after_header": str(path), "before": before, "after": after},
            "artifacts": [_entry(item) for item in fetched],
            "msg": _summary(fetched, first, path),
            "warnings": [*_first_use(first, path), *_overruled(wanted, own, locked, path)],
        }

    def _locked(self, path: Path, fetched: list[Fetched]) -> tuple[str, str]:
        """Add what is new to the lock file; its text before and after. Raises Refused."""
        # A dry run writes nothing, so it does not wait.
        with contextlib.nullcontext() if self._task.check_mode else lock_file.hold(path):
            content = lock_file.read(path)
            since = content.digests()
            problems = [
                f"{path}: another run has locked {item.artifact.name} as {since[item.artifact.name]} meanwhile, "
                f"while {item.digest.origin} says {item.digest.sha256}; find out which is right"
                for item in fetched
                if item.digest.checked_by != "user"
                and since.get(item.artifact.name, item.digest.sha256) != item.digest.sha256
            ]
            if problems:
                raise Refused(problems)
            grown = content.with_digests((item.artifact, item.digest.sha256) for item in fetched)
            before, after = content.text(), grown.text()
            if before != after and not self._task.check_mode:
                lock_file.write(path, grown)
        return before, after


def _checked(options: dict[str, Any]) -> tuple[list[artifacts.Artifact], dict[str, str]]:
    """The files wanted, and the user's digests. Raises Refused with the problems of all options."""
    problems = []
    wanted: list[artifacts.Artifact] = []
    own: dict[str, str] = {}
    try:
        wanted = artifacts.wanted(options["components"], options["architectures"])
    except Refused as refused:
        problems += refused.problems
    try:
        own = artifacts.digests(options["sha256"] or {})
    except Refused as refused:
        problems += refused.problems
    for name in ("url", "release_base", "api_base"):
        value = options[name]
        if value and not artifacts.is_web_address(value):
            problems.append(f"{name}: {value!r}: expected an address such as https://mirror.example/flannel")
    if options["url"] and options["dir"]:
        problems.append("url, dir: both are given; expected a mirror or a folder of the controller, not both")
    if options["dir"] and not Path(options["dir"]).is_dir():
        problems.append(f"dir: {options['dir']}: there is no such folder on the controller")
    if problems:
        raise Refused(problems)
    return wanted, own


def _source(options: dict[str, Any]) -> Source:
    url, release_base, api_base = ((options[name] or "").rstrip("/") for name in ("url", "release_base", "api_base"))
    cache = Path(options["cache_dir"]) if options["cache_dir"] else plan_file.cache()
    folder = str(Path(options["dir"]).absolute()) if options["dir"] else ""
    return Source(url, folder, release_base, api_base, cache.absolute(), options["timeout"])


def _entry(item: Fetched) -> dict[str, Any]:
    artifact, path, digest, room = item
    return {
        "component": artifact.component,
        "version": artifact.version,
        "architecture": artifact.architecture,
        "name": artifact.name,
        "path": str(path),
        "sha256": digest.sha256,
        "checked_by": digest.checked_by,
        "room": room,
    }


def _summary(fetched: list[Fetched], first: list[Fetched], path: Path) -> str:
    return f"{len(fetched)} release files are checked, {len(first)} of them for the first time; lock file: {path}"


def _first_use(first: list[Fetched], path: Path) -> list[str]:
    if not first:
        return []
    told = "".join(f"\n  {item.artifact.name}: {item.digest.sha256} ({item.digest.origin})" for item in first)
    return [
        f"First use: these SHA-256 are what the publisher says today. {path} keeps them, and they are enforced:{told}"
    ]


def _overruled(wanted: list[artifacts.Artifact], own: dict[str, str], locked: dict[str, str], path: Path) -> list[str]:
    return [
        f"{artifact.name}: podnet_artifacts_sha256 says {own[artifact.name]}, which is enforced; {path} has "
        f"{locked[artifact.name]}"
        for artifact in wanted
        if artifact.name in own and locked.get(artifact.name, own[artifact.name]) != own[artifact.name]
    ]
