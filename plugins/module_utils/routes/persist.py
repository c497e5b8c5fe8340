# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes that outlive a reboot and a link flap: an iproute2 batch file and one systemd unit that replays it.

The kernel drops a link's routes when the link goes down, and everything at a reboot. The unit waits, in iproute2's own
``ip monitor``, for one of the links to be set up or to get an address, then ends; systemd starts it again, and each
start replays the batch. So none of our processes is resident, and hosts under networkd,
NetworkManager or ifupdown are alike.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

from ..core import boot_units, files, persist
from ..netlink import wire
from ..netlink.route import FAMILIES, IPV6_METRIC, Key, key
from .protocol import PROTOCOL
from .spec import Spec
from .table import Plan

UNIT = """\
# Written by weft.podnet ({module}); it is replaced by the next run and removed by its reset.
[Unit]
Description={description}
After=network.target
StartLimitIntervalSec=0

[Service]
Type=exec
# Ends at the first link that is set up or gets an address; systemd then starts it again.
ExecStart=/bin/bash -c 'exec grep -q -m1 -E "{pattern}" < <(exec ip -o monitor link address)'
# The monitor listens before anything is replayed, so that no event falls in between.
ExecStartPost=-/bin/sleep 0.2
# "add" never replaces: a route that exists, ours or a foreign one, stays and is reported as "File exists".
{commands}
# Where systemd does not notice that the monitor has ended (cgroup v1 in containers), it waits no longer than this.
TimeoutStopSec=1s
Restart=always
RestartSec=100ms
LogRateLimitIntervalSec=30s
LogRateLimitBurst=20

[Install]
WantedBy=multi-user.target
"""


def replay_unit(
    module: str, description: str, devices: Iterable[str], commands: Iterable[str], deleted: Iterable[str] = ()
) -> str:
    """A unit's text: it runs ``commands`` at boot, whenever one of ``devices`` is set up or gets an address, and when
    one of ``deleted`` is deleted."""

    def any_of(names: Iterable[str]) -> str:
        return "|".join(sorted({name.replace(".", "[.]") for name in names}))

    # "2: eth0@if5: <BROADCAST,UP,LOWER_UP> ..." and "2: eth0    inet 172.16.0.3/24 ...", not "Deleted 2: eth0 ...".
    pattern = f"^[0-9]+: ({any_of(devices)})([:@ ].*)?(LOWER_UP| inet6? )"
    gone = any_of(deleted)
    if gone:
        # "Deleted 4: flannel.1: <BROADCAST,MULTICAST> ...", not "Deleted 4: flannel.1    inet ..."
        pattern += f"|^Deleted [0-9]+: ({gone})[:@]"
    steps = "\n".join(f"ExecStartPost=-{command}" for command in commands)
    return UNIT.format(module=module, description=description, pattern=pattern, commands=steps)


class Entry(NamedTuple):
    """One line of the batch file. ``metric`` and ``table`` are 0 where the kernel's default is meant."""

    dst: str
    table: int
    metric: int
    via: str
    dev: str

    def line(self, protocol: int) -> str:
        words = ["route add", self.dst]
        if self.via:
            words += ["via", self.via]
        words += ["dev", self.dev, "proto", str(protocol)]
        if self.metric:
            words += ["metric", str(self.metric)]
        if self.table:
            words += ["table", str(self.table)]
        return " ".join(words)


class Kept(NamedTuple):
    """A bundle, whether it is to be there, and what that would change."""

    bundle: persist.Bundle
    present: bool
    difference: persist.Difference

    @property
    def path(self) -> str:
        """The batch file; empty where nothing is kept."""
        return next(iter(self.bundle.files)) if self.present else ""

    def prepare(self, staged: persist.Staged) -> None:
        """Raises PersistError."""
        if self.difference and self.present:
            staged.put(self.bundle, self.difference, wait=False)
        elif self.difference:
            staged.take(self.bundle)


def plan(change: Plan, wanted: Spec, keep: bool, run: persist.Run, ip: str) -> Kept:
    """What is to be on disk after this change. A list that does not purge joins what earlier lists left there.

    Raises PersistError where routes are to be kept and systemd does not run here.
    """
    entries: dict[tuple[str, int, int], Entry] = {}
    if keep:
        entries = {} if wanted.purge else read(wanted.protocol)
        for spec in wanted.specs:
            entries.pop(_entry_key(key(spec.dst, spec.table, spec.metric)), None)
        for key_, value in change.desired.items():
            via = str(ipaddress.ip_address(value.via)) if value.via else ""
            entry = Entry(*_entry_key(key_), via, change.host.names[value.oif])
            entries[entry[:3]] = entry
        if entries and not persist.systemd_runs():
            raise persist.PersistError("persist: systemd does not run on this host; set persist: false")
    kept = bundle(entries.values(), wanted.protocol, ip)
    return Kept(kept, bool(entries), persist.difference(kept, run, bool(entries)))


def _entry_key(key_: Key) -> tuple[str, int, int]:
    metric = 0 if key_.family == FAMILIES[6] and key_.metric == IPV6_METRIC else key_.metric
    return str(key_.network), 0 if key_.table == wire.TABLE_MAIN else key_.table, metric


def batch_path(protocol: int) -> str:
    return f"{persist.STATE_DIR}/routes-{protocol}.batch"


def bundle(entries: Iterable[Entry], protocol: int, ip: str = "ip") -> persist.Bundle:
    """The files and the unit for these routes. ``ip``: where the host has iproute2's command."""
    ordered = sorted(entries)
    batch = batch_path(protocol)
    description = f"Routes to the pods of other nodes (weft.podnet, protocol {protocol})"
    unit = replay_unit("pod_route", description, (entry.dev for entry in ordered), [f"{ip} -force -batch {batch}"])
    text = "".join(f"{entry.line(protocol)}\n" for entry in ordered)
    kept = {batch: text, f"{persist.UNIT_DIR}/{boot_units.of_routes(protocol)}": unit}
    if protocol == PROTOCOL:
        # So that `ip route` says whose these routes are.
        kept["/etc/iproute2/rt_protos.d/weft-podnet.conf"] = f"{protocol} podnet\n"
    return persist.Bundle(kept, (boot_units.of_routes(protocol),))


def read(protocol: int) -> dict[tuple[str, int, int], Entry]:
    """The entries of the host's batch file by (dst, table, metric); lines that are not ours to read are dropped."""
    found = {}
    for line in (files.read_text(batch_path(protocol), files.BATCH_LIMIT) or "").splitlines():
        words = line.split()
        if words[:2] != ["route", "add"] or len(words) % 2 == 0:
            continue
        values = dict(zip(words[3::2], words[4::2]))
        try:
            entry = Entry(
                words[2],
                int(values.get("table", 0)),
                int(values.get("metric", 0)),
                values.get("via", ""),
                values["dev"],
            )
        except (KeyError, ValueError):
            continue
        found[entry[:3]] = entry
    return found
