# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VTEP, the end of a VXLAN tunnel on a node: what its device is called, and its MAC. Pure.

The controller computes both as the nodes do, so every node knows every other's.
"""

from __future__ import annotations

import hashlib

from .networks import NAME_BYTES, Unfit


def device_name(vni: int, version: int) -> str:
    """flannel's name for the device of a VNI and an IP version (4 or 6)."""
    return f"flannel.{vni}" if version == 4 else f"flannel-v6.{vni}"


def vtep_mac(node: str, vni: int) -> str:
    """A node's VTEP MAC in this VNI: the same on every run and every machine, locally administered, unicast."""
    digest = bytearray(hashlib.sha256(f"weft.podnet vtep {vni} {node}".encode()).digest()[:6])
    digest[0] = (digest[0] & 0xFE) | 0x02
    return digest.hex(":")


def named_vni(vni: int, version: int) -> str:
    """flannel's name for the device; Unfit where that is longer than the kernel's 15 bytes."""
    name = device_name(vni, version)
    if len(name) > NAME_BYTES:
        most = 10 ** (NAME_BYTES - len(device_name(0, version)) + 1) - 1
        raise Unfit(
            f"{vni} makes the device's name {name}, {len(name)} characters where the kernel takes {NAME_BYTES}; "
            f"expected at most {most}" + (" with IPv6" if version == 6 else "")
        )
    return name
