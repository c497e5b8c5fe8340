# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every action plugin of a host's module has in common: what comes back from a host is data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused

from . import host_facts

# Where a module's archive can be imported from, before the first import of it.
_FIRST_IMPORT = b"\n        from ansible.module_utils._internal._ansiballz import _loader\n"
_BYTE_CODE = b"\n        import ansible_collections.weft.podnet.plugins.module_utils.core"


class HostAction(ActionBase):
    """Check the arguments on the controller, then run the module of the same name on the task's host."""

    TRANSFERS_FILES = False
    _supports_async = True
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        try:
            host_facts.require_honest(task_vars or {})
            arguments = self.arguments(self._task.args, task_vars or {})
        except Refused as refused:
            return {**result, "failed": True, "changed": False, "msg": str(refused), "problems": refused.problems}
        return {**result, **self._ask(arguments, task_vars)}

    @staticmethod
    def arguments(args: dict[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments for the module, from the task's. Raises Refused with everything that is wrong."""
        return args

    def _configure_module(self, *args: Any, **kwargs: Any) -> Any:
        """The module as Ansible sends it, with Ansible's own part run from byte code as well; see `core.bytecode`.

        Ansible has no other place for it. Where another version writes the module differently, it is sent as it is: it
        starts later, and nothing else changes.
        """
        built, *others = super()._configure_module(*args, **kwargs)
        sent = getattr(built, "b_module_data", None)
        # An asynchronous task sends Ansible's async_wrapper as well, whose archive has nothing of the collection.
        own = str(kwargs.get("module_name") or (args or [""])[0]).startswith("weft.podnet.")
        if own and isinstance(sent, bytes) and sent.count(_FIRST_IMPORT) == 1 and dataclasses.is_dataclass(built):
            sent = sent.replace(_FIRST_IMPORT, _BYTE_CODE + _FIRST_IMPORT)
            built = dataclasses.replace(built, b_module_data=sent)  # type: ignore[type-var]
        return (built, *others)

    def _ask(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """The module's result, without facts.

        Ansible puts facts above a host's inventory variables. A compromised host that answered with
        ``ansible_facts: {podnet_ca_key: ...}`` would decide what later tasks do on the control plane.
        """
        background = bool(self._task.async_val and not self._connection.has_native_async)
        answer = dict(self._execute_module(module_args=arguments, task_vars=task_vars, wrap_async=background))
        if not background:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        answer.pop("ansible_facts", None)
        # Which interpreter was found is Ansible's own fact, and saves it looking again for every task.
        if self._discovered_interpreter_key:
            answer["ansible_facts"] = {self._discovered_interpreter_key: self._discovered_interpreter}
        return answer
