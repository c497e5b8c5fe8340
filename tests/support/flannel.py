# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the flannel backend needs beside a lab's nodes: a control plane, and releases to install.

    python tests/support/flannel.py LAB

Both are stand-ins (tests/standins), unless PODNET_REAL_BINARIES names a folder with the real programs.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import yaml

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from standins import release
from standins.control_plane import CHECKOUT, ControlPlane
from support.lab import Lab

WORKERS = ("worker-1", "worker-2")
KUBECONFIG = "/etc/kubernetes/flannel.conf"
VERSION, CNI_VERSION = "v0.27.2", "v1.7.1-flannel2"


def publish(folder: Path, version: str = VERSION, broken: bool = False) -> dict[str, str]:
    """Put a release of flannel and one of its CNI plugin into a folder; the SHA-256 of all archives there by name.

    flannel publishes no checksum files, so whoever takes it from a folder must say what to expect.
    """
    folder.mkdir(exist_ok=True)
    release.build_flannel(folder, version, ["amd64", "arm64"], broken)
    release.build_cni_plugin(folder, CNI_VERSION, ["amd64", "arm64"])
    archives = (file for file in folder.iterdir() if file.name.endswith((".tgz", ".tar.gz")))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(archives)}


def variables(folder: Path, version: str = VERSION, broken: bool = False) -> dict[str, Any]:
    """Inventory variables that take flannel from a folder, after publishing it there."""
    return {
        "podnet_artifacts_dir": str(folder),
        "podnet_artifacts_sha256": publish(folder, version, broken),
        "podnet_flannel_version": version,
        "podnet_flannel_cni_version": CNI_VERSION,
    }


def prepare(lab: str, **options: Any) -> ControlPlane:
    """Give a lab a control plane (``options`` as ControlPlane.up's), releases, and group_vars that name them."""
    plane = ControlPlane(lab)
    plane.up(**options)
    folder = CHECKOUT / ".lab" / lab
    group_vars = folder / "group_vars" / "workers.yml"
    group_vars.parent.mkdir(exist_ok=True)
    group_vars.write_text(yaml.safe_dump(variables(folder / "releases")))
    return plane


def serial(lab: Lab, node: str, path: str = "/etc/kubernetes/pki/flannel.crt") -> str:
    return lab.exec(node, "openssl", "x509", "-noout", "-serial", "-in", path).strip()


def running(lab: Lab, node: str) -> str:
    """The process that is flanneld: another one after a restart."""
    return lab.exec(node, "systemctl", "show", "flanneld", "--property=MainPID", "--value").strip()


def version(lab: Lab, node: str) -> str:
    return lab.sh(node, "/usr/local/bin/flanneld --version 2>&1").strip()


def mac(lab: Lab, node: str) -> str:
    return str(json.loads(lab.exec(node, "ip", "-json", "link", "show", "flannel.1"))[0]["address"])


if __name__ == "__main__":
    prepare(sys.argv[1])
