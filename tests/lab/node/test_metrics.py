# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Metrics on real nodes: written at the end of a run and of a verification that fails, and removed by a reset."""

from __future__ import annotations

from typing import Any

import pytest

from support.lab import Lab


@pytest.mark.long
def test_metrics(lab: Lab) -> None:
    folder = "/var/lib/prometheus/node-exporter"
    given: dict[str, Any] = {"podnet_backend": "vxlan", "podnet_metrics_dir": folder}
    made = lab.play("site", **given)
    assert made.code == 0, made.output
    text = lab.sh("worker-1", f"cat {folder}/podnet.prom")
    assert "podnet_peers_present 1\n" in text and "podnet_verify_success 1\n" in text, text
    assert 'podnet_drift{concern="vxlan"} 0\n' in text and 'podnet_leases_capacity{network="bridge"} 253\n' in text, (
        text
    )
    again = lab.play("site", **given)
    assert again.code == 0 and not any(again.changed.values()), again.output
    lab.sh("worker-2", "ip link set flannel.1 down")
    broken = lab.play("verify", **given)
    assert broken.code != 0, broken.output
    for node, drifts in (("worker-1", 0), ("worker-2", 1)):
        text = lab.sh(node, f"cat {folder}/podnet.prom")
        assert f'podnet_drift{{concern="vxlan"}} {drifts}\n' in text and "podnet_verify_success 0\n" in text, text
    assert "podnet_peers_present 0\n" in text, text
    # Without a verification, the last one's result stays.
    again = lab.play("site", podnet_verify=False, **given)
    assert again.code == 0, again.output
    text = lab.sh("worker-2", f"cat {folder}/podnet.prom")
    assert 'podnet_drift{concern="vxlan"} 0\n' in text and "podnet_peers_present 1\n" in text, text
    assert "podnet_verify_success 0\n" in text, text
    gone = lab.play("reset", **given)
    assert gone.code == 0, gone.output
    assert lab.sh("worker-1", f"ls {folder}").split() == []
