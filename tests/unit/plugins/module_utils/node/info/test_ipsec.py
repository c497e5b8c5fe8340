# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `ip xfrm policy` prints, read."""

from __future__ import annotations

from ansible_collections.weft.podnet.plugins.module_utils.node.info import ipsec

PRINTED = """\
src 10.1.0.0/24 dst 10.3.0.0/16
\tdir fwd priority 900 ptype main
\ttmpl src 1.1.1.1 dst 2.2.2.2
\t\tproto esp reqid 0 mode tunnel
\ttmpl src 1.1.1.1 dst 3.3.3.3
\t\tproto ah reqid 0 mode transport
src 10.1.0.0/24 dst 10.0.0.0/8 proto udp dport 53
\tdir out priority 10 ptype main
\ttmpl src 1.1.1.1 dst 2.2.2.2
\t\tproto esp reqid 0 mode tunnel
src 172.16.0.4/32 dst 172.16.0.3/32 proto udp
\tdir out action block priority 20 ptype main
src 10.244.0.0/24 dst 10.0.0.0/8
\tdir out action block priority 100 ptype main
src 10.244.0.0/24 dst 10.244.0.0/16
\tdir out priority 50 ptype main
src 0.0.0.0/0 dst 0.0.0.0/0
\tsocket in priority 0 ptype main
src 0.0.0.0/0 dst 0.0.0.0/0
\tdir out priority 1 ptype main
\tmark 0x2a/0xffffffff
\ttmpl src 1.1.1.1 dst 2.2.2.2
\t\tproto esp spi 0x00000000 reqid 1 mode tunnel
src 0.0.0.0/0 dst 0.0.0.0/0
\tdir out priority 2 ptype main
\ttmpl src 1.1.1.1 dst 2.2.2.2
\t\tproto esp spi 0x00000000 reqid 1 mode tunnel
\tif_id 0x2a
src 172.16.0.0/24 dst 172.16.0.0/24
\tdir out priority 3 ptype main
\ttmpl src 0.0.0.0 dst 0.0.0.0
\t\tproto esp reqid 1 mode transport
src 10.7.0.0/24 dst 10.8.0.0/24
\tdir fwd priority 4 ptype main
\ttmpl src 1.1.1.1 dst 2.2.2.2
\t\tproto esp reqid 1 mode tunnel
\t\tlevel use
"""


def test_policies_by_their_priority() -> None:
    lan = {"from": "172.16.0.0/24", "to": "172.16.0.0/24", "dir": "out", "tunnel": ""}
    hosts = {"from": "172.16.0.4/32", "to": "172.16.0.3/32", "dir": "out", "tunnel": ""}
    own = {"from": "10.244.0.0/24", "dir": "out", "tunnel": ""}
    optional = {"from": "10.7.0.0/24", "to": "10.8.0.0/24", "dir": "fwd", "tunnel": ""}
    found = ipsec.read(PRINTED.splitlines())
    assert [each.pop("protocol") for each in found] == ["", "", "udp", "", "", ""]
    assert found == [
        {**lan, "priority": 3, "block": False},
        {**optional, "priority": 4, "block": False},
        {**hosts, "priority": 20, "block": True},
        {**own, "to": "10.244.0.0/16", "priority": 50, "block": False},
        {**own, "to": "10.0.0.0/8", "priority": 100, "block": True},
        {
            "from": "10.1.0.0/24",
            "to": "10.3.0.0/16",
            "dir": "fwd",
            "priority": 900,
            "block": False,
            "tunnel": "1.1.1.1",
        },
    ]
    assert ipsec.read(["", "\tdir out", "src", "garbage"]) == []
