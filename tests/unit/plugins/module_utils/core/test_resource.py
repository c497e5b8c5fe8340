# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way through every module: the lock, warnings, and what an error is about."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.core import lock
from ansible_collections.weft.podnet.plugins.module_utils.core.problems import PodnetError, Refused
from ansible_collections.weft.podnet.plugins.module_utils.core.resource import Call, Resource


class Asked:
    """A call that nobody made."""

    def __init__(self, check_mode: bool = False, **params: Any) -> None:
        self.params = params
        self.check_mode = check_mode
        self.warnings: list[str] = []

    def run_command(self, args: Any, **_kwargs: Any) -> tuple[int, str, str]:
        raise AssertionError(f"nothing is to be run here, not {args}")

    def warn(self, warning: str) -> None:
        self.warnings.append(warning)


@pytest.fixture
def locks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The locks as they are taken and released."""
    seen: list[str] = []

    @contextlib.contextmanager
    def hold(name: str) -> Iterator[None]:
        seen.append(f"take {name}")
        try:
            yield
        finally:
            seen.append(f"release {name}")

    monkeypatch.setattr(lock, "hold", hold)
    return seen


def test_a_run_holds_its_lock_and_a_dry_run_none(locks: list[str]) -> None:
    def converge(call: Call) -> dict[str, Any]:
        locks.append(f"converge {call.check_mode}")
        return {"changed": False, "warnings": ["careful"]}

    resource = Resource({}, converge, lock=lambda options: f"x-{options['name']}")
    run, dry = Asked(name="a"), Asked(check_mode=True, name="a")
    assert resource.result(run) == resource.result(dry) == {"changed": False}
    assert locks == ["take x-a", "converge False", "release x-a", "converge True"]
    assert run.warnings == ["careful"]


def test_a_failure_releases_the_lock(locks: list[str]) -> None:
    def converge(_call: Call) -> dict[str, Any]:
        raise Refused(["no"])

    with pytest.raises(Refused):
        Resource({}, converge, lock=lambda _options: "x").result(Asked())
    assert locks == ["take x", "release x"]


def test_an_option_may_say_that_no_lock_is_needed(locks: list[str]) -> None:
    Resource({}, lambda _call: {"changed": False}, lock=lambda _options: "").result(Asked())
    assert locks == []


def test_a_refusal_names_its_subject_itself_and_an_error_of_the_system_does_not() -> None:
    resource = Resource({}, lambda _call: {}, about="name")
    assert resource.named({"name": "10-x.conf"}, OSError(28, "full")) == "10-x.conf"
    assert resource.named({"name": "10-x.conf"}, PodnetError("lost")) == "10-x.conf"
    assert resource.named({"name": "10-x.conf"}, Refused(["10-x.conf: no"])) == ""
    assert Resource({}, lambda _call: {}).named({}, OSError(28, "full")) == ""
