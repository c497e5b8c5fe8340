# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook diagnose looks at every host that answers, names those that do not, and fails where pods are broken."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from support.inventories import play

LOCAL = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}
# Nothing listens there.
GONE = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}


def test_hosts_that_do_not_answer_are_named_and_the_others_are_judged(tmp_path: Path) -> None:
    hosts = {"worker-1": {**LOCAL, "ansible_host": "192.0.2.1"}, "worker-2": GONE}
    path = tmp_path / "inventory.yml"
    groups = {"workers": {"hosts": hosts}, "control_plane": {"hosts": {"control-plane": LOCAL}}}
    path.write_text(yaml.safe_dump({"all": {"children": groups}}))
    code, output = play("diagnose", path)
    assert code != 0 and "ERROR worker-2: The host could not be looked at [not-observed]" in output, output
    # The same machine twice.
    assert "rules on 2 hosts, no plan" in output and "[machine-id-duplicate]" in output, output
    assert "The pod network is broken" in output and "Traceback" not in output, output
