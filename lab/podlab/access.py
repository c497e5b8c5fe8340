# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How users and Ansible get in: keys, ssh_config, pinned host keys, inventory, all generated in .lab/<name>/."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

from .layout import UNDERLAY, Lab, Node
from .network import enter
from .run import attempt, run

CONNECTOR = Path(__file__).with_name("connect.py")
HOSTS_BEGIN = "# lab nodes: kept up to date by lab/lab up"
HOSTS_END = "# end of lab nodes"


def make_key(path: Path, comment: str) -> None:
    """An ed25519 key pair, whole or not at all."""
    if path.exists():
        return
    half = path.with_name(path.name + ".new")
    for old in (half, half.with_name(half.name + ".pub")):
        old.unlink(missing_ok=True)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", half])
    half.with_name(half.name + ".pub").rename(path.with_name(path.name + ".pub"))
    half.rename(path)


def user_key(lab: Lab) -> Path:
    return lab.state / "id_ed25519"


def host_key(lab: Lab, node: Node) -> Path:
    return lab.folder(node) / "ssh_host_ed25519_key"


def write_files(lab: Lab, nodes: Iterable[Node]) -> None:
    """(Re)write the user's files for these nodes."""
    nodes = list(nodes)
    lab.files.mkdir(parents=True, exist_ok=True)
    control = lab.state / "cp"
    control.mkdir(mode=0o700, exist_ok=True)
    _write(lab.files / "id_ed25519", user_key(lab).read_text(), 0o600)
    keys = {node: host_key(lab, node).with_suffix(".pub").read_text().split()[:2] for node in nodes}
    _write(lab.files / "known_hosts", "".join(f"{node.name} {' '.join(key)}\n" for node, key in keys.items()))
    proxy = [*enter(lab.netns(UNDERLAY)), sys.executable, "-I", "-S", str(CONNECTOR)]
    _write(lab.files / "ssh_config", ssh_config(nodes, lab.files, proxy))
    _write(lab.files / "inventory.yml", inventory(nodes, lab.files / "ssh_config", control))


def _write(path: Path, content: str, mode: int = 0o644) -> None:
    half = path.with_name(path.name + ".new")
    half.unlink(missing_ok=True)
    with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as handle:
        handle.write(content)
    half.rename(path)


def ssh_config(nodes: Iterable[Node], folder: Path, proxy: list[str]) -> str:
    """The text of an ssh_config by which `ssh -F FILE worker-1` (or its address) works."""

    def quoted(path: Path) -> str:
        return '"' + str(path).replace("%", "%%") + '"'

    blocks = [
        f"Host {node.name} {node.ipv4} {node.ipv6}\n  HostName {node.ipv4}\n  HostKeyAlias {node.name}\n"
        for node in nodes
    ]
    common = f"""\
Host *
  User root
  IdentityFile {quoted(folder / "id_ed25519")}
  IdentitiesOnly yes
  UserKnownHostsFile {quoted(folder / "known_hosts")}
  GlobalKnownHostsFile none
  StrictHostKeyChecking yes
  CheckHostIP no
  UpdateHostKeys no
  ProxyCommand {shlex.join(proxy).replace("%", "%%")} %h %p
  ProxyUseFdpass yes
  ServerAliveInterval 5
  ServerAliveCountMax 3
"""
    return "\n".join(["# Written by lab/lab up", *blocks, common])


def inventory(nodes: Iterable[Node], config: Path, control: Path) -> str:
    """The text of an Ansible inventory in YAML, groups control_plane and workers.

    Two labs have the same addresses, and Ansible names its shared ssh connections after those:
    the folder for them has to be the lab's own, or a task could land in the other lab.
    """
    groups: dict[str, list[str]] = {"control_plane": [], "workers": []}
    for node in nodes:
        values = {
            "ansible_host": node.ipv4,
            "ansible_user": "root",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_common_args": f"-F {shlex.quote(str(config))}",
            "ansible_control_path_dir": str(control),
        }
        group = "control_plane" if node.name == "control-plane" else "workers"
        groups[group].append(f"    {node.name}:\n")
        groups[group] += [f"      {key}: {json.dumps(value)}\n" for key, value in values.items()]
    text = "# Written by lab/lab up\n---\n"
    for group, lines in groups.items():
        text += f"{group}:\n  hosts:{'' if lines else ' {}'}\n{''.join(lines)}"
    # There is no Kubernetes API here, which the default backend would ask.
    return f"{text}  vars:\n    podnet_backend: vxlan\n"


def merge_hosts(text: str, nodes: Iterable[Node]) -> str:
    """An /etc/hosts with the lab's block put in or renewed, and every other line left as it is."""
    before, begin, rest = text.partition(HOSTS_BEGIN + "\n")
    after = rest.partition(HOSTS_END + "\n")[2] if begin else ""
    lines = [f"{node.ipv4} {node.name}\n{node.ipv6} {node.name}\n" for node in nodes]
    if before and not before.endswith("\n"):
        before += "\n"
    return f"{before}{HOSTS_BEGIN}\n{''.join(lines)}{HOSTS_END}\n{after}"


def close_connections(lab: Lab) -> None:
    """End Ansible's shared ssh connections; their sockets would hold the lab's namespaces."""
    for path in (lab.state / "cp").glob("*"):
        attempt(["ssh", "-O", "exit", "-o", f"ControlPath={path}", "lab"])
