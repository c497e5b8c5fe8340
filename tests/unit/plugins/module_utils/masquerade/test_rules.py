# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The masquerade policy without a host: what it decides, what it refuses, and the text it becomes."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.module_utils.masquerade import boot as masquerade_boot
from ansible_collections.weft.podnet.plugins.module_utils.masquerade import host as masquerade_host
from ansible_collections.weft.podnet.plugins.module_utils.masquerade import rules as masquerade
from ansible_collections.weft.podnet.plugins.module_utils.masquerade.boot import Legacy
from ansible_collections.weft.podnet.plugins.module_utils.masquerade.host import MasqueradeError, Tools

TOOLS = Tools(
    "/usr/sbin/nft", "", {4: Legacy("/usr/sbin/iptables-legacy", "/s/save", "/usr/sbin/iptables-legacy-restore")}
)


def options(**changes: Any) -> dict[str, Any]:
    defaults = {name: spec["default"] for name, spec in masquerade.ARGUMENT_SPEC.items()}
    return {**defaults, "pod_subnets": ["10.244.1.0/24"], "cluster_cidrs": ["10.244.0.0/16"], **changes}


# --- what it decides ----------------------------------------------------------------------------------------------


def walk_nft(lines: list[str], source: str, destination: str) -> bool:
    """Whether the rules of a table masquerade a packet, read from its text alone."""
    for line in lines:
        rule = re.match(r"\s*ip6? (saddr|daddr) (\S+) (return|masquerade fully-random)$", line)
        if rule and ipaddress.ip_address(source if rule[1] == "saddr" else destination) in ipaddress.ip_network(
            rule[2]
        ):
            return rule[3] != "return"
    return False


def walk_iptables(lines: list[str], source: str, destination: str) -> bool:
    for line in lines:
        rule = re.match(r"-A WEFT-PODNET (-s|-d) (\S+) -j (RETURN|MASQUERADE --random-fully)$", line)
        if rule and ipaddress.ip_address(source if rule[1] == "-s" else destination) in ipaddress.ip_network(rule[2]):
            return rule[3] != "RETURN"
    return False


# Networks out of one small range, so that they and the packets meet each other often.
BASES = {4: int(ipaddress.ip_address("10.244.0.0")), 6: int(ipaddress.ip_address("fd00:10:244::"))}


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    version = draw(st.sampled_from([4, 6]))
    width = {4: 32, 6: 128}[version]

    def network(shortest: int) -> str:
        length = draw(st.integers(shortest, 10))
        base = BASES[version] + draw(st.integers(0, 2**10 - 1))
        return str(ipaddress.ip_network((base, width - 10 + length), strict=False))

    pods = [network(3) for _number in range(draw(st.integers(1, 3)))]
    cluster = [str(ipaddress.ip_network(pod).supernet(draw(st.integers(0, 2)))) for pod in pods]
    exclude = [network(1) for _number in range(draw(st.integers(0, 3)))]

    def packet() -> str:
        return str(ipaddress.ip_address(BASES[version] + draw(st.integers(0, 2**10 - 1))))

    multicast = {4: "224.0.0.251", 6: "ff02::fb"}[version]
    outside = {4: "203.0.113.7", 6: "2001:db8::7"}[version]
    destination = draw(st.sampled_from([packet(), packet(), multicast, outside]))
    return {"pods": pods, "cluster": cluster, "exclude": exclude, "source": packet(), "destination": destination}


@given(cases())
def test_the_rules_decide_as_the_policy_says(case: dict[str, Any]) -> None:
    source, destination = case["source"], case["destination"]

    def inside(address: str, networks: list[str]) -> bool:
        return any(ipaddress.ip_address(address) in ipaddress.ip_network(network) for network in networks)

    spared = [*case["cluster"], *case["exclude"], "224.0.0.0/4", "ff00::/8"]
    expected = inside(source, case["pods"]) and not inside(destination, spared)
    policy = masquerade.policy(
        options(pod_subnets=case["pods"], cluster_cidrs=case["cluster"], exclude=case["exclude"])
    )
    version = ipaddress.ip_address(source).version
    assert set(policy) == {version}
    rules = policy[version]
    assert walk_nft(masquerade.nft_table(version, rules), source, destination) is expected
    assert walk_iptables(masquerade.iptables_chain(rules), source, destination) is expected


@given(st.permutations(["10.0.0.0/9", "10.128.0.0/9", "10.1.0.0/16", "192.168.0.0/16", "192.168.0.0/16"]))
def test_order_and_overlaps_in_the_lists_make_no_difference(exclude: list[str]) -> None:
    assert masquerade.policy(options(exclude=exclude)) == masquerade.policy(
        options(exclude=["192.168.0.0/16", "10.0.0.0/8"])
    )


def test_a_family_without_pods_has_no_rules() -> None:
    policy = masquerade.policy(options(cluster_cidrs=["10.244.0.0/16", "fd00::/48"], exclude=["fd01::/48"]))
    assert set(policy) == {4}


# --- what it refuses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pod_subnets": []}, "pod_subnets: the list is empty"),
        ({"cluster_cidrs": []}, "cluster_cidrs: the list is empty"),
        (
            {"pod_subnets": ["10.244.1.1/24"]},
            "pod_subnets[0]: 10.244.1.1/24 has host bits set; did you mean 10.244.1.0/24?",
        ),
        ({"exclude": ["10.0.0.0/8", "10.1.2.3/8"]}, "exclude[1]: 10.1.2.3/8 has host bits set"),
        ({"cluster_cidrs": ["10.244.0.0"]}, "cluster_cidrs[0]: 10.244.0.0 has no prefix length"),
        ({"exclude": ["example.org"]}, "exclude[0]: 'example.org' is no network"),
        ({"exclude": ["fe80::%eth0/64"]}, "exclude[0]: 'fe80::%eth0/64' is no network (with a zone)"),
        ({"exclude": ["0.0.0.0/0"]}, "exclude[0]: 0.0.0.0/0 is every address"),
        (
            {"pod_subnets": ["10.245.1.0/24"]},
            "pod_subnets[0]: 10.245.1.0/24 lies outside of cluster_cidrs (10.244.0.0/16)",
        ),
        ({"pod_subnets": ["10.0.0.0/8"]}, "pod_subnets[0]: 10.0.0.0/8 lies outside of cluster_cidrs (10.244.0.0/16)"),
        ({"pod_subnets": ["fd00::/64"]}, "pod_subnets[0]: fd00::/64 is IPv6, but cluster_cidrs has no IPv6 range"),
    ],
)
def test_a_bad_range_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused) as refused:
        masquerade.policy(options(**changes))
    assert [problem for problem in refused.value.problems if problem.startswith(message)]


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(Refused) as refused:
        masquerade.policy(options(pod_subnets=["10.244.1.1/24", "10.1.0.0/24"], exclude=["x", "::/0"]))
    assert len(refused.value.problems) == 4


def test_removal_asks_for_no_ranges() -> None:
    assert masquerade.policy(options(state="absent", pod_subnets=[], cluster_cidrs=[])) == {}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("nftables", "backend: nftables cannot be used on this host: the command nft not found (package nftables)"),
        ("iptables", "backend: iptables cannot be used on this host: iptables of the legacy variant not found"),
        ("auto", "neither backend; nftables: the command nft not found (package nftables); iptables: iptables of the"),
    ],
)
def test_a_host_without_tools_is_told_the_packages(asked: str, expected: str) -> None:
    bare = Tools(None, "the command nft not found (package nftables)", {})
    state = masquerade_host.wanted_state({}, None)
    with pytest.raises(MasqueradeError, match=re.escape(expected)):
        masquerade_host.choose_backend(_nothing_runs, bare, asked, state, masquerade.policy(options()))


def _nothing_runs(argv: list[str]) -> tuple[int, str, str]:
    raise AssertionError(f"ran {argv}")


# --- what is loaded at boot ---------------------------------------------------------------------------------------


def test_the_nftables_boot_files() -> None:
    bundle = masquerade_host.boot_bundle(masquerade.policy(options(exclude=["10.9.9.9"])), "nftables", TOOLS)
    assert bundle.units == ("weft-podnet-masquerade.service",)
    assert bundle.files == {
        "/etc/weft-podnet/masquerade.nft": """\
# Written by weft.podnet (pod_masquerade); changes are overwritten.
table ip weft-podnet
delete table ip weft-podnet
table ip weft-podnet {
\tchain postrouting {
\t\ttype nat hook postrouting priority srcnat; policy accept;
\t\tip daddr 10.9.9.9 return
\t\tip daddr 10.244.0.0/16 return
\t\tip daddr 224.0.0.0/4 return
\t\tip saddr 10.244.1.0/24 masquerade fully-random
\t}
}
""",
        "/etc/systemd/system/weft-podnet-masquerade.service": """\
# Written by weft.podnet (pod_masquerade); changes are overwritten.
[Unit]
Description=weft.podnet: masquerade pod traffic that leaves the cluster
After=systemd-modules-load.service nftables.service firewalld.service ufw.service
Before=containerd.service kubelet.service
PartOf=nftables.service
ReloadPropagatedFrom=nftables.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft -f /etc/weft-podnet/masquerade.nft
ExecReload=/usr/sbin/nft -f /etc/weft-podnet/masquerade.nft

[Install]
WantedBy=multi-user.target nftables.service
""",
    }


def test_the_iptables_boot_files() -> None:
    bundle = masquerade_host.boot_bundle(masquerade.policy(options()), "iptables", TOOLS)
    assert (
        bundle.files["/etc/weft-podnet/masquerade.rules"]
        == """\
# Written by weft.podnet (pod_masquerade); changes are overwritten.
*nat
:WEFT-PODNET - [0:0]
-A WEFT-PODNET -d 10.244.0.0/16 -j RETURN
-A WEFT-PODNET -d 224.0.0.0/4 -j RETURN
-A WEFT-PODNET -s 10.244.1.0/24 -j MASQUERADE --random-fully
COMMIT
"""
    )
    unit = bundle.files[masquerade_boot.UNIT_PATH].splitlines()
    assert [line for line in unit if line.startswith("ExecStart=")] == [
        "ExecStart=/usr/sbin/iptables-legacy-restore -w 10 --noflush /etc/weft-podnet/masquerade.rules",
        "ExecStart=/bin/sh -c '/usr/sbin/iptables-legacy -w 10 -t nat -C POSTROUTING -m comment --comment weft-podnet "
        "-j WEFT-PODNET 2>/dev/null || exec /usr/sbin/iptables-legacy -w 10 -t nat -A POSTROUTING -m comment "
        "--comment weft-podnet -j WEFT-PODNET'",
    ]
    assert "WantedBy=multi-user.target iptables.service ip6tables.service netfilter-persistent.service" in unit


def test_what_is_removed_covers_what_either_backend_writes() -> None:
    policy = masquerade.policy(options())
    for backend in masquerade_host.BACKENDS:
        written = masquerade_host.boot_bundle(policy, backend, TOOLS)
        assert set(written.files) <= set(masquerade_boot.EVERYTHING.files)
        assert written.units == masquerade_boot.EVERYTHING.units
