# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run by ssh as ProxyCommand inside the underlay's namespace: connects, and passes the socket itself back to ssh.

With --banner it waits until a host's sshd answers instead. Started for each connection, so it imports little.
"""

from __future__ import annotations

import socket
import sys
import time


def wait_for_banner(host: str, port: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((host, port), timeout=1) as connection:
                if connection.recv(4) == b"SSH-":
                    return True
        except OSError:
            pass
        time.sleep(0.1)
    return False


def main() -> int:
    if sys.argv[1] == "--banner":
        return 0 if wait_for_banner(sys.argv[2], int(sys.argv[3]), float(sys.argv[4])) else 1
    try:
        connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10)
    except OSError as exc:
        print(f"{sys.argv[1]} port {sys.argv[2]}: {exc.strerror or exc}", file=sys.stderr)
        return 1
    connection.settimeout(None)
    with socket.socket(fileno=1) as channel:
        socket.send_fds(channel, [b"\0"], [connection.fileno()])
    return 0


if __name__ == "__main__":
    sys.exit(main())
