# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What node_preflight finds, versions included, before anything on a host is changed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.cni import links as plugin_links
from ansible_collections.weft.podnet.plugins.module_utils.core import interpreter, tools
from ansible_collections.weft.podnet.plugins.module_utils.node import checks as preflight

OLD = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0"]
ASK = "import runpy, json; f = runpy.run_path({path!r}); print(json.dumps([f[n]() for n in ('distribution_serves',)]))"


class Command:
    """run_command with one answer."""

    def __init__(self, out: str = "", code: int = 0, err: str = "") -> None:
        self.answer, self.seen = (code, out, err), list[list[str]]()

    def __call__(self, words: list[str], **_options: object) -> tuple[int, str, str]:
        self.seen.append(words)
        return self.answer


def plugin(folder: Path, name: str, versions: list[str]) -> None:
    """A CNI plugin that speaks these versions."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{json.dumps({'cniVersion': '1.0.0', 'supportedVersions': versions})}'\n")
    path.chmod(0o755)


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "usr/lib/cni"
    monkeypatch.setattr(plugin_links, "DISTRIBUTION_FOLDERS", (str(folder),))
    return folder


def test_old_plugins_of_the_distribution_are_found_in_the_look(tmp_path: Path, distribution: Path) -> None:
    plugin(distribution, "bridge", OLD)
    plugin(distribution, "host-local", [*OLD, "1.0.0"])

    def found(source: str, version: str = "1.0.0", bin_dir: Path = tmp_path / "bin") -> list[str]:
        return preflight.plugin_versions(Command(), str(bin_dir), ["bridge", "host-local"], source, version)

    (told,) = found("distribution")
    assert f"{distribution}/bridge: it does not support cniVersion 1.0.0, only 0.1.0" in told
    assert "set podnet_cni_plugins_source: release" in told
    assert found("distribution", "0.4.0") == [] and found("release") == []
    # Where the collection's own links lead does not matter: they are going to be turned.
    links = tmp_path / "links"
    links.mkdir()
    (links / "bridge").symlink_to(distribution / "bridge")
    assert found("release", bin_dir=links) == [] and len(found("distribution", bin_dir=links)) == 1
    # A file that is not the collection's stays.
    plugin(tmp_path / "bin", "host-local", OLD)
    told_all = found("release")
    assert len(told_all) == 1 and "it is not the collection's, so it stays" in told_all[0]
    assert len(found("none")) == 1


def test_a_package_that_is_too_old_is_found_before_it_is_installed(
    tmp_path: Path, distribution: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin(tmp_path / "apt", "apt-cache", [])
    monkeypatch.setattr(tools, "SEARCH_PATH", str(tmp_path / "apt"))
    policy = "containernetworking-plugins:\n  Installed: (none)\n  Candidate: {}\n"

    def found(candidate: str) -> list[str]:
        apt = Command(policy.format(candidate))
        return preflight.plugin_versions(apt, str(tmp_path / "bin"), ["bridge"], "distribution", "1.0.0")

    (told,) = found("0.9.0-1+b6")
    assert "offers containernetworking-plugins 0.9.0" in told and "podnet_cni_plugins_source: release" in told
    assert found("1.1.1+ds1-3+b20") == [] and found("(none)") == []


def test_neither_nft_nor_iptables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "SEARCH_PATH", str(tmp_path))
    assert preflight.masquerade(Command(), "auto", [4]) == ("nft", "")
    assert preflight.masquerade(Command(), "iptables", [4]) == ("iptables", "")
    assert preflight.packages(["nft"], "debian") == ["nftables"]
    # It is installed, but the kernel refuses.
    plugin(tmp_path, "nft", [])
    plugin(tmp_path, "iptables", [])
    command, problem = preflight.masquerade(Command(code=1, err="Operation not supported"), "auto", [4])
    assert not command and "the kernel refuses nft list tables: Operation not supported" in problem
    assert preflight.masquerade(Command(), "auto", [4]) == ("", "")


def test_kernel_modules() -> None:
    assert preflight.kernel_modules(Command(), ["vxlan-of-tests"]) == []
    refused = Command(code=1, err="modprobe: FATAL: Module vxlan-of-tests not found")
    (told,) = preflight.kernel_modules(refused, ["vxlan-of-tests"])
    assert told.startswith("vxlan-of-tests: this kernel can't load the module (modprobe: FATAL")
    assert refused.seen == [["modprobe", "--dry-run", "vxlan-of-tests"]]


def test_the_runtime_of_the_probe_pods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "SEARCH_PATH", str(tmp_path))
    told = preflight.runtime(str(tmp_path / "containerd.sock"))
    assert len(told) == 3 and all("podnet_verify: false" in line for line in told), told


def test_a_package_of_the_distribution_does_not_reach_a_virtual_environment(tmp_path: Path) -> None:
    system = "/usr/bin/python3"
    ask = ASK.format(path=interpreter.__file__)
    subprocess.run([system, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    answers = [
        json.loads(subprocess.check_output([python, "-c", ask], text=True))
        for python in (system, f"{tmp_path}/venv/bin/python")
    ]
    assert answers == [[True], [False]]


def test_the_interpreter_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter, "OLDEST", {"none_such": "1.2", "pytest": "9999"})
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if not folder.startswith("/usr")])
    packages, (missing, old) = preflight.missing_python(["none_such", "pytest"])
    assert packages == []
    assert missing == (
        f"{sys.executable} can't import the Python package none_such; the distribution's python3-none_such serves only "
        f"/usr/bin/python3: run {sys.executable} -m pip install 'none_such>=1.2', "
        "or set ansible_python_interpreter: /usr/bin/python3 for this host"
    )
    assert "which is older than 9999" in old
    monkeypatch.setattr(interpreter, "distribution_serves", lambda: True)
    packages, (old,) = preflight.missing_python(["none_such", "pytest"])
    assert packages == ["none_such"] and "install the package python3-pytest, 9999 or newer" in old
