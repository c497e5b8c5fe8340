# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan's promises, for any two states: it leads from one to the other, once, and touches nothing foreign."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.weft.podnet.plugins.module_utils.core import reconcile

KEYS = st.integers(0, 12)
# A value is (owner, content): the owner plays the part of the protocol number.
OURS = st.tuples(st.just("ours"), st.integers(0, 3))
ANY = st.tuples(st.sampled_from(["ours", "foreign"]), st.integers(0, 3))
State = dict[int, tuple[str, int]]


def owned(_key: int, value: tuple[str, int]) -> bool:
    return value[0] == "ours"


def apply(plan: reconcile.Plan, state: State) -> State:
    result = {key: value for key, value in state.items() if key not in plan.remove}
    result.update(plan.add)
    result.update({key: new for key, (_old, new) in plan.replace.items()})
    return result


@given(st.dictionaries(KEYS, ANY), st.dictionaries(KEYS, OURS), st.booleans(), st.sets(KEYS))
def test_apply_reaches_the_desired_state_once(observed: State, desired: State, purge: bool, absent: set[int]) -> None:
    named = dict.fromkeys(absent - set(desired))
    plan = reconcile.plan(observed, desired, owned, absent=named, purge=purge)
    after = apply(plan, observed)
    for key, value in desired.items():
        assert after[key] == value or key in plan.conflicts
    assert {k: v for k, v in after.items() if v[0] == "foreign"} == {
        k: v for k, v in observed.items() if v[0] == "foreign"
    }
    assert not any(owned(key, after[key]) for key in named if key in after)
    if purge:
        assert {key for key, value in after.items() if owned(key, value)} <= set(desired)
    assert not reconcile.plan(after, desired, owned, absent=named, purge=purge).changed


@given(st.dictionaries(KEYS, ANY), st.dictionaries(KEYS, OURS))
def test_the_inverse_leads_back(observed: State, desired: State) -> None:
    plan = reconcile.plan(observed, desired, owned, purge=True)
    assert apply(plan.inverse(), apply(plan, observed)) == observed


@given(st.dictionaries(KEYS, ANY), st.dictionaries(KEYS, OURS))
def test_the_diff_is_what_apply_does(observed: State, desired: State) -> None:
    plan = reconcile.plan(observed, desired, owned, purge=True)
    after = apply(plan, observed)
    shown = reconcile.diff(plan, lambda key, value: f"{key} {value}")

    def lines(state: State, other: State) -> list[str]:
        return [f"{key} {state[key]}" for key in sorted(state) if state[key] != other.get(key)]

    assert shown["before"].splitlines() == lines(observed, after)
    assert shown["after"].splitlines() == lines(after, observed)
