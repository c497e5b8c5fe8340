# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The common code of the modules that manage something on a host.

A concern (routes, the mesh, the CNI configuration, ...) is a Resource: its options, its lock, and a function that
observes the host and returns a Plan. This file has the rest, written once: the loop from the plan to the result, root
and the session's surroundings, the lock of the run and of the concern, error reporting, warnings, and several concerns
in one process.

The rules:

- A plan is made without changing the host, and takes all problems at once: it refuses, or it can be applied.
- Check mode returns what a run would return, changes nothing, and takes no lock.
- After a change the concern plans again: if the host is not as wanted, the run fails.
- A second run returns ``changed: false``.
- If anything fails, the previous state is restored, or the error says what is not.
- Every failure carries ``problems``, one line each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from . import bytecode, documents, lock, tools
from .output import Module, lines
from .problems import PodnetError, Refused


class Call(Protocol):
    """What a concern gets: a module that was called, or one of several steps in one module's process."""

    params: dict[str, Any]
    check_mode: bool

    def run_command(self, args: Any, **kwargs: Any) -> tuple[int, str, str]:
        """Run a program; (exit code, output, errors)."""

    def warn(self, warning: str) -> None:
        """Show a warning to the user."""


@contextlib.contextmanager
def _nothing() -> Iterator[Mapping[str, Any]]:
    yield {}


@dataclass(frozen=True)
class Plan:
    """What a run would change on a host, and how.

    ``result`` is the module's result but for ``changed``: ``diff`` and whatever the module documents. ``applied`` makes
    the change as a context manager: entering it changes the host, all or nothing, and yields what is known of the
    result only then. If its body raises, it restores routes, devices, rules and services; files that another program
    has changed since are left to it. ``tidy`` follows every run that succeeds, even without a change: it removes what
    a killed run left.

    After a change another plan is made, whose ``incomplete`` says whether the host is not as wanted. It is ``changed``
    unless the plan also covers what other programs may add at any moment. Without ``read_back``, no other plan is made.
    """

    changed: bool
    result: Mapping[str, Any]
    applied: Callable[[], AbstractContextManager[Mapping[str, Any]]] = _nothing
    tidy: Callable[[], None] | None = None
    warnings: Sequence[str] = ()
    incomplete: bool | None = None
    read_back: bool = True


def converging(plan: Callable[[Call], Plan]) -> Callable[[Call], dict[str, Any]]:
    """The loop of every concern that keeps a state: observe and plan, apply unless in check mode, read back."""

    def run(call: Call) -> dict[str, Any]:
        made = plan(call)
        result = {"changed": made.changed, **made.result, "warnings": made.warnings}
        if call.check_mode:
            return result
        if made.changed:
            with made.applied() as known:
                if made.read_back:
                    _check(plan(call))
                result.update(known)
        if made.tidy:
            made.tidy()
        return result

    return run


def _check(again: Plan) -> None:
    if not (again.changed if again.incomplete is None else again.incomplete):
        return
    diff = again.result["diff"]
    entries = diff if isinstance(diff, list) else [diff]
    differing = [entry for entry in entries if entry.get("before") != entry.get("after")]
    places = dict.fromkeys(str(entry.get("after_header", "the host")) for entry in differing)
    raise Refused(
        [
            f"{', '.join(places)}: applied, but a moment later the host holds something else (does another program "
            "change it at the same time? run again)"
        ]
    )


@contextlib.contextmanager
def undone(undo: Callable[[], str]) -> Iterator[None]:
    """If the body fails, ``undo`` restores the previous state and returns how that went, which ends the error."""
    try:
        yield
    except (PodnetError, OSError) as error:
        raise Refused([], [*lines(error), undo()]) from error


@dataclass(frozen=True)
class Resource:
    """One concern on a host.

    ``run`` returns the module's result: ``changed``, ``diff`` and whatever the module documents. It is ``converging``
    a plan, except where a step does something at each call. Raises PodnetError and OSError. ``lock`` names the lock in
    /run/weft-podnet from the options; without it, ``run`` holds its own or needs none. ``rules`` are AnsibleModule's
    (required_if and the like). ``about`` is the option that names what failed, where the error does not. Options in
    ``unsaid`` are not sent back to the controller. ``changes``: does it change what a run decides? ``reads``: does it
    only ever read, and leave nothing on the host?
    """

    arguments: Mapping[str, Any]
    run: Callable[[Call], dict[str, Any]]
    lock: Callable[[Mapping[str, Any]], str] | None = None
    rules: Mapping[str, Any] = field(default_factory=dict)
    about: str = ""
    unsaid: tuple[str, ...] = ()
    changes: bool = True
    reads: bool = False

    def named(self, params: Mapping[str, Any], error: Exception) -> str:
        """What an error is about, where its own text does not say it."""
        return str(params[self.about]) if self.about and not isinstance(error, Refused) else ""

    def said(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The options that are sent back."""
        return {name: "left out" if name in self.unsaid else value for name, value in params.items()}

    def result(self, call: Call) -> dict[str, Any]:
        """Run under the lock, which a dry run does not need. Raises PodnetError, OSError."""
        name = self.lock(call.params) if self.lock and not call.check_mode else ""
        with lock.hold(name) if name else contextlib.nullcontext():
            result = self.run(call)
        if not call.check_mode and not self.reads:
            bytecode.keep()
        for warning in result.pop("warnings", []):
            call.warn(warning)
        return result


def options(spec: Mapping[str, Any], given: Mapping[str, Any], **rules: Any) -> dict[str, Any]:
    """The options with their types and defaults by ``spec``. Raises Refused with everything that is wrong."""
    try:
        checked = ArgumentSpecValidator(dict(spec), **rules).validate(dict(given))
    except (ArithmeticError, ValueError) as error:
        # The framework does not expect .inf and .nan where a whole number belongs.
        raise Refused([f"an option that expects a whole number has another value: {error}"]) from error
    if checked.error_messages:
        raise Refused(checked.error_messages)
    documents.check_paths(checked.validated_parameters, spec)
    return dict(checked.validated_parameters)


class Step:
    """A call of one concern in the process of another call, with options of its own."""

    def __init__(self, outer: Call, params: dict[str, Any]) -> None:
        self.params = params
        self.check_mode = outer.check_mode
        self.run_command = outer.run_command
        self.warn = outer.warn


def main(resource: Resource) -> None:
    """A module's whole program."""
    module = Module(argument_spec=dict(resource.arguments), supports_check_mode=True, **resource.rules)
    said = {}
    if resource.unsaid:
        said["invocation"] = {"module_args": resource.said(module.params)}
    tools.begin(module, resource.changes, **said)
    try:
        result = resource.result(module)
    except (PodnetError, OSError) as error:
        module.refuse(error, resource.named(module.params, error), **{**getattr(error, "found", {}), **said})
    module.exit_json(**result, **said)
