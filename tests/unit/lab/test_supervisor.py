# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One supervisor for each node, whoever else asks for it at that moment."""

from __future__ import annotations

import fcntl
import threading

from podlab import supervisor


def test_a_question_does_not_keep_the_supervisor_from_its_node(tmp_path):
    with (tmp_path / "lock").open("a") as asking, (tmp_path / "lock").open("a") as lock:
        fcntl.flock(asking, fcntl.LOCK_SH)
        answer = threading.Timer(0.1, fcntl.flock, (asking, fcntl.LOCK_UN))
        answer.start()
        assert supervisor.claim(lock)
        answer.join()


def test_the_second_supervisor_ends(tmp_path):
    with (tmp_path / "lock").open("a") as first, (tmp_path / "lock").open("a") as second:
        assert supervisor.claim(first) and not supervisor.claim(second)
