# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of links, as tc prints them, and XDP programs."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.core import tools
from ansible_collections.weft.podnet.plugins.module_utils.netlink.link import Detail, Discipline, Link
from ansible_collections.weft.podnet.plugins.module_utils.node.info import forwarding, link_filters
from ansible_collections.weft.podnet.plugins.module_utils.node.info.section import Notes

NO_PROB = '"prob":{"random_type":"none","control_action":{"type":"pass"},"val":0}'
# As tc of iproute2 6.1 prints them, on a kernel 6.1.
GACT = '"actions":[{"order":1,"kind":"gact","control_action":{"type":"%s"},' + NO_PROB + ',"index":2,"ref":1,"bind":1}]'
MIRRED = (
    '"actions":[{"order":1,"kind":"mirred","mirred_action":"%s","direction":"egress","to_dev":"%s",'
    '"control_action":{"type":"stolen"},"index":1,"ref":1,"bind":1}]'
)
BPF = (
    '"handle":"0x1","bpf_name":"drop.o:[tc]","direct-action":true,"not_in_hw":true,'
    '"prog":{"id":4,"name":"tc_drop","tag":"3b185187f1855c4c","jited":0}'
)
POLICE = '"actions":[{"order":1,"kind":"police","index":1,"control_action":{"type":"drop"},"overhead":0}]'
OLD_POLICE = (
    '"fh":"801::800","order":2048,"key_ht":"801","bkt":"0","flowid":":1",'
    '"match":{"value":"af40000","mask":"ffff0000","offmask":"","off":12},'
    '"kind":"police","index":2,"control_action":{"type":"drop"},"overhead":0,"ref":1,"bind":1'
)


def u32(*matches: tuple[str, str, int]) -> str:
    conditions = (
        f'"match":{{"value":"{value}","mask":"{mask}","offmask":"","off":{at}}}' for value, mask, at in matches
    )
    return f'"fh":"800::800","order":2048,"key_ht":"800","bkt":"0",{",".join(conditions)},' + GACT % "drop"


def row(kind: str, options: str, pref: int = 49152, protocol: str = "ip") -> str:
    head = f'"protocol":"{protocol}","pref":{pref},"kind":"{kind}","chain":0'
    table = f'{{{head},"options":{{"fh":"800:","ht_divisor":1}}}},' if kind == "u32" else ""
    return f'{{{head}}},{table}{{{head},"options":{{{options}}}}}'


def link(number: int, name: str, kind: str = "", xdp: int = 0) -> Detail:
    return Detail(Link(number, name, True, 1500, kind), b"", True, 0, 0, None, xdp=xdp)


LINKS = [link(1, "lo"), link(2, "eth0"), link(3, "ifb0", "ifb"), link(4, "dd", "dummy")]


def drops(monkeypatch: pytest.MonkeyPatch, shown: str, qdiscs: dict[int, str], notes: Notes | None = None) -> Any:
    """The places that the diagnosis gets: their names and rules. ``shown`` is what tc prints."""
    asked: list[str] = []

    def call(words: list[str], text: str) -> subprocess.CompletedProcess[str]:
        assert words == ["tc", "-json", "-batch", "-"]
        asked.append(text)
        return subprocess.CompletedProcess(words, 0, shown, "")

    monkeypatch.setattr(tools, "find", lambda name: name)
    monkeypatch.setattr(tools, "call", call)
    made = [Discipline(number, kind) for number, kind in qdiscs.items()]
    tables = link_filters.tables(LINKS, made, notes or Notes())
    found = forwarding.places(tables, lambda _device: [])
    return asked, {each["place"]: ([drop["rule"] for drop in each["drops"]], each["hook"]) for each in found}


@pytest.mark.parametrize(
    ("filter_row", "rule"),
    [
        (row("matchall", GACT % "drop", protocol="all"), "drop"),
        (row("flower", '"keys":{"eth_type":"ipv4","src_ip":"10.244.0.0/16"},' + GACT % "drop"),
         "meta protocol ip meta protocol ip ip saddr 10.244.0.0/16 drop"),
        (row("flower", '"keys":{"ip_proto":"udp","dst_ip":"fd00::/8","dst_port":8472,"vlan_id":5},' + GACT % "drop",
             protocol="ipv6"),
         "meta protocol ip6 meta l4proto udp ip6 daddr fd00::/8 th dport 8472 vlan_id 5 drop"),
        (row("u32", u32(("2118", "ffff", 20))), "meta protocol ip th dport 8472 drop"),
        (row("u32", u32(("af40000", "ffff0000", 12), ("110000", "ff0000", 8), ("ac100000", "ffff0000", 16))),
         "meta protocol ip ip saddr 10.244.0.0/16 meta l4proto udp ip daddr 172.16.0.0/16 drop"),
        (row("u32", u32(("45", "ff", 0))), "meta protocol ip u32 45/ff at 0 drop"),
        (row("u32", u32(("fd000000", "ff000000", 24), ("2118", "ffff", 20)), protocol="ipv6"),
         "meta protocol ip6 u32 fd000000/ff000000 at 24 u32 2118/ffff at 20 drop"),
        (row("flower", '"keys":{"ip_proto":"udp","dst_port":{"start":8000,"end":9000}},' + GACT % "drop"),
         "meta protocol ip meta l4proto udp th dport 8000-9000 drop"),
        (row("matchall", GACT % "drop", protocol="[35020]"), "meta protocol 35020 drop"),
        # What connects pods.
        (row("bpf", BPF.replace("tc_drop", "cil_from_netdev"), protocol="all"), None),
        (row("u32", OLD_POLICE), "meta protocol ip ip saddr 10.244.0.0/16 police, which may drop"),
        (row("matchall", POLICE), "meta protocol ip police, which may drop"),
        (row("bpf", BPF, protocol="all"), "program tc_drop, which may drop"),
        (row("matchall", MIRRED % ("redirect", "dd"), protocol="all"), "redirect to dd, which may drop"),
        (row("fw", '"handle":1,' + GACT % "drop", protocol="all"), "fw drop"),
        # Shaping, copies, and what only sorts.
        (row("matchall", MIRRED % ("redirect", "ifb0")), None),
        (row("matchall", MIRRED % ("mirror", "dd")), None),
        (row("matchall", GACT % "pass"), None),
        (row("u32", u32(("45", "ff", 0)).replace('"type":"drop"', '"type":"pipe"')), None),
    ],
)  # fmt: skip
def test_what_a_filter_drops(monkeypatch: pytest.MonkeyPatch, filter_row: str, rule: str | None) -> None:
    asked, found = drops(monkeypatch, f"[{filter_row}]\n", {2: "ingress", 1: "noqueue"})
    assert asked == ["filter show dev eth0 ingress\n"]
    place = "tc filter, chain eth0 ingress pref 49152"
    assert found == ({place: ([f'iifname {{ "eth0" }} {rule}'], "ingress")} if rule else {})


def test_both_directions_and_what_is_accepted_before(monkeypatch: pytest.MonkeyPatch) -> None:
    passing = row("flower", '"keys":{"src_ip":"10.244.0.0/16"},' + GACT % "pass", 1, "all")
    shown = f"[{passing},{row('matchall', GACT % 'drop', 2, 'all')}]\n[{row('bpf', BPF, 1, 'all')}]\n"
    asked, found = drops(monkeypatch, shown, {2: "clsact", 9: "clsact"})
    assert asked == ["filter show dev eth0 ingress\nfilter show dev eth0 egress\n"]
    assert found == {
        "tc filter, chain eth0 ingress pref 2": (['iifname { "eth0" } drop'], "ingress"),
        "tc filter, chain eth0 egress pref 1": (['oifname { "eth0" } program tc_drop, which may drop'], "egress"),
    }
    (table,) = link_filters.tables(LINKS, [Discipline(2, "clsact")], Notes())
    places = {each["place"]: each["drops"] for each in forwarding.places([table], lambda _device: [])}
    assert places["tc filter, chain eth0 ingress pref 2"][0]["after"] == ["ip saddr 10.244.0.0/16 accept"]


def test_one_preference_may_accept_between_what_it_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    def rule(address: str, verdict: str) -> str:
        keys = f'"keys":{{"src_ip":"{address}"}},'
        return row("flower", keys + GACT % verdict, 10, "all")

    shown = ",".join(
        [rule("1.2.3.4", "drop"), rule("172.16.0.0/12", "pass"), row("matchall", GACT % "drop", 10, "all")]
    )
    other = row("matchall", GACT % "drop", 20, "all").replace('"chain":0', '"chain":1')
    drops(monkeypatch, f"[{shown},{other}]", {2: "ingress"})
    (table,) = link_filters.tables(LINKS, [Discipline(2, "ingress")], Notes())
    (chain,) = table.chains.values()
    assert chain.lines == ("ip saddr 1.2.3.4 drop", "ip saddr 172.16.0.0/12 accept", "drop")


def test_a_program_that_gets_what_a_link_receives() -> None:
    (table,) = link_filters.tables([link(2, "eth0", xdp=9)], [], Notes())
    (place,) = forwarding.places([table], lambda _device: [])
    assert (place["place"], place["hook"]) == ("xdp, chain eth0", "ingress")
    assert [each["rule"] for each in place["drops"]] == ['iifname { "eth0" } program 9, which may drop']


def test_a_link_that_goes_while_tc_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [
        (f"[{row('matchall', GACT % 'drop', 1)}]\n", 'Cannot find device "dd"\nCommand failed -:2\n'),
        (f"[{row('matchall', GACT % 'drop', 3)}]\n", ""),
    ]
    asked: list[str] = []

    def call(words: list[str], text: str) -> subprocess.CompletedProcess[str]:
        asked.append(text)
        return subprocess.CompletedProcess(words, 1, *answers[len(asked) - 1])

    monkeypatch.setattr(tools, "find", lambda name: name)
    monkeypatch.setattr(tools, "call", call)
    # Ports of pods come last.
    links = [link(5, "veth1", "veth"), *LINKS]
    qdiscs = [Discipline(number, "ingress") for number in (5, 2, 4)]
    notes = Notes()
    (table,) = link_filters.tables(links, qdiscs, notes)
    assert list(table.chains) == ["eth0 ingress pref 1", "veth1 ingress pref 3"] and not notes.problems
    assert asked == [
        "filter show dev eth0 ingress\nfilter show dev dd ingress\nfilter show dev veth1 ingress\n",
        "filter show dev veth1 ingress\n",
    ]
    answers[1] = ("", "Operation not permitted\n")
    asked.clear()
    link_filters.tables(links, qdiscs, notes)
    assert notes.problems == ["packet filters: some filters of links can't be read: Operation not permitted"]


def test_what_tc_can_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    for shown in ("Error: what?", "[{"):
        notes = Notes()
        _asked, found = drops(monkeypatch, shown, {2: "clsact"}, notes)
        assert found == {} and notes.problems == ["packet filters: filters of links can't be read: tc prints no JSON"]
    monkeypatch.setattr(tools, "find", lambda _name: None)
    notes = Notes()
    assert link_filters.tables(LINKS, [Discipline(2, "clsact")], notes) == []
    assert notes.problems == ["packet filters: the program tc is missing, so filters of links can't be seen"]
