# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus' text format 0.0.4, read strictly by its specification."""

from __future__ import annotations

import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(,|$)')
SAMPLE = re.compile(rf"({NAME})(?:\{{(.*)\}})? (\S+)")
UNESCAPED = {r"\\": "\\", r"\"": '"', r"\n": "\n"}

Read = tuple[str, dict[str, str], float]


def parse(text: str) -> list[Read]:
    """(name, labels, value) of each sample; fails for anything that is not of the format."""
    assert not text or text.endswith("\n")
    found: list[Read] = []
    helped: list[str] = []
    typed: list[str] = []
    for line in text.split("\n")[:-1]:
        if line.startswith("#"):
            match = re.fullmatch(rf"# (HELP|TYPE) ({NAME}) (.+)", line)
            assert match, line
            (helped if match[1] == "HELP" else typed).append(match[2])
            assert match[1] == "HELP" or match[3] in ("counter", "gauge", "histogram", "summary", "untyped")
            # One group for each metric, its comments first.
            assert match[2] not in [name for name, _labels, _value in found], line
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        labels: dict[str, str] = {}
        rest = match[2] or ""
        while rest:
            label = LABEL.match(rest)
            assert label and label[1] not in labels, line
            labels[label[1]] = re.sub(r"\\[\\\"n]", lambda escape: UNESCAPED[escape[0]], label[2])
            rest = rest[label.end() :]
        assert helped[-1:] == typed[-1:] == [match[1]], line
        found.append((match[1], labels, float(match[3])))
    assert len(set(helped)) == len(helped) and len(set(typed)) == len(typed)
    assert len({(name, tuple(sorted(labels.items()))) for name, labels, _value in found}) == len(found)
    return found
