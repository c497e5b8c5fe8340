# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which release files a cluster needs, what their publishers call them, and where they are published. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused


class Component(NamedTuple):
    """One publisher's release.

    ``file`` and ``members`` are patterns with ``{version}`` and ``{architecture}``; ``members`` are files that the
    archive must hold. ``sidecar`` says whether a ``.sha256`` is published beside each archive.
    """

    repository: str
    file: str
    architectures: tuple[str, ...]
    members: tuple[str, ...]
    sidecar: bool


# Where publishers have their releases, and where they say what a file's SHA-256 is.
RELEASES = "https://github.com"
RELEASES_API = "https://api.github.com"

COMMON = ("amd64", "arm", "arm64", "ppc64le", "riscv64", "s390x")
COMPONENTS = {
    "flannel": Component(
        "flannel-io/flannel", "flannel-{version}-linux-{architecture}.tar.gz", COMMON, ("flanneld",), sidecar=False
    ),
    "flannel_cni": Component(
        "flannel-io/cni-plugin",
        "cni-plugin-flannel-linux-{architecture}-{version}.tgz",
        tuple(sorted((*COMMON, "386"))),
        ("flannel-{architecture}",),
        sidecar=True,
    ),
    "cni_plugins": Component(
        "containernetworking/plugins",
        "cni-plugins-linux-{architecture}-{version}.tgz",
        tuple(sorted((*COMMON, "mips64le"))),
        ("bridge", "host-local", "portmap"),
        sidecar=True,
    ),
}

# What a kernel (uname -m) or Debian calls them, by the name in a release. 32-bit ARM below version 7 is left out:
# Go builds for version 7.
OTHER_NAMES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "armv8l": "arm",
    "armhf": "arm",
    "i386": "386",
    "i686": "386",
    "mips64el": "mips64le",
    "ppc64el": "ppc64le",
}

VERSION = re.compile(r"v\d+\.\d+\.\d+(-[0-9A-Za-z.]+)*")
SHA256 = re.compile(r"[0-9a-f]{64}")


class Artifact(NamedTuple):
    """One file of a release, under its upstream name; ``members`` are the files that it must hold."""

    component: str
    version: str
    architecture: str
    name: str
    members: tuple[str, ...]

    def url(self, release_base: str) -> str:
        return f"{release_base}/{self._repository}/releases/download/{self.version}/{self.name}"

    def api_url(self, api_base: str) -> str:
        """GitHub's REST answer about the release: https://docs.github.com/en/rest/releases/releases."""
        return f"{api_base}/repos/{self._repository}/releases/tags/{self.version}"

    @property
    def sidecar(self) -> bool:
        return COMPONENTS[self.component].sidecar

    @property
    def _repository(self) -> str:
        return COMPONENTS[self.component].repository


def wanted(components: Mapping[str, str | None], architectures: Sequence[str]) -> list[Artifact]:
    """Every file of the components (name -> version; one without a version is left out), for every architecture.

    Architectures are named as Go, Debian or the kernel name them; two names of one count once. Raises Refused.
    """
    problems = [
        f"components: {name}: expected one of {', '.join(COMPONENTS)}" for name in components.keys() - COMPONENTS
    ]
    versions = {name: str(components[name]) for name in COMPONENTS if components.get(name)}
    for name, version in versions.items():
        if not VERSION.fullmatch(version):
            problems.append(f"components: {name}: version {version!r}: expected the release's tag, such as v1.2.3")
    if not problems and not versions:
        problems.append("components: none has a version; expected a dictionary such as {flannel: v1.2.3}")
    if not architectures:
        problems.append("architectures: is empty; expected a list such as [amd64, arm64]")
    go_names = sorted({OTHER_NAMES.get(name, name) for name in map(str, architectures)})
    for component in versions:
        offered = COMPONENTS[component].architectures
        problems += [
            f"architectures: {name}: {component} has no release for it; expected one of {', '.join(offered)}"
            for name in go_names
            if name not in offered
        ]
    if problems:
        raise Refused(problems)
    return [_artifact(name, version, go_name) for name, version in versions.items() for go_name in go_names]


def _artifact(component: str, version: str, architecture: str) -> Artifact:
    release = COMPONENTS[component]
    names = {"version": version, "architecture": architecture}
    members = tuple(member.format(**names) for member in release.members)
    return Artifact(component, version, architecture, release.file.format(**names), members)


def digests(given: Mapping[str, object]) -> dict[str, str]:
    """A user's own SHA-256 by file name, in lower case and without an algorithm's prefix. Raises Refused.

    A name that no release has is refused: a misspelt one would have no effect, and the user would not notice.
    """
    found = {str(name): str(value).lower().removeprefix("sha256:") for name, value in given.items()}
    problems = []
    for name, digest in found.items():
        if not SHA256.fullmatch(digest):
            problems.append(f"sha256: {name}: {digest!r}: expected 64 hexadecimal digits")
        if not any(_pattern(component).fullmatch(name) for component in COMPONENTS.values()):
            problems.append(
                f"sha256: {name}: no release has a file of this name; expected one such as "
                f"{_artifact('flannel', 'v1.2.3', 'amd64').name}"
            )
    if problems:
        raise Refused(problems)
    return found


def _pattern(component: Component) -> re.Pattern[str]:
    text = re.escape(component.file).replace(r"\{version\}", VERSION.pattern)
    return re.compile(text.replace(r"\{architecture\}", f"({'|'.join(component.architectures)})"))


def is_web_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


# Where archives and what is unpacked from them are on a node.
HOME = "/opt/weft-podnet"


def folder(artifact: Mapping[str, Any]) -> str:
    """Where release_install unpacks a file that release_artifacts returned."""
    return f"{HOME}/{artifact['component']}/{artifact['version']}-{artifact['sha256'][:12]}"


def remote(artifact: Mapping[str, Any]) -> str:
    """Where the node finds the archive before it is unpacked."""
    return f"{HOME}/{artifact['name']}"


def of(artifacts: Sequence[Mapping[str, Any]], machine: str, *components: str) -> list[Mapping[str, Any]]:
    """The file of each component for a machine, whose architecture may be named as the kernel names it.

    Raises Refused.
    """
    wanted_name = OTHER_NAMES.get(machine, machine)
    found = [item for item in artifacts if item["component"] in components and item["architecture"] == wanted_name]
    lacking = set(components) - {item["component"] for item in found}
    if lacking:
        raise Refused([f"no release file of {', '.join(sorted(lacking))} was fetched for the machine {machine!r}"])
    return found
