"""The hash tree, checked against a naive one that is computed from all records, through clean and unclean stops."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_digest

from protocol.slots import SLOTS
from server.core.records import versions
from server.core.records.live_slots import has_live
from server.core.records.paging import PAGE_BYTES
from server.core.records.records import SLOT_PREFIX, Records, storage_key_of
from server.core.records.trees import EMPTY, Trees
from server.core.records.versions import supersede
from tests.bounded import bounded

LEAF_BITS = 15
ACTOR = b"actor-a."
KEYS = [storage_key_of(b"key-%d" % index) for index in range(12)]


class Damage(Exception):
    """The error of this engine for a damaged block."""


@dataclass
class Store:
    """A storage engine on a dictionary. It counts the records that scans read, and cannot scan over some keys."""

    pairs: dict[bytes, bytes] = field(default_factory=dict)
    unreadable: list[bytes] = field(default_factory=list)
    scanned: int = 0

    def get(self, key: bytes) -> bytes | None:
        """The value."""
        return self.pairs.get(key)

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """The values."""
        return [self.pairs.get(key) for key in keys]

    def scan(self, start: bytes, end: bytes | None, limit: int, bytes_max: int) -> list[tuple[bytes, bytes]]:
        """The first pairs of the range."""
        found = bounded(self.pairs, start, end, limit, bytes_max)
        if any(key in self.unreadable for key, _ in found):
            raise Damage("a block fails its checksum")
        self.scanned += len(found)
        return found

    def commit(self, writes: dict[bytes, bytes | None]) -> None:
        """Commits a turn's batch, as the shell does."""
        for key, record in writes.items():
            if record is None:
                self.pairs.pop(key, None)
            else:
                self.pairs[key] = record


def records_of(store: Store, leaf_bits: int = LEAF_BITS) -> Records:
    """Returns the records of a node that starts on this store."""
    records = Records(store, 1000, Damage, leaf_bits)
    records.open()
    return records


def naive_leaves(pairs: dict[bytes, bytes], leaf_bits: int = LEAF_BITS) -> dict[int, bytes]:
    """Returns leaf number -> leaf, without empty ones, computed as trees.py describes."""
    leaves: dict[int, int] = {}
    for key, record in pairs.items():
        if key < SLOT_PREFIX[SLOTS]:
            bits = "".join(f"{byte:08b}" for byte in key[:4])[2:]  # a slot has 14 of the 16 bits
            leaf = int(bits[:leaf_bits], 2)
            leaves[leaf] = leaves.get(leaf, 0) ^ int.from_bytes(record[:8], "big")
    return {leaf: checksum.to_bytes(8, "big") for leaf, checksum in leaves.items() if checksum}


def leaves_of(trees: Trees) -> dict[int, bytes]:
    """Returns the same from a tree."""
    data = bytes(memoryview(trees.leaves))
    return {leaf: data[8 * leaf : 8 * leaf + 8] for leaf, value in enumerate(trees.leaves) if value}


def counts_of(trees: Trees) -> dict[int, int]:
    """Returns slot -> number of records, without empty slots."""
    return {slot: count for slot, count in enumerate(trees.counts) if count}


def check(records: Records, pairs: dict[bytes, bytes]) -> None:
    """Checks that the tree is the one of `pairs`."""
    kept = {key: record for key, record in pairs.items() if key < SLOT_PREFIX[SLOTS]}
    assert leaves_of(records.trees) == naive_leaves(kept, records.trees.leaf_bits)
    assert counts_of(records.trees) == Counter(int.from_bytes(key[:2], "big") for key in kept)
    assert records.keys == len(kept)
    newest = {key: versions.newest(record) for key, record in kept.items()}
    live = {key: sibling for key, sibling in newest.items() if sibling is not None and sibling.kind == versions.VALUE}
    expiring = [key for key, sibling in live.items() if sibling.expires_at_ms]
    for counts, keys in ((records.trees.live, live), (records.trees.expiring, expiring)):
        assert {slot: count for slot, count in enumerate(counts) if count} == Counter(
            int.from_bytes(key[:2], "big") for key in keys
        )
    assert records.live == len(live)


WORDS = ["put", "put", "delete", "expire", "beside", "absorb", "remove", "turn", "stop", "crash"]
STEPS = st.lists(
    st.tuples(st.sampled_from(WORDS), st.integers(0, 11)),
    max_size=40,
)


@given(STEPS)
@settings(max_examples=80)
def test_the_tree_is_that_of_what_is_stored_whatever_happened(steps: list[tuple[str, int]]) -> None:
    store = Store()
    records = records_of(store)
    everything: dict[bytes, bytes] = {}
    for time, (step, place) in enumerate(steps):
        key = KEYS[place]
        if step in ("put", "delete", "expire", "absorb", "beside"):
            old = records.get(key)
            expires_at_ms, kind = (5 if step == "expire" else 0), (versions.TOMBSTONE if step == "delete" else 0)
            if step == "beside":  # the newest of several is a value or a tombstone
                record = versions.write(old, ACTOR, time, b"value", place % 3, place % 2)
            else:
                record = supersede(old, ACTOR, time, b"value", expires_at_ms, kind)
            records.merge_all([key, record, key, record]) if step == "absorb" else records.put(key, record, old)
            everything[key] = record
        elif step == "remove":
            records.remove(key)
            everything.pop(key, None)
        elif step == "crash":  # what was not committed is lost
            records = records_of(store)
            everything = {key: record for key, record in store.pairs.items() if key < SLOT_PREFIX[SLOTS]}
        else:
            store.commit(records.drain_batch())
            if step == "stop":
                store.commit(records.closing_batch())
                records = records_of(store)
        check(records, everything)


def _filled(count: int) -> Store:
    store = Store()
    for number in range(count):
        store.pairs[storage_key_of(b"%d" % number)] = supersede(None, ACTOR, number + 1, b"value")
    return store


def test_a_clean_stop_spares_the_scan_and_any_write_after_it_ends_that() -> None:
    store = _filled(1000)
    records = records_of(store)
    assert store.scanned == 1000
    check(records, store.pairs)
    store.commit(records.closing_batch())
    records = records_of(store)
    assert store.scanned == 1000
    check(records, store.pairs)
    assert records.drain_batch() == {}, "a start without a write leaves the document for the next"
    records.put(KEYS[0], supersede(None, ACTOR, 5000, b"new"), None)
    store.commit(records.drain_batch())
    records = records_of(store)
    assert store.scanned == 2001
    check(records, store.pairs)


def test_a_document_that_is_damaged_or_of_another_form_is_not_used_now_or_ever() -> None:
    for spoil in (lambda document: document[:-1] + b"x", lambda document: document[:100], lambda document: b""):
        store = _filled(100)
        (name, document), *_ = records_of(store).closing_batch().items()
        assert document is not None
        store.pairs[name] = spoil(document)
        records = records_of(store)
        assert store.scanned == 200
        check(records, {key: record for key, record in store.pairs.items() if key != name})
    store = _filled(100)
    store.commit(records_of(store).closing_batch())
    records = records_of(store, leaf_bits=14)
    assert store.scanned == 200
    records.put(KEYS[0], supersede(None, ACTOR, 5000, b"new"), None)
    store.commit(records.drain_batch())
    check(records_of(store), store.pairs)


def test_a_document_of_the_version_before_is_not_used() -> None:
    store = _filled(100)
    (name, document), *_ = records_of(store).closing_batch().items()
    assert document is not None
    counts = 4 * SLOTS
    old = b"\0\1" + document[10 : 12 + counts] + document[12 + 3 * counts :]
    store.pairs[name] = xxh3_64_digest(old) + old
    records = records_of(store)
    assert store.scanned == 200
    check(records, {key: record for key, record in store.pairs.items() if key != name})


def test_a_damaged_record_counts_as_one_to_read() -> None:
    store = _filled(1)
    (key, record), *_ = store.pairs.items()
    for damaged in (record[:-1] + b"x", record[:9], b"", record[:12]):
        store.pairs[key] = damaged
        records = records_of(store)
        assert records.keys == records.live == 1
        assert has_live(records, int.from_bytes(key[:2], "big"))


def test_slots_that_cannot_be_read_differ_until_they_are_mended() -> None:
    store = _filled(300)
    sound = records_of(store)
    bad = sorted(store.pairs)[100]
    slot = int.from_bytes(bad[:2], "big")
    store.unreadable = [bad]
    records = records_of(store)
    in_slot = sound.trees.counts[slot]
    assert records.damaged == 1
    assert records.keys == 300 - in_slot
    span = (slot << LEAF_BITS - 14, slot + 1 << LEAF_BITS - 14)
    assert records.trees.hash_of(span) not in (sound.trees.hash_of(span), EMPTY)
    assert records.trees.hash_of((span[1], 1 << LEAF_BITS)) == sound.trees.hash_of((span[1], 1 << LEAF_BITS))
    store.unreadable = []
    records.rescan(slot, slot + 1)
    check(records, store.pairs)


def test_hashes_tell_ranges_apart_and_know_the_empty_ones() -> None:
    trees, other = Trees(LEAF_BITS), Trees(LEAF_BITS)
    whole = (0, 1 << LEAF_BITS)
    assert trees.hash_of(whole) == trees.hash_of((5, 6)) == EMPTY
    pairs = [(storage_key_of(b"%d" % number), supersede(None, ACTOR, number, b"")) for number in range(500)]
    for key, record in pairs:
        trees.change(key, None, record)
    random.Random(1).shuffle(pairs)
    for key, record in pairs:
        other.change(key, None, record)
    assert trees.hash_of(whole) == other.hash_of(whole) != EMPTY
    key, record = pairs[0]
    other.change(key, record, supersede(record, ACTOR, 1000, b""))
    differing = [
        leaf for leaf in range(1 << LEAF_BITS) if trees.hash_of((leaf, leaf + 1)) != other.hash_of((leaf, leaf + 1))
    ]
    assert len(differing) == 1
    start, end = trees.bounds_of((differing[0], differing[0] + 1))
    assert start <= key < end
    other.change(key, other_record := supersede(record, ACTOR, 1000, b""), None)
    trees.change(key, record, None)
    assert trees.hash_of(whole) == other.hash_of(whole)
    assert other_record != record


@pytest.mark.parametrize("partitions", [1, 16, 128, SLOTS])
def test_partitions_are_ranges_of_leaves(partitions: int) -> None:
    trees = Trees(LEAF_BITS)
    spans = [trees.span_of(partitions, partition) for partition in range(partitions)]
    assert spans[0][0] == 0 and spans[-1][1] == 1 << LEAF_BITS
    assert all(one[1] == other[0] for one, other in pairwise(spans))
    width = SLOTS // partitions
    assert trees.bounds_of(spans[-1])[0] == SLOT_PREFIX[SLOTS - width] + b"\0\0"
    assert trees.bounds_of(spans[-1])[1] == SLOT_PREFIX[SLOTS] + b"\0\0"


def test_keys_of_a_range_are_counted_by_slot_and_guessed_within() -> None:
    trees = Trees(16)  # four leaves a slot
    for number in range(9):
        trees.change(SLOT_PREFIX[7] + bytes((number,)) * 4 + b"k", None, supersede(None, ACTOR, number, b""))
    assert trees.keys_in((28, 32)) == 9
    assert trees.keys_in((28, 30)) == 5
    assert trees.keys_in((29, 30)) == 3
    assert trees.keys_in((0, 28)) == 0
    assert trees.keys_in((0, 1 << 16)) == 9


def test_a_start_holds_no_more_than_a_page_of_values(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    for number in range(20):
        store.pairs[storage_key_of(b"%d" % number)] = supersede(None, ACTOR, number + 1, b"v" * (PAGE_BYTES // 4))
    read: list[int] = []
    scan = Store.scan

    def watching(self: Store, start: bytes, end: bytes | None, limit: int, bytes_max: int) -> list[tuple[bytes, bytes]]:
        found = scan(self, start, end, limit, bytes_max)
        read.append(sum(len(record) for _, record in found))
        return found

    monkeypatch.setattr(Store, "scan", watching)
    records = records_of(store)
    check(records, store.pairs)
    assert max(read) <= PAGE_BYTES * 5 // 4 + 100
