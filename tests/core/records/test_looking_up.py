"""Fields are found in the bytes of a record, whatever fields and payloads look alike."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from server.core.records import entries
from server.core.records.draft import Draft
from server.core.records.entries import Index
from server.core.records.kinds import COUNTER_DELTA, HASH, HASH_FIELD, KEY_EXPIRY
from tests.core.messages.samples import hash_of

LOOK_ALIKES = (st.text("ab", max_size=5) | st.text("ab", min_size=15, max_size=17)).map(str.encode)
# What a payload may hold: look-alikes, and a whole entry of another field.
ENTRY = entries._pack_entry(HASH_FIELD, b"d" * 16, 0, 1, 1) + b"ab"
PAYLOADS = LOOK_ALIKES | st.sampled_from([ENTRY, b"a" * 100, b"\x00" * 40 + b"a", ENTRY * 3])
FIELDS = st.dictionaries(LOOK_ALIKES, st.lists(PAYLOADS, min_size=1, max_size=3), max_size=40)


@given(FIELDS, st.booleans())
@example({b"a": [ENTRY], b"aa": [b"a"], b"b": [b"a"]}, True)
@settings(max_examples=300, deadline=None)
def test_each_field_has_its_entries_and_no_others(fields: dict[bytes, list[bytes]], expires: bool) -> None:
    made = [
        (
            field,
            HASH_FIELD if field and place == 0 else COUNTER_DELTA,
            entries.pack_dot(b"actor--%d" % place, 5),
            0,
            payload,
        )
        for field, payloads in fields.items()
        for place, payload in enumerate(payloads)
    ]
    if expires:
        made.append((b"", KEY_EXPIRY, entries.pack_dot(b"actor--9", 5), 77, b""))
    made.append((b"a" * 6, HASH_FIELD, entries.pack_dot(b"actor--0", 5), 0, b"so that the record is one of entries"))
    index = Index(entries.encode({b"actor--0": 9}, made))
    for field in [*fields, b"", b"c", b"a" * 6, b"a" * 7, b"bbbbbb"]:
        wanted = sorted([entry for entry in made if entry[0] == field])
        assert index.entries_of(field, index.chunk_of(field)) == wanted


STEPS = st.lists(st.tuples(st.sampled_from("pprdxxceee"), st.integers(0, 12)), max_size=40)


@given(STEPS, st.sampled_from((1, 1000)))
def test_a_draft_shows_its_changes_in_order_whenever_it_is_asked(steps: list[tuple[str, int]], kept: int) -> None:
    """p puts a field, r removes one, d drops one that is there, x gives one an expiry, c clears the key, e asks."""
    content = {b"%02d" % number: b"old" for number in range(0, 30, 3)}
    draft = Draft(hash_of(content, 1 << 16), 0, HASH)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("server.core.records.draft._PUT_ITEMS_MAX", kept)
        for step, number in steps:
            field = b"%02d" % number
            if step == "p":
                content[field] = b"%d" % len(content)
                draft.put(field, content[field])
            elif step == "r" and draft.remove(field):
                del content[field]
            elif step == "d" and content.pop(field, None) is not None:
                draft.drop(field)
            elif step == "x" and field in content:
                draft.expire_field(field, 10**15)
            elif step == "c":
                content.clear()
                draft.clear()
            if step == "e":
                assert list(draft.items()) == sorted(content.items())
                assert list(draft.items_backwards()) == sorted(content.items(), reverse=True)
    assert list(draft.items()) == sorted(content.items()) and len(draft) == len(content)
