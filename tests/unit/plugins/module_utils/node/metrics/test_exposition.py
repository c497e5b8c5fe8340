# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exposition is read back by a parser of the format's own rules."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.weft.podnet.plugins.module_utils.node.metrics import exposition
from ansible_collections.weft.podnet.plugins.module_utils.node.metrics.exposition import Sample
from support.exposition import parse

SAMPLES = st.lists(
    st.builds(
        Sample,
        st.sampled_from([*exposition.HELP]),
        st.floats(0, 1e12, allow_nan=False).map(lambda value: round(value, 3)),
        st.dictionaries(st.sampled_from(["path", "network", "concern"]), st.text()),
    ),
    unique_by=lambda sample: (sample.name, tuple(sorted(sample.labels.items()))),
)


@given(SAMPLES)
def test_what_is_written_is_read_back(samples: list[Sample]) -> None:
    text = exposition.text(samples)
    read = parse(text)
    assert sorted(read, key=repr) == sorted(((s.name, dict(s.labels), s.value) for s in samples), key=repr)


def test_a_verification_is_kept_until_the_next() -> None:
    first = exposition.verification(False, 1764214800.7, "")
    assert first == [
        Sample("podnet_verify_success", 0.0),
        Sample("podnet_verify_timestamp_seconds", 1764214800.0),
    ]
    former = exposition.text([Sample("podnet_peers_declared", 3), *first])
    assert exposition.verification(None, 1764299999.0, former) == first
    assert exposition.verification(None, 1764299999.0, "garbage podnet_verify_success\n") == []
    assert exposition.verification(True, 1.0, former)[0].value == 1.0


def test_dates_and_leases_of_an_observation() -> None:
    shown = [{"path": "/a", "subject": "CN=x", "not_after": "2027-11-26T12:00:00Z"}]
    assert exposition.certificates(shown)[0].value == 1827230400.0
    networks = [
        {"name": "cbr0", "configured": True, "capacity": 253, "leases": 12},
        {"name": "gone", "configured": False, "capacity": 0, "leases": 1},
    ]
    assert [(each.name, each.value) for each in exposition.leases(networks)] == [
        ("podnet_leases", 12),
        ("podnet_leases_capacity", 253),
    ]
