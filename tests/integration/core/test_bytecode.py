# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module's archive is compiled once for each host, and never run from byte code of anything but its own source."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.forks import CHECKOUT
from support.netns import command

PLACE = "ansible_collections/weft/podnet/plugins"
KEPT = "core.problems"
PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.weft.podnet.plugins.module_utils.core import bytecode, problems
from ansible_collections.weft.podnet.plugins.module_utils.netlink import route
compiled = sorted(name.rpartition(".cpython")[0] for name in bytecode._compiled)
bytecode.keep()
print(json.dumps({"compiled": compiled, "problems": problems.Refused(["a", "b"]).problems, "file": problems.__file__}))
"""


class Host:
    """A mount namespace with a /var/lib of its own, and an archive as Ansible sends it."""

    def __init__(self, folder: Path) -> None:
        self.archive = folder / "module.zip"
        self._process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo; exec sleep infinity"],
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout and self._process.stdout.readline()
        self.sh("mount -t tmpfs -o size=8m,mode=755 tmpfs /var/lib")
        self.pack()

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()

    def pack(self, more: str = "") -> None:
        """The archive; ``more`` is added to the end of one file."""
        source = CHECKOUT / "plugins"
        with zipfile.ZipFile(self.archive, "w", zipfile.ZIP_DEFLATED) as archive:
            for folder in ("ansible_collections", "ansible_collections/weft", "ansible_collections/weft/podnet", PLACE):
                archive.writestr(f"{folder}/__init__.py", "")
            archive.writestr(f"{PLACE}/module_utils/__init__.py", "")
            for path in (*source.glob("module_utils/core/*.py"), *source.glob("module_utils/netlink/*.py")):
                text = path.read_text() + (more if path.match("core/problems.py") else "")
                archive.writestr(f"{PLACE}/{path.relative_to(source)}", text)

    def sh(self, script: str) -> str:
        return command("nsenter", "-t", str(self._process.pid), "-m", "--", "sh", "-c", script)

    def run(self, *before: str, archive: Path | None = None) -> dict[str, Any]:
        words = ["nsenter", "-t", str(self._process.pid), "-m", "--", *before, sys.executable, "-c", PROGRAM]
        return dict(json.loads(command(*words, str(archive or self.archive))))

    def files(self) -> list[str]:
        return self.sh("find /var/lib/weft-podnet -type f | sort").splitlines()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    made.end()


def managed(host: Host) -> Host:
    """With checkpoints, as after a run."""
    host.sh("mkdir -m 700 /var/lib/weft-podnet")
    return host


def test_a_host_without_checkpoints_gets_nothing(host: Host) -> None:
    assert KEPT in host.run()["compiled"]
    assert host.sh("ls /var/lib") == "" and KEPT in host.run()["compiled"]


def test_compiled_once_and_again_for_another_source(host: Host) -> None:
    first = managed(host).run()
    assert KEPT in first["compiled"] and "netlink.route" in first["compiled"]
    again = host.run()
    assert again["compiled"] == [] and again["problems"] == first["problems"] == ["a", "b"]
    assert again["file"] == f"{host.archive}/{PLACE}/module_utils/core/problems.py"
    assert all(line.endswith(".pyc") for line in host.files())
    before = host.files()
    host.pack(more="\nclass Refused(Exception):\n    problems = 'another'\n    def __init__(self, _each): pass\n")
    changed = host.run()
    assert (changed["compiled"], changed["problems"]) == ([KEPT], "another")
    assert host.run()["compiled"] == [] and host.files() == before


@pytest.mark.parametrize(
    "damage",
    ["truncate -s 0 $f", "truncate -s 100 $f", "truncate -s -9 $f", "printf zzzz | dd of=$f bs=1 seek=60 conv=notrunc"],
)
def test_a_damaged_file_is_replaced(host: Host, damage: str) -> None:
    managed(host).run()
    host.sh(f"f=$(ls /var/lib/weft-podnet/bytecode/{KEPT}.*); {damage}")
    damaged = host.run()
    assert (damaged["compiled"], damaged["problems"]) == ([KEPT], ["a", "b"])
    assert host.run()["compiled"] == []


@pytest.mark.parametrize("weakened", ["chmod 777 {0}", "chown 65534 {0}", "chmod 775 {0}/bytecode"])
def test_a_folder_that_others_can_write_to_is_left_alone(host: Host, weakened: str) -> None:
    managed(host).run()
    host.sh(weakened.format("/var/lib/weft-podnet"))
    host.sh("rm /var/lib/weft-podnet/bytecode/core.*")
    before = host.files()
    assert {KEPT, "netlink.route"} <= set(host.run()["compiled"]) and host.files() == before


def test_another_user_compiles(host: Host) -> None:
    managed(host).run()
    host.sh(f"install -m 644 {host.archive} /var/lib/module.zip")
    nobody = host.run("setpriv", "--reuid", "65534", "--clear-groups", archive=Path("/var/lib/module.zip"))
    assert nobody["compiled"] == [] and nobody["problems"] == ["a", "b"]


def test_a_full_disk_and_what_a_killed_run_left(host: Host) -> None:
    managed(host).sh("mkdir -m 700 /var/lib/weft-podnet/bytecode; echo >/var/lib/weft-podnet/bytecode/x.pyc.7")
    host.sh("cat /dev/zero >/var/lib/filler 2>/dev/null; true")
    assert host.run()["problems"] == ["a", "b"]
    host.sh("rm /var/lib/filler")
    host.run()
    assert host.run()["compiled"] == [] and all(line.endswith(".pyc") for line in host.files())


def test_ansibles_own_part_of_a_module_is_compiled_once_as_well(host: Host) -> None:
    managed(host)
    kept = "/var/lib/weft-podnet/bytecode/ansible.module_utils.basic.*"
    sizes = []
    for damage in ("true", f"truncate -s 100 {kept}"):
        host.sh(damage)
        host.sh("ansible localhost --connection local -m weft.podnet.pod_probe -a state=absent")
        sizes.append(int(host.sh(f"stat --format %s {kept}")))
    assert sizes[0] == sizes[1] > 1000
    names = {Path(line).name.partition(".cpython")[0] for line in host.files()}
    assert {"core.resource", "ansible.module_utils.common.arg_spec", "probe.run"} <= names
