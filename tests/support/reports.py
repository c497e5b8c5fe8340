# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a report is made of: observations of a whole cluster with its versions, and a verification's matrix."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from support import observed_cluster

Json = dict[str, Any]
HOSTILE = "<script>alert(1)</script>\"'&<!--\x1b[31m\u202e]]>{{ 7*7 }}\ufffe"


def given(backend: str = "vxlan", workers: int = 3, version: int = 4) -> Json:
    """The arguments of findings.diagnose, of a healthy cluster without a plan."""
    hosts = observed_cluster.cluster(backend, workers, version)
    for number, host in enumerate(hosts.values(), 1):
        host |= {
            "kernel": "6.1.0-18-amd64",
            "os": {"id": "debian", "version": "12", "name": "Debian GNU/Linux 12 (bookworm)"},
            "runtime": {"socket": "/run/containerd/containerd.sock", "running": True, "version": "1.6.20"},
            "machine_id": f"3f2a{number:08x}",
            "certificates": [
                certificate("/etc/kubernetes/pki/ca.crt", "CN=kubernetes", 3400),
                certificate("/var/lib/kubelet/pki/kubelet-client-current.pem", f"CN=worker-{number}", 300 + number),
            ],
        }
        host["kernel_modules"]["br_netfilter"]["boot"] = "/etc/modules-load.d/weft-podnet.conf"
        if host["flannel"]:
            host["flannel"]["subnet_env"]["FLANNEL_SUBNET"] = observed_cluster.subnet(number, version)
        host["cni"]["loaded"] = host["cni"]["files"][0]["name"]
        host["cni"]["plugins"] = {"bridge": {"executable": True, "versions": ["0.4.0", "1.0.0"]}}
    return {"observations": hosts, "unobserved": {}, "plan": {}, "api": {}, "workers": list(hosts)}


def certificate(path: str, subject: str, days: int) -> Json:
    return {"path": path, "subject": subject, "not_after": "2027-11-26T12:00:00Z", "days_left": days}


def matrix(workers: int = 3, fails: Callable[[str, str], str] = lambda one, other: "") -> Json:
    """What podnet_matrix returns; ``fails`` gives the reason why pods of the one node do not reach the other's."""
    chance = random.Random(workers)
    names = [f"worker-{number}" for number in range(1, workers + 1)]
    cells: list[Json] = []
    for one in names:
        for other in names:
            reason = fails(one, other)
            for protocol in ("tcp", "udp"):
                latency = None if reason else round(chance.lognormvariate(-0.6 if one != other else -1.2, 0.45), 2)
                cells.append(
                    {
                        "from": one, "to": other, "kind": "same node" if one == other else "across", "family": 4,
                        "protocol": protocol, "ok": not reason, "promised": True, "latency_ms": latency,
                        "reason": reason,
                    }
                )  # fmt: skip
        for kind in ("hairpin", "host port", "egress", "node to pod"):
            cells.append(
                {
                    "from": one, "to": one if kind == "hairpin" else names[0], "kind": kind, "family": 4,
                    "protocol": "tcp", "ok": True, "promised": True, "latency_ms": 0.4, "reason": "",
                }
            )  # fmt: skip
    failed = [each for each in cells if each["ok"] is False]
    promised = 4 * workers * workers - 2 * workers
    return {
        "ok": not failed, "lines": [], "text": "", "hosts": names, "cells": cells,
        "pairs": {"tried": promised, "promised": promised, "passed": promised - 2 * len(failed)},
        "failures": [f"{each['from']} -> {each['to']}: not reached; {each['reason']}" for each in failed[::2]],
        "expected": [], "common": "", "findings": [], "not_checked": [], "sample": {},
    }  # fmt: skip


def hostile() -> Json:
    """A cluster of which one worker says what no host says, wherever the report repeats it."""
    found = given()
    host = found["observations"]["worker-2"]
    host |= {"kernel": HOSTILE, "os": {"name": HOSTILE}, "hostname": HOSTILE}
    host["runtime"]["version"] = HOSTILE
    host["certificates"] = [certificate(HOSTILE, HOSTILE, 3), {**certificate("/x", "y", 4), "not_after": HOSTILE}]
    host["sysctls"]["net.ipv4.ip_forward"] = {"now": "1", "boot": "0", "file": HOSTILE * 200}
    host["cni"]["files"].append({"name": HOSTILE, "error": HOSTILE})
    host["cni"]["broken"] = HOSTILE
    host["routes"].append({"dst": "10.244.2.0/24", "via": "", "dev": HOSTILE, "table": "main", "metric": 0})
    host["links"].append({"name": HOSTILE, "kind": "vxlan", "mtu": 9, "underlay": HOSTILE, "ours": True})
    found["unobserved"] = {f"worker-9{HOSTILE}": HOSTILE}
    return found


def hostile_matrix() -> Json:
    """A verification in which every text is what no host says."""
    found = matrix(3, lambda one, other: HOSTILE if one == "worker-2" != other else "")
    for cell in found["cells"]:
        if cell["from"] == "worker-2":
            cell |= {"to": HOSTILE, "kind": cell["kind"] if cell["kind"] == "across" else HOSTILE, "protocol": HOSTILE}
    return {**found, "hosts": [*found["hosts"], HOSTILE], "common": HOSTILE, "not_checked": [HOSTILE]}
