# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker that loses contact after a change restores its checkpoint by itself."""

from __future__ import annotations

from typing import Any

import pytest

from support.lab import Lab, Play, unlike, until

ARMED = "/run/weft-podnet-restore/checkpoint"
# As a firewall, a routing daemon or an administrator would cut it; nothing of it is ours.
CUTS = {
    "packet filter": "nft add table inet cut; nft add chain inet cut in '{ type filter hook input priority 0; }';"
    "nft add rule inet cut in drop",
    "route": "ip route add blackhole 172.16.0.1; ip route add blackhole 172.16.0.4",
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
CLEAN = "systemctl stop cut 2>/dev/null; rm -f /root/cut.sh /root/was-cut"


def cut_off(lab: Lab, how: str, delay: float, **variables: Any) -> Play:
    """A run during which worker-1 is cut off ``delay`` seconds after its checkpoint, which it restores."""
    lab.sh("worker-1", CUT.format(armed=ARMED, delay=delay, cut=CUTS[how]))
    before = lab.snapshot("worker-1")
    play = lab.play("site", podnet_verify=False, podnet_confirm_timeout=10, **variables)
    was_cut = "was-cut" in lab.sh("worker-1", "ls /root")
    assert was_cut == (play.code != 0), play.output
    if was_cut:
        # The run may have ended before the worker's time was over.
        assert until(lambda: not lab.sh("worker-1", f"ls {ARMED} 2>/dev/null || true"), 120)
        assert unchanged(before, lab.snapshot("worker-1")) == [], lab.sh(
            "worker-1", "journalctl -u weft-podnet-restore"
        )
    return play


def unchanged(before: list[str], after: list[str]) -> list[str]:
    """What differs, but for the checkpoint itself."""
    return [line for line in unlike({"": before}, {"": after}) if "/var/lib/weft-podnet" not in line]


@pytest.mark.parametrize("how", CUTS)
def test_a_worker_that_is_cut_off_comes_back_by_itself(lab: Lab, how: str) -> None:
    lab.variables["podnet_backend"] = "vxlan"
    lost = cut_off(lab, how, 0)
    assert lost.code != 0 and "restore" in lost.text, lost.output
    # The next run completes; the one after that moves the worker to another backend, and is cut off too.
    assert lab.play("site").code == 0
    lab.variables["podnet_backend"] = "routes"
    lost = cut_off(lab, how, 0)
    assert lost.code != 0, lost.output
    lab.sh("worker-1", CLEAN)
    moved = lab.play("site")
    assert moved.code == 0 and "12 of 12 promised pairs pass" in moved.output, moved.output
