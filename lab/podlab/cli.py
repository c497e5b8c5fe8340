# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands of lab/lab."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from . import access, cgroup, network, node, rootfs, supervisor, tools
from .layout import UNDERLAY, Lab, Node, labs_of, parse_node, plan_nodes
from .run import HEARTBEAT, LabError, locked, run, say

CHECKOUT = Path(__file__).resolve().parent.parent.parent


def main() -> int:
    if sys.argv[1:2] == ["_supervise"]:
        checkout, name, this = sys.argv[2:5]
        return supervisor.supervise(Lab(name, Path(checkout)), parse_node(this))
    options = _parser().parse_args()
    try:
        tools.require_root()
        options.action(options)
    except LabError as exc:
        print(f"lab: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted; the same command again carries on, `lab/lab down` clears up", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lab/lab", description="Kubernetes-like hosts on this machine.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, action: object, summary: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=summary, description=summary)
        sub.add_argument("--name", default="lab", metavar="LAB", help="which lab (default: lab)")
        sub.set_defaults(action=action)
        return sub

    sub = command("up", up, "boot a lab, or repair, extend or shrink the one there is")
    sub.add_argument("--workers", type=int, default=2, metavar="N", help="so many workers (default: 2)")
    sub.add_argument(
        "--release", default="", metavar="CODE", help="what new nodes run, such as trixie (default: as this machine)"
    )
    sub = command("down", down, "remove a lab and all it left on the machine")
    sub.add_argument("--all", action="store_true", help="every lab of this checkout, and those of removed checkouts")
    command("ls", ls, "list the nodes of a lab")
    sub = command("exec", execute, "run a command inside a node, or in the underlay's network")
    sub.add_argument("node", metavar="NODE", help="a node, or `underlay`: the network the nodes' gateway is in")
    sub.add_argument("command", nargs=argparse.REMAINDER, metavar="-- CMD", help="the command with its arguments")
    sub = command("ssh", ssh, "log in to a node by ssh, or run a command that way")
    sub.add_argument("node", metavar="NODE")
    sub.add_argument("command", nargs=argparse.REMAINDER, metavar="CMD")
    sub = command("reboot", reboot, "reboot a node: its files stay, its network state does not")
    sub.add_argument("node", metavar="NODE")
    sub.add_argument("--wait", action="store_true", help="return when it answers again")
    command("inventory", inventory, "print the path of the lab's Ansible inventory")
    return parser


def _lab(options: argparse.Namespace) -> Lab:
    return Lab(options.name, CHECKOUT)


def _locked(lab: Lab) -> contextlib.AbstractContextManager[None]:
    return locked(lab.lock, f"waiting for another up or down of lab {lab.name!r}")


def up(options: argparse.Namespace) -> None:
    lab = _lab(options)
    wanted = plan_nodes(options.workers)
    tools.ensure_programs()
    with _locked(lab):
        lower = rootfs.ensure(options.release)
        tools.ensure_modules()
        tools.ensure_inotify(new_nodes=len(set(wanted) - set(lab.nodes())))
        tools.ensure_neighbours(len(wanted))
        _make_state(lab)
        network.ensure_underlay(lab)
        for surplus in [n for n in lab.nodes() if n not in wanted]:
            say(f"removing {surplus.name}")
            node.remove(lab, surplus)
        for each in wanted:
            node.create(lab, each, lower)
        access.write_files(lab, wanted)
        started = [each.name for each in wanted if node.start(lab, each)]
        say(f"booting {', '.join(started)}" if started else "all nodes are running")
        _wait_ready(lab, wanted)
        for each in wanted:
            node.update_hosts(lab, each)
    say(f"lab {lab.name!r} is up: {len(wanted)} nodes")
    say(f"inventory {lab.files / 'inventory.yml'}; ssh -F {lab.files / 'ssh_config'} {wanted[-1].name}")


def _wait_ready(lab: Lab, nodes: list[Node]) -> None:
    with ThreadPoolExecutor(max_workers=8) as pool:
        waiting = [pool.submit(node.wait_ready, lab, each) for each in nodes]
        while not all(each.done() for each in waiting):
            wait(waiting, timeout=HEARTBEAT)
            ready = sum(each.done() for each in waiting)
            if ready < len(nodes):
                say(f"{ready} of {len(nodes)} nodes answer")
    problems = [str(each.exception()) for each in waiting if each.exception()]
    if problems:
        raise LabError("\n".join(problems))


def _make_state(lab: Lab) -> None:
    (lab.state / "nodes").mkdir(parents=True, exist_ok=True)
    lab.state.chmod(0o700)
    (lab.state / "checkout").write_text(f"{lab.checkout}\n", encoding="utf-8")
    access.make_key(access.user_key(lab), f"weft lab {lab.name}")


def down(options: argparse.Namespace) -> None:
    labs = labs_of(CHECKOUT) if options.all else [_lab(options)]
    if options.all and not labs:
        say("no labs")
    for lab in labs:
        with _locked(lab):
            _remove(lab)


def _remove(lab: Lab) -> None:
    there = lab.state.exists() or lab.files.exists()
    access.close_connections(lab)
    for each in lab.nodes():
        node.remove(lab, each)
    network.end_processes(network.namespace_at(lab.netns(UNDERLAY)))
    for mount in network.mounts_below(lab.state):
        run(["umount", "--lazy", mount])
    cgroup.remove(lab.cgroup)
    cgroup.remove_if_empty(Path(lab.cgroup).parts[0])
    node.remove_runtime_folders()
    for folder in (lab.files, lab.state):
        if folder.exists():
            shutil.rmtree(folder)
        with contextlib.suppress(OSError):  # not empty, or not there: other labs' folders
            folder.parent.rmdir()
    say(f"lab {lab.name!r} is gone" if there else f"lab {lab.name!r}: nothing there")


def ls(options: argparse.Namespace) -> None:
    lab = _lab(options)
    nodes = lab.nodes()
    if not nodes:
        raise LabError(f"lab {lab.name!r} is not up: lab/lab up --name {lab.name}")
    rows = [("NODE", "IPV4", "IPV6", "BOOTS", "STATE")]
    rows += [(n.name, n.ipv4, n.ipv6, str(node.boots(lab, n)), node.state(lab, n)) for n in nodes]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def execute(options: argparse.Namespace) -> None:
    lab, command = _lab(options), options.command
    if command[:1] == ["--"]:
        command = command[1:]
    if not command:
        raise LabError(f"what to run in {options.node}? lab/lab exec {options.node} -- ip route")
    if options.node != UNDERLAY:
        node.execute(lab, lab.node(options.node), command)
    if not network.mounts_below(lab.netns(UNDERLAY)):
        raise LabError(f"lab {lab.name!r} is not up: lab/lab up --name {lab.name}")
    os.execvp("nsenter", [*network.enter(lab.netns(UNDERLAY)), *command])


def ssh(options: argparse.Namespace) -> None:
    lab = _lab(options)
    this = lab.node(options.node)
    os.execvp("ssh", ["ssh", "-F", str(lab.files / "ssh_config"), this.name, *options.command])


def reboot(options: argparse.Namespace) -> None:
    lab = _lab(options)
    with _locked(lab):
        node.reboot(lab, lab.node(options.node), options.wait)


def inventory(options: argparse.Namespace) -> None:
    lab = _lab(options)
    path = lab.files / "inventory.yml"
    if not path.exists():
        raise LabError(f"lab {lab.name!r} is not up: lab/lab up --name {lab.name}")
    print(path)
