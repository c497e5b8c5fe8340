# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster whose inventory and lock file are lost: what discover.yml writes keeps it, and it changes no node."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from standins.control_plane import ControlPlane
from support.lab import Lab, unlike, until

NODES = ("control-plane", "worker-1", "worker-2")
BACKENDS: dict[str, dict[str, Any]] = {
    "routes": {"podnet_masquerade_exclude": ["198.51.100.0/24"], "podnet_bridge_name": "pods0"},
    "vxlan": {"podnet_vxlan_vni": 7, "podnet_vxlan_direct_routing": True, "podnet_pod_cidr": "10.200.0.0/16"},
}
# As a lesson has it: a bridge by hand on each node, and a route to the other.
BY_HAND = """
mkdir -p /etc/cni/net.d
cat >/etc/cni/net.d/10-mynet.conf <<'EOF'
{"cniVersion": "0.4.0", "name": "mynet", "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
 "ipam": {"type": "host-local", "subnet": "10.22.%s.0/24", "routes": [{"dst": "0.0.0.0/0"}]}}
EOF
ip route add 10.22.%s.0/24 via 172.16.0.%s
"""


START = {
    "worker-1": "systemd-run --quiet --unit=by-hand -E NODE_NAME=%s /usr/local/bin/flanneld %s",
    "worker-2": """
printf '[Service]\\nType=notify\\nEnvironment=NODE_NAME=%s\\nExecStart=/usr/local/bin/flanneld %s\\n' \
    >/etc/systemd/system/flanneld.service
systemctl daemon-reload && systemctl start flanneld
""",
}


def discovered(lab: Lab, name: str = "adopted") -> tuple[Path, str]:
    """(the written inventory, what was printed) of one that names hosts and how they are reached, no more.

    The nodes stay as they are, and what an earlier run kept beside the inventory is gone.
    """
    whole = yaml.safe_load(lab.inventory.read_text())
    for group in whole.values():
        group["vars"] = {name: each for name, each in group.get("vars", {}).items() if not name.startswith("podnet_")}
    hosts = lab.folder / "hosts.yml"
    hosts.write_text(yaml.safe_dump(whole))
    (lab.folder / "podnet.lock.yml").unlink(missing_ok=True)
    lab.variables.clear()
    folder = lab.folder / name
    before = lab.snapshots(*NODES)
    told = lab.play("discover", inventory=hosts, podnet_discover_to=str(folder))
    assert told.code == 0, told.output
    assert unlike(before, lab.snapshots(*NODES)) == []
    return folder / "inventory.yml", told.output


@pytest.mark.long
@pytest.mark.parametrize("backend", BACKENDS)
def test_what_was_discovered_changes_nothing(lab: Lab, backend: str) -> None:
    made = lab.play("site", podnet_backend=backend, **BACKENDS[backend])
    assert made.code == 0, made.output
    lock = yaml.safe_load((lab.folder / "podnet.lock.yml").read_text())
    inventory, _output = discovered(lab)
    assert yaml.safe_load(inventory.with_name("podnet.lock.yml").read_text())["pod_subnets"] == lock["pod_subnets"]
    written = yaml.safe_load(inventory.read_text())["workers"]["vars"]
    assert {"podnet_backend": backend, **BACKENDS[backend]}.items() <= written.items(), json.dumps(written)
    before = inventory.with_name("podnet.lock.yml").read_text()
    dry = lab.play("site", "--check", "--diff", inventory=inventory, podnet_drift="report")
    assert dry.code == 0 and not any(dry.changed.values()), dry.output
    assert "nothing to change" in dry.output, dry.output
    run = lab.play("site", inventory=inventory)
    assert run.code == 0 and not any(run.changed.values()), run.output
    assert inventory.with_name("podnet.lock.yml").read_text() == before


@pytest.mark.long
def test_flannel(lab: Lab, plane: ControlPlane) -> None:
    made = lab.play("site")
    assert made.code == 0, made.output
    inventory, _output = discovered(lab)
    # The nodes know which releases they have, and not where the controller finds them.
    known = yaml.safe_load((lab.folder / "group_vars/workers.yml").read_text())
    given = {name: each for name, each in known.items() if name.startswith("podnet_artifacts_")}
    dry = lab.play("site", "--check", "--diff", inventory=inventory, podnet_drift="report", **given)
    assert dry.code == 0 and "2 workers: nothing to change" in dry.text, dry.output

    # The same flanneld without a unit of the collection's: from a shell on one worker, in a unit by hand on the other.
    for node in ("worker-1", "worker-2"):
        words = lab.sh(node, "tr '\\0' ' ' </proc/$(systemctl show -P MainPID flanneld)/cmdline")
        options = words[words.index("--kube-subnet-mgr") :].strip()
        lab.sh(
            node, "systemctl disable --now flanneld; rm /etc/systemd/system/flanneld.service; systemctl daemon-reload"
        )
        lab.sh(node, START[node] % (node, options))
    assert until(lambda: "flanneld" in lab.sh("worker-1", "pgrep -l flanneld || true"), 30)
    again, output = discovered(lab, "by-hand")
    assert "its flanneld has no unit" in " ".join(output.split()) and "site.yml takes it over" in output, output
    # Only that one worker's is to be taken over.
    hosts = [yaml.safe_load(path.read_text())["workers"]["hosts"] for path in (inventory, again)]
    assert hosts[1]["worker-2"].pop("podnet_flannel_adopt") is True and hosts[0] == hosts[1]
    refused = lab.play("site", "--check", inventory=again, **given)
    assert refused.code != 0 and "is a flanneld that flanneld.service does not run" in refused.text, refused.output


@pytest.mark.long
def test_routes_by_hand_are_adopted(lab: Lab) -> None:
    for number, (own, other, address) in {1: (1, 2, 4), 2: (2, 1, 3)}.items():
        lab.sh(f"worker-{number}", BY_HAND % (own, other, address))
    inventory, output = discovered(lab)
    assert "10.22.0.0/22 is the smallest network" in " ".join(output.split()), output
    assert "site.yml refuses beside them" in " ".join(output.split()), output
    dry = lab.play("site", "--check", "--diff", inventory=inventory)
    commands = set(re.findall(r"remove it \((ip route del [^)]+)\)", dry.text))
    assert dry.code != 0 and len(commands) == 2, dry.output
    for command in commands:
        lab.sh(f"worker-{1 if '172.16.0.4' in command else 2}", command)
    run = lab.play("site", inventory=inventory)
    assert run.code == 0 and "12 of 12 promised pairs pass" in run.output, run.output
    # Each kept its subnet.
    for number in (1, 2):
        assert f"10.22.{number}.0/24" in lab.sh(f"worker-{number}", "cat /etc/cni/net.d/10-bridge.conflist")
