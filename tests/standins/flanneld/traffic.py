# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Masquerading and forwarding rules, with iptables (re-checked) or nftables (made once)."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

from standins.flanneld import klog
from standins.flanneld.hostnet import CommandError, run
from standins.flanneld.nodes import Network

MASQ = ("-m", "comment", "--comment", "flanneld masq")
FORWARD = ("-m", "comment", "--comment", "flanneld forward")
BINARIES = {4: "iptables", 6: "ip6tables"}
MULTICAST = {4: "224.0.0.0/4", 6: "ff00::/8"}
OWN_CHAINS = ("FLANNEL-POSTRTG", "FLANNEL-FWD")


class Rule(NamedTuple):
    """One rule of iptables or ip6tables, appended to its chain."""

    binary: str
    table: str
    chain: str
    spec: tuple[str, ...]


def masquerade_rules(network: Network, subnet: Network, fully_random: bool = True) -> list[Rule]:
    cluster, pods = str(network), str(subnet)
    masquerade = ("-j", "MASQUERADE", *(["--random-fully"] if fully_random else []))
    specs = [
        ("-m", "mark", "--mark", "0x4000/0x4000", *MASQ, "-j", "RETURN"),
        ("-s", pods, "-d", cluster, *MASQ, "-j", "RETURN"),
        ("-s", cluster, "-d", pods, *MASQ, "-j", "RETURN"),
        ("!", "-s", cluster, "-d", pods, *MASQ, "-j", "RETURN"),
        ("-s", cluster, "!", "-d", MULTICAST[network.version], *MASQ, *masquerade),
        ("!", "-s", cluster, "-d", cluster, *MASQ, *masquerade),
    ]
    binary = BINARIES[network.version]
    jump = Rule(binary, "nat", "POSTROUTING", (*MASQ, "-j", "FLANNEL-POSTRTG"))
    return [jump, *(Rule(binary, "nat", "FLANNEL-POSTRTG", spec) for spec in specs)]


def forward_rules(network: Network) -> list[Rule]:
    binary = BINARIES[network.version]
    return [
        Rule(binary, "filter", "FORWARD", (*FORWARD, "-j", "FLANNEL-FWD")),
        Rule(binary, "filter", "FLANNEL-FWD", ("-s", str(network), *FORWARD, "-j", "ACCEPT")),
        Rule(binary, "filter", "FLANNEL-FWD", ("-d", str(network), *FORWARD, "-j", "ACCEPT")),
    ]


def restore_text(rules: list[Rule], present: set[Rule]) -> str:
    """The text for iptables-restore: rules of one table; one that is there is deleted, so that all stand in order."""
    lines = [f"*{rules[0].table}"]
    for rule in rules:
        spec = " ".join(f'"{word}"' if " " in word else word for word in rule.spec)
        if rule in present:
            lines.append(f"-D {rule.chain} {spec}")
        lines.append(f"-A {rule.chain} {spec}")
    return "\n".join([*lines, "COMMIT", ""])


def nft_tables() -> str:
    return "".join(
        f'add table {family} {name} {{ comment "rules for {name}" ; }}\n'
        for family, name in (("ip", "flannel-ipv4"), ("ip6", "flannel-ipv6"))
    )


def nft_masquerade(network: Network, subnet: Network, fully_random: bool = True) -> str:
    masquerade = "masquerade fully-random" if fully_random else "masquerade"
    ip, multicast = _family(network), MULTICAST[network.version]
    return _nft_chain(
        network,
        "postrtg",
        'type nat hook postrouting priority 100 ; comment "chain to manage traffic masquerading by flannel" ;',
        [
            "meta mark 0x4000 return",
            f"{ip} saddr {subnet} {ip} daddr {network} return",
            f"{ip} saddr {network} {ip} daddr {subnet} return",
            f"{ip} saddr != {subnet} {ip} daddr {network} return",
            f"{ip} saddr {network} {ip} daddr != {multicast} {masquerade}",
            f"{ip} saddr != {network} {ip} daddr {network} {masquerade}",
        ],
    )


def nft_forward(network: Network) -> str:
    ip = _family(network)
    return _nft_chain(
        network,
        "forward",
        'type filter hook forward priority 0 ; comment "chain to accept flannel traffic" ;',
        [f"{ip} saddr {network} accept", f"{ip} daddr {network} accept"],
    )


def _family(network: Network) -> str:
    return "ip" if network.version == 4 else "ip6"


def _nft_chain(network: Network, name: str, head: str, rules: list[str]) -> str:
    where = f"{_family(network)} flannel-ipv{network.version} {name}"
    lines = [f"add chain {where} {{ {head} }}", f"flush chain {where}", *(f"add rule {where} {rule}" for rule in rules)]
    return "\n".join([*lines, ""])


class IptablesManager:
    """Rules by iptables, in the way that the host's iptables has (nft or legacy)."""

    def __init__(self, resync_seconds: int) -> None:
        self._seconds = resync_seconds
        self._groups: list[list[Rule]] = []

    def prepare(self) -> None:
        """Nothing of nftables may stay from a run before."""
        klog.info("nftables.go:277", "Cleaning-up nftables rules...")
        for family, name in (("ip", "flannel-ipv4"), ("ip6", "flannel-ipv6")):
            try:
                run("nft", "delete", "table", family, name)
            except CommandError as problem:
                klog.info("nftables.go:288", f"nftables: couldn't delete table: {problem}", 2)
        klog.info("iptables.go:50", "Starting flannel in iptables mode...")

    def masquerade(self, network: Network, subnet: Network, fully_random: bool) -> None:
        klog.info("iptables.go:117", "Setting up masking rules")
        self._set_up("FLANNEL-POSTRTG", masquerade_rules(network, subnet, fully_random))

    def forward(self, network: Network) -> None:
        klog.info("iptables.go:247", "Changing default FORWARD chain policy to ACCEPT")
        self._set_up("FLANNEL-FWD", forward_rules(network))

    def keep(self) -> None:
        threading.Thread(target=self._keep, daemon=True).start()

    def _set_up(self, chain: str, rules: list[Rule]) -> None:
        try:
            _clear(rules[0].binary, rules[0].table, chain)
            _bootstrap(rules)
        except CommandError as problem:
            klog.error("iptables.go:385", f"Failed to bootstrap IPTables: {problem}")
        self._groups.append(rules)

    def _keep(self) -> None:
        while True:
            time.sleep(self._seconds)
            for rules in self._groups:
                try:
                    if not all(_exists(rule) for rule in rules):
                        klog.info("iptables.go:485", "Some iptables rules are missing; deleting and recreating rules")
                        _bootstrap(rules)
                except CommandError as problem:
                    klog.error("iptables.go:398", f"Failed to ensure iptables rules: {problem}")


class NftablesManager:
    """Tables of flannel's own, made once and not looked at again."""

    def prepare(self) -> None:
        """Empty iptables' chains as far as flanneld does; both binaries must be there. CommandError."""
        klog.info("iptables.go:59", "Cleaning-up iptables rules...")
        for binary in ("iptables", "ip6tables"):
            for chain in OWN_CHAINS:
                # FLANNEL-FWD lives in the table filter: flanneld looks for it in nat, and so does not find it.
                try:
                    if _chain_exists(binary, "nat", chain):
                        run(binary, "--wait", "-t", "nat", "-F", chain)
                        run(binary, "--wait", "-t", "nat", "-X", chain)
                except CommandError as problem:
                    if "executable file not found" in str(problem):
                        raise CommandError(
                            f"failed to setup IPTables. {binary} binary was not found: {problem}"
                        ) from problem
                    klog.info("iptables.go:68", f"could not clean-up {chain}: {problem}", 2)
        klog.info("nftables.go:45", "Starting flannel in nftables mode...")
        self._run("couldn't initialise table", nft_tables())

    def masquerade(self, network: Network, subnet: Network, fully_random: bool) -> None:
        klog.info("nftables.go:158", "nftables: setting up masking rules (ipv4)")
        self._run("couldn't setup masq rules", nft_masquerade(network, subnet, fully_random))

    def forward(self, network: Network) -> None:
        klog.info("nftables.go:90", "Changing default FORWARD chain policy to ACCEPT")
        self._run("couldn't setup forward rules", nft_forward(network))

    def keep(self) -> None:
        """Nothing: these rules are not re-checked."""

    def _run(self, what: str, text: str) -> None:
        try:
            run("nft", "-f", "-", stdin=text)
        except CommandError as problem:
            raise CommandError(f"nftables: {what}: {problem}") from problem


def _chain_exists(binary: str, table: str, chain: str) -> bool:
    return any(line.split()[:2] == ["-N", chain] for line in run(binary, "--wait", "-t", table, "-S").splitlines())


def _clear(binary: str, table: str, chain: str) -> None:
    run(binary, "--wait", "-t", table, "-F" if _chain_exists(binary, table, chain) else "-N", chain)


def _exists(rule: Rule) -> bool:
    try:
        run(rule.binary, "--wait", "-t", rule.table, "-C", rule.chain, *rule.spec)
    except CommandError as problem:
        if "executable file not found" in str(problem):
            raise
        return False
    return True


def _bootstrap(rules: list[Rule]) -> None:
    binary, table = rules[0].binary, rules[0].table
    for chain in OWN_CHAINS:
        if any(rule.chain == chain for rule in rules) and not _chain_exists(binary, table, chain):
            _clear(binary, table, chain)
    present = {rule for rule in rules if _exists(rule)}
    run(f"{binary}-restore", "--wait", "--noflush", stdin=restore_text(rules, present))
    klog.info("iptables.go:363", "bootstrap done")
