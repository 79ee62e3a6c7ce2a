"""Records checked against a plain dictionary, with a cache so small that its generations rotate all the time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.slots import SLOTS, key_slot
from server.core.records.cache import SHARDS, size_of
from server.core.records.records import META, PREFIX_BYTES, SLOT_PREFIX, Records, storage_key_of
from server.core.records.versions import DamagedRecord, merge, siblings_of, supersede, verify
from tests.bounded import bounded

ACTOR = b"actor-a."
OTHER = b"actor-b."
KEYS = sorted(storage_key_of(b"key-%d" % index) for index in range(10))
END = SLOT_PREFIX[SLOTS]


class EngineDamage(Exception):
    """The error of this engine for a damaged block."""


@dataclass
class Store:
    """A storage engine on a dictionary. It counts single reads, and raises for keys that a test has marked as bad."""

    pairs: dict[bytes, bytes] = field(default_factory=dict)
    error: Exception | None = None
    asked: list[bytes] = field(default_factory=list)
    calls: int = 0

    def get(self, key: bytes) -> bytes | None:
        """Returns the value, or raises the error that the test has set."""
        self.calls += 1
        self.asked.append(key)
        if self.error is not None:
            raise self.error
        return self.pairs.get(key)

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """Returns the values, or raises the error that the test has set."""
        self.calls += 1
        self.asked += keys
        if self.error is not None:
            raise self.error
        return [self.pairs.get(key) for key in keys]

    def scan(self, start: bytes, end: bytes | None, limit: int, bytes_max: int) -> list[tuple[bytes, bytes]]:
        """The first pairs of the range."""
        if self.error is not None:
            raise self.error
        return bounded(self.pairs, start, end, limit, bytes_max)

    def require(self, mark: str) -> bool:
        """There is room for a mark."""
        return True

    def commit(self, writes: dict[bytes, bytes | None]) -> None:
        """Commits a turn's batch, as the shell does."""
        self.pairs.update({key: record for key, record in writes.items() if record is not None})


@dataclass
class Twin:
    """Records and a dictionary of all that was ever written. Each step changes both and compares them."""

    cache_bytes_max: int
    store: Store = field(default_factory=Store)
    everything: dict[bytes, bytes] = field(default_factory=dict)
    unsaved: dict[bytes, bytes] = field(default_factory=dict)
    steps: int = 0

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        """Restarts with empty memory. Only between turns, because only then everything is in the store."""
        self.turn(0) if self.unsaved else None
        self.records = Records(self.store, self.cache_bytes_max, EngineDamage)
        self.keys_before = len(self.everything)

    def get(self, place: int) -> None:
        """Reads one record."""
        assert self.records.get(KEYS[place]) == self.everything.get(KEYS[place])

    def get_each(self, place: int) -> None:
        """Reads several records, one of them twice."""
        keys = [*KEYS[place:], *KEYS[: place // 2], KEYS[place]]
        assert self.records.get_each(keys) == ([self.everything.get(key) for key in keys], ())

    def put(self, place: int) -> None:
        """Writes a record over the one that `get` returns."""
        old = self.records.get(KEYS[place])
        record = supersede(old, ACTOR, self.steps, b"v" * (self.steps % 50))
        self.records.put(KEYS[place], record, old)
        self._written(KEYS[place], record)

    def absorb(self, place: int) -> None:
        """Merges records of another node: concurrent ones, one equal to ours, and one older than ours."""
        pairs: list[bytes] = []
        for key in (KEYS[place], KEYS[-1 - place], KEYS[place]):
            pairs += [key, supersede(self.everything.get(key), OTHER, self.steps + len(pairs), b"theirs")]
        pairs += [KEYS[place], supersede(None, OTHER, 0, b"older")]
        if KEYS[0] in self.everything:
            pairs += [KEYS[0], bytes(bytearray(self.everything[KEYS[0]]))]
        self.records.merge_all(pairs)
        for key, record in zip(pairs[::2], pairs[1::2], strict=True):
            merged = merge(self.everything.get(key), record)
            assert merged is not None
            if merged != self.everything.get(key):
                self._written(key, merged)

    def _written(self, key: bytes, record: bytes) -> None:
        self.everything[key] = self.unsaved[key] = record

    def page(self, place: int) -> None:
        """Reads pages of all sizes, from some key to another one or to the end."""
        for end in (END, KEYS[-1]):
            expected = sorted(pair for pair in self.everything.items() if KEYS[place] <= pair[0] < end)
            for limit in range(1, len(KEYS) + 2):
                assert self.records.page(KEYS[place], end, limit) == expected[:limit]
                for bytes_max in (1, 150, 300):
                    page = self.records.page(KEYS[place], end, limit, bytes_max)
                    assert page == bounded(dict(expected), KEYS[place], end, limit, bytes_max)

    def document(self, place: int) -> None:
        """Writes one of the node's own documents; no page of keys contains it."""
        self.records.put_document(b"name", b"%d" % self.steps)
        self.turn(place)
        assert self.records.document(b"name") == b"%d" % self.steps

    def turn(self, place: int) -> None:
        """Ends a turn. The batch has all new records, and reads see these before and after the commit."""
        writes = self.records.drain_batch()
        assert {key: record for key, record in writes.items() if not key.startswith(META)} == self.unsaved
        assert self.records.cache.young_bytes <= self.cache_bytes_max // 2
        if self.unsaved:
            key = list(self.unsaved)[place % len(self.unsaved)]
            assert self.records.get(key) == self.unsaved[key]
        self.store.commit(writes)
        self.unsaved = {}
        assert self.records.drain_batch() == {}

    def check_accounts(self) -> None:
        """Checks the counted size of the cache and the number of keys."""
        assert self.records.cache.young_bytes == sum(map(size_of, self.records.cache.young))
        assert self.records.keys == len(self.everything) - self.keys_before
        assert self.records.damaged == 0


STEP = st.tuples(
    st.sampled_from(["get", "get_each", "put", "put", "absorb", "page", "document", "turn", "turn", "open"]),
    st.integers(0, len(KEYS) - 1),
)


# by itself a list strategy seldom makes more than ten
STEPS = st.sampled_from([0, 10, 30]).flatmap(lambda least: st.lists(STEP, min_size=least, max_size=least + 20))


@given(st.sampled_from([0, 500, 2500, 1 << 20]), STEPS)
def test_records_are_a_dictionary_whatever_the_cache_forgets(
    cache_bytes_max: int, steps: list[tuple[str, int]]
) -> None:
    twin = Twin(cache_bytes_max)
    for step, place in steps:
        twin.steps += 10
        getattr(twin, step)(*() if step == "open" else (place,))
        twin.check_accounts()
    twin.open()
    assert twin.records.get_each(KEYS) == ([twin.everything.get(key) for key in KEYS], ())
    assert all(verify(record) for record in twin.everything.values())


# --- storage keys


def test_a_storage_key_is_slot_hash_key() -> None:
    key = b"{user}:1"
    storage_key = storage_key_of(key)
    assert storage_key[:2] == key_slot(b"user").to_bytes(2, "big")
    assert storage_key[PREFIX_BYTES:] == key
    assert storage_key[2:PREFIX_BYTES] != storage_key_of(b"{user}:2")[2:PREFIX_BYTES]  # one slot, but spread within it
    assert storage_key < END < META


# --- the cache


def test_what_is_used_stays_and_what_is_not_goes() -> None:
    store = Store({storage_key_of(b"%d" % index): supersede(None, ACTOR, 1, b"v" * 100) for index in range(300)})
    records = Records(store, 20_000, EngineDamage)
    hot, *cold = store.pairs
    for key in cold:
        records.get(hot)
        records.get(key)
        records.drain_batch()
    assert store.asked.count(hot) == 1
    assert sum(map(size_of, records.cache.young + records.cache.old)) < 24_000
    records.get(cold[-5])
    records.get(cold[0])
    assert store.asked.count(cold[-5]) == 1
    assert store.asked.count(cold[0]) == 2


def test_that_a_key_is_absent_is_remembered() -> None:
    store = Store()
    records = Records(store, 20_000, EngineDamage)
    for _ in range(3):
        assert records.get(KEYS[0]) is None
        assert records.get_each(KEYS[:2]) == ([None, None], ())
    assert store.asked == KEYS[:2]


def test_an_uncommitted_record_outlives_any_amount_of_reading() -> None:
    store = Store({storage_key_of(b"%d" % index): supersede(None, ACTOR, 1, b"v" * 100) for index in range(50)})
    records = Records(store, 0, EngineDamage)
    record = supersede(records.get(KEYS[0]), ACTOR, 2, b"new")
    records.put(KEYS[0], record, None)
    for key in store.pairs:
        records.get(key)
    assert records.get(KEYS[0]) is record
    assert records.drain_batch() == {KEYS[0]: record}
    assert records.get(KEYS[0]) is record  # handed out, but not committed yet


def test_what_adds_nothing_is_not_written_again() -> None:
    records = Records(Store(), 1 << 20, EngineDamage)
    old = supersede(None, ACTOR, 1, b"old")
    beside = merge(supersede(old, ACTOR, 2, b"new"), supersede(None, OTHER, 1, b"beside"))
    assert beside is not None
    records.merge_all([KEYS[0], beside])
    assert records.drain_batch() == {KEYS[0]: beside}
    records.merge_all([KEYS[0], old, KEYS[0], bytes(bytearray(beside))])
    assert records.drain_batch() == {}


def test_the_cache_turns_over_in_small_steps() -> None:
    """No step frees or moves more than two shards, whatever the size of the cache."""
    records = Records(Store(), 3_000_000, EngineDamage)
    moved = []
    for number in range(30_000):
        records.put(key := storage_key_of(b"%d" % number), supersede(None, ACTOR, 1, b"v"), records.get(key))
        before = list(map(id, records.cache.young))
        records.drain_batch()
        moved.append(sum(one != id(other) for one, other in zip(before, records.cache.young, strict=True)))
    assert sum(moved) > SHARDS
    assert max(moved) <= 2
    size = sum(map(size_of, records.cache.young + records.cache.old))
    assert 2_000_000 < size < 3_300_000
    assert abs(records.cache.size_bytes - size) < 100_000


def test_cold_records_are_fetched_in_few_calls() -> None:
    store = Store({storage_key_of(b"%d" % index): supersede(None, ACTOR, 1, b"v" * 100) for index in range(400)})
    records = Records(store, 1 << 20, EngineDamage)
    keys = list(store.pairs)
    assert records.get_each(keys[:200])[0] == list(store.pairs.values())[:200]
    assert store.calls <= 5
    pairs = [item for key in keys[200:] for item in (key, supersede(None, OTHER, 1, b"theirs"))]
    store.calls = 0
    records.merge_all(pairs)
    assert store.calls <= 200 // 16 + 1
    assert sorted(store.asked) == sorted(keys), "each once"


def test_large_records_are_not_fetched_all_at_once() -> None:
    large = supersede(None, ACTOR, 1, b"v" * 1_000_000)
    store = Store({storage_key_of(b"%d" % index): large for index in range(100)})
    records = Records(store, 1 << 20, EngineDamage)
    keys = list(store.pairs)
    for _ in range(3):
        records.cache.clear()
        store.asked.clear()
        found, damaged = records.get_each(keys, 4_000_000)
        assert found == [large] * len(found)
        assert not damaged
        assert len(found) == len(store.asked) <= 16
    assert len(found) <= 5, "it has been seen how large they are"


# --- damage (P11)


def test_damage_costs_the_damaged_key_only() -> None:
    sound = supersede(None, ACTOR, 1, b"value")
    store = Store(dict.fromkeys(KEYS, sound) | {KEYS[2]: sound[:-1] + b"x", KEYS[7]: b"junk"})
    records = Records(store, 1 << 20, EngineDamage)
    told: list[bytes] = []
    records.listeners.damaged.append(told.append)
    assert records.get_each(KEYS) == ([None if place in (2, 7) else sound for place in range(len(KEYS))], [2, 7])
    assert records.damaged == 2
    assert told == [KEYS[2], KEYS[7]]


READS: list[Callable[[Records], Any]] = [
    lambda records: records.get(KEYS[0]),
    lambda records: records.merge_all([KEYS[0], supersede(None, ACTOR, 9, b"theirs")]),
]


@pytest.mark.parametrize("read", READS)
def test_a_damaged_record_is_counted_raised_and_not_remembered(read: Callable[[Records], Any]) -> None:
    sound = supersede(None, ACTOR, 1, b"value")
    store = Store({KEYS[0]: sound[:-1] + b"x"})
    records = Records(store, 1 << 20, EngineDamage)
    for times in (1, 2):
        with pytest.raises(DamagedRecord, match="key-"):
            read(records)
        assert records.damaged == times
    assert records.drain_batch() == {}
    store.pairs[KEYS[0]] = sound
    read(records)
    assert siblings_of(records.get(KEYS[0]))
    assert records.damaged == 2


@pytest.mark.parametrize(
    ("read", "counted"), [*[(read, 1) for read in READS], (lambda records: records.page(KEYS[0], END, 5), 0)]
)
def test_damage_that_the_engine_finds_is_a_damaged_record_too(read: Callable[[Records], Any], counted: int) -> None:
    """For a page, gaps.py counts the damage."""
    store = Store({KEYS[0]: supersede(None, ACTOR, 1, b"value")}, EngineDamage("block 7 fails its checksum"))
    records = Records(store, 1 << 20, EngineDamage)
    with pytest.raises(DamagedRecord, match="block 7"):
        read(records)
    assert records.damaged == counted
    store.error = None
    read(records)
    assert records.damaged == counted


@pytest.mark.parametrize("read", [*READS, lambda records: records.page(KEYS[0], END, 5)])
def test_any_other_trouble_of_the_engine_is_not_hidden(read: Callable[[Records], Any]) -> None:
    records = Records(Store(error=OSError("no such device")), 1 << 20, EngineDamage)
    with pytest.raises(OSError, match="no such device"):
        read(records)
    assert records.damaged == 0


def test_what_came_before_a_damaged_record_stays() -> None:
    store = Store({KEYS[1]: b"junk"})
    records = Records(store, 1 << 20, EngineDamage)
    theirs = supersede(None, OTHER, 1, b"theirs")
    with pytest.raises(DamagedRecord):
        records.merge_all([KEYS[0], theirs, KEYS[1], theirs, KEYS[2], theirs])
    assert records.drain_batch() == {KEYS[0]: theirs}
