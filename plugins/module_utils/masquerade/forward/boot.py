# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What adds the rules again at boot: rule files and one systemd unit, as text. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ...core import iptables
from ...core.persist import STATE_DIR, UNIT_DIR, Bundle
from .. import boot as masquerade_boot
from . import chains

UNIT = "weft-podnet-forward.service"
UNIT_PATH = f"{UNIT_DIR}/{UNIT}"
NFT_FILE = f"{STATE_DIR}/forward.nft"
IPTABLES_FILES = {
    (name, version): f"{STATE_DIR}/forward-{name}{version}.rules" for name in ("legacy", "nft") for version in (4, 6)
}
EVERYTHING = Bundle(dict.fromkeys((UNIT_PATH, NFT_FILE, *IPTABLES_FILES.values()), ""), (UNIT,))
FLUSHING = tuple(unit for units in masquerade_boot.FLUSHING.values() for unit in units)


def bundle(places: Sequence[tuple[chains.Place, Sequence[str]]], nft: str) -> Bundle:
    """For places with the rules that each holds. Every command may run twice: it adds only what is missing."""
    files: dict[str, str] = {}
    commands: list[str] = []
    for place, rules in places:
        if isinstance(place.where, chains.NftChain):
            # The program that makes the chain may start later, or be gone.
            listed = f"{nft} list chain {place.where} 2>/dev/null"
            commands.append(
                f'/bin/sh -c \'{listed} | grep -q "policy drop" || exit 0; '
                f'{listed} | grep -q "comment .{chains.MARK}" && exit 0; '
                f'grep "^add rule {place.where} " {NFT_FILE} | {nft} -f -\''
            )
            before = files.get(NFT_FILE) or masquerade_boot.header("pod_forward") + "\n"
            files[NFT_FILE] = before + chains.nft_script(place.where, rules)
            continue
        path = IPTABLES_FILES[place.where.name, place.where.version]
        chain, _jump, *lines = rules
        content = [masquerade_boot.header("pod_forward"), f"*{chains.TABLE}", f"{chain} [0:0]", *lines, "COMMIT", ""]
        files[path] = "\n".join(content)
        programs = (place.where.iptables, place.where.restore)
        commands += iptables.boot_commands(*programs, chains.TABLE, chains.JUMP, path)
    if commands:
        files[UNIT_PATH] = masquerade_boot.unit(
            "pod_forward", "accept pod traffic that this host forwards", FLUSHING, commands
        )
    return Bundle(files, (UNIT,) if commands else ())
