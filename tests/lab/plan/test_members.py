# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Workers join and leave: nobody is forgotten, and no run is green where others can't answer a new worker."""

from __future__ import annotations

import pytest
import yaml

from support.lab import Lab, unlike


@pytest.mark.long
def test_a_new_worker_alone_and_one_that_left(routed: Lab) -> None:
    lab = routed
    lab.up(3)
    everyone = lab.hosts()
    two = {name: everyone[name] for name in ("worker-1", "worker-2")}
    fresh = lab.snapshots("worker-3")
    assert lab.play("site", inventory=lab.inventory_of(two), podnet_verify=False).code == 0

    # Only the new one is configured: nobody has a way back to it, whatever else went well.
    alone = lab.play("site", "--limit", "worker-3", inventory=lab.inventory_of(everyone))
    text = " ".join(alone.output.split())
    assert alone.code != 0, alone.output
    assert "worker-3: new, or moved, and worker-1, worker-2 did not learn the way to its pods" in text, alone.output
    assert lab.play("site", inventory=lab.inventory_of(everyone), podnet_verify=False).code == 0
    again = lab.play("site", "--limit", "worker-3", inventory=lab.inventory_of(everyone), podnet_verify=False)
    assert again.code == 0 and set(again.changed.values()) == {0}, again.output

    # It leaves without a reset, is named, and is still reached by what the lock file says.
    left = lab.play("site", inventory=lab.inventory_of(two), podnet_verify=False)
    text = " ".join(left.output.split())
    assert left.code == 0 and "worker-3 (10.244.2.0/24) left the inventory" in text, left.output
    others = lab.snapshots("worker-1", "worker-2")
    login = {
        key: value
        for key, value in everyone["worker-3"].items()
        if key.startswith("ansible_") and key != "ansible_host"
    }
    dry = lab.play("reset", "--check", inventory=lab.inventory_of(two), podnet_reset_left="worker-3", **login)
    assert dry.code == 0 and "worker-3" in yaml.safe_load((lab.folder / "podnet.lock.yml").read_text())["workers"]
    gone = lab.play("reset", inventory=lab.inventory_of(two), podnet_reset_left="worker-3", **login)
    assert gone.code == 0 and "worker-1" not in gone.recap and not unlike(fresh, lab.snapshots("worker-3")), gone.output
    assert not unlike(others, lab.snapshots("worker-1", "worker-2"))
    lock = yaml.safe_load((lab.folder / "podnet.lock.yml").read_text())
    assert list(lock["workers"]) == list(lock["pod_subnets"]) == ["worker-1", "worker-2"]
    quiet = lab.play("site", inventory=lab.inventory_of(two), podnet_verify=False)
    assert quiet.code == 0 and "left the inventory" not in quiet.output, quiet.output
