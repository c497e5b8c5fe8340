#!/usr/bin/env python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write docs/how-to/troubleshoot.md from the table of rules in plugins/plugin_utils/diagnosis/rules/.

    tools/rules.py             write the file if it is stale
    tools/rules.py --check     print a diff instead; the exit code is 1 where there is one

What is before ``<!-- rules: generated -->`` is written by hand.
"""

from __future__ import annotations

import difflib
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / ".collections"))

from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis.rules import CONCERNS  # noqa: E402
from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis.table import Concern, Rule  # noqa: E402

PAGE = ROOT / "docs" / "how-to" / "troubleshoot.md"
BEGIN = "<!-- rules: generated -->\n"
END = "<!-- rules: end -->\n"
ISSUE = re.compile(r"([\w/-]+)#(\d+)")
REPORT = "https://github.com/{}/issues/{}"
REPOSITORIES = {
    "containerd": "containerd/containerd",
    "flannel": "flannel-io/flannel",
    "k3s": "k3s-io/k3s",
    "kube-hetzner": "kube-hetzner/terraform-hcloud-kube-hetzner",
    "kubernetes": "kubernetes/kubernetes",
    "kubernetes-the-hard-way": "kelseyhightower/kubernetes-the-hard-way",
    "metrics-server": "kubernetes-sigs/metrics-server",
    "openshift/origin": "openshift/origin",
    "plugins": "containernetworking/plugins",
    "systemd": "systemd/systemd",
}


def main(arguments: list[str]) -> int:
    """Write, or with ``--check`` compare. The exit code."""
    if arguments not in ([], ["--check"]):
        print("usage: tools/rules.py [--check]", file=sys.stderr)
        return 2
    found = PAGE.read_text(encoding="utf-8")
    wanted = f"{found.partition(BEGIN)[0]}{BEGIN}\n{rules()}\n{END}"
    if found == wanted:
        return 0
    if not arguments:
        PAGE.write_text(wanted, encoding="utf-8")
        return 0
    name = str(PAGE.relative_to(ROOT))
    lines = difflib.unified_diff(found.splitlines(True), wanted.splitlines(True), name, f"{name} (generated)")
    sys.stdout.writelines(lines)
    print("Stale: run `make variables`.", file=sys.stderr)
    return 1


def rules() -> str:
    """An overview of the concerns, then each with its rules."""
    return "\n".join(["".join(map(overview, CONCERNS)), *map(section, CONCERNS)])


def overview(concern: Concern) -> str:
    links = ", ".join(f"[`{rule.id}`](#{rule.id})" for rule in concern.rules)
    return f"- [{concern.name}](#{anchor(concern.name)}): {links}\n"


def anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def section(concern: Concern) -> str:
    return "\n".join([f"## {concern.name}\n", f"{concern.about}\n", *(entry(rule) for rule in concern.rules)])


def entry(rule: Rule) -> str:
    """A rule as documentation."""
    lines = [f"### {rule.id}\n", f"**{rule.title}** ({rule.severity}).", f"{marked(rule.meaning)}\n"]
    lines += [f"- *Effect*: {marked(rule.effect)}", f"- *See it*: {code(rule.see)}"]
    if rule.fix:
        lines.append(f"- *Fix*: {code(shown(rule.fix))}")
    if rule.site:
        lines.append(f"- *{'With the collection' if rule.fix else 'Fix'}*: {marked(rule.site)}")
    if rule.foreseen:
        lines.append(f"- {marked('site.yml does not fix this, but warns about it before it changes anything')}")
    reports = [
        f"[{name}#{issue}]({REPORT.format(REPOSITORIES[name], issue)})" for name, issue in ISSUE.findall(rule.source)
    ]
    if reports:
        lines.append(f"- *Reported in*: {', '.join(reports)}")
    return "\n".join(lines) + "\n"


def shown(fix: str) -> str:
    """A fix as the user types it: its placeholders in angle brackets."""
    return (
        re.sub(r"\{(\w+)\}", r"<\1>", fix.replace("{{", "\0").replace("}}", "\1")).replace("\0", "{").replace("\1", "}")
    )


def code(text: str) -> str:
    """Code in a line of Markdown, whatever quotes it has."""
    fence = "``" if "`" in text else "`"
    return f"{fence}{text}{fence}"


def marked(text: str) -> str:
    """Names of variables and playbooks as code."""
    return re.sub(r"\bpodnet_\w+(: [\w.]*\w)?|\b\w+[.]yml\b|--[\w-]+", lambda match: f"`{match[0]}`", text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
