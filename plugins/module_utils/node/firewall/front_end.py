# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What changes a host's firewalls have in common, whichever firewall it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Optional

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import PodnetError

# AnsibleModule.run_command: (argv) -> (return code, standard output, standard error)
Run = Callable[..., tuple[int, str, str]]
Find = Callable[[str], Optional[str]]


class FirewallError(PodnetError):
    """A firewall refuses; the text is for the user."""


class Plan(NamedTuple):
    """What one firewall needs: ``before`` and ``after`` are our texts by place, ``apply`` leads to the latter.

    ``warning`` says what keeps the change from taking effect by itself.
    """

    firewall: str
    before: dict[str, str]
    after: dict[str, str]
    apply: Callable[[], None]
    warning: str = ""

    @property
    def changed(self) -> bool:
        return self.before != self.after


def checked(run: Run, *argv: str) -> str:
    """What a command prints. Raises FirewallError if it fails."""
    code, out, err = run(list(argv))
    if code:
        raise FirewallError(f"{' '.join(argv)}: {(err or out).strip()}")
    return out


def joined(lines: Iterable[str]) -> str:
    """Rules as a text in one order."""
    return "".join(f"{line}\n" for line in sorted(lines))
