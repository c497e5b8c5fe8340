# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings as a user reads them: causes before consequences, hosts together, commands that can be pasted."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis import findings
from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis.rules import RULES
from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis.table import filled
from ansible_collections.weft.podnet.plugins.plugin_utils.plan import inventory
from support.observations import World, host, subnet

ROOT = Path(__file__).resolve().parents[5]
# What no node shows: a probe that asks /readyz, and a network that drops packets without a word.
UNSEEN_PITFALLS = {17: "/readyz", 21: "the network between the nodes"}
# Of the controller: inventories, lock files, sessions, and waiting.
UNSEEN_REPORTS = {5, 7, 15, 18}


def test_a_healthy_cluster_is_told_in_one_line() -> None:
    lines = findings.diagnose(**World("flannel").given())["lines"]
    assert lines == [
        f"Nothing is wrong. Checked: {len(RULES)} rules on 3 hosts, the plan, 3 Nodes of the Kubernetes API."
    ]


def test_what_was_not_checked_is_told() -> None:
    world = World("vxlan")
    del world.hosts["worker-2"]
    world.hosts = {"worker-1": world[1], "worker-3": world[3]}
    (line,) = findings.diagnose(**world.given(), api_problem="connection refused\nand more")["lines"]
    assert "no Kubernetes API (connection refused)" in line and line.endswith("Not looked at: worker-2.")


def test_a_finding_has_evidence_effect_fix_and_playbook() -> None:
    world = World("routes")
    world[2]["routes"] = [each for each in world[2]["routes"] if each["dst"] != subnet(0)]
    assert findings.diagnose(**world.given())["lines"] == [
        "ERROR worker-2: The node has no route back to another node's pods, which reach it [no-route-back]",
        "  found:  no route to 10.244.0.0/24, worker-1's pods: packets leave by default via 172.16.0.1",
        "  effect: Requests from the other node's pods arrive, and the answers are lost.",
        "  fix:    ip route replace 10.244.0.0/24 via 172.16.0.3 proto 87",
        "  or:     run site.yml",
        "",
        f"1 error. Checked: {len(RULES)} rules on 3 hosts, the plan, no Kubernetes API.",
    ]


def test_errors_come_first_and_equal_findings_are_told_once() -> None:
    world = World("routes")
    for number in (1, 2, 3):
        world[number]["sysctls"]["net.ipv4.ip_forward"]["now"] = "0"
        world[number]["managers"]["networkd"]["manage_foreign_routes"] = True
    world[3]["cni"]["files"][0]["types"] = ["bridge"]
    result = findings.diagnose(**world.given())
    heads = [line for line in result["lines"] if re.match("[A-Z]+ worker", line)]
    assert [head.partition(":")[0] for head in heads] == [
        "ERROR worker-1, worker-2 and worker-3",
        "WARNING worker-1, worker-2 and worker-3",
        "NOTE worker-3",
    ]
    assert result["counts"] == {"error": 3, "warning": 3, "note": 1} and not result["ok"]
    assert result["lines"][-1].startswith("3 errors, 3 warnings, 1 note.")


def test_the_address_of_zeros_that_flannel_writes_without_ipv4_is_none() -> None:
    world = World("flannel", (6,))
    for node in world.api.values():
        node["annotations"].update({"public-ip": "0.0.0.0", "backend-data": "null"})
    assert findings.diagnose(**world.given())["findings"] == []


def test_warnings_are_no_failure() -> None:
    world = World("routes")
    world[1]["machine_id"] = world[2]["machine_id"]
    result = findings.diagnose(**world.given())
    assert result["ok"] and result["counts"]["warning"] == 1


def test_no_block_is_longer_than_six_lines_however_much_is_wrong() -> None:
    world = World("bridge", planned=False)
    world.hosts = {f"worker-{number}": host("bridge", number % 3, (4,)) for number in range(40)}
    for number in range(40):
        world.hosts[f"worker-{number}"]["cni"]["files"][0]["subnets"] = [f"10.244.{number}.0/24"]
        world.hosts[f"worker-{number}"]["cni"].update(pods=[], networks=[])
    lines = findings.diagnose(**world.given())["lines"]
    blocks = "\n".join(lines).split("\n\n")
    assert max(len(block.splitlines()) for block in blocks) <= 6
    assert len(lines) < 150
    assert any("and 34 more" in line or "and 33 more" in line or "and 36 more" in line for line in lines)


@pytest.mark.parametrize(
    ("hosts", "text"),
    [
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (["a", "b", "c", "d"], "a, b, c and d"),
        (list("abcde"), "a, b, c and 2 more"),
    ],
)
def test_hosts_are_named(hosts: list[str], text: str) -> None:
    assert findings.named(hosts) == text


def test_what_a_host_says_is_quoted_for_the_shell() -> None:
    assert filled("ip link set {device} up", {"device": "x; rm -rf /"}) == "ip link set 'x; rm -rf /' up"
    assert filled("for x in {words}; do echo $x; done", {"words": ["a", "b c"]}) == "for x in a 'b c'; do echo $x; done"
    world = World("routes")
    world[2]["cni"]["files"].insert(0, {"name": "0 $(reboot).conf", "types": ["bridge"], "ours": False, "error": ""})
    world[2]["cni"]["loaded"] = "0 $(reboot).conf"
    (finding,) = findings.diagnose(**world.given())["findings"]
    assert shlex.split(finding["fix"]) == [
        "mv",
        "/etc/cni/net.d/0 $(reboot).conf",
        "/etc/cni/net.d/0 $(reboot).conf.disabled",
    ]


def test_no_control_character_reaches_the_terminal() -> None:
    world = World("routes")
    world[2]["ours"]["checkpoint_pending"] = "\x1b[2J\u202eevil\n"
    result = findings.diagnose(**world.given())
    assert all(line.isprintable() for line in result["lines"])
    assert all(value.isprintable() for each in result["findings"] for value in each.values())


def test_the_result_is_json() -> None:
    world = World("flannel")
    world[2]["flannel"]["subnet_env"] = {}
    result = findings.diagnose(**world.given())
    assert json.loads(json.dumps(result)) == result
    assert result["findings"][0].keys() == {
        "rule", "severity", "title", "host", "about", "evidence", "effect", "fix", "site", "source"
    }  # fmt: skip


def test_a_large_cluster_is_judged_in_seconds() -> None:
    world = World("vxlan", planned=False)
    size = 120
    for number in range(size):
        seen = host("vxlan", number % 3, (4,))
        seen.update(routes=seen["routes"][:1], neighbours=[], fdb=[], ways={})
        net = f"10.{number}.0"
        seen["machine_id"] = str(number)
        seen["cni"]["files"][0]["subnets"] = [f"{net}.0/24"]
        seen["routes"].append({"dst": f"{net}.0/24", "dev": "cni0"})
        for other in set(range(size)) - {number}:
            route = {"dst": f"10.{other}.0.0/24", "via": f"10.{other}.0.0", "dev": "flannel.1", "owner": "weft.podnet"}
            seen["routes"].append(route)
            seen["neighbours"].append(
                {"dst": f"10.{other}.0.0", "dev": "flannel.1", "mac": f"02:00:00:00:00:{other:02x}"}
            )
            seen["fdb"].append({"mac": f"02:00:00:00:00:{other:02x}", "dev": "flannel.1", "dst": f"192.168.0.{other}"})
        world.hosts[f"node-{number}"] = seen
    started = time.monotonic()
    findings.diagnose(**world.given())
    assert time.monotonic() - started < 60


# What the table says


def test_every_pitfall_and_every_report_that_a_node_can_show_has_a_rule() -> None:
    named = [re.findall(r"flannel pitfall ((?:\d+(?:, )?)+)", rule.source) for rule in RULES]
    pitfalls = {int(number) for each in named for text in each for number in text.split(", ") if number}
    assert set(range(1, 28)) - pitfalls <= set(UNSEEN_PITFALLS)
    reports = {int(number) for rule in RULES for number in re.findall(r"\bF(\d+)\b", rule.source)}
    assert set(range(1, 20)) - reports == UNSEEN_REPORTS
    lesson = {number for rule in RULES for number in re.findall(r"lesson (\d+)", rule.source)}
    assert {"2", "7"} <= lesson


def test_variables_and_playbooks_that_a_rule_names_exist() -> None:
    playbooks = {path.name for path in (ROOT / "playbooks").glob("*.yml")}
    known = set(inventory.schema()["properties"])
    for rule in RULES:
        text = " ".join((rule.site, rule.fix, rule.meaning, rule.effect))
        assert set(re.findall(r"\b\w+\.yml\b", text)) <= playbooks, rule.id
        assert set(re.findall(r"\bpodnet_\w+", text)) <= known, rule.id


def test_the_documentation_is_up_to_date() -> None:
    checked = subprocess.run(
        [sys.executable, ROOT / "tools" / "rules.py", "--check"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_commands_are_for_a_shell() -> None:
    """bash parses every fix and every look, with words in place of what is to be filled in."""
    for rule in RULES:
        for text in (re.sub("<[^>]*>", "WORD", rule.see), filled(rule.fix, {}).replace("'<", "'").replace(">'", "'")):
            checked = subprocess.run(["bash", "-n", "-c", text], capture_output=True, text=True, check=False)
            assert checked.returncode == 0, (rule.id, text, checked.stderr)
