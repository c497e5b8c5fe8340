# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for flanneld, for tests only: the messages, API calls and kernel state of the captured flanneld.

Kube subnet manager, IPv4 and dual stack, the backends vxlan and host-gw.
``standins.release`` packs it into one executable file.
It runs on Python 3.11's standard library and calls ip, bridge, iptables and nft.
"""
