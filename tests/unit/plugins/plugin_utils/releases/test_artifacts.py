# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files a cluster needs: upstream names and addresses, architectures by any name, bad values told at once."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.plugin_utils.releases import artifacts

FLANNEL = {"flannel": "v0.27.2"}
DIGEST = "ab" * 32


def refused(function: Any, *args: Any) -> list[str]:
    with pytest.raises(Refused) as caught:
        function(*args)
    return caught.value.problems


def test_files_have_their_upstream_names() -> None:
    """The names and members are those of the publishers' own release scripts."""
    versions = {"flannel": "v0.27.2", "flannel_cni": "v1.7.1-flannel2", "cni_plugins": "v1.6.2"}
    found = {item.name: item.members for item in artifacts.wanted(versions, ["amd64", "arm64"])}
    assert found == {
        "flannel-v0.27.2-linux-amd64.tar.gz": ("flanneld",),
        "flannel-v0.27.2-linux-arm64.tar.gz": ("flanneld",),
        "cni-plugin-flannel-linux-amd64-v1.7.1-flannel2.tgz": ("flannel-amd64",),
        "cni-plugin-flannel-linux-arm64-v1.7.1-flannel2.tgz": ("flannel-arm64",),
        "cni-plugins-linux-amd64-v1.6.2.tgz": ("bridge", "host-local", "portmap"),
        "cni-plugins-linux-arm64-v1.6.2.tgz": ("bridge", "host-local", "portmap"),
    }


def test_addresses() -> None:
    (flannel,) = artifacts.wanted(FLANNEL, ["arm64"])
    name = "flannel-v0.27.2-linux-arm64.tar.gz"
    assert flannel.url("https://x") == f"https://x/flannel-io/flannel/releases/download/v0.27.2/{name}"
    assert flannel.api_url("https://y") == "https://y/repos/flannel-io/flannel/releases/tags/v0.27.2"
    (cni,) = artifacts.wanted({"flannel_cni": "v1.7.1-flannel2"}, ["386"])
    assert cni.url("https://x").startswith("https://x/flannel-io/cni-plugin/releases/download/v1.7.1-flannel2/")
    assert cni.sidecar and not flannel.sidecar


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["x86_64"], ["amd64"]),
        (["x86_64", "amd64", "aarch64"], ["amd64", "arm64"]),
        (["armv7l"], ["arm"]),
        (["armhf", "ppc64el"], ["arm", "ppc64le"]),
        (["s390x", "riscv64"], ["riscv64", "s390x"]),
    ],
)
def test_architectures_by_any_name_and_each_once(given: list[str], meant: list[str]) -> None:
    assert [item.architecture for item in artifacts.wanted(FLANNEL, given)] == meant


def test_components_without_a_version_are_left_out() -> None:
    versions = {"flannel": "v0.27.2", "flannel_cni": None, "cni_plugins": ""}
    assert [item.component for item in artifacts.wanted(versions, ["amd64"])] == ["flannel"]


@pytest.mark.parametrize(
    ("components", "architectures", "pieces"),
    [
        (FLANNEL, ["sparc64"], ["architectures: sparc64: flannel has no release for it; expected one of amd64, arm, "]),
        (FLANNEL, ["i686"], ["architectures: 386: flannel has no release"]),
        (FLANNEL, ["armv6l"], ["architectures: armv6l"]),
        (FLANNEL, [], ["architectures: is empty"]),
        ({}, ["amd64"], ["components: none has a version"]),
        ({"flannel": "0.27.2"}, ["amd64"], ["components: flannel: version '0.27.2': expected the release's tag"]),
        ({"flannel": "v0.27.2/../.."}, ["amd64"], ["components: flannel: version"]),
        ({"flannel": "latest"}, ["amd64"], ["components: flannel: version 'latest'"]),
        ({"flanel": "v1.0.0", "flannel": "1"}, ["vax"], ["flanel: expected one of", "version '1'", "vax"]),
    ],
)
def test_bad_values_are_told_all_at_once(
    components: dict[str, str], architectures: list[str], pieces: list[str]
) -> None:
    problems = refused(artifacts.wanted, components, architectures)
    assert len(problems) == len(pieces), problems
    assert all(piece in problem for piece, problem in zip(pieces, problems))


def test_a_users_own_digests() -> None:
    name = "flannel-v0.27.2-linux-amd64.tar.gz"
    assert artifacts.digests({name: f"sha256:{DIGEST.upper()}"}) == {name: DIGEST}
    assert artifacts.digests({"cni-plugin-flannel-linux-386-v1.7.1-flannel2.tgz": DIGEST})
    problems = refused(artifacts.digests, {name: "abc", "flannel-v0.27.2-linux-amd64.tgz": DIGEST})
    assert "expected 64 hexadecimal digits" in problems[0] and "no release has a file of this name" in problems[1]


@pytest.mark.parametrize(
    ("text", "good"),
    [("https://mirror.example/x", True), ("http://[fd00::1]:8080", True)]
    + [(text, False) for text in ("mirror.example", "ftp://x/y", "file:///etc", "http://", "http://[x")],
)
def test_web_addresses(text: str, good: bool) -> None:
    assert artifacts.is_web_address(text) is good
