# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files and a unit that keep a VXLAN mesh across reboots and link flaps, and other programs off its device.

Batch files for iproute2's ``ip`` and ``bridge`` hold the mesh as it was made; they are replayed as pod_route's are.
None of our processes is resident.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from ..core import boot_units, persist
from ..core.tools import find
from ..netlink import fdb
from ..routes.persist import replay_unit
from ..routes.protocol import PROTOCOL
from . import mesh as vxlan_mesh
from .host import Plan, accept_ra_path
from .mesh import State, ip
from .spec import Spec

NETWORKD_DIR = "/etc/systemd/network"
HEADER = "# Written by weft.podnet (vxlan_peer); changes are overwritten.\n"


class Tools(Protocol):
    """What is needed of AnsibleModule."""

    def run_command(self, args: list[str]) -> tuple[int, str, str]: ...


class Kept(NamedTuple):
    """``data`` is what is replayed, ``hands_off`` what keeps others away, ``unit`` the service; each with what would
    change. Where only the data differs, the unit is not restarted: the kernel has it all already."""

    device: str
    present: bool
    bundles: tuple[persist.Bundle, persist.Bundle, persist.Bundle]
    differences: tuple[persist.Difference, persist.Difference, persist.Difference]

    @property
    def difference(self) -> bool:
        return any(self.differences)

    @property
    def path(self) -> str:
        """The batch file for ``ip``; empty where nothing is kept."""
        return batch_path(self.device, "ip") if self.present else ""

    @contextlib.contextmanager
    def around(self, run: persist.Run, change: Plan) -> Iterator[Callable[[], None]]:
        """Bring the files up to date around the kernel's change: yields what to call after it. Raises PersistError.

        All are prepared first. The files that keep other programs off are written before the device is made. While
        the device changes or peers go, the unit rests, since it would replay the previous state. If the body fails,
        files and units are as before.
        """
        data, hands_off, unit = self.bundles
        rests = change.host.state.device != change.target.device or any(part.remove for part in change.changes)
        paused = boot_units.paused(run, boot_units.of_mesh(self.device), rests)
        with persist.Staged(run) as early, persist.Staged(run) as late, contextlib.ExitStack() as stack:
            if self.present:
                early.put(hands_off, self.differences[1])
                late.put(data, self.differences[0])
                late.put(unit, self.differences[2], wait=False)
            else:
                for bundle in (unit, data, hands_off):
                    late.take(bundle)
            if self.present and self.differences[1]:
                early.commit()
                _read_again(run)
            stack.enter_context(paused)
            try:
                yield late.commit
            except BaseException:
                if self.present and self.differences[1]:
                    early.restore()
                    _read_again(run)
                raise

    def as_diff(self) -> list[dict[str, str]]:
        """Ansible's ``diff``. Of the batch files, only the lines that differ."""
        entries = [entry for difference in self.differences[1:] for entry in difference.as_diff()]
        for entry in self.differences[0].as_diff():
            before, after = entry["before"].splitlines(), entry["after"].splitlines()
            entries.append({**entry, "before": _unlike(before, after), "after": _unlike(after, before)})
        return entries


def _read_again(run: persist.Run) -> None:
    """Let the daemons of the network read their files; where one doesn't run, systemctl says so and that is all."""
    for daemon in ("systemd-networkd", "NetworkManager"):
        run(["systemctl", "reload", f"{daemon}.service"])


def _unlike(lines: list[str], others: list[str]) -> str:
    known = set(others)
    own = [line for line in lines if line not in known]
    more = len(own) - vxlan_mesh.MOST_LINES
    shown = own[: vxlan_mesh.MOST_LINES] + ([f"... and {more} more"] if more > 0 else [])
    return "".join(f"{line}\n" for line in shown)


def batch_path(device: str, tool: str) -> str:
    return f"{persist.STATE_DIR}/vxlan-{device}.{tool}"


def plan(change: Plan, wanted: Spec, keep: bool, tools: Tools) -> Kept:
    """What is to be on disk after this change. Raises PersistError where systemd does not run here."""
    present = keep and wanted.present
    if present and not persist.systemd_runs():
        raise persist.PersistError("persist: systemd does not run on this host; set persist: false")
    device = wanted.name
    if present:
        names = change.host.names
        lines = "".join(ip_lines(change.target, device, names))
        bridge_lines = "".join(fdb_lines(change.target, device))
        tool, bridge = find("ip") or "ip", find("bridge") or "bridge"
        underlay = names[change.target.device.underlay] if change.target.device else ""
    else:
        lines = bridge_lines = tool = bridge = underlay = ""
    commands = [
        f"{tool} -force -batch {batch_path(device, 'ip')}",
        f"{bridge} -force -batch {batch_path(device, 'bridge')}",
    ]
    if change.target.accept_ra is not None:
        commands.append(f"/bin/sh -c 'echo {change.target.accept_ra} >{accept_ra_path(device)}'")
    data = persist.Bundle({batch_path(device, "ip"): lines, batch_path(device, "bridge"): bridge_lines})
    description = f"VXLAN mesh on {device} (weft.podnet)"
    text = replay_unit("vxlan_peer", description, [device, underlay], commands, [device])
    unit = persist.Bundle({f"{persist.UNIT_DIR}/{boot_units.of_mesh(device)}": text}, (boot_units.of_mesh(device),))
    bundles = (data, persist.Bundle(hands_off_files(device)), unit)
    run = tools.run_command
    first, second, third = (persist.difference(bundle, run, present) for bundle in bundles)
    return Kept(device, present, bundles, (first, second, third))


def hands_off_files(device: str) -> dict[str, str]:
    """Files that make udev, networkd and NetworkManager leave a device alone: path -> text."""
    name = f"weft-podnet-{device}"
    stem = f"10-{name}"
    found = {
        f"{NETWORKD_DIR}/{stem}.link": (
            f"{HEADER}# The peers' tables hold this VTEP's MAC: udev must not choose another one.\n"
            f"[Match]\nOriginalName={device}\n\n[Link]\nMACAddressPolicy=none\n"
        ),
        f"{NETWORKD_DIR}/{stem}.network": f"{HEADER}[Match]\nName={device}\n\n[Link]\nUnmanaged=yes\n",
    }
    if Path(persist.NETWORK_MANAGER_DIR).is_dir():
        found[persist.network_manager_file(name)] = f"{HEADER}[keyfile]\nunmanaged-devices+=interface-name:{device}\n"
    return found


def ip_lines(state: State, device: str, names: dict[int, str]) -> Iterator[str]:
    """The mesh as commands of ``ip -batch``. It replaces nothing but neighbours on our own device."""
    link = state.device
    if link is None:
        return
    yield (
        f"link add {device} address {link.mac.hex(':')} mtu {link.mtu} txqueuelen {link.txqueuelen} type vxlan "
        f"id {link.vni} dev {names[link.underlay]} local {ip(link.local)} dstport {link.port} nolearning\n"
    )
    for address in state.addresses:
        # Without asking other nodes whether they have it (duplicate address detection, which IPv4 does not know).
        nodad = " nodad" if len(address) == 16 else ""
        yield f"address add {ip(address)}/{len(address) * 8} dev {device}{nodad}\n"
    yield f"link set {device} up\n"
    tunnel = {vxlan_mesh.TUNNEL: device}
    for number, (via, oif, onlink) in state.nexthops.items():
        dev = tunnel.get(oif) or names[oif]
        yield f"nexthop add id {number} via {ip(via)} dev {dev}{' onlink' if onlink else ''} protocol {PROTOCOL}\n"
    for (dst, length, metric), (nhid, via, oif, onlink, protocol) in state.routes.items():
        if nhid:
            yield f"route add {ip(dst)}/{length} nhid {nhid}\n"
        else:
            dev = tunnel.get(oif) or names[oif]
            tail = f"{' onlink' if onlink else ''} proto {protocol}{f' metric {metric}' if metric else ''}"
            yield f"route add {ip(dst)}/{length} via {ip(via)} dev {dev}{tail}\n"
    for dst, mac in state.neigh.items():
        yield f"neigh replace {ip(dst)} lladdr {mac.hex(':')} dev {device} nud permanent\n"


def fdb_lines(state: State, device: str) -> Iterator[str]:
    """The mesh's forwarding entries as commands of ``bridge -batch``."""
    for mac, dst in state.fdb.items():
        if len(mac) == 6 and len(dst) in fdb.PLAIN:
            yield f"fdb replace {mac.hex(':')} dev {device} dst {ip(dst)} self permanent\n"
