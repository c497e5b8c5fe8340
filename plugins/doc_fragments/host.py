# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation that the modules that run on a host have in common."""

from __future__ import annotations


class ModuleDocFragment:
    """Private to the collection: it may change at any time.

    ``host`` is for every module that runs on a host, ``host.changes`` for one that a run's hold keeps from changing it.
    """

    DOCUMENTATION = r"""
requirements:
  - root on the host (C(become))
attributes:
  platform:
    description: The operating system of the host.
    platforms: linux
    support: full
"""

    CHANGES = r"""
notes:
  - While another run holds the host (see M(weft.podnet.run_lock)), the module fails and changes nothing. In check mode,
    it works as usual.
attributes:
  check_mode:
    description: Nothing is changed. The result is that of a real run.
    support: full
"""
