"""Fields are found in the bytes of a record, whatever fields and payloads look alike."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from server.core.records import entries
from server.core.records.entries import Index
from server.core.records.kinds import COUNTER_DELTA, HASH_FIELD, KEY_EXPIRY

LOOK_ALIKES = st.text("ab", max_size=5).map(str.encode)
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
