#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of a release archive, where the host looks for them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_install
short_description: Installs programs from a checked release archive, and goes back to the release before
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Unpacks a release archive into C(/opt/weft-podnet/NAME/VERSION-DIGEST), whole or not at all, and links its programs
    to where the host looks for them. All programs of a release are switched by one rename.
  - The release before stays, so that O(state=previous) goes back without the archive.
  - An archive must hold plain files in its top level and nothing else. Folders, links, devices, setuid programs and
    paths that lead elsewhere are refused.
attributes:
  check_mode:
    description: Nothing is changed; the result is the one a run would have.
    support: full
  diff_mode:
    description: Where the programs lead.
    support: full
options:
  name:
    description: What the release is of; the name of its folder. V(cni-plugins) belongs to M(weft.podnet.cni_plugins).
    type: str
    required: true
  version:
    description:
      - The release's version. Required with O(state=present).
      - With O(state=previous), the release to go back from. If another one is in use, nothing is done, so a second run
        does not go back further. Without it, the release in use is left, whatever it is.
    type: str
  sha256:
    description: The archive's SHA-256. Required with O(version).
    type: str
  archive:
    description:
      - The archive on the host. Not needed where the release is unpacked already.
      - Without it, and where the release is not unpacked, nothing is done and RV(needs_archive) is true. So a run that
        changes nothing costs one call and no copy.
    type: path
  binaries:
    description:
      - Where the programs go, absolute paths by the names of files in the archive. Required with O(state=present).
      - Links of this module that are no longer listed are removed.
    type: dict
  adopt:
    description:
      - Keep a file of somebody else's that stands at a destination as C(*.podnet-orig). Otherwise it is refused.
      - V(absent) as O(state) puts it back.
    type: bool
    default: false
  state:
    description:
      - V(present) installs the release and switches to it.
      - V(unpacked) only brings the release to the host. What uses it is left to another module, such as
        M(weft.podnet.flannel_service); a release that one of O(binaries) leads to is kept.
      - V(previous) switches back to the release before, which then has none before it.
      - V(absent) removes all links and releases of this name.
    type: str
    choices: [present, unpacked, previous, absent]
    default: present
  base_dir:
    description: Where releases are kept.
    type: path
    default: /opt/weft-podnet
seealso:
  - module: weft.podnet.release_artifacts
"""

EXAMPLES = r"""
- name: Look whether the release is on the host, and switch to it if so
  weft.podnet.release_install: &release
    name: flannel
    version: v0.27.2
    sha256: "{{ flannel.sha256 }}"
    binaries:
      flanneld: /usr/local/bin/flanneld
  register: release

- name: Install it where it is not
  when: release.needs_archive
  block:
    - name: Bring the archive
      ansible.builtin.copy:
        src: "{{ flannel.path }}"
        dest: /var/tmp/flannel.tar.gz
        mode: "0644"

    - name: Install the release
      weft.podnet.release_install:
        name: flannel
        version: v0.27.2
        sha256: "{{ flannel.sha256 }}"
        archive: /var/tmp/flannel.tar.gz
        binaries:
          flanneld: /usr/local/bin/flanneld

- name: Go back from v0.27.2 to the release before
  weft.podnet.release_install:
    name: flannel
    version: v0.27.2
    sha256: "{{ flannel.sha256 }}"
    state: previous
"""

RETURN = r"""
release:
  description: The folder of the release in use, empty for none.
  returned: success
  type: str
  sample: /opt/weft-podnet/flannel/v0.27.2-0123456789ab
previous:
  description: The folder of the release that O(state=previous) goes back to, empty for none.
  returned: success
  type: str
needs_archive:
  description: The release is not on the host; give its archive. Nothing was done.
  returned: success
  type: bool
"""

import contextlib
import re
from pathlib import Path
from typing import Any

from ansible_collections.weft.podnet.plugins.module_utils import lock, release_archive, releases, tools
from ansible_collections.weft.podnet.plugins.module_utils.output import Module
from ansible_collections.weft.podnet.plugins.module_utils.problems import Refused

ARGUMENTS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "version": {"type": "str"},
    "sha256": {"type": "str"},
    "archive": {"type": "path"},
    "binaries": {"type": "dict"},
    "adopt": {"type": "bool", "default": False},
    "state": {"type": "str", "choices": ["present", "unpacked", "previous", "absent"], "default": "present"},
    "base_dir": {"type": "path", "default": "/opt/weft-podnet"},
}
RESERVED = "cni-plugins"


def check(options: dict[str, Any]) -> dict[str, str]:
    """The binaries, as members by destination. Raises Refused with all problems of the arguments."""
    problems = []
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", options["name"]) or options["name"] == RESERVED:
        problems.append(f"name: {options['name']!r}: expected small letters, digits, - and _, and not {RESERVED}")
    if options["version"] is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", options["version"]):
        problems.append(f"version: {options['version']!r}: expected one such as v1.2.3")
    if options["sha256"] is not None and not re.fullmatch(r"[0-9a-f]{64}", options["sha256"]):
        problems.append(f"sha256: {options['sha256']!r}: expected 64 hexadecimal digits, small letters")
    destinations: dict[str, str] = {}
    for member, value in (options["binaries"] or {}).items():
        destination = str(value)
        if "/" in member or member in ("", ".", ".."):
            problems.append(f"binaries: {member!r}: expected the name of a file in the archive's top level")
        if not re.fullmatch(r"(/[^/]+)+", destination) or {".", ".."} & set(destination.split("/")):
            problems.append(f"binaries: {member}: {destination!r}: expected an absolute path of a file")
        if destination in destinations:
            problems.append(f"binaries: {member}: {destinations[destination]} goes to {destination} as well")
        destinations[destination] = str(member)
    if options["state"] in ("present", "unpacked") and not destinations:
        problems.append("binaries: is empty; expected paths by the names of files in the archive")
    if problems:
        raise Refused(problems)
    return destinations


def present(module: Module, store: releases.Store, release: str, binaries: dict[str, str]) -> dict[str, Any]:
    previous = store.previous if release == store.current else store.current or store.previous
    previous = "" if previous == release else previous
    change = releases.plan(store, release, previous, binaries, module.params["adopt"])
    if not bring(module, store.folder / release, binaries):
        return result(store, change, changed=False, needs_archive=True)
    return switched(module, store, change)


def bring(module: Module, folder: Path, binaries: dict[str, str]) -> bool:
    """Have the release unpacked, or in a dry run looked at; False where its archive is needed for that."""
    archive, sha256 = module.params["archive"], module.params["sha256"]
    if folder.is_dir():
        release_archive.check_unpacked(folder, binaries.values())
    elif archive is None:
        return False
    elif not module.check_mode:
        release_archive.unpack(archive, sha256, folder, binaries.values())
    elif Path(archive).exists():
        release_archive.check_archive(archive, binaries.values(), sha256)
    return True


def unpacked(module: Module, store: releases.Store, release: str, binaries: dict[str, str]) -> dict[str, Any]:
    used = {Path(item).resolve().parent for item in binaries if Path(item).is_symlink()}
    in_use = next((folder.name for folder in used if folder.parent == store.folder.resolve()), "")
    before = store.path_of(release) if (store.folder / release).is_dir() else ""
    there = bring(module, store.folder / release, binaries)
    if there and not module.check_mode:
        releases.forget(store.folder, release, in_use)
    after = store.path_of(release)
    return {
        "changed": there and not before,
        "release": after,
        "previous": store.path_of(in_use),
        "needs_archive": not there,
        "diff": {"before": before and f"{before}\n", "after": f"{after}\n" if there else ""},
    }


def switch_back(module: Module, store: releases.Store, release: str, binaries: dict[str, str]) -> dict[str, Any]:
    if release and store.current != release:
        return result(store, releases.Change(*store[1:], [], [], [], False), changed=False)
    if not store.previous:
        used = store.current or "any"
        raise Refused([f"{store.folder}: no release before {used} is kept on this host; install one by its version"])
    binaries = binaries or store.destinations
    release_archive.check_unpacked(store.folder / store.previous, binaries.values())
    return switched(module, store, releases.plan(store, store.previous, "", binaries, adopt=False))


def absent(module: Module, store: releases.Store, binaries: dict[str, str]) -> dict[str, Any]:
    ours = {item: member for item, member in binaries.items() if store.is_ours(item)}
    store = store._replace(destinations={**ours, **store.destinations})
    change = releases.plan(store, "", "", {}, adopt=False)
    outcome = result(store, change, changed=bool(change.remove) or store.folder.is_dir())
    if outcome["changed"] and not module.check_mode:
        releases.switch(store, change)
        releases.forget_all(store.folder)
    return outcome


def switched(module: Module, store: releases.Store, change: releases.Change) -> dict[str, Any]:
    outcome = result(store, change, change.changed)
    if module.check_mode:
        return outcome
    if change.changed:
        releases.switch(store, change)
        left = releases.plan(releases.observe(store.folder), *change[:3], adopt=False)
        if left.changed:
            raise Refused([f"{store.folder}: somebody else changes {', '.join(change.destinations)} at the same time"])
    releases.forget(store.folder, change.current, change.previous)
    return outcome


def result(
    store: releases.Store, change: releases.Change, changed: bool, needs_archive: bool = False
) -> dict[str, Any]:
    """Before anything is applied: the diff tells how things stand."""
    found = (store.current, store.previous) if needs_archive else (change.current, change.previous)
    diff = releases.diff(store, change) if changed else {"before": "", "after": ""}
    release, previous = (str(store.folder / name) if name else "" for name in found)
    return {
        "changed": changed,
        "release": release,
        "previous": previous,
        "needs_archive": needs_archive,
        "diff": diff,
    }


def run(module: Module) -> dict[str, Any]:
    options = module.params
    binaries = check(options)
    store = releases.observe(Path(options["base_dir"]) / options["name"])
    release = f"{options['version']}-{options['sha256'][:12]}" if options["sha256"] else ""
    if options["state"] == "absent":
        return absent(module, store, binaries)
    if options["state"] == "unpacked":
        return unpacked(module, store, release, binaries)
    if options["state"] == "previous":
        return switch_back(module, store, release, binaries)
    return present(module, store, release, binaries)


def main() -> None:
    module = Module(
        argument_spec=ARGUMENTS,
        required_together=[("version", "sha256")],
        required_if=[("state", state, ("version", "sha256", "binaries")) for state in ("present", "unpacked")],
        supports_check_mode=True,
    )
    tools.begin(module)
    try:
        # A dry run writes nothing, so it waits for nobody.
        with contextlib.nullcontext() if module.check_mode else lock.hold(f"release-{module.params['name']}"):
            outcome = run(module)
    except (Refused, lock.LockError, OSError) as error:
        module.refuse(error)
    module.exit_json(**outcome)


if __name__ == "__main__":
    main()
