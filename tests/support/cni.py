# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""cni_config on a host: configurations of the real bridge plugin, and a pod made by it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from support.modules import run_module
from support.netns import Namespace

# The distribution's (Debian, Ubuntu).
PLUGINS = Path("/usr/lib/cni")
BRIDGE: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "name": "bridge",
    "type": "bridge",
    "bridge": "cni0",
    "isGateway": True,
    "ipMasq": True,
    "ipam": {"type": "host-local", "subnet": "10.244.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]},
}


def conf_dir(parent: Path) -> Path:
    """A directory of configurations whose networks keep their leases beside it."""
    path = parent / "net.d"
    path.mkdir()
    return path


def config(conf: Path, **changes: Any) -> dict[str, Any]:
    ipam = {**BRIDGE["ipam"], "dataDir": str(conf.parent / "leases")}
    return {**BRIDGE, "name": f"test-{os.getpid()}", "ipam": ipam, **changes}


def cni(conf: Path, *, check: bool = False, netns: Path | None = None, **args: Any) -> dict[str, Any]:
    standard = {"name": "10-bridge.conf", "conf_dir": str(conf), "bin_dir": str(PLUGINS)}
    return run_module("cni_config", {**standard, **args}, check=check, netns=netns)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


class Node:
    """A host with one pod made by the real bridge plugin."""

    def __init__(self, conf: Path, host: Namespace, pod: Namespace) -> None:
        self.conf, self.host, self.pod = conf, host, pod
        self.leases = conf.parent / "leases" / config(conf)["name"]

    def plugin(
        self, command: str, network: dict[str, Any] | None = None, pod: Namespace | None = None, **env: str
    ) -> dict[str, Any]:
        """Call the plugins of a network (without masquerading, if none is given) for a pod, its container called so."""
        given = network or {**config(self.conf), "ipMasq": False}
        result: dict[str, Any] = {}
        for plugin in given.get("plugins") or [given]:
            whole = {**plugin, "name": given["name"], "cniVersion": given["cniVersion"]}
            result = self._one(command, {**whole, **({"prevResult": result} if result else {})}, pod or self.pod, env)
        return result

    def _one(self, command: str, plugin: dict[str, Any], pod: Namespace, env: dict[str, str]) -> dict[str, Any]:
        variables = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": pod.name,
            "CNI_NETNS": str(pod.path),
            "CNI_IFNAME": "eth0",
        }
        done = subprocess.run(
            ["ip", "netns", "exec", self.host.name, str(PLUGINS / plugin["type"])],
            input=json.dumps(plugin),
            env={**os.environ, **variables, "CNI_PATH": str(PLUGINS), **env},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return dict(json.loads(done.stdout)) if done.stdout.strip() else {}

    def cni(self, **args: Any) -> dict[str, Any]:
        return cni(self.conf, netns=self.host.path, **args)

    def bridges(self) -> list[str]:
        return [link["ifname"] for link in self.host.ip_json("link", "show", "type", "bridge")]

    def hairpin(self) -> list[bool]:
        """Of each port of the bridge: does it send back where it came from?"""
        ports = self.host.ip_json("-details", "link", "show", "master", "cni0")
        return [bool(port["linkinfo"]["info_slave_data"]["hairpin"]) for port in ports]
