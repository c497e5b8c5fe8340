# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in for flannel's CNI plugin and its delegate, the releases and their publisher."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from standins import flannel_cni, release
from standins.flanneld.main import version_numbers
from support.flanneld_standin import ENV

# The CNI plugin


def test_the_delegate_is_a_bridge_with_this_nodes_subnet() -> None:
    conf = {
        "cniVersion": "1.0.0",
        "name": "cbr0",
        "type": "flannel",
        "delegate": {"hairpinMode": True, "isDefaultGateway": True},
        "ipam": {"routes": [{"dst": "192.0.2.0/24"}]},
        "runtimeConfig": {"mac": "02:00:00:00:00:01"},
    }
    assert flannel_cni.delegate_conf(conf, flannel_cni.parse_subnet_env(ENV)) == {
        "cniVersion": "1.0.0",
        "name": "cbr0",
        "type": "bridge",
        "hairpinMode": True,
        "isDefaultGateway": True,
        "isGateway": True,
        "ipMasq": False,
        "mtu": 1450,
        "runtimeConfig": {"mac": "02:00:00:00:00:01"},
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": "10.244.1.0/24"}]],
            "routes": [{"dst": "192.0.2.0/24"}, {"dst": "10.244.0.0/16"}],
        },
    }
    other = {"name": "x", "delegate": {"type": "macvlan", "mtu": 9000}}
    env = flannel_cni.parse_subnet_env(
        ENV.replace("true", "false") + "FLANNEL_IPV6_NETWORK=fd00::/48\nFLANNEL_IPV6_SUBNET=fd00::1/64\n"
    )
    found = flannel_cni.delegate_conf(other, env)
    assert (found["type"], found["mtu"], found["ipMasq"], "isGateway" in found) == ("macvlan", 9000, True, False)
    assert found["ipam"]["ranges"] == [[{"subnet": "10.244.1.0/24"}], [{"subnet": "fd00::/64"}]]
    assert found["ipam"]["routes"] == [{"dst": "10.244.0.0/16"}, {"dst": "fd00::/48"}]


@pytest.mark.parametrize("key", ["name", "ipam"])
def test_a_delegate_must_not_say_what_flannel_says(key: str) -> None:
    with pytest.raises(flannel_cni.CniError, match=f"must not have '{key}' field"):
        flannel_cni.delegate_conf({"delegate": {key: "x"}}, flannel_cni.parse_subnet_env(ENV))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "",
            "missing FLANNEL_NETWORK, FLANNEL_IPV6_NETWORK, FLANNEL_SUBNET, FLANNEL_IPV6_SUBNET, "
            "FLANNEL_MTU, FLANNEL_IPMASQ",
        ),
        (ENV.replace("FLANNEL_MTU", "X"), "subnet.env is missing FLANNEL_MTU."),
        (ENV.replace("10.244.1.1/24", "10.244.1.1"), "invalid CIDR address: 10.244.1.1"),
    ],
)
def test_wrong_subnet_env(text: str, said: str) -> None:
    with pytest.raises(flannel_cni.CniError, match=said):
        flannel_cni.parse_subnet_env(text)


def test_the_plugin_answers_as_a_process(tmp_path: Path) -> None:
    plugin = tmp_path / "flannel"
    plugin.write_bytes(release.flannel_cni("v1.7.1-flannel2", {}))
    plugin.chmod(0o755)

    def call(stdin: str = "", **environ: str) -> tuple[int, Any]:
        done = subprocess.run(
            [str(plugin)],
            input=stdin,
            env={"PATH": os.environ["PATH"], **environ},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr

    assert call(CNI_COMMAND="VERSION") == (0, {"cniVersion": "1.1.0", "supportedVersions": flannel_cni.SUPPORTED})
    code, text = call()
    assert code == 0 and "flannel version v1.7.1-flannel2 (stand-in)" in text
    said = "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH] missing"
    assert call(CNI_COMMAND="ADD") == (1, {"code": 4, "msg": said})
    environ = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "a",
        "CNI_NETNS": "/x",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/nowhere:/y",
    }
    code, answer = call('{"cniVersion": "9.9.9", "name": "cbr0"}', **environ)
    assert (code, answer["code"], answer["msg"]) == (1, 1, "incompatible CNI versions")
    (tmp_path / "subnet.env").write_text(ENV)
    conf = {
        "cniVersion": "1.0.0",
        "name": "cbr0",
        "subnetFile": str(tmp_path / "subnet.env"),
        "dataDir": str(tmp_path / "data"),
    }
    said = 'failed to delegate add: failed to find plugin "bridge" in path [/nowhere /y]'
    assert call(json.dumps(conf), **environ) == (1, {"code": 999, "msg": said})
    assert (tmp_path / "data" / "a").stat().st_mode & 0o777 == 0o600


# Releases


def test_releases_have_upstreams_names_and_always_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    for folder in (first, second):
        folder.mkdir()
        release.build_flannel(folder, "v0.27.2", ["amd64", "riscv64"])
        release.build_cni_plugin(folder, "v1.7.1-flannel2", ["386"])
        (folder / "plugins").mkdir()
        (folder / "plugins" / "bridge").write_text("a plugin")
        release.build_plugins(folder, "v1.7.1", ["mips64le"], folder / "plugins")
    names = sorted(path.name for path in first.iterdir() if path.is_file())
    assert names == [
        "cni-plugin-flannel-linux-386-v1.7.1-flannel2.tgz",
        "cni-plugin-flannel-linux-386-v1.7.1-flannel2.tgz.sha256",
        "cni-plugins-linux-mips64le-v1.7.1.tgz",
        "cni-plugins-linux-mips64le-v1.7.1.tgz.sha256",
        "flannel-v0.27.2-linux-amd64.tar.gz",
        "flannel-v0.27.2-linux-riscv64.tar.gz",
    ]
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)
    assert [release.asset(name) for name in names[::2]] == [
        ("flannel-io/cni-plugin", "v1.7.1-flannel2"),
        ("containernetworking/plugins", "v1.7.1"),
        ("flannel-io/flannel", "v0.27.2"),
    ]
    assert release.asset("cni-plugin-flannel-windows-amd64-v1.7.1-flannel2.tgz") is None
    subprocess.run(["sha256sum", "--check", "--quiet", names[1], names[3]], cwd=first, check=True)
    assert _members(first / names[4]) == {"README.md": 0o644, "flanneld": 0o755, "mk-docker-opts.sh": 0o755}
    assert _members(first / names[0]) == {"flannel-386": 0o755} and _members(first / names[2]) == {"./bridge": 0o755}


def test_flanneld_is_one_file_that_tells_its_version_and_may_be_broken(tmp_path: Path) -> None:
    for version, broken, said in (
        ("v0.27.2", False, "has no etcd subnet manager"),
        ("v0.27.3", True, "is broken by intention"),
    ):
        binary = tmp_path / version
        binary.write_bytes(release.flanneld(version, broken, {}))
        binary.chmod(0o755)
        command = [sys.executable, str(binary)]
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
        assert done.stderr == f"{version}\n" and done.stdout == ""
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1 and said in done.stderr
    assert version_numbers("v0.27.2") == (0, 27, 2) and version_numbers("v0.28.0-rc1") == (0, 28, 0)


def test_real_binaries_are_packed_where_given(tmp_path: Path) -> None:
    (tmp_path / "flanneld").write_bytes(b"real")
    environ = {"PODNET_REAL_BINARIES": str(tmp_path)}
    assert release.flanneld("v0.27.2", environ=environ) == b"real"
    assert release.flanneld("v0.27.2", broken=True, environ=environ) != b"real"
    assert release.flannel_cni("v1.7.1-flannel2", environ).startswith(b"#!/usr/bin/env python3\n")


def test_the_publisher_answers_as_github_does_and_counts(tmp_path: Path) -> None:
    archive, *_others = release.build_flannel(tmp_path, "v0.27.2", ["amd64"])
    release.build_cni_plugin(tmp_path, "v1.7.1-flannel2", ["amd64"])
    name, digest = archive.name, hashlib.sha256(archive.read_bytes()).hexdigest()
    with release.Publisher(tmp_path) as publisher:
        path = f"/flannel-io/flannel/releases/download/v0.27.2/{name}"
        assert _get(publisher.url + path) == archive.read_bytes()
        answer = json.loads(_get(f"{publisher.url}/repos/flannel-io/flannel/releases/tags/v0.27.2"))
        assert [(found["name"], found["digest"]) for found in answer["assets"]] == [(name, f"sha256:{digest}")]
        assert answer["assets"][0]["browser_download_url"] == publisher.url + path
        sums = json.loads(_get(f"{publisher.url}/repos/flannel-io/cni-plugin/releases/tags/v1.7.1-flannel2"))
        assert len(sums["assets"]) == 2
        publisher.digests[name] = "sha256:other"
        assert b"sha256:other" in _get(f"{publisher.url}/repos/flannel-io/flannel/releases/tags/v0.27.2")
        for wrong in (
            path.replace("flannel-io/flannel", "flannel-io/cni-plugin"),
            "/repos/a/b/releases/tags/v1",
            "/../x",
        ):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                _get(publisher.url + wrong)
        assert (
            publisher.requests[path] == 1 and publisher.requests["/repos/flannel-io/flannel/releases/tags/v0.27.2"] == 2
        )


def _members(archive: Path) -> dict[str, int]:
    with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as opened:
        assert all(member.uid == 0 and member.isfile() for member in opened)
        return {member.name: member.mode for member in opened}


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=5) as response:
        return bytes(response.read())
