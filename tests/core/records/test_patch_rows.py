"""Patch rows: whatever was written, and wherever the node died, the store gives each record whole, as it was committed."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.slots import SLOTS
from server.core.records import patch_rows
from server.core.records.paging import PAGE_BYTES
from server.core.records.patch_rows import (
    LARGE_ROWS_MAX,
    PREFIX,
    ROW_OVERHEAD_BYTES,
    ROWS_MAX,
    Checkpoint,
    FoldedStore,
    row_key,
)
from server.core.records.patches import make
from server.core.records.records import HINTS, SLOT_PREFIX, Records, storage_key_of
from server.core.records.versions import DamagedRecord, supersede, verify
from tests.bounded import bounded
from tests.core.messages.samples import A, hash_of

KEYS = [storage_key_of(b"key-%d" % number) for number in range(4)]
END = SLOT_PREFIX[SLOTS]
LARGE_BYTES = 2000


class EngineDamage(Exception):
    """The error of this engine for a damaged block."""


class Store:
    """A storage engine on a dictionary."""

    def __init__(self) -> None:
        self.pairs: dict[bytes, bytes] = {}
        self.marks: list[str] = []
        self.bad: dict[bytes, None] = {}
        self.is_full = False

    def get(self, key: bytes) -> bytes | None:
        """Returns a value, or raises for a key that a test has marked as bad."""
        if key in self.bad:
            raise EngineDamage(f"bad block at {key!r}")
        return self.pairs.get(key)

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """Returns values."""
        return [self.get(key) for key in keys]

    def scan(self, start: bytes, end: bytes | None, limit: int, bytes_max: int) -> list[tuple[bytes, bytes]]:
        """The first pairs of the range."""
        found = bounded(self.pairs, start, end, limit, bytes_max)
        for key, _ in found:
            self.get(key)
        return found

    def require(self, mark: str) -> bool:
        """Marks the store, unless a test says that there is no room."""
        if not self.is_full:
            self.marks.append(mark)
        return not self.is_full

    def commit(self, batch: dict[bytes, bytes | None]) -> None:
        """Commits the batch of a turn."""
        assert self.marks or not any(key.startswith(PREFIX) for key in batch), "an older binary would not see the row"
        for key, value in batch.items():
            if value is None:
                self.pairs.pop(key, None)
            else:
                self.pairs[key] = value

    def rows(self, key: bytes | None = None) -> list[bytes]:
        """The keys of the patch rows, of one record or of all."""
        found = sorted(row for row in self.pairs if row.startswith(PREFIX))
        return found if key is None else [row for row in found if row[2:-4] == key]


def records_over(store: Store, rows_bytes_max: int = 1 << 30, cache_bytes: int = 0) -> Records:
    """The records of a node that has just started, with hardly any cache."""
    records = Records(store, cache_bytes, EngineDamage, 14, (LARGE_BYTES, rows_bytes_max))
    records.open()
    return records


def version(counter: int, fields: int = 60) -> bytes:
    """A hash of some 5 KB after so many changes of one of its fields."""
    content = {b"f%d" % number: b"%050d" % number for number in range(fields)}
    content[b"f1"] = b"%d" % counter * (counter % 3 + 1)
    return hash_of(content, counter << 16)


def write(records: Records, store: Store, key: bytes, record: bytes) -> None:
    """One turn that writes one record."""
    records.put(key, record, records.get(key))
    store.commit(records.drain_batch())


def check(records: Records, store: Store, expected: dict[bytes, bytes], is_asked: bool = True) -> None:
    """Every way to read gives exactly what is expected, also a node that starts now; unless `is_asked`, only there."""
    for each in (records, records_over(store)) if is_asked else (records_over(store),):
        each.cache.clear()
        assert {key: each.get(key) for key in KEYS} == {key: expected.get(key) for key in KEYS}
        each.cache.clear()
        assert each.get_each(KEYS) == ([expected.get(key) for key in KEYS], ())
        assert [each.stored(key) for key in KEYS] == [expected.get(key) for key in KEYS]
        for limit, bytes_max in ((100, PAGE_BYTES), (1, PAGE_BYTES), (100, 6000), (2, 1)):
            found, start = {}, b""
            while page := each.page(start, END, limit, bytes_max):
                assert len(page) <= limit
                found |= dict(page)
                start = page[-1][0] + b"\0"
            assert found == expected, (limit, bytes_max)
    assert records_over(store).trees.leaves == records.trees.leaves


STEPS = st.lists(
    st.tuples(st.sampled_from("ccmmddddnnrsptkkke"), st.integers(0, len(KEYS) - 1), st.integers(1, 70)),
    min_size=1,
    max_size=25,
)


def checkpoint(
    records: Records, step: str, key: bytes, expected: dict[bytes, bytes], taken: Checkpoint | None
) -> Checkpoint | None:
    """k takes a checkpoint of a record, if it has rows; e hands in the last one that was taken."""
    if step == "k":
        records.folded.overdue[key] = None
        found = records.folded.next_overdue()
        if found is not None:
            found.record = expected[key]
        return found or taken
    if taken is not None:
        records.folded.checkpoints.append(taken)
    return None


def change(records: Records, expected: dict[bytes, bytes], step: str, key: bytes, size: int, counter: int) -> bytes:
    """Writes a record, as the step says, and returns it."""
    if step in "dn" and size % 5:
        record = version(counter)
        patch = make(expected.get(key, b"\0" * 12), record)
        if patch is None or not records.defer(key, patch):
            records.put(key, record, records.get(key))
        if not size % 4:
            assert (records.stored(key), dict(records.page(b"", END, 10))) == (record, expected | {key: record})
        return record
    record = supersede(None, A, counter << 16, b"v" * 100 * size)
    if step != "p":
        record = version(counter, 3 if step == "s" else 60)
    records.put(key, record, records.get(key))
    return record


@given(STEPS, st.sampled_from((0, 2000, 1 << 30)), st.sampled_from((0, 1 << 20)))
def test_what_was_committed_is_read_whole(
    steps: list[tuple[str, int, int]], rows_bytes_max: int, cache_bytes: int
) -> None:
    """Steps: c changes a field, m many times in one turn, d and n the same by patches that are deferred, if they may be,
    p
    writes a plain value, s a small hash, r removes the record, t starts the node again. After each, all that was committed
    is there, in whatever way it is read; also in the turn, before the commit.

    k takes a checkpoint of a record with rows, and e writes the last one that was taken, alone or beside a change of its
    record in the same turn; however old it is, it changes nothing that can be read."""
    store = Store()
    records = records_over(store, rows_bytes_max, cache_bytes)
    expected: dict[bytes, bytes] = {}
    counter = 0
    taken: Checkpoint | None = None
    for step, place, size in steps:
        key = KEYS[place]
        if step in "ke":
            taken = checkpoint(records, step, key, expected, taken)
        if step in "ke" and size % 2:
            store.commit(records.drain_batch())
            check(records, store, expected, bool(size % 3))
            continue
        for _ in range(size % 7 + 1 if step in "mn" else 1):
            counter += 1
            if step == "r":
                records.remove(key)
                expected.pop(key, None)
            elif step == "t":
                records, taken = records_over(store, rows_bytes_max, cache_bytes), None
            else:
                expected[key] = change(records, expected, step, key, size, counter)
        store.commit(records.drain_batch())
        check(records, store, expected, bool(size % 3))
    with_rows = {row[2:-4] for row in store.rows()}
    assert with_rows <= set(expected), "rows of records that are gone"


def test_a_change_is_a_short_row_until_there_are_too_many() -> None:
    store = Store()
    records = records_over(store)
    key = KEYS[0]
    write(records, store, key, version(1))
    assert not store.rows() and not store.marks, "the first record has no former one"
    rows_max = wholes = 0
    for counter in range(2, 400):
        records.put(key, version(counter), records.get(key))
        batch = records.drain_batch()
        wholes += key in batch
        size = sum(len(value) for value in batch.values() if value is not None)
        assert key in batch or size < 500
        store.commit(batch)
        rows_max = max(rows_max, len(store.rows()))
        assert sum(len(store.pairs[row]) for row in store.rows()) <= len(version(2)) // 4
    assert 3 <= rows_max <= ROWS_MAX and wholes < 400 // 3
    assert store.marks == ["patches"]


def test_a_large_base_has_so_many_rows_at_most() -> None:
    store = Store()
    records = records_over(store)
    for counter in range(1, 2 * ROWS_MAX + 10):
        write(records, store, KEYS[0], version(counter, 2000))
        assert len(store.rows()) <= ROWS_MAX
    assert len(store.rows()) == 6, "one whole record, 64 rows, twice, and a third one"


def test_a_large_record_is_written_whole_by_checkpoints_only() -> None:
    """Clients go on writing while one is made; here that takes a hundred turns."""
    store = Store()
    records = records_over(store)
    records.folded.large_bytes = LARGE_BYTES
    key, wholes, taken, made = KEYS[0], 0, None, 0
    for counter in range(1, 1000):
        if taken is not None and counter - taken[1] == 100:
            records.folded.checkpoints.append(taken[0])
            taken, made = None, made + 1
        if taken is None and (begun := records.folded.next_overdue()) is not None:
            begun.record = version(counter - 1, 2000)
            taken = begun, counter
        records.put(key, version(counter, 2000), records.get(key))
        batch = records.drain_batch()
        wholes += key in batch
        store.commit(batch)
        assert len(store.rows()) <= LARGE_ROWS_MAX
    assert made >= 4 and wholes == made + 1, "the first record, and the checkpoints"
    assert records_over(store).get(key) == version(999, 2000)
    assert records.folded.rows_bytes == sum(len(store.pairs[row]) + ROW_OVERHEAD_BYTES for row in store.rows())


def test_a_checkpoint_of_a_record_that_was_written_whole_meanwhile_is_dropped() -> None:
    records, store = stored()
    key = KEYS[0]
    records.folded.overdue[key] = None
    taken = records.folded.next_overdue()
    assert taken is not None
    taken.record = version(6)
    write(records, store, key, hash_of({b"other": b"x" * 30_000}, 99 << 16))
    for counter in range(100, 107):
        write(records, store, key, hash_of({b"other": b"x" * 30_000 + b"%d" % counter}, counter << 16))
    assert len(store.rows(key)) >= 6, "rows of the same numbers, on another base"
    records.folded.checkpoints.append(taken)
    store.commit(records.drain_batch())
    assert records_over(store).get(key) == records.get(key) == hash_of({b"other": b"x" * 30_000 + b"106"}, 106 << 16)


def test_records_that_had_rows_for_longest_are_written_whole_when_all_rows_are_too_many() -> None:
    store = Store()
    records = records_over(store, 1000)
    keys = [storage_key_of(b"k%d" % number) for number in range(12)]
    for key in keys:
        write(records, store, key, version(1))
        write(records, store, key, version(2))
    assert records.folded.rows_bytes < 2000
    assert not store.rows(keys[0]) and store.rows(keys[-1])
    for key in keys:
        assert records_over(store).get(key) == version(2)


def stored(changes: int = 5) -> tuple[Records, Store]:
    """Two records with rows."""
    store = Store()
    records = records_over(store)
    for counter in range(1, changes + 2):
        for key in KEYS[:2]:
            write(records, store, key, version(counter))
    assert len(store.rows(KEYS[0])) == changes
    return records_over(store), store


@pytest.mark.parametrize("number", [0, 2, 4])
@pytest.mark.parametrize("harm", ["flip", "cut", "remove", "exchange", "block"])
def test_a_damaged_row_is_damage_of_its_record_alone(number: int, harm: str) -> None:
    records, store = stored()
    row = row_key(KEYS[0], number)
    value = store.pairs[row]
    if harm == "flip":
        store.pairs[row] = value[:60] + bytes([value[60] ^ 1]) + value[61:]
    elif harm == "cut":
        store.pairs[row] = value[:-1]
    elif harm == "exchange":
        other = row_key(KEYS[0], (number + 1) % 5)
        store.pairs[row], store.pairs[other] = store.pairs[other], value
    elif harm == "remove":
        del store.pairs[row]
    else:
        store.bad[row] = None
    told: list[bytes] = []
    records.listeners.damaged.append(told.append)
    with pytest.raises(DamagedRecord):
        records.get(KEYS[0])
    assert told == [KEYS[0]] and records.damaged == 1 and records.is_stored(KEYS[0])
    assert records.get(KEYS[1]) == version(6)
    assert {key: verify(record) for key, record in records.page(b"", END, 10)} == {KEYS[0]: False, KEYS[1]: True}
    records.mend(KEYS[0], version(9))
    store.commit(records.drain_batch())
    assert not store.rows(KEYS[0]) and store.pairs[KEYS[0]] == version(9)
    store.bad.clear()
    assert records_over(store).get(KEYS[0]) == version(9)


def test_a_base_of_another_time_is_damage() -> None:
    _, store = stored()
    store.pairs[KEYS[0]] = version(3)
    with pytest.raises(DamagedRecord):
        records_over(store).get(KEYS[0])


def test_where_rows_cannot_be_read_no_record_is_served_that_may_have_some() -> None:
    """At the start a block of rows is bad: it is unknown whose they are."""
    _, store = stored()
    plain = supersede(None, A, 5 << 16, b"v" * 9000)
    store.pairs[KEYS[2]], store.pairs[KEYS[3]] = plain, version(1)
    store.bad[row_key(KEYS[0], 2)] = None
    hint = HINTS + b"n2\0" + KEYS[0]
    store.pairs[hint] = bytes(8)
    records = records_over(store)
    assert records.get(KEYS[2]) == plain
    assert records.page(HINTS, HINTS + b"\xff", 9) == [(hint, bytes(8))]
    for key in (KEYS[0], KEYS[1], KEYS[3]):
        with pytest.raises(DamagedRecord):
            records.get(key)
        records.mend(key, version(9))
        store.commit(records.drain_batch())
        records.cache.clear()
        assert records.get(key) == version(9), "it was written whole since"
    write(records, store, KEYS[3], version(10))
    records.cache.clear()
    assert records.get(KEYS[3]) == version(10) and store.rows(KEYS[3])


@pytest.mark.interpreted
def test_a_crash_leaves_the_record_before_or_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is whole or not there. A node that loses the last row of a record, which this test plants, is found."""
    store, key = Store(), KEYS[0]
    records = records_over(store)
    rng = random.Random(5)
    committed = b""
    for counter in range(1, 150):
        records.put(key, version(counter), records.get(key))
        batch = records.drain_batch()
        if rng.random() < 0.2:
            records = records_over(store)  # it dies before the commit
        else:
            store.commit(batch)
            committed = version(counter)
        assert records_over(store).get(key) == committed
    if not store.rows(key):
        write(records, store, key, version(999))
    before = records_over(store).get(key)
    whole = patch_rows.apply_all
    monkeypatch.setattr(patch_rows, "apply_all", lambda base, patches: whole(base, patches[:-1]))
    assert records_over(store).get(key) != before


def test_no_row_is_written_into_a_store_that_cannot_be_marked() -> None:
    store = Store()
    store.is_full = True
    records = records_over(store)
    for counter in range(1, 4):
        write(records, store, KEYS[0], version(counter))
    assert store.pairs == {KEYS[0]: version(3)}
    store.is_full = False
    write(records, store, KEYS[0], version(4))
    assert store.rows() and store.marks == ["patches"]


def test_a_store_without_rows_is_read_as_it_is() -> None:
    store = Store()
    folded = FoldedStore(store, EngineDamage, 0)
    folded.open()
    store.pairs[KEYS[0]] = version(1)
    assert folded.get(KEYS[0]) is store.pairs[KEYS[0]] and not folded.has_rows()
    batch: dict[bytes, Any] = {KEYS[0]: version(2)}
    records = records_over(store)
    records.put(KEYS[0], version(2), version(1))
    assert records.drain_batch().keys() != batch.keys()
