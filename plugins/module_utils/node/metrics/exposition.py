# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Metrics as text: https://prometheus.io/docs/instrumenting/exposition_formats/, version 0.0.4. Pure."""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

HELP: Mapping[str, str] = {
    "podnet_peers_declared": "Pod subnets of other nodes that the plan has.",
    "podnet_peers_present": "Of these, those that the kernel has a way to.",
    "podnet_drift": "1 where a concern of the node differs from the plan, else 0.",
    "podnet_certificate_expiry_timestamp_seconds": "When a certificate that the pod network needs expires.",
    "podnet_leases": "Addresses that host-local gave to pods.",
    "podnet_leases_capacity": "Addresses that host-local has for pods.",
    "podnet_verify_success": "1 where the last verification passed, else 0.",
    "podnet_verify_timestamp_seconds": "When the last verification ended.",
}
VERIFIED = ("podnet_verify_success", "podnet_verify_timestamp_seconds")
ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Sample(NamedTuple):
    name: str
    value: float
    labels: Mapping[str, str] = {}


def text(samples: Iterable[Sample]) -> str:
    """The exposition: each metric's samples together, below its HELP and TYPE. A metric without samples is left out."""
    by_name: dict[str, list[Sample]] = {}
    for sample in samples:
        by_name.setdefault(sample.name, []).append(sample)
    lines = []
    for name, meaning in HELP.items():
        if name in by_name:
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} gauge", *map(_line, by_name[name])]
    return "".join(f"{line}\n" for line in lines)


def _line(sample: Sample) -> str:
    labels = ",".join(f'{name}="{value.translate(ESCAPES)}"' for name, value in sample.labels.items())
    value = sample.value
    number = str(int(value)) if value == int(value) else repr(value)
    return f"{sample.name}{{{labels}}} {number}" if labels else f"{sample.name} {number}"


def verification(passed: bool | None, now: float, former: str) -> list[Sample]:
    """How the last verification ended: this one's, or what the former file says where there was none."""
    if passed is not None:
        return [Sample(VERIFIED[0], float(passed)), Sample(VERIFIED[1], float(int(now)))]
    found = re.findall(rf"^({'|'.join(VERIFIED)}) (\d+)$", former, re.MULTILINE)
    return [Sample(name, float(value)) for name, value in found]


def certificates(shown: Iterable[Mapping[str, Any]]) -> list[Sample]:
    """``shown`` as in an observation."""
    return [
        Sample(
            "podnet_certificate_expiry_timestamp_seconds",
            float(calendar.timegm(time.strptime(each["not_after"], "%Y-%m-%dT%H:%M:%SZ"))),
            {"path": each["path"], "subject": each["subject"]},
        )
        for each in shown
    ]


def leases(networks: Iterable[Mapping[str, Any]]) -> list[Sample]:
    """``networks`` as in an observation; those that no configuration describes have no capacity."""
    found = []
    for each in networks:
        if each["configured"] and each["capacity"]:
            labels = {"network": each["name"]}
            found.append(Sample("podnet_leases", each["leases"], labels))
            found.append(Sample("podnet_leases_capacity", each["capacity"], labels))
    return found
