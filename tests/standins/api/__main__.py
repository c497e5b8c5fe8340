# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command: flags are named as kube-apiserver's and kube-controller-manager's."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from .audit import Audit
from .cidrs import MASK, Allocator
from .server import Server
from .service import Service
from .store import Store
from .tls import Identity


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A stand-in for kube-apiserver, for tests.", allow_abbrev=False)
    parser.add_argument("--bind-address", default="::")
    parser.add_argument("--secure-port", type=int, default=6443)
    parser.add_argument("--tls-cert-file", type=Path, required=True)
    parser.add_argument("--tls-private-key-file", type=Path, required=True)
    parser.add_argument("--client-ca-file", type=Path, required=True)
    parser.add_argument("--audit-log-path", type=Path)
    parser.add_argument("--state-file", type=Path, help="etcd's part; without it all is gone with the process")
    parser.add_argument("--allocate-node-cidrs", action="store_true")
    parser.add_argument("--cluster-cidr", default="10.244.0.0/16")
    parser.add_argument("--node-cidr-mask-size-ipv4", type=int, default=MASK[4])
    parser.add_argument("--node-cidr-mask-size-ipv6", type=int, default=MASK[6])
    return parser.parse_args()


def main() -> int:
    options = _options()
    allocator = None
    if options.allocate_node_cidrs:
        masks = (options.node_cidr_mask_size_ipv4, options.node_cidr_mask_size_ipv6)
        allocator = Allocator(options.cluster_cidr, *masks)
    if options.state_file:
        options.state_file.parent.mkdir(parents=True, exist_ok=True)
    identity = Identity(options.tls_cert_file, options.tls_private_key_file, options.client_ca_file)
    service = Service(Store(options.state_file), allocator)
    server = Server((options.bind_address, options.secure_port), service, identity, Audit(options.audit_log_path))

    def reload(_signal: int, _frame: Any) -> None:
        try:
            server.reload()
        except OSError as problem:
            print(f"certificates not reloaded: {problem}", file=sys.stderr, flush=True)

    def stop(_signal: int, _frame: Any) -> None:
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGHUP, reload)
    signal.signal(signal.SIGTERM, stop)
    print(f"serving on port {server.server_address[1]}", flush=True)
    server.serve_forever(poll_interval=0.1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
