# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every concern builds on. The first import of a module on a host comes through here."""

from __future__ import annotations

from . import bytecode

bytecode.install()
