"""Deferred patches: how many there are, how long they are kept, and what is read of a record whose patch is wrong.

That what was committed is read whole, deferred or not, is in test_patch_rows.py.
"""

from __future__ import annotations

import pytest
from xxhash import xxh3_64_digest

from server.core.records.patch_rows import ROWS_MAX, row_key
from server.core.records.patches import make, verify_patch
from server.core.records.records import Records, storage_key_of
from server.core.records.versions import DamagedRecord
from tests.core.records.test_patch_rows import KEYS, Store, records_over, version, write

KEY = KEYS[0]


def defer(records: Records, key: bytes, counter: int, fields: int = 60) -> bool:
    """Defers the patch from the version before to this one; where that cannot be, writes it. Returns which it was."""
    patch = make(version(counter - 1, fields), version(counter, fields))
    assert patch is not None
    is_deferred = records.defer(key, patch)
    if not is_deferred:
        records.put(key, version(counter, fields), records.get(key))
    return is_deferred


def wrong_patch() -> bytes:
    """A patch from the first version to the second, sound in itself. What it makes is not the second."""
    patch = make(version(1), version(2))
    assert patch is not None
    wrong = patch[8:-1] + bytes([patch[-1] ^ 1])
    wrong = xxh3_64_digest(wrong) + wrong
    assert verify_patch(wrong)
    return wrong


@pytest.mark.parametrize("cache_bytes", [0, 8 << 10, 60 << 10])
def test_a_turn_reads_its_own_patches_before_they_are_committed(cache_bytes: int) -> None:
    """After its end, too: what tracks clients does so then. However small the memory is, the store does not have them."""
    store = Store()
    records = records_over(store, cache_bytes=cache_bytes)
    for key in KEYS:
        write(records, store, key, version(1))
    deferred = 0
    for counter in range(2, 8):
        for key in KEYS:
            records.get(key)  # whoever holds it in memory may defer the next patch
        deferred += sum([defer(records, key, counter) for key in KEYS])
        batch = records.drain_batch()
        assert [records.get(key) for key in KEYS] == [version(counter)] * len(KEYS), counter
        store.commit(batch)
    assert deferred >= 5 * len(KEYS) and records.damaged == 0


def test_what_the_store_has_is_dropped_when_there_is_too_much_of_it() -> None:
    """The oldest first, and never more than one turn is above the limit."""
    store = Store()
    records = records_over(store, cache_bytes=100 << 10)
    keys = [storage_key_of(b"k%d" % number) for number in range(12)]
    for counter in (1, 2):
        for key in keys:
            if counter == 1:
                write(records, store, key, version(1))
            else:
                records.get(key)
                assert defer(records, key, 2)
                store.commit(records.drain_batch())
                assert key in records.deferred.by_key, "of this turn"
    kept = list(records.deferred.by_key)
    assert 2 <= len(kept) < len(keys) and kept == keys[-len(kept) :]
    store.commit(records.drain_batch())
    assert records.deferred.memory_bytes <= records.deferred.bytes_max() == 25 << 10
    assert [records.get(key) for key in keys] == [version(2)] * len(keys)
    assert records.deferred.memory_bytes == 0 and not records.deferred.by_key


def test_no_record_has_more_patches_in_memory_than_rows_in_the_store() -> None:
    """The store makes records of rows when all rows are too many, and then this record may have rows anew: its patches in
    memory are as many as ever."""
    store = Store()
    fields = 600
    records = records_over(store, 6000, 16 << 20)
    others = [storage_key_of(b"k%d" % number) for number in range(12)]
    write(records, store, KEY, version(1, fields))
    for other in others:
        write(records, store, other, version(1))
    wholes = patches_max = 0
    seen = dict.fromkeys(others, 1)
    for counter in range(2, 3 * ROWS_MAX):
        defer(records, KEY, counter, fields)
        batch = records.drain_batch()
        store.commit(batch)
        other = others[counter % len(others)]
        seen[other] += 1
        defer(records, other, seen[other])
        batch = records.drain_batch()
        wholes += KEY in batch
        store.commit(batch)
        found = records.deferred.by_key.get(KEY)
        patches_max = max(patches_max, 0 if found is None else len(found.patches))
    assert wholes, "the store has made the record of its rows, though this turn did not write it"
    assert ROWS_MAX // 2 < patches_max <= ROWS_MAX
    assert records.get(KEY) == records_over(store).get(KEY) == version(counter, fields)


def test_a_wrong_patch_stays_known_until_it_is_committed() -> None:
    """Its record is damaged at once, not what it was before: a later write of the turn would hide the damage."""
    store = Store()
    records = records_over(store, cache_bytes=1 << 20)
    write(records, store, KEY, version(1))
    told: list[bytes] = []
    records.listeners.damaged.append(told.append)
    assert records.defer(KEY, wrong_patch())
    for times in (1, 2, 3):
        with pytest.raises(DamagedRecord):
            records.get(KEY)
        assert told == [KEY] * times
    with pytest.raises(DamagedRecord):
        records.stored(KEY)
    with pytest.raises(DamagedRecord):
        records.merge_all([KEY, version(3)])
    with pytest.raises(DamagedRecord):
        records.remove(KEY)
    assert records.get_each([KEY, KEYS[1]]) == ([None, None], [0])
    assert not records.writes
    store.commit(records.drain_batch())
    assert store.rows(KEY) == [row_key(KEY, 0)]
    for each in (records, records, records_over(store)):
        with pytest.raises(DamagedRecord):
            each.get(KEY)
    assert not records.deferred.by_key and records.deferred.memory_bytes == 0, (
        "a COMPARE is answered with what it makes"
    )


@pytest.mark.parametrize("is_committed", [False, True])
def test_a_wrong_patch_is_gone_once_its_record_is_mended(is_committed: bool) -> None:
    store = Store()
    records = records_over(store, cache_bytes=1 << 20)
    write(records, store, KEY, version(1))
    assert records.defer(KEY, wrong_patch())
    with pytest.raises(DamagedRecord):
        records.get(KEY)
    if is_committed:
        store.commit(records.drain_batch())
    records.mend(KEY, version(9))
    store.commit(records.drain_batch())
    assert records.get(KEY) == records_over(store).get(KEY) == store.pairs[KEY] == version(9)
    assert not store.rows() and records.deferred.memory_bytes == 0
    assert records_over(store).trees.leaves == records.trees.leaves
