# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CNI plugins where the runtime looks for them: our links into a folder of the distribution or of a release."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from ..core import files

# Where release_install unpacks their releases.
RELEASES = "/opt/weft-podnet/cni_plugins"


class Links(NamedTuple):
    """What differs: links to make or to change (name -> target), links to remove, and foreign files, which stay."""

    make: dict[str, str]
    remove: dict[str, str]
    foreign: list[str]


def plan(bin_dir: Path, source: Path | None) -> Links:
    """Compare the links in ``bin_dir`` with the plugins in ``source``; None removes all of our links."""
    wanted = {} if source is None else {item.name: str(item) for item in _executables(source)}
    links = Links({}, {}, [])
    present = {item.name: item for item in bin_dir.iterdir()} if bin_dir.is_dir() else {}
    for name, target in wanted.items():
        item = present.get(name)
        if item is None or (is_ours(item) and str(item.readlink()) != target):
            links.make[name] = target
        elif not is_ours(item):
            links.foreign.append(name)
    for name, item in present.items():
        if name not in wanted and is_ours(item):
            links.remove[name] = str(item.readlink())
    return links


def _executables(folder: Path) -> list[Path]:
    return sorted(item for item in folder.iterdir() if item.is_file() and os.access(item, os.X_OK))


# Where distributions keep the plugins; a link from the runtime's folder into one of these, or into a release, is ours.
DISTRIBUTION_FOLDERS = ("/usr/lib/cni", "/usr/libexec/cni")


def is_ours(item: Path) -> bool:
    """Is it a link of the collection's?"""
    if not item.is_symlink():
        return False
    parent = str(item.readlink().parent)
    return parent in DISTRIBUTION_FOLDERS or parent.startswith(f"{RELEASES}/")


def distribution_folder() -> Path | None:
    return next((Path(folder) for folder in DISTRIBUTION_FOLDERS if Path(folder).is_dir()), None)


def apply(bin_dir: Path, links: Links) -> None:
    """Make, turn and remove links, all or none; each turns in one step, so a pod that starts meanwhile finds a plugin.

    Raises FileError.
    """
    with files.Staged() as staged:
        for name, target in links.make.items():
            staged.link(bin_dir / name, target)
        for name in links.remove:
            staged.remove(bin_dir / name)
        staged.commit()


def forget_folder(bin_dir: Path) -> None:
    """Remove the folder that ``apply`` makes (/opt/cni/bin, and /opt/cni above it) where nothing is left in it."""
    files.forget_empty(bin_dir, bin_dir.parent)
