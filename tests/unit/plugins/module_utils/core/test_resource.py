# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way through every module: the loop, the lock, warnings, and what an error is about."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.core import lock
from ansible_collections.weft.podnet.plugins.module_utils.core.problems import PodnetError, Refused
from ansible_collections.weft.podnet.plugins.module_utils.core.resource import Call, Plan, Resource, converging, undone


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
    def plan(call: Call) -> Plan:
        locks.append(f"plan {call.check_mode}")
        return Plan(False, {}, warnings=["careful"])

    resource = Resource({}, converging(plan), lock=lambda options: f"x-{options['name']}")
    run, dry = Asked(name="a"), Asked(check_mode=True, name="a")
    assert resource.result(run) == resource.result(dry) == {"changed": False}
    assert locks == ["take x-a", "plan False", "release x-a", "plan True"]
    assert run.warnings == ["careful"]


def test_a_failure_releases_the_lock(locks: list[str]) -> None:
    def plan(_call: Call) -> Plan:
        raise Refused(["no"])

    with pytest.raises(Refused):
        Resource({}, converging(plan), lock=lambda _options: "x").result(Asked())
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


class Host:
    """One value, a concern that keeps it, and what happened. ``stubborn``: another program changes it right back."""

    def __init__(self, stubborn: bool = False) -> None:
        self.value, self.stubborn, self.seen = "old", stubborn, list[str]()

    def plan(self, call: Call) -> Plan:
        self.seen.append("plan")
        found, wanted = self.value, call.params["value"]

        @contextlib.contextmanager
        def applied() -> Iterator[Mapping[str, Any]]:
            def undo() -> str:
                self.value = found
                return f"{found} is back"

            with undone(undo):
                self.seen.append("apply")
                self.value = "other" if self.stubborn else wanted
                yield {"known": "afterwards"}

        diff = {"after_header": "value", "before": found, "after": wanted}
        return Plan(found != wanted, {"diff": diff}, applied, lambda: self.seen.append("tidy"))


def test_the_loop_applies_once_and_reads_back() -> None:
    host = Host()
    run = converging(host.plan)
    diff = {"after_header": "value", "before": "old", "after": "new"}
    result = {"changed": True, "diff": diff, "warnings": ()}
    assert run(Asked(check_mode=True, value="new")) == result
    assert (host.value, host.seen) == ("old", ["plan"])
    assert run(Asked(value="new")) == {**result, "known": "afterwards"}
    assert (host.value, host.seen[1:]) == ("new", ["plan", "apply", "plan", "tidy"])
    again = run(Asked(value="new"))
    assert not again["changed"] and "known" not in again
    # What a killed run left goes even where nothing differs.
    assert host.seen[5:] == ["plan", "tidy"]


def test_what_does_not_stay_as_it_was_applied_is_an_error_and_undone() -> None:
    host = Host(stubborn=True)
    with pytest.raises(Refused) as refused:
        converging(host.plan)(Asked(value="new"))
    read_back, back = refused.value.problems
    assert "value: applied, but a moment later the host holds something else" in read_back
    assert (back, host.value, host.seen[-1]) == ("old is back", "old", "plan")


def test_a_plan_can_say_that_what_is_left_is_no_fault() -> None:
    def plan(_call: Call) -> Plan:
        return Plan(True, {"diff": []}, incomplete=False)

    assert converging(plan)(Asked())["changed"]


def test_a_plan_can_do_without_the_second_look() -> None:
    seen: list[str] = []

    def plan(_call: Call) -> Plan:
        seen.append("plan")
        return Plan(True, {"diff": []}, read_back=False)

    assert converging(plan)(Asked())["changed"] and seen == ["plan"]


def test_the_error_comes_first_and_then_how_it_was_undone() -> None:
    with pytest.raises(Refused) as refused, undone(lambda: "all is back"):
        raise Refused([f"{number}" for number in range(300)])
    assert refused.value.problems[-2:] == ["... and 200 more problems", "all is back"]
    with pytest.raises(Refused) as refused, undone(lambda: "all is back"):
        raise OSError(28, "No space left on device", "/etc/x")
    assert refused.value.problems == [
        "/etc/x: no space is left on its file system; make room there and run again",
        "all is back",
    ]
