"""A record is verified as a whole: the checksum, and the structure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_digest

from protocol.bounds import COUNTER_MAX
from server.core.records.records import Records, storage_key_of
from server.core.records.structure import verify
from server.core.records.versions import DamagedRecord, Sibling, decode, encode, merge, pruned, skeleton, supersede
from tests.core.commands.talking import Store
from tests.core.messages.samples import RECORD, SIBLINGS, sealed, wrong_structures

ACTORS = st.binary(min_size=8, max_size=8)
COUNTERS = st.integers(0, COUNTER_MAX)


@st.composite
def records(draw: st.DrawFn) -> bytes:
    """Records that `encode` makes from a clock and siblings that it covers."""
    clock = draw(st.dictionaries(ACTORS, COUNTERS, min_size=1, max_size=5))
    dots = [(actor, draw(st.integers(0, counter))) for actor, counter in clock.items() for _ in range(2)]
    siblings = [
        Sibling(
            actor, counter, draw(st.integers(0, (1 << 63) - 1)), draw(st.integers(0, 1)), draw(st.binary(max_size=9))
        )
        for actor, counter in draw(st.lists(st.sampled_from(dots), unique=True, max_size=6))
    ]
    return encode(clock, siblings)


@given(records(), records())
def test_what_is_encoded_merged_pruned_or_emptied_is_sound(one: bytes, other: bytes) -> None:
    merged = merge(one, other)
    assert merged is not None
    assert verify(one) and verify(merged) and verify(skeleton(merged))
    if decode(merged)[1]:
        assert verify(pruned(merged))


@given(records(), st.data())
def test_whatever_is_sound_decodes_and_encodes_to_the_same_bytes(record: bytes, data: st.DataObject) -> None:
    """Changes, cuts off or adds a byte, and corrects the checksum. Sound or not, no function raises."""
    body = bytearray(record[8:])
    place = data.draw(st.integers(0, len(body)))
    body[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    changed = xxh3_64_digest(bytes(body)) + body
    if verify(bytes(changed)):
        assert encode(*decode(bytes(changed))) == bytes(changed)


@pytest.mark.parametrize("what", wrong_structures())
def test_a_wrong_structure_is_not_sound_whatever_its_checksum(what: str) -> None:
    record = wrong_structures()[what]
    assert record[:8] == xxh3_64_digest(record[8:])
    assert not verify(record)


@pytest.mark.parametrize("what", wrong_structures())
def test_on_a_disk_it_is_damage(what: str) -> None:
    store, key = Store(), storage_key_of(b"k")
    store.pairs[key] = wrong_structures()[what]
    kept = Records(store, 1 << 20, ValueError)
    kept.open()
    found: list[bytes] = []
    kept.listeners.damaged.append(found.append)
    with pytest.raises(DamagedRecord):
        kept.get(key)
    with pytest.raises(DamagedRecord):
        kept.merge_all([key, RECORD])
    assert found == [key, key] and kept.damaged == 2
    kept.mend(key, RECORD)
    assert kept.get(key) == RECORD


def test_a_large_record_is_hashed_in_place() -> None:
    large = supersede(None, b"actor-a.", 5, b"v" * (1 << 20))
    assert verify(large) and not verify(large[:-1]) and not verify(sealed(large[8:-1]))


def test_the_samples_are_sound() -> None:
    assert verify(RECORD) and verify(SIBLINGS)
