# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's network before a run, and the way back to it when the run loses contact with the host.

A run records a checkpoint and starts a timer before its first change; when it has come back over a new connection and
the host still reaches its peers, it stops the timer. Otherwise the host restores the checkpoint by itself.
"""
