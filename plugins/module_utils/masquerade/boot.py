# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What loads the masquerade rules again at boot: rule files and one systemd unit, as text. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..core import iptables
from ..core.persist import STATE_DIR, UNIT_DIR, Bundle
from . import rules as masquerade

UNIT = "weft-podnet-masquerade.service"
UNIT_PATH = f"{UNIT_DIR}/{UNIT}"
NFT_FILE = f"{STATE_DIR}/masquerade.nft"
IPTABLES_FILES = {4: f"{STATE_DIR}/masquerade.rules", 6: f"{STATE_DIR}/masquerade6.rules"}
EVERYTHING = Bundle(dict.fromkeys((UNIT_PATH, NFT_FILE, *IPTABLES_FILES.values()), ""), (UNIT,))

# Services that empty the rule set when they start, stop or reload. Ours follows each of these steps.
FLUSHING = {
    "nftables": ("nftables.service",),
    "iptables": ("iptables.service", "ip6tables.service", "netfilter-persistent.service"),
}
# Firewalls that also start at boot; our unit starts after them, so that none of them flushes the rules it loaded.
FIREWALLS = ("firewalld.service", "ufw.service")
MODULE = "pod_masquerade"


class Legacy(NamedTuple):
    """The paths of one family's legacy tools."""

    iptables: str
    save: str
    restore: str


def nft_bundle(policy: masquerade.Policy, nft: str) -> Bundle:
    """One file that replaces our tables in one transaction, so it may be loaded twice. ``nft``: the command's path."""
    lines = [header(MODULE)]
    for version, rules in policy.items():
        lines += masquerade.nft_replacement(version, masquerade.nft_table(version, rules))
    unit = _unit("nftables", [f"{nft} -f {NFT_FILE}"])
    return Bundle({NFT_FILE: "\n".join([*lines, ""]), UNIT_PATH: unit}, (UNIT,))


def iptables_bundle(policy: masquerade.Policy, tools: dict[int, Legacy]) -> Bundle:
    """One file per family with our chain; the jump is added only where it is missing, so loading twice is safe."""
    files: dict[str, str] = {}
    commands: list[str] = []
    for version, rules in policy.items():
        chain, *lines = masquerade.iptables_chain(rules)
        content = [header(MODULE), "*nat", f"{chain} [0:0]", *lines, "COMMIT", ""]
        files[IPTABLES_FILES[version]] = "\n".join(content)
        programs = (tools[version].iptables, tools[version].restore)
        commands += iptables.boot_commands(*programs, "nat", masquerade.JUMP, IPTABLES_FILES[version])
    files[UNIT_PATH] = _unit("iptables", commands)
    return Bundle(files, (UNIT,))


def header(module: str) -> str:
    """The first line of a file, which names who writes it."""
    return f"# Written by weft.podnet ({module}); changes are overwritten."


def _unit(backend: str, commands: list[str]) -> str:
    return unit(MODULE, "masquerade pod traffic that leaves the cluster", FLUSHING[backend], commands)


def unit(module: str, description: str, flushed_by: Sequence[str], commands: Sequence[str]) -> str:
    """A unit that loads rules at boot, and again whenever one of ``flushed_by`` has emptied the rule set."""
    flushing = " ".join(flushed_by)
    firewalls = " ".join(FIREWALLS)
    # There is no ExecStop: stopping the unit must not take the pods' way out; `state: absent` removes the rules.
    lines = [
        header(module),
        "[Unit]",
        f"Description=weft.podnet: {description}",
        f"After=systemd-modules-load.service {flushing} {firewalls}",
        "Before=containerd.service kubelet.service",
        # A restart of these empties the rules and restarts this unit after it; so does a reload.
        f"PartOf={flushing}",
        f"ReloadPropagatedFrom={flushing}",
        "",
        "[Service]",
        "Type=oneshot",
        "RemainAfterExit=yes",
        *(f"ExecStart={command}" for command in commands),
        *(f"ExecReload={command}" for command in commands),
        "",
        "[Install]",
        # They pull this unit in again when they start after having been stopped.
        f"WantedBy=multi-user.target {flushing}",
        "",
    ]
    return "\n".join(lines)
