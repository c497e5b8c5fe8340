# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the nodes' common root file system once, and keeps it: a packed image and its unpacked form."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import time
from pathlib import Path

from . import image, network
from .layout import CACHE, STATE
from .run import LabError, locked, run, run_long, say

# A killed `up` takes the build with it, down to the last maintainer script and its mounts.
CONTAINED: list[str | Path] = [
    *("setpriv", "--pdeathsig", "KILL", "--"),
    *("unshare", "--pid", "--fork", "--kill-child", "--mount", "--propagation=slave", "--"),
]
TAR: list[str | Path] = [
    "tar",
    "--numeric-owner",
    "--xattrs",
    "--xattrs-include=*",
]  # ping's capability is an extended attribute
UNUSED_DAYS = 7  # an image nobody has booted from for so long is removed when a new one is built


def release() -> tuple[str, str]:
    """(distribution, code name) of this machine, such as ("debian", "bookworm"): the nodes run the same by default."""
    entries = {}
    for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines():
        key, _equals, value = line.partition("=")
        entries[key] = value.strip().strip('"')
    name, code = entries.get("ID", ""), entries.get("VERSION_CODENAME", "")
    if not code or not (Path("/etc/apt/sources.list").exists() or Path("/etc/apt/sources.list.d").is_dir()):
        raise LabError(
            f"the nodes' packages come from this machine's own apt sources, and {name or 'this system'} has none: "
            "run the lab on Debian or Ubuntu"
        )
    return name, code


def image_key(code: str) -> str:
    """Names an image of the release ``code`` by all that it is made of."""
    recipe = [
        (release()[0], code),
        platform.machine(),
        image.PACKAGES,
        image.EXCLUDED,
        image.FILES,
        image.ENABLED,
        image.MASKED,
        image.REMOVED,
    ]
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]


def ensure(code: str = "") -> Path:
    """The unpacked root file system of a release, built first where the cache does not have it.

    ``code`` is another release of this machine's distribution by its code name; empty for this machine's own.
    """
    code = code or release()[1]
    key = image_key(code)
    packed, unpacked = CACHE / f"{key}.tar.zst", CACHE / key
    with locked(CACHE / "locks" / "image.lock", "waiting for another `up` that builds the root file system"):
        if not packed.exists():
            _clear_leftovers()
            _remove_unused(keep=key)
            _build(packed, unpacked, code)
        if not unpacked.exists():
            _unpack(packed, unpacked)
        os.utime(packed)
    return unpacked


def _build(packed: Path, unpacked: Path, code: str) -> None:
    say("building the nodes' root file system (once; about a minute)")
    work = CACHE / f"build-{os.getpid()}"
    root, log = work / "root", CACHE / "build.log"
    work.mkdir(parents=True)
    log.unlink(missing_ok=True)
    try:
        run_long(
            [*CONTAINED, *_mmdebstrap(root, code, package_sources(work, code))],
            "root file system: packages",
            log,
            env={"DEBIAN_FRONTEND": "noninteractive"},
        )
        say("root file system: settings")
        customise(root)
        half = work / "image.tar.zst"
        run_long([*CONTAINED, *TAR, "-I", "zstd -T0", "-C", root, "-cf", half, "."], "root file system: packing", log)
        half.rename(packed)
        if not unpacked.exists():
            root.rename(unpacked)
    finally:
        _remove_tree(work)


def package_sources(work: Path, code: str, folder: Path = Path("/etc/apt")) -> list[Path]:
    """Files that lead apt to the release ``code``: this machine's, or copies in ``work`` for another release."""
    files = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]
    found = [
        file for file in files if file.suffix in (".list", ".sources") and file.is_file() and file.read_text().strip()
    ]
    own = release()[1]
    if code == own:
        return found
    copies = []
    for file in found:
        text = file.read_text(encoding="utf-8")
        # Suites such as bookworm and bookworm-updates; other publishers have suites of their own.
        if re.search(rf"^(Suites:|deb ).*\s{own}(\s|$)", text, re.MULTILINE):
            copies.append(work / file.name)
            copies[-1].write_text(re.sub(rf"(?<=\s){own}(?=[-\s]|$)", code, text), encoding="utf-8")
    if not copies:
        raise LabError(f"--release {code}: no file in {folder} names the suite {own}, so none can be made for {code}")
    return copies


def _mmdebstrap(root: Path, code: str, sources: list[Path]) -> list[str | Path]:
    return [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--format=directory",
        f"--include={','.join(image.PACKAGES)}",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in image.EXCLUDED),
        *(f"--aptopt={line}" for line in _apt_options(run(["apt-config", "dump"]))),
        code,
        root,
        *sources,
    ]


def _apt_options(dump: str) -> list[str]:
    """How this machine reaches its package sources (proxies, checks), out of `apt-config dump`."""
    wanted = ("Acquire::http", "Acquire::https", "Acquire::Check", "Acquire::Retries", "Acquire::Max-")
    lines = [line for line in dump.splitlines() if line.startswith(wanted) and not line.endswith(' "";')]
    for name, path in (("netrc", "/etc/apt/auth.conf"), ("netrcparts", "/etc/apt/auth.conf.d")):
        if Path(path).exists():
            lines.append(f'Dir::Etc::{name} "{path}";')
    return lines


def customise(root: Path) -> None:
    """Turn a fresh installation into a node's root file system, as `image` says."""
    for pattern in image.REMOVED:
        for path in root.glob(pattern.lstrip("/")):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name, content in image.FILES.items():
        path = root / name.lstrip("/")
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    for unit in image.MASKED:
        path = root / "etc/systemd/system" / unit
        path.unlink(missing_ok=True)
        path.symlink_to("/dev/null")
    run(["systemctl", f"--root={root}", "enable", *image.ENABLED])
    run(["systemctl", f"--root={root}", "disable", *image.DISABLED])
    run(["systemctl", f"--root={root}", "set-default", "multi-user.target"])


def _unpack(packed: Path, unpacked: Path) -> None:
    half = CACHE / f"unpack-{os.getpid()}"
    half.mkdir()
    try:
        unpack = [*CONTAINED, *TAR, "-I", "zstd", "-C", half, "-xpf", packed]
        run_long(unpack, "unpacking the root file system", CACHE / "build.log")
        half.rename(unpacked)
    finally:
        _remove_tree(half)


def _clear_leftovers() -> None:
    """What a killed build left; the lock says that no other is at work."""
    for pattern in ("build-*", "unpack-*"):
        for path in CACHE.glob(pattern):
            _remove_tree(path)


def _remove_tree(path: Path) -> None:
    for _attempt in range(50):  # killed programs may still be writing there for a moment
        for mount in network.mounts_below(path):
            run(["umount", "--lazy", mount])
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            return
        time.sleep(0.1)
    raise LabError(f"{path} can't be removed: see what uses it with `fuser -vm {path}`, then remove it")


def _remove_unused(keep: str) -> None:
    used = {mark.read_text(encoding="utf-8").strip() for mark in STATE.glob("*/nodes/*/lower")}
    for packed in CACHE.glob("*.tar.zst"):
        key = packed.name.removesuffix(".tar.zst")
        old = time.time() - packed.stat().st_mtime > UNUSED_DAYS * 86400
        if old and key != keep and str(CACHE / key) not in used:
            say(f"removing the root file system {key}, unused for {UNUSED_DAYS} days")
            packed.unlink()
            _remove_tree(CACHE / key)
