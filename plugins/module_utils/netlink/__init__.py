# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The only package that handles the kernel's netlink messages.

``wire`` packs and unpacks, ``channel`` sends lists and reads dumps, ``route`` (and its siblings to come) translate one
kind of kernel object each. Written against rtnetlink(7) and include/uapi/linux/{netlink,rtnetlink}.h.
"""
