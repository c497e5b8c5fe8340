# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real firewalls on real nodes: ufw on worker-1, firewalld on worker-2. Both block the mesh without our rules."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.lab import Lab, Play, until

pytestmark = pytest.mark.long

BOTH, NEITHER = {"worker-1": 1, "worker-2": 1}, {"worker-1": 0, "worker-2": 0}

OPEN = {"udp_ports": [8472], "sources": ["172.16.0.3", "fd00:172:16::3"], "pod_cidrs": ["10.244.0.0/16"]}


def start_firewalls(lab: Lab) -> None:
    lab.sh("worker-1", "ufw allow 22/tcp && ufw --force enable")
    lab.sh("worker-2", "systemctl enable --now --quiet firewalld && firewall-cmd --state")


def rules(lab: Lab) -> dict[str, str]:
    """All that an administrator and the kernel see; the order of tables is that of their making."""
    kernel = "nft --stateless list ruleset | sort"
    return {
        "ufw": lab.sh("worker-1", f"ufw show added; {kernel}; md5sum /etc/ufw/*.rules /etc/default/ufw"),
        "firewalld": lab.sh(
            "worker-2",
            "firewall-cmd --permanent --list-all; firewall-cmd --permanent --list-all-policies; "
            f"{kernel}; find /etc/firewalld -type f -exec md5sum {{}} +",
        ),
    }


def site(lab: Lab, *words: str) -> tuple[int, dict[str, int], str]:
    """A run without the proof: its code, how much it changed on each worker, and what it printed."""
    play = lab.play("site", *words, podnet_verify=False)
    return play.code, {worker: play.changed[worker] for worker in BOTH}, play.output


def module(lab: Lab, hosts: str, args: dict[str, Any], *words: str) -> Play:
    tasks = [{"weft.podnet.node_steps": {"steps": [{"module": "node_firewall", "args": args}]}}]
    playbook: Path = lab.folder / "module.yml"
    playbook.write_text(yaml.safe_dump([{"hosts": hosts, "gather_facts": False, "tasks": tasks}]))
    return lab.run(playbook, *words)


def test_pods_pass_firewalls_that_were_told_and_only_those(lab: Lab) -> None:
    lab.variables.update(podnet_backend="vxlan", podnet_verify_pods_per_node=1, podnet_verify_timeout=1)
    assert lab.play("site", podnet_manage_firewall=False, podnet_verify=False).code == 0
    start_firewalls(lab)
    before = rules(lab)
    closed = lab.play("verify")
    assert closed.code != 0 and "0 of 2 promised pairs pass" in closed.output, closed.output
    found = lab.play("diagnose").findings
    assert {host for _severity, host, rule in found if rule == "overlay-port-closed"} == set(BOTH), found

    code, changed, output = site(lab)
    assert code == 0 and changed == BOTH, output
    code, changed, output = site(lab, "--diff")
    assert code == 0 and changed == NEITHER, output
    # The proof comes after a reboot: what was opened now is open then.
    with ThreadPoolExecutor() as pool:
        list(pool.map(lab.reboot, BOTH))
    assert until(lambda: "running" in lab.sh("worker-2", "firewall-cmd --state 2>&1 || true").splitlines(), 60)
    proof = lab.play("verify")
    assert proof.code == 0 and "2 of 2 promised pairs pass" in proof.output, proof.output
    # What is open to the other nodes' addresses alone is open.
    assert "overlay-port-closed" not in lab.play("diagnose").output

    # ufw makes the node drop what it forwards, so the run also lets pods through there.
    assert (
        lab.module("workers", "node_steps", {"steps": [{"module": "pod_forward", "args": {"state": "absent"}}]}).code
        == 0
    )
    gone = module(lab, "workers", {"state": "absent"})
    assert gone.code == 0 and gone.changed == BOTH, gone.output
    assert rules(lab) == before


def test_what_others_have_set_stays(lab: Lab) -> None:
    allowed = "allow from 172.16.0.3 to any port 8472 proto udp"
    without = module(lab, "workers", OPEN)
    assert without.code == 0 and without.changed == NEITHER, without.output
    start_firewalls(lab)
    # What fail2ban does: a rule that no reload would bring back.
    banned = 'rule family="ipv4" source address="192.0.2.7" reject'
    lab.sh("worker-2", f"firewall-cmd --zone=public --add-rich-rule='{banned}'")
    before = rules(lab)
    warned = module(lab, "workers", OPEN, "--check", "--diff")
    assert warned.code == 0 and warned.changed == BOTH, warned.output
    for line in (f"+{allowed}", '+    <source address="172.16.0.3"/>', "192.0.2.7"):
        assert line in warned.output, warned.output
    assert rules(lab) == before

    # To ufw, a denial of just what is wanted is the same rule.
    denial = allowed.replace("allow", "deny")
    lab.sh("worker-1", f"ufw {denial}")
    refused = module(lab, "workers", OPEN)
    assert refused.code != 0 and f"ufw delete {denial}" in refused.output, refused.output
    assert "192.0.2.7" in refused.output and "firewall-cmd --reload" in refused.output, refused.output
    assert denial in lab.sh("worker-1", "ufw show added") and banned in lab.sh(
        "worker-2", "firewall-cmd --list-rich-rules"
    )
    # Nothing but our files stands there, so what is asked of the user works: a reload when it suits, and again.
    lab.sh("worker-1", f"ufw delete {denial}")
    lab.sh("worker-2", "firewall-cmd --reload")
    assert module(lab, "workers", OPEN).code == 0

    # What only adds or takes rules needs no reload, and a removal never insists on one.
    lab.sh("worker-2", f"firewall-cmd --zone=public --add-rich-rule='{banned}'")
    other = {**OPEN, "sources": ["172.16.0.3", "172.16.0.9"]}
    moved = module(lab, "workers", other)
    assert moved.code == 0 and moved.changed == BOTH, moved.output
    for node, command in (
        ("worker-1", "ufw show added"),
        ("worker-2", "firewall-cmd --policy=weft-podnet-nodes --list-rich-rules"),
        ("worker-2", "cat /etc/firewalld/policies/weft-podnet-nodes.xml"),
    ):
        shown = lab.sh(node, command)
        assert "172.16.0.9" in shown and "fd00" not in shown, shown
    # ufw makes the node drop what it forwards, so the run also lets pods through there.
    assert (
        lab.module("workers", "node_steps", {"steps": [{"module": "pod_forward", "args": {"state": "absent"}}]}).code
        == 0
    )
    gone = module(lab, "workers", {"state": "absent"})
    assert gone.code == 0, gone.output
    assert banned in lab.sh("worker-2", "firewall-cmd --list-rich-rules")
    assert "8472" not in lab.sh("worker-2", "nft list ruleset") + lab.sh("worker-1", "ufw show added")
    assert "weft" not in lab.sh("worker-2", "ls /etc/firewalld/policies")
    again = module(lab, "workers", {"state": "absent"})
    assert again.code == 0 and again.changed == NEITHER, again.output
    assert module(lab, "worker-2", OPEN).code == 0
    assert "8472" in lab.sh("worker-2", "nft list ruleset")
    assert banned in lab.sh("worker-2", "firewall-cmd --list-rich-rules")
    # What ufw remembers while it is disabled is removed as well.
    assert module(lab, "worker-1", OPEN).code == 0
    lab.sh("worker-1", "ufw disable")
    assert "8472" in lab.sh("worker-1", "ufw show added")
    forgotten = module(lab, "worker-1", {"state": "absent"})
    assert forgotten.code == 0 and forgotten.changed == {"worker-1": 1}, forgotten.output
    assert "8472" not in lab.sh("worker-1", "ufw show added")
