# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way through the module, for check mode and for the real run: observe, plan, apply, read back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from ..core import lock, persist
from . import boot as masquerade_boot
from . import host
from . import rules as masquerade
from .host import MasqueradeError, Run, State, Tools


def converge(
    policy: masquerade.Policy, asked: str, keep: bool, check_mode: bool, run: Run, find: Callable[[str], str | None]
) -> dict[str, Any]:
    """Bring the host to ``policy`` (empty: remove our rules) and return the module's result.

    ``asked`` is the option backend, ``keep`` whether the boot files are looked after. Raises MasqueradeError,
    persist.PersistError and lock.LockError, with texts for the user.
    """
    if keep and not find("systemctl"):
        raise MasqueradeError("persist: the command systemctl not found; set persist: false on a host without systemd")
    # Check mode creates no lock file.
    with contextlib.nullcontext() if check_mode else lock.hold("masquerade"):
        tools = host.find_tools(run, find)
        observed = host.observe(run, tools)
        backend = host.choose_backend(run, tools, asked, observed, policy) if policy else None
        wanted = host.wanted_state(policy, backend)
        places = host.differing(observed, wanted)
        host.check(run, tools, observed, wanted)
        boot, obsolete = _boot(policy, backend, tools)
        to_write = persist.difference(boot, run) if keep else persist.Difference({}, {})
        to_remove = persist.difference(obsolete, run, present=False) if keep else persist.Difference({}, {})
        changed = bool(places or to_write or to_remove)
        if changed and not check_mode:
            with persist.Staged(run) as staged:
                if to_write:
                    staged.put(boot, to_write)
                if to_remove:
                    staged.take(obsolete)
                try:
                    if places:
                        host.apply(run, tools, backend, observed, wanted)
                    staged.commit()
                    _read_back(host.observe(run, tools), wanted)
                except (MasqueradeError, persist.PersistError) as error:
                    staged.restore()
                    raise MasqueradeError(f"{error}; {_back(run, tools, observed)}") from error
    diff = [_entry(_label(place), _text(observed[place]), _text(wanted[place])) for place in places]
    diff += [*to_write.as_diff(), *to_remove.as_diff()]
    ruleset = [line for lines in wanted.values() for line in lines]
    return {"changed": changed, "backend": backend, "ruleset": ruleset, "diff": diff}


def _boot(policy: masquerade.Policy, backend: str | None, tools: Tools) -> tuple[persist.Bundle, persist.Bundle]:
    """What is to be there for the next boot, and what an earlier run may have left that is not."""
    everything = masquerade_boot.EVERYTHING
    if backend is None:
        return persist.Bundle({}), everything
    boot = host.boot_bundle(policy, backend, tools)
    return boot, persist.Bundle({path: text for path, text in everything.files.items() if path not in boot.files})


def _back(run: Run, tools: Tools, before: State) -> str:
    """Restore the previous rules, whatever there is now; says how that went."""
    try:
        now = host.observe(run, tools)
        if not host.differing(now, before):
            return "the previous rules are in place"
        backend = "iptables" if any(before["iptables", version] for version in masquerade.NFT_FAMILY) else "nftables"
        host.apply(run, tools, backend, now, before)
    except MasqueradeError as error:
        return f"the previous rules could not be restored: {error}; fix this and run again"
    return "the previous rules are restored"


def _read_back(observed: State, wanted: State) -> None:
    places = host.differing(observed, wanted)
    if places:
        found = "; ".join(f"{_label(place)}: {_text(observed[place]) or 'nothing'}" for place in places)
        raise MasqueradeError(
            f"the rules were loaded, but the kernel holds something else: {found} "
            "(does another program change them at the same time? run again)"
        )


def _label(place: tuple[str, int]) -> str:
    backend, version = place
    if backend == "nftables":
        return f"nftables: table {masquerade.NFT_FAMILY[version]} {masquerade.TABLE}"
    return f"{host.LEGACY_COMMAND[version]}: nat, chain {masquerade.CHAIN}"


def _text(lines: list[str]) -> str:
    return "\n".join([*lines, ""]) if lines else ""


def _entry(header: str, before: str, after: str) -> dict[str, str]:
    return {"before_header": header, "after_header": header, "before": before, "after": after}
