# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The application of a plan for one CNI configuration: whole files by rename, in an order that no pod notices."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

from ..core import files
from . import bridge as cni_bridge
from . import host as cni_host
from . import leftovers as cni_leftovers
from .change import Plan, Spec


def apply(wish: Spec, plan_: Plan) -> str | None:
    """Apply the plan. Returns the path of our own file's copy, where one was asked for.

    Raises OSError, NetlinkError, IptablesError.
    """
    directory = Path(wish.conf_dir)
    backup = None
    leaving = cni_host.leaving_path(wish.conf_dir, wish.name)
    with files.Staged() as staged:
        if wish.backup and (plan_.text is not None or plan_.remove_own):
            backup = _backup(staged, directory / wish.name)
        if plan_.text is not None:
            own = plan_.attributes
            staged.write(wish.path, plan_.text, own.mode, own.uid, own.gid)
        # Our file is in place before the others are removed, so the directory always has a configuration.
        for name in plan_.others:
            if wish.backup or name in plan_.set_aside:
                _backup(staged, directory / name)
            staged.remove(directory / name)
        if plan_.remove_own and wish.leftovers and os.path.lexists(wish.path):
            # A run that is killed before the leftovers are gone has the configuration to go on from.
            staged.move(wish.path, leaving)
        elif plan_.remove_own and not wish.leftovers:
            staged.remove(wish.path)
        if wish.present:
            # Delete a bridge that is in the way before a pod can use it.
            cni_leftovers.remove(plan_.leftovers)
        with cni_bridge.hairpin(plan_.hairpin):
            staged.commit()
    # Afterwards, so that a pod that starts in between gets no such rules any more.
    cni_leftovers.release(plan_.leftovers)
    if not wish.present:
        cni_leftovers.remove(plan_.leftovers)
    if plan_.remove_own and wish.leftovers:
        files.remove(leaving)
    return backup


def _backup(staged: files.Staged, path: Path) -> str | None:
    """Copy a file beside itself, byte for byte, under a name that no runtime reads."""
    data = files.read_bytes(path)
    if data is None:
        return None
    status = path.stat()
    stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
    copy = f"{path}.{stamp}.bak"
    staged.write(copy, data, status.st_mode & 0o7777, status.st_uid, status.st_gid)
    return copy
