# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flanneld's command line, as Go's package flag reads it."""

from __future__ import annotations

from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis import flags


def test_flags_by_name() -> None:
    words = ["--ip-masq", "-iface", "eth1", "--iface=eth2", "--kube-subnet-mgr=false", "-v", "10", "stray", "--last"]
    assert flags.parse(words) == {
        "ip-masq": ["true"], "iface": ["eth1", "eth2"], "kube-subnet-mgr": ["false"], "v": ["10"], "last": ["true"],
    }  # fmt: skip
