# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The application of a plan for one CNI configuration: whole files by rename, in an order that no pod notices."""

from __future__ import annotations

import contextlib
import datetime
from pathlib import Path

from ansible_collections.weft.podnet.plugins.module_utils import cni_host, cni_leftovers, files
from ansible_collections.weft.podnet.plugins.module_utils.cni_change import Plan, Wish, plan


class ChangeError(Exception):
    """The host does not hold what was written; the text is for the user."""


def read_back(wish: Wish) -> None:
    """Does the host hold what was wished? Raises ChangeError, OSError, NetlinkError."""
    again = plan(wish, cni_host.observe(wish.conf_dir, wish.name, wish.config))
    if again.text is not None or again.remove_own or again.others:
        raise ChangeError(f"{wish.path} is not as it was left a moment ago: something else writes to {wish.conf_dir}")


def apply(wish: Wish, plan_: Plan) -> str | None:
    """Do it; the path of the copy of our own file, where one was asked for.

    Raises OSError, NetlinkError, IptablesError.
    """
    directory = Path(wish.conf_dir)
    backup = None
    if wish.present:
        # A bridge that is in the way: before a pod can meet it.
        cni_leftovers.remove(plan_.leftovers)
    if wish.backup and (plan_.text is not None or plan_.remove_own):
        backup = _backup(directory / wish.name)
    if plan_.text is not None:
        _make(directory)
        own = plan_.attributes
        files.write_atomic(wish.path, plan_.text, own.mode, str(own.uid), str(own.gid))
    # After it: a pod that starts in between gets no such rules any more.
    cni_leftovers.release(plan_.leftovers)
    # Ours is in place before the others go: at no moment is the directory without a configuration.
    for name in plan_.others:
        if wish.backup or name in plan_.set_aside:
            _backup(directory / name)
        files.remove(directory / name)
    if plan_.remove_own and wish.leftovers:
        # A run that is killed in between has the configuration to go on from.
        leaving = cni_host.leaving_path(wish.conf_dir, wish.name)
        with contextlib.suppress(FileNotFoundError):
            Path(wish.path).replace(leaving)
        cni_leftovers.remove(plan_.leftovers)
        files.remove(leaving)
    elif plan_.remove_own:
        files.remove(wish.path)
    elif not wish.present:
        cni_leftovers.remove(plan_.leftovers)
    return backup


def _make(directory: Path) -> None:
    if not directory.is_dir():
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o755)


def _backup(path: Path) -> str | None:
    """Copy a file beside itself under a name that no runtime reads."""
    text = files.read_text(path)
    if text is None:
        return None
    status = path.stat()
    stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
    copy = f"{path}.{stamp}.bak"
    files.write_atomic(copy, text, status.st_mode & 0o7777, str(status.st_uid), str(status.st_gid))
    return copy
