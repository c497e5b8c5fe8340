# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measured by itself: a plain pyroute2 script, one call for each object, without imports."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from pyroute2 import IPRoute

# Not this folder but the one above: bench is a package.
sys.path.pop(0)
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from bench import scene  # noqa: E402

NTF_SELF, PERMANENT, FDB_PERMANENT, ONLINK = 2, 0x80, 0xC0, 4


def main() -> None:
    operation, count = sys.argv[1], int(sys.argv[2])
    pairs = scene.changed(count)
    peers = [new for _old, new in pairs] if operation == "change1pct" else scene.peers(count)
    begin, cpu = time.perf_counter(), time.process_time()
    with IPRoute() as ipr:
        if operation == "first":
            make_device(ipr)
        index = ipr.link_lookup(ifname=scene.DEVICE)[0]
        if operation == "remove":
            ipr.link("del", index=index)
        else:
            if operation == "change1pct":
                for old, _new in pairs:
                    ipr.fdb("del", ifindex=index, lladdr=old.vtep_mac, dst=old.public_ip, flags=NTF_SELF)
            put(ipr, index, peers, routes=operation != "change1pct")
    print("seconds", time.perf_counter() - begin, "cpu", time.process_time() - cpu)


def make_device(ipr: IPRoute) -> None:
    ipr.link(
        "add",
        ifname=scene.DEVICE,
        kind="vxlan",
        address=scene.MAC,
        mtu=scene.MTU,
        vxlan_id=scene.VNI,
        vxlan_link=ipr.link_lookup(ifname=scene.UNDERLAY)[0],
        vxlan_local=scene.LOCAL,
        vxlan_port=scene.PORT,
        vxlan_learning=0,
    )
    index = ipr.link_lookup(ifname=scene.DEVICE)[0]
    ipr.addr("add", index=index, address=scene.ADDRESS, prefixlen=32)
    ipr.link("set", index=index, state="up")


def put(ipr: IPRoute, index: int, peers: list[scene.Peer], routes: bool) -> None:
    for peer in peers:
        ipr.neigh("replace", dst=peer.dst, lladdr=peer.vtep_mac, ifindex=index, state=PERMANENT)
        ipr.fdb("replace", ifindex=index, lladdr=peer.vtep_mac, dst=peer.public_ip, flags=NTF_SELF, state=FDB_PERMANENT)
        if routes:
            ipr.route("replace", dst=peer.pod_cidr, gateway=peer.dst, oif=index, flags=ONLINK)


main()
