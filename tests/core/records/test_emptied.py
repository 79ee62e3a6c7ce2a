"""Whether a collection is empty after a removal is found without a pass over all of its fields."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.records.draft import Draft
from server.core.records.kinds import HASH
from server.core.records.slicing import run_through
from server.core.records.views import View

NOW_MS, LATER_MS = 1_000_000, 2_000_000


def hash_with(expiries_ms: list[int]) -> bytes:
    """A hash of fields that expire then; 0 for never."""
    draft = Draft(None, NOW_MS, HASH)
    for number, expires_at_ms in enumerate(expiries_ms):
        draft.put(b"%d" % number, b"v", expires_at_ms)
    return draft.record(b"actor--1", 1)


@given(
    st.lists(st.sampled_from([0, NOW_MS + 5, LATER_MS + 5]), min_size=1, max_size=200),
    st.data(),
)
def test_a_hash_is_gone_if_no_field_lives(expiries_ms: list[int], data: st.DataObject) -> None:
    """Of fields that never expire, have expired, or will."""
    draft = Draft(hash_with(expiries_ms), LATER_MS, HASH)
    left = {b"%d" % number for number, at_ms in enumerate(expiries_ms) if not at_ms or at_ms > LATER_MS}
    removed = data.draw(st.one_of(st.just(sorted(left)), st.lists(st.sampled_from(sorted(left) or [b"none"]))))
    for field in removed:
        draft.remove(field)
    left -= set(removed)
    if draft.key_type == HASH and draft.changed:
        assert draft.is_gone() == (not left)
        record = draft.record(b"actor--1", 2)
        assert len(View(record, LATER_MS)) == len(left)
        assert run_through(draft.count_in_slices()) == len(left)


@pytest.mark.interpreted  # compiled code calls methods that nobody can replace
def test_to_remove_a_field_of_many_that_expire_decodes_few_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    record = hash_with([LATER_MS] * 20_000)
    decoded = 0
    decode = View._lasting_in

    def count(view: View, chunk: int) -> list[tuple[bytes, bytes, int]]:
        nonlocal decoded
        decoded += 1
        return decode(view, chunk)

    monkeypatch.setattr(View, "_lasting_in", count)
    draft = Draft(record, NOW_MS, HASH)
    draft.remove(b"777")
    draft.record(b"actor--1", 2)
    assert decoded <= 2
