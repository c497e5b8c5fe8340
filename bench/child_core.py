# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measured by itself: the core on a request read from a file, without imports, parsing and Ansible's framework."""

from __future__ import annotations

import gc
import json
import sys
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT / ".collections"))

from ansible_collections.weft.podnet.plugins.module_utils.netlink import vxlan_link  # noqa: E402
from ansible_collections.weft.podnet.plugins.module_utils.netlink.channel import Channel  # noqa: E402
from ansible_collections.weft.podnet.plugins.module_utils.vxlan import apply as vxlan_apply  # noqa: E402
from ansible_collections.weft.podnet.plugins.module_utils.vxlan import host as vxlan_host  # noqa: E402
from ansible_collections.weft.podnet.plugins.module_utils.vxlan.spec import check  # noqa: E402


def main() -> None:
    # As the module does.
    gc.disable()
    wanted = check(json.loads(Path(sys.argv[1]).read_text()), "n1")
    vxlan_link.require()
    begin, cpu = time.perf_counter(), time.process_time()
    with Channel() as channel:
        host = vxlan_host.observe(channel, wanted)
        change = vxlan_host.decide(channel, host, wanted)
        if change.changed:
            vxlan_apply.apply(channel, change, wanted)
    print("seconds", time.perf_counter() - begin, "cpu", time.process_time() - cpu)


main()
