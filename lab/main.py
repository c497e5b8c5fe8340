# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entry point of lab/lab; the folder of this file is on sys.path, so `podlab` is found from any directory."""

from __future__ import annotations

import sys

from podlab.cli import main

sys.exit(main())
