# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A compromised worker: what its modules return never decides what happens beyond that worker.

Its interpreter runs every module and adds facts to what the module returns. Ansible ranks them above role defaults and
the host's inventory variables, inventory_hostname included.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from standins.control_plane import ControlPlane
from support.flannel import WORKERS
from support.lab import Lab

PKI = "/etc/kubernetes/pki"
# Every module of Ansible leaves through here: what it printed, with facts of the attacker's choice.
INTERPRETER = r"""#!/usr/bin/python3 -I
import json, os, subprocess, sys
done = subprocess.run(["/usr/bin/python3", *sys.argv[1:]], stdin=sys.stdin.buffer, stdout=subprocess.PIPE)
lines = done.stdout.decode(errors="replace").splitlines()
for number, line in enumerate(lines):
    try:
        result = json.loads(line)
    except ValueError:
        continue
    if isinstance(result, dict):
        result["ansible_facts"] = {**(result.get("ansible_facts") or {}), **json.load(open("/root/facts.json"))}
        lines[number] = json.dumps(result)
print("\n".join(lines))
sys.exit(done.returncode)
"""


def lies(secret: Path) -> dict[str, Any]:
    """Facts that would pay: other people's secrets, another node's identity, other files of the controller."""
    loot = {"version": "v0.27.2", "architecture": "amd64", "name": "loot", "path": str(secret), "sha256": "0" * 64}
    return {
        "inventory_hostname": "worker-2",
        "inventory_dir": str(secret.parent / "elsewhere"),
        "podnet_node_name": "worker-2",
        "podnet_flannel_cert_days": 3650,
        "podnet_flannel_identity": "shared",
        "podnet_ca_certificate": f"{PKI}/ca.key",
        "podnet_ca_key": "/etc/shadow",
        "podnet_admin_kubeconfig": "/root/of-my-choice",
        "podnet_api_server": "https://attacker:6443",
        "podnet_flannel_rbac_minimal": True,
        "podnet_lock_file": str(secret.parent / "elsewhere" / "lock.yml"),
        "podnet_cache_dir": str(secret.parent / "elsewhere"),
        "podnet_artifacts_dir": str(secret.parent),
        "podnet_artifacts_url": "http://attacker/",
        "podnet_artifacts_sha256": {},
        "podnet_cni_plugins_source": "release",
        "podnet_workers_group": "control_plane",
        "podnet_control_plane_group": "workers",
        "podnet_serial": 7,
        "podnet_backend": "routes",
        "podnet_reset_rbac": True,
        "podnet_reset_certificates": True,
        "podnet_cluster": {"backend": "routes"},
        "podnet_node": {"name": "worker-2"},
        "podnet_artifacts": {"artifacts": [{**loot, "component": name} for name in ("flannel", "cni_plugins")]},
        "podnet_archives": [str(secret)],
        "podnet_ca": {"content": ""},
        "__podnet_given": {"flannel_backend": {"Type": "udp"}, "force": True},
        "__podnet_look": {"results": []},
        "__podnet_flannel_request": {"results": [{"csr": "of my own", "organizations": ["system:masters"]}]},
        "__podnet_flannel_signed": {"certificates": {}},
    }


def corrupt(lab: Lab, node: str, facts: dict[str, Any]) -> None:
    for path, text in (("/root/python", INTERPRETER), ("/root/facts.json", json.dumps(facts))):
        lab.sh(node, f"printf %s {shlex.quote(text)} >{path}; chmod 755 {path}")


def sums(lab: Lab) -> str:
    return lab.sh("control-plane", f"md5sum {PKI}/ca.crt {PKI}/ca.key /etc/shadow /etc/kubernetes/admin.conf")


@pytest.mark.parametrize("identity", ["per_node", pytest.param("shared", marks=pytest.mark.long)])
def test_what_a_worker_returns_decides_nothing_beyond_it(
    lab: Lab, plane: ControlPlane, tmp_path: Path, identity: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a file of the controller")
    corrupt(lab, "worker-1", lies(secret))
    hosts = lab.hosts()
    hosts["worker-1"]["ansible_python_interpreter"] = "/root/python"
    inventory = lab.inventory_of(hosts)
    before = sums(lab)
    lab.variables["podnet_flannel_identity"] = identity

    made = lab.play("site", "-v", inventory=inventory)
    assert "Traceback" not in made.output
    # The collection's own modules return no facts; the first other module does, and the next task sees them.
    assert made.code == 0 or "its facts hold" in " ".join(made.output.split()), made.output
    for text in (lab.sh("control-plane", f"sed -n 2p {PKI}/ca.key").strip(), secret.read_text()):
        holds = f"find / -xdev -type f -newer /root/facts.json -exec grep -lF -e {shlex.quote(text)} {{}} + || true"
        assert text and not lab.sh("worker-1", holds) and text not in made.output
    assert not (tmp_path / "elsewhere").exists() and sums(lab) == before
    # The control plane is no worker, whatever a worker says of the groups.
    assert "weft-podnet" not in lab.sh("control-plane", "ls /etc/systemd/system /opt /etc /etc/cni/net.d 2>&1 || true")
    rules = json.loads(plane.kubectl("get", "clusterrole", "system:flannel", "--output", "json"))["rules"]
    assert ["pods"] in [rule["resources"] for rule in rules]
    # Whoever has a certificate has the one that the inventory gives it, for as long as the inventory says.
    for node in WORKERS if identity == "per_node" else ():
        described = lab.sh(node, f"openssl x509 -noout -subject -in {PKI}/flannel.crt 2>/dev/null || true")
        assert not described or f"podnet:node:{node}" in described, described
        expires = lab.sh(node, f"openssl x509 -checkend {366 * 86400} -noout -in {PKI}/flannel.crt 2>&1 || true")
        assert not described or "will expire" in expires, expires

    lab.play("reset", inventory=inventory)
    assert "system:flannel" in plane.kubectl("get", "clusterrole", "--output", "name")
    assert sums(lab) == before


def test_facts_from_another_play_are_refused_before_any_host_is_touched(lab: Lab, tmp_path: Path) -> None:
    """A play of the user's that gathers facts first: what the worker says there must not become the plan."""
    corrupt(lab, "worker-1", {"podnet_protect": ["0.0.0.0/0"], "inventory_hostname": "worker-2"})
    hosts = lab.hosts()
    hosts["worker-1"]["ansible_python_interpreter"] = "/root/python"
    inventory = lab.inventory_of(hosts)
    before = lab.snapshots()
    playbook = tmp_path / "mine.yml"
    playbook.write_text(
        "- {hosts: workers, gather_facts: true, tasks: []}\n- ansible.builtin.import_playbook: weft.podnet.site\n"
    )
    refused = lab.run(playbook, inventory=inventory, podnet_backend="routes")
    assert refused.code != 0 and lab.snapshots() == before
    assert "worker-1: its facts hold inventory_hostname, podnet_protect" in " ".join(refused.output.split())
