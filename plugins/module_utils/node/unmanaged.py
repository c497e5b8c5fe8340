# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Links of pods that network managers must leave alone: files for networkd and NetworkManager, and what wins over them.

A ``.network`` file with ``Type=ether`` matches the host's ends of pods' links too. networkd then takes them off their
bridge when it restarts, and nothing puts them back.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from pathlib import Path

from ..core import persist
from ..netlink import route, wire
from ..netlink.channel import Channel
from . import networkd

# The bridge and ptp plugins name the host's end "veth" and eight hexadecimal digits.
PODS = "veth" + 8 * "[0-9a-f]"
SAMPLE = "veth0123abcd"
HEADER = "# Written by weft.podnet (node_kernel); changes are overwritten.\n"
# Of networkd's files, the first one by name that matches a link is the only one that counts.
NAME = "weft-podnet-pods"
NETWORK_FILE = f"/etc/systemd/network/00-{NAME}.network"
NETWORKD_FILE = "/etc/systemd/networkd.conf.d/weft-podnet.conf"
MANAGER_FILE = persist.network_manager_file(NAME)
NETWORKD = ("/usr/lib/systemd/systemd-networkd", "/lib/systemd/systemd-networkd")
SERVICES = ("systemd-networkd.service", "NetworkManager.service")


def texts(names: Iterable[str], everywhere: bool = False, root: str = "/") -> dict[str, str]:
    """Path -> text of the files that keep the managers on this host (or all that there are) off links by these names.

    ``names`` may be patterns of fnmatch(3).
    """
    wanted = [*names, PODS]
    found = {}
    if everywhere or any(Path(root, program[1:]).exists() for program in NETWORKD):
        found[NETWORK_FILE] = f"{HEADER}[Match]\nName={' '.join(wanted)}\n\n[Link]\nUnmanaged=yes\n"
        # Read when networkd starts, which is when it would remove the routes to other nodes' pods.
        found[NETWORKD_FILE] = f"{HEADER}[Network]\nManageForeignRoutes=no\n"
    if everywhere or Path(root, persist.NETWORK_MANAGER_DIR[1:]).is_dir():
        devices = ";".join(f"interface-name:{name.replace('[0-9a-f]', '?')}" for name in wanted)
        found[MANAGER_FILE] = f"{HEADER}[keyfile]\nunmanaged-devices+={devices}\n"
    return found


def earlier(names: Iterable[str], root: str = "/") -> list[str]:
    """Files of networkd that come before ours and match these links or pods' own, a line each."""
    if not any(Path(root, program[1:]).exists() for program in NETWORKD):
        return []
    samples = [networkd.Link(SAMPLE, "veth")]
    for name in names:
        samples.append(networkd.Link(name.replace("*", "0"), "vxlan" if name.startswith("flannel") else "bridge"))
    return [
        f"{found.path}: systemd-networkd uses this file for {matched}, since its name comes before 00-{NAME}.network: "
        "a restart would take pods off their network; rename it, or exclude the link in its [Match] section"
        for found in networkd.network_files(root)
        if Path(found.path).name < Path(NETWORK_FILE).name
        for matched in [next((sample.name for sample in samples if networkd.matches(found.match, sample)), "")]
        if matched
    ]


def detached() -> list[str]:
    """The host's ends of pods that live and that nothing leads to: no bridge, no route. Raises NetlinkError."""
    lonely: dict[int, str] = {}
    bridges = False
    with Channel() as channel:
        for body in channel.dump(wire.GETLINK, wire.IFINFOMSG.pack(0, 0, 0, 0, 0)):
            index = wire.IFINFOMSG.unpack_from(body)[2]
            found = wire.attributes(body, wire.IFINFOMSG.size)
            name = found[wire.IFLA_IFNAME].rstrip(b"\0").decode(errors="replace")
            kind = wire.attributes(found.get(wire.IFLA_LINKINFO, b""), 0).get(wire.IFLA_INFO_KIND, b"").rstrip(b"\0")
            bridges = bridges or kind == b"bridge"
            # The peer is in another namespace, which exists.
            pod = kind == b"veth" and fnmatch.fnmatchcase(name, PODS) and wire.IFLA_LINK_NETNSID in found
            if pod and wire.IFLA_MASTER not in found:
                lonely[index] = name
        if lonely and bridges:
            for family in route.FAMILIES.values():
                for key, value in route.dump(channel, family, wire.TABLE_MAIN):
                    if not key.network.is_link_local:
                        lonely.pop(value.oif, None)
    return [lonely[index] for index in sorted(lonely)] if bridges else []
