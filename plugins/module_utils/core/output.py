# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The output of every module: makes all that a result quotes from a host readable for controller and terminal.

Names, links, journal lines and files hold any bytes. Ansible refuses a whole result for one byte that is no UTF-8, and
control characters would reach the user's terminal.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from . import documents, files
from .problems import Refused


def printable(value: Any) -> Any:
    """The same value with every text in it, keys included, made printable; see files.printable."""
    if isinstance(value, str):
        return files.printable(value)
    if isinstance(value, (bytes, os.PathLike)):
        return files.printable(os.fsdecode(value))
    if isinstance(value, Mapping):
        return {printable(key): printable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [printable(each) for each in value]
    return value


def lines(error: Exception) -> list[str]:
    """An error whose text is for the user, or a file's, as lines."""
    if isinstance(error, OSError):
        return [str(files.explained(error))]
    return list(getattr(error, "problems", [str(error)]))


def failure(error: Exception, about: str = "") -> dict[str, Any]:
    """A module's result for an error whose text is for the user, or a file's; ``about`` is named first."""
    problems = lines(error)
    text = "\n".join(problems)
    return {"failed": True, "msg": f"{about}: {text}" if about else text, "problems": problems}


class Module(AnsibleModule):
    """AnsibleModule with a printable result; every module of the collection is one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        try:
            documents.check_paths(self.params, self.argument_spec)
        except Refused as refused:
            self.refuse(refused)

    def exit_json(self, **kwargs: Any) -> None:
        super().exit_json(**printable(kwargs))

    def fail_json(self, msg: str, **kwargs: Any) -> None:
        super().fail_json(files.printable(str(msg)), **printable(kwargs))

    def warn(self, warning: str, **kwargs: Any) -> None:
        super().warn(files.printable(str(warning)), **kwargs)

    def refuse(self, error: Exception, about: str = "", **result: Any) -> None:
        """Fail with what ``failure`` returns, and ``result``."""
        self.fail_json(**{**result, **failure(error, about)})
