# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""launch.py DESCRIPTOR SECONDS PROGRAM...: run a program, then write its seconds, CPU seconds and memory's peak.

A process counts the memory of the one it was forked from until it executes its own program, so a large harness would
hide the figure of a small tool. This one is as small as Python can be: start it with -I -S, import nothing else.
"""

import os
import signal
import sys
import time

report, limit, words = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
begin = time.perf_counter()
child = os.fork()
if child == 0:
    os.close(report)
    try:
        os.execvp(words[0], words)
    finally:
        os._exit(127)
signal.signal(signal.SIGALRM, lambda *_args: os.kill(child, signal.SIGKILL))
signal.setitimer(signal.ITIMER_REAL, limit)
_child, status, usage = os.wait4(child, 0)
seconds = time.perf_counter() - begin
cpu = usage.ru_utime + usage.ru_stime
os.write(report, b"%f %f %d %d" % (seconds, cpu, usage.ru_maxrss, os.waitstatus_to_exitcode(status)))
