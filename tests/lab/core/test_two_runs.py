# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two runs of the playbooks at once, with different backends, and one that is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.lab import BIN, CHECKOUT, Lab, unlike, until

WORKERS = ("worker-1", "worker-2")
HELD = "this host is held by another run: "


def controllers(lab: Lab, folder: Path) -> list[Path]:
    """Two controllers' inventories of the lab, each in a folder of its own."""
    made = []
    for name in ("one", "two"):
        (folder / name).mkdir()
        made.append(Path(shutil.copy(lab.inventory, folder / name)))
    return made


def backend(lab: Lab, node: str) -> str:
    """Which backend's objects a worker has; both, or none, where it was left half way."""
    mesh = "flannel.1" in lab.exec(node, "ip", "-o", "link")
    routes = "proto 87" in lab.sh(node, "ip -N route | grep -v flannel.1 || true")
    return {(True, False): "vxlan", (False, True): "routes"}.get((mesh, routes), f"mesh {mesh}, routes {routes}")


def lease(lab: Lab, node: str) -> str:
    return lab.sh(node, "cat /run/weft-podnet/run.lock 2>/dev/null || true")


@pytest.mark.long
def test_of_two_runs_at_once_one_wins(lab: Lab, tmp_path: Path) -> None:
    inventories = controllers(lab, tmp_path)

    def run(number: int) -> tuple[int, str]:
        played = lab.play(
            "site", inventory=inventories[number], podnet_backend=("vxlan", "routes")[number], podnet_verify=False
        )
        return played.code, played.output

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(run, range(2)))
    codes = [code for code, _output in results]
    assert sorted(code != 0 for code in codes) == [False, True], results
    winner, loser = codes.index(0), 1 - codes.index(0)
    assert HELD in results[loser][1] and "process" in results[loser][1], results[loser][1]
    assert [backend(lab, node) for node in WORKERS] == [("vxlan", "routes")[winner]] * 2
    assert [lease(lab, node) for node in WORKERS] == ["", ""]
    # Afterwards the other may have its way.
    assert run(loser)[0] == 0
    assert [backend(lab, node) for node in WORKERS] == [("vxlan", "routes")[loser]] * 2


@pytest.mark.long
def test_a_killed_run_is_taken_over(lab: Lab, tmp_path: Path) -> None:
    before = lab.snapshots()
    one, two = controllers(lab, tmp_path)
    words = [str(BIN / "ansible-playbook"), "--inventory", str(one), str(CHECKOUT / "playbooks" / "site.yml")]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    with subprocess.Popen(
        [*words, "--extra-vars", "podnet_backend=vxlan"], cwd=CHECKOUT, env=environment, stdout=subprocess.DEVNULL
    ) as first:
        assert until(lambda: all(lease(lab, node) for node in WORKERS), 500)
        first.send_signal(signal.SIGSTOP)
        try:
            assert json.loads(lease(lab, "worker-2"))["pid"] == first.pid
            # Neither another run nor a module by itself changes what the first has in hand.
            refused = lab.play("site", inventory=two, podnet_backend="routes", podnet_verify=False)
            assert refused.code != 0 and f"{HELD}" in refused.output, refused.output
            assert (
                f"process {first.pid}, since 20" in refused.output and "rm /run/weft-podnet/run.lock" in refused.output
            )
            reset = lab.play("reset", inventory=two, podnet_backend="routes")
            assert reset.code != 0 and HELD in reset.output, reset.output
            route = {"routes": [{"dst": "10.9.9.0/24", "via": "172.16.0.1"}], "persist": False}
            assert HELD in lab.module("worker-1", "pod_route", route).output
            # A dry run is kept from nothing.
            assert lab.play("site", "--check", inventory=two, podnet_backend="routes").code == 0
        finally:
            first.kill()
    second = lab.play("site", inventory=two, podnet_backend="routes")
    assert second.code == 0, second.output
    assert [backend(lab, node) for node in WORKERS] == ["routes", "routes"]
    assert lab.play("reset", inventory=two, podnet_backend="routes").code == 0
    assert unlike(before, lab.snapshots()) == []


@pytest.mark.long
@pytest.mark.parametrize("backend", ["vxlan", "routes", "bridge"])
def test_a_reset_leaves_the_system_running(lab: Lab, backend: str) -> None:
    state = "systemctl is-system-running --wait || true"
    assert [lab.sh(node, state) for node in WORKERS] == ["running\n"] * 2
    before = lab.snapshots()
    assert lab.play("site", podnet_backend=backend).code == 0
    assert lab.play("reset", podnet_backend=backend).code == 0
    assert unlike(before, lab.snapshots()) == []
    assert [lab.sh(node, state) for node in WORKERS] == ["running\n"] * 2
