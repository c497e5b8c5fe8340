# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's pod network, observed: a file for each part, and `resource`, which puts them together.

Nothing here changes the host: no lock, no folder, no table of a packet filter, no kernel module that was not there.
"""
