"""The functions in C that merge and write records do what the modules in Python do: records, cache, batch, tree and counts.

Both run the same random history side by side: two `Records`, one with the functions in C and one without. The history has
what the common case leaves out: several writers, siblings, tombstones, expiries, other databases, other types, late dots.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.databases import inner_key
from protocol.slots import key_slot
from server.core.records import common_case
from server.core.records import trees as trees_module
from server.core.records.draft import Draft
from server.core.records.kinds import SET
from server.core.records.records import Records, storage_key_of
from server.core.records.structure import verify
from server.core.records.versions import TOMBSTONE, VALUE, ForeignDot, clock_of, merge, supersede, write
from tests.core.records.test_records import EngineDamage, Store
from tests.native_build import CAN_BUILD, native_module

pytestmark = [
    pytest.mark.skipif(not CAN_BUILD, reason="there is no compiler, or no headers of Python"),
    pytest.mark.interpreted,  # it puts the functions in C into the sources
]
ACTORS = [bytes(8), bytes(7) + b"\1", b"\0\0\0\1\0\1\0\0", b"\xfe" * 8]
KEYS = [b"a", b"b", b"{a}c", inner_key(3, b"a"), inner_key(0, b"d" * 40)]
OUTCOMES = [(0, VALUE)] * 6 + [(0, TOMBSTONE), (5000, VALUE)]
LARGE_BYTES = 600
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["write", "write", "write", "replicate", "replicate", "replicate", "group", "blind", "set", "turn"]
        ),
        st.integers(0, len(ACTORS) - 1),
        st.integers(0, len(KEYS) - 1),
        st.integers(0, 40),
        st.sampled_from([0, 3, 100, 190, 300, 700]),
    ),
    max_size=60,
)


class Side:
    """One `Records`, with or without the functions in C."""

    def __init__(self, native: Any, leaf_bits: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trees_module, "_native_shelf", native and native.Shelf)
            patch.setattr(common_case, "_merge_pairs", native and native.merge_pairs)
            self.records = Records(Store(), 1 << 20, EngineDamage, leaf_bits, (LARGE_BYTES, 1 << 20))
        self._native = native

    def merge_all(self, pairs: list[bytes]) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(common_case, "_merge_pairs", self._native and self._native.merge_pairs)
            self.records.merge_all(pairs)

    def overwrite(self, key: bytes, actor: bytes, counter: int, value: bytes) -> str:
        """As SET does it."""
        records = self.records
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(common_case, "_overwrite", self._native and self._native.overwrite)
            size = len(records.writes)
            written = records.overwrite(key_slot(key), key, (actor, counter), value)
        if written is not None:
            repeated = len(records.writes) == size
            assert written[0] == storage_key_of(key) and verify(written[1])
        else:
            old = records.get(storage_key_of(key))
            try:
                record = supersede(old, actor, counter, value)
            except ForeignDot:
                return "foreign dot"
            repeated = records.put(storage_key_of(key), record, old)
        return str(repeated)

    def state(self) -> tuple[Any, ...]:
        """All that a write changes."""
        records, trees = self.records, self.records.trees
        spaces = {name: (list(each.live), list(each.expiring)) for name, each in trees.spaces.items()}
        counts = [
            [count for count in enumerate(each) if count[1]] for each in (trees.counts, trees.live, trees.expiring)
        ]
        leaves = [leaf for leaf in enumerate(trees.leaves) if leaf[1]]
        numbers = (records.keys, records.changes, records.cache.young_bytes, records._before)
        return [shard for shard in records.cache.young if shard], records.writes, leaves, counts, spaces, numbers


def record_for(step: tuple[str, int, int, int, int], old: bytes | None, counter: int) -> bytes:
    """A record that a replica may be sent for a key: of one writer or of others, newer, older, or beside what is there."""
    operation, actor, _, outcome, size = step
    expires_at_ms, kind = OUTCOMES[outcome % len(OUTCOMES)]
    value = b"r" * size
    if operation == "set":
        draft = Draft(None, 1000, SET)
        draft.put(b"element", b"")
        return draft.record(ACTORS[actor], counter)
    if operation == "blind":
        return write(None, ACTORS[actor], counter, value, expires_at_ms, kind, ())
    base = None if outcome % 5 == 0 else old
    try:
        return supersede(base, ACTORS[actor], counter - outcome, value, expires_at_ms, kind)
    except ForeignDot:
        return write(base, ACTORS[actor], counter, value, expires_at_ms, kind, () if base is None else clock_of(base))


@given(STEPS, st.sampled_from([14, 16]))
@settings(max_examples=150)
def test_a_history_leaves_the_same_on_both_sides(steps: list[tuple[str, int, int, int, int]], leaf_bits: int) -> None:
    sides = [Side(native_module(), leaf_bits), Side(None, leaf_bits)]
    group: list[bytes] = []
    for number, step in enumerate(steps, 1):
        operation, actor, place, outcome, size = step
        counter = 1000 * number
        if operation == "write":
            late = counter - 5000 * (outcome % 9 == 0)
            told = [side.overwrite(KEYS[place], ACTORS[actor], max(late, 1), b"v" * size) for side in sides]
            assert told[0] == told[1]
        elif operation == "turn":
            assert sides[0].records.drain_batch() == sides[1].records.drain_batch()
        else:
            old, _ = [side.records.get(storage_key_of(KEYS[place])) for side in sides]
            group += [storage_key_of(KEYS[place]), record_for(step, old, counter)]
            if operation != "group":
                for side in sides:
                    side.merge_all(list(group))
                group = group[:4] if outcome % 7 == 0 else []  # some come again
        assert sides[0].state() == sides[1].state()


def test_the_common_case_is_done_in_c() -> None:
    """Else the test above compared Python with Python."""
    side = Side(native_module(), 16)
    records = side.records
    key, record = storage_key_of(b"k"), supersede(None, ACTORS[0], 5, b"v" * 100)
    records.get(key)
    arguments = (records._common_case._shelf, b"k", key_slot(b"k"), ACTORS[0], 9, b"w" * 300, records.writes)
    merged = native_module().merge_pairs(records._common_case._shelf, [key, record, key, record], 0, records.writes)
    assert merged == (4, 1, 1, len(record))
    made = native_module().overwrite(*arguments)
    assert made == (key, supersede(record, ACTORS[0], 9, b"w" * 300), record)
    one = supersede(made[1], ACTORS[1], 10, b"x")
    side.merge_all([key, one])  # another actor: in Python
    two = supersede(one, ACTORS[1], 11, b"x")
    assert native_module().merge_pairs(records._common_case._shelf, [key, two], 0, records.writes)[:2] == (2, 1)
    three = native_module().overwrite(
        records._common_case._shelf, b"k", key_slot(b"k"), ACTORS[2], 12, b"y", records.writes
    )
    assert three == (key, supersede(two, ACTORS[2], 12, b"y"), two)
    assert records.cache.young[key[5]][key] == records.writes[key] == merge(two, three[1])
    assert native_module().sound_pairs([key, three[1], key, two], 0) == 4


@given(st.lists(st.integers(0, 999), max_size=700), st.integers(0, 400), st.booleans())
@settings(max_examples=100)
def test_many_records_are_the_same_whether_or_not_they_are_prefetched(
    numbers: list[int], absent: int, in_one: bool
) -> None:
    records = Side(native_module(), 16).records
    assert records._common_case is not None
    keys = [bytes(5) + bytes([0 if in_one else number % 256]) + b"%d" % number for number in range(1000)]
    for number, key in enumerate(keys):
        if number % 400 != absent:
            records.cache.young[key[5]][key] = None if number % 5 == 0 else b"record %d" % number
    wanted = [keys[number] for number in numbers]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common_case, "_young_of", native_module().young_of)
        assert records._common_case.young_of(wanted) == records.cache.young_of(wanted)


@pytest.mark.parametrize("shift", [-1, 31])
def test_a_shift_out_of_range_is_refused(shift: int) -> None:
    with pytest.raises(ValueError, match="a shift of"):
        native_module().Shelf([], bytearray(8), bytearray(8), bytearray(8), shift, 100, b"mark")


def test_a_tree_that_is_too_small_is_not_written_beside() -> None:
    young: list[dict[bytes, bytes | None]] = [{storage_key_of(b"k"): None} for _ in range(256)]
    shelf = native_module().Shelf(young, bytearray(8), bytearray(4), bytearray(4), 16, 1000, b"mark")
    pairs = [storage_key_of(b"k"), supersede(None, ACTORS[0], 5, b"v")]
    assert native_module().merge_pairs(shelf, pairs, 0, {}) == (0, 0, 0, 0)
