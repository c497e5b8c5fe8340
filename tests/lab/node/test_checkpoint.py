# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker that loses contact after a change restores its checkpoint by itself."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from typing import Any

import pytest

from support.lab import BIN, CHECKOUT, Lab, Play, unlike, until
from support.plays import SETTINGS

ARMED = "/run/weft-podnet-restore/checkpoint"
# As a firewall, a routing daemon or an administrator would cut it; nothing of it is ours.
CUTS = {
    "packet filter": "nft add table inet cut; nft add chain inet cut in '{ type filter hook input priority 0; }';"
    "nft add rule inet cut in drop",
    "route": "ip route add blackhole 172.16.0.1; ip route add blackhole 172.16.0.4",
    "policy rule": "ip rule add priority 5 to 172.16.0.0/24 blackhole",
    "link": "ip link set eth0 down",
}
# A systemd unit, since a process of the shell would end with it.
CUT = """
cat >/root/cut.sh <<'END'
while [ ! -e {armed} ]; do sleep 0.02; done
sleep {delay}
[ -e {armed} ] && {{ {cut}; touch /root/was-cut; }}
END
rm -f /root/was-cut; systemctl reset-failed cut 2>/dev/null; systemd-run --quiet --collect --unit=cut sh /root/cut.sh
"""
# For a worker that was confirmed before the cut, and so does not restore anything.
UNDO = {
    "packet filter": "nft delete table inet cut",
    "route": "ip route del blackhole 172.16.0.1; ip route del blackhole 172.16.0.4",
    "policy rule": "ip rule del priority 5",
    "link": "ip link set eth0 up",
}
# Once the last step has been made, in a move from vxlan to routes.
CHANGED = (
    "[ -e /run/weft-podnet-restore/checkpoint ] && ! ip link show flannel.1 2>/dev/null && ls /etc/cni/net.d || true"
)
CLEAN = "systemctl stop cut 2>/dev/null; rm -f /root/cut.sh /root/was-cut"


def differing(before: dict[str, list[str]], after: dict[str, list[str]]) -> list[str]:
    """What differs, but for the checkpoints themselves."""
    return [line for line in unlike(before, after) if "/var/lib/weft-podnet" not in line]


def cut_off(lab: Lab, how: str, delay: float, **variables: Any) -> Play:
    """A run during which worker-1 is cut off ``delay`` seconds after its checkpoint, which it restores."""
    lab.sh("worker-1", CUT.format(armed=ARMED, delay=delay, cut=CUTS[how]))
    before, restored = lab.snapshots("worker-1"), restorations(lab)
    play = lab.play("site", podnet_verify=False, podnet_confirm_timeout=10, **variables)
    if "was-cut" not in lab.sh("worker-1", "ls /root"):
        assert play.code == 0, play.output
        return play
    # The run may have ended before the worker's time was over.
    assert until(lambda: not lab.sh("worker-1", f"ls {ARMED} 2>/dev/null || true"), 120)
    journal = lab.sh("worker-1", "journalctl -u weft-podnet-restore")
    if restorations(lab) > restored:
        assert play.code != 0 and differing(before, lab.snapshots("worker-1")) == [], journal
    else:
        # Confirmed while the cut was made, so the run is over for the worker whether its last answer arrived or not; or
        # cut off before anything was changed, so there was nothing to restore.
        lab.sh("worker-1", UNDO[how])
        wanted = "routes" if lab.variables["podnet_backend"] == "routes" else "vxlan-flannel.1"
        assert wanted in lab.sh("worker-1", "ls /etc/weft-podnet") or until(
            lambda: differing(before, lab.snapshots("worker-1")) == [], 60
        ), journal
    return play


def restorations(lab: Lab) -> int:
    """How often worker-1 has restored a checkpoint by itself."""
    return int(lab.sh("worker-1", "journalctl -u weft-podnet-restore | grep -c 'did not come back in time' || true"))


def test_a_worker_that_is_cut_off_comes_back_by_itself(lab: Lab) -> None:
    lab.variables["podnet_backend"] = "vxlan"
    lost = cut_off(lab, "packet filter", 0)
    assert lost.code != 0 and "restore" in lost.text, lost.output
    lab.sh("worker-1", CLEAN)
    # The next run completes.
    completed = lab.play("site")
    assert completed.code == 0 and "12 of 12 promised pairs pass" in completed.output, completed.output


@pytest.mark.long
@pytest.mark.parametrize("how", CUTS)
def test_a_worker_that_is_cut_off_in_a_move_has_its_former_backend(lab: Lab, how: str) -> None:
    lab.variables["podnet_backend"] = "vxlan"
    made = lab.play("site")
    assert made.code == 0, made.output
    lab.variables["podnet_backend"] = "routes"
    lost = cut_off(lab, how, 0)
    assert lost.code != 0, lost.output
    lab.sh("worker-1", CLEAN)
    moved = lab.play("site")
    assert moved.code == 0 and "12 of 12 promised pairs pass" in moved.output, moved.output


@pytest.mark.long
def test_cut_off_at_twenty_moments(lab: Lab) -> None:
    """Right after the checkpoint, while the steps run, and while the run comes back."""
    moments = random.Random(20)
    lab.variables["podnet_backend"] = "vxlan"
    assert lab.play("site", podnet_verify=False).code == 0
    number = 0
    # A cut that comes after the confirmation does not count. How many do depends on how fast the machine is.
    while restorations(lab) < 20:
        assert number < 100
        lab.variables["podnet_backend"] = ["routes", "vxlan"][number % 2]
        number += 1
        cut_off(lab, moments.choice(list(CUTS)), round(moments.uniform(0, 1.5), 2))
        lab.sh("worker-1", CLEAN)
        again = lab.play("site", podnet_verify=False)
        assert again.code == 0, again.output
    assert "12 of 12 promised pairs pass" in lab.play("verify").output


@pytest.mark.long
@pytest.mark.parametrize("confirm", [True, False])
def test_a_run_completes_what_a_killed_one_left(lab: Lab, confirm: bool) -> None:
    """A worker that the killed run had already changed differs in nothing, and would restore its checkpoint later.

    Also where the next run does without checkpoints.
    """
    lab.variables["podnet_backend"] = "vxlan"
    assert lab.play("site", podnet_verify=False).code == 0
    words = [str(BIN / "ansible-playbook"), "--inventory", str(lab.inventory), str(CHECKOUT / "playbooks" / "site.yml")]
    given = {"podnet_backend": "routes", "podnet_verify": False, "podnet_confirm_timeout": 30}
    with subprocess.Popen(
        [*words, "--extra-vars", json.dumps(given)],
        cwd=CHECKOUT,
        env={**os.environ, **SETTINGS},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as killed:
        assert until(lambda: "10-bridge" in lab.sh("worker-1", CHANGED), 300)
        os.killpg(killed.pid, signal.SIGKILL)
    lab.variables["podnet_backend"] = "routes"
    # The killed run's module may still be at work.
    assert until(lambda: lab.play("site", podnet_verify=False, podnet_confirm=confirm).code == 0, 120)
    for node in ("worker-1", "worker-2"):
        assert lab.sh(node, "ls -d /run/weft-podnet* 2>/dev/null || true") == ""
        assert lab.sh(node, "systemctl list-units --all --plain --no-legend 'weft-podnet-restore*'") == ""
    again = lab.play("site")
    assert again.code == 0 and "12 of 12 promised pairs pass" in again.output, again.output
    assert set(again.changed.values()) == {0} and restorations(lab) == 0, again.output


def test_back_to_an_earlier_checkpoint(lab: Lab) -> None:
    for backend in ("routes", "vxlan"):
        lab.variables["podnet_backend"] = backend
        if backend == "vxlan":
            routed = lab.snapshots()
        assert lab.play("site", podnet_verify=False).code == 0
    meshed = lab.snapshots()
    none = lab.play("rollback", podnet_rollback_to=3)
    assert none.code != 0 and "there is no checkpoint 3 on this host; it has 1: 20" in none.text, none.output

    # What failed without a change left no checkpoint.
    dry = lab.play("rollback", "--check", "--diff")
    assert dry.code == 0 and dry.changed["worker-1"] == 1, dry.output
    assert "weft-podnet-routes-87.service" in dry.output and "flannel.1" in dry.output
    assert differing(meshed, lab.snapshots()) == []

    back = lab.play("rollback")
    assert back.code == 0, back.output
    assert differing(routed, lab.snapshots()) == []


@pytest.mark.long
def test_back_to_the_beginning_after_pods_ran(lab: Lab) -> None:
    nothing = lab.snapshots()
    for backend in ("routes", "vxlan"):
        assert lab.play("site", podnet_backend=backend, podnet_verify=False).code == 0
    assert lab.play("rollback").code == 0
    proof = lab.play("site", podnet_backend="routes")
    assert "12 of 12 promised pairs pass" in proof.output, proof.output
    # The rollback was itself a run with a checkpoint: 1 is the mesh, 2 the routes, 3 the beginning.
    assert lab.play("rollback", podnet_rollback_to=3).code == 0
    # What the bridge plugin made for the pods of the proof is not ours.
    left = [line for line in differing(nothing, lab.snapshots()) if "cni0" not in line and "/var/lib/cni" not in line]
    assert left == []


@pytest.mark.long
def test_without_confirmation(lab: Lab) -> None:
    lab.variables.update(podnet_backend="routes", podnet_confirm=False)
    assert lab.play("site", podnet_verify=False).code == 0
    assert not lab.sh("worker-1", "ls -d /var/lib/weft-podnet /run/weft-podnet* 2>/dev/null || true")
    assert lab.play("site", podnet_confirm=True, podnet_backend="vxlan", podnet_verify=False).code == 0
    assert lab.sh("worker-1", "ls /var/lib/weft-podnet/checkpoints")
    assert lab.play("reset").code == 0
    assert not lab.sh("worker-1", "ls -d /var/lib/weft-podnet 2>/dev/null || true")
