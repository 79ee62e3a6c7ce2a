"""Records of entries against a naive model (naive_types.py), the laws of their merge, and their bytes."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.core.records import entries, joins, versions
from server.core.records.draft import Draft
from server.core.records.entries import Entry
from server.core.records.kinds import (
    HASH,
    HASH_FIELD,
    KEY_EXPIRY,
    OPAQUE,
    SET,
    SET_ELEMENT,
    STRING,
)
from server.core.records.siblings import TOMBSTONE, VALUE
from server.core.records.versions import DamagedRecord, clock_of, is_dead, merge, pruned, skeleton, supersede, verify
from server.core.records.views import View
from tests.core.records.naive_types import ACTORS, NOW_MS, History, Replica, fields_of, seen_fields, type_of

SEEDS = st.integers(0, 1 << 32)
QUICK = settings(max_examples=60, deadline=None)
A, B = b"actor-a.", b"actor-b."


def history(seed: int, steps: int = 40) -> History:
    made = History(random.Random(seed))
    for _ in range(steps):
        made.step()
    return made


def naive_merge(one: bytes, other: bytes) -> bytes:
    """The rule of P3, on all entries."""
    one_clock, one_entries = entries.decode(one)
    other_clock, other_entries = entries.decode(other)

    def survives(entry: Entry, held: list[Entry], clock: dict[bytes, int]) -> bool:
        actor, counter = entries.unpack_dot(entry[2])
        return entry in held or counter > clock.get(actor, -1)

    kept = {entry for entry in one_entries if survives(entry, other_entries, other_clock)}
    kept |= {entry for entry in other_entries if survives(entry, one_entries, one_clock)}
    clock = {actor: max(one_clock.get(actor, -1), other_clock.get(actor, -1)) for actor in {**one_clock, **other_clock}}
    return entries.encode(clock, list(kept))


# --- histories


@given(SEEDS)
@QUICK
def test_replicas_show_what_the_model_shows_and_converge_to_equal_bytes(seed: int) -> None:
    made = history(seed)
    final = Replica()
    for record, commands in made.states:
        shown = Replica(record, commands).shown()
        assert record is None or verify(record)
        assert seen_fields(record) == (type_of(shown), fields_of(shown))
        final = Replica(merge(final.record, record), final.commands | commands)
        assert seen_fields(final.record) == (type_of(final.shown()), fields_of(final.shown()))
    for _ in range(3):
        states = list(made.states)
        made.rng.shuffle(states)
        joined = None
        for record, _commands in states:
            joined = merge(joined, record)
        assert joined == final.record


@given(SEEDS)
@QUICK
def test_merge_is_a_join_and_the_short_cuts_follow_the_rule(seed: int) -> None:
    records = list(dict.fromkeys(record for record, _ in history(seed).states if record is not None))[-6:]
    for one in records:
        assert merge(one, None) is one
        assert merge(one, bytes(bytearray(one))) == one
        for other in records:
            joined = merge(one, other)
            assert joined == merge(other, one) == naive_merge(one, other)
            assert joined in (one, other) or verify(joined or b"")
            assert merge(one, joined) == joined
            for third in records:
                assert merge(joined, third) == merge(one, merge(other, third))


@given(SEEDS)
@QUICK
def test_bytes_are_canonical(seed: int) -> None:
    for record, _ in history(seed).states:
        if record is None:
            continue
        clock, found = entries.decode(record)
        made_of = list(found)
        random.Random(seed).shuffle(made_of)
        assert entries.encode(clock, made_of) == record
        is_plain = all(entry[1] in (VALUE, TOMBSTONE) for entry in found)
        assert entries.has_entries(record) == (not is_plain)


@given(SEEDS)
@QUICK
def test_skeletons_merge_like_records_and_tell_life_and_type(seed: int) -> None:
    records = [record for record, _ in history(seed).states if record is not None][-8:]
    for one in records:
        bare = skeleton(one)
        assert verify(bare)
        assert clock_of(bare) == clock_of(one)
        assert View(bare, NOW_MS).key_type == View(one, NOW_MS).key_type
        assert is_dead(bare, NOW_MS) == is_dead(one, NOW_MS)
        assert versions.expiry_class(bare) == versions.expiry_class(one)
        for other in records:
            assert merge(bare, skeleton(other)) == skeleton(merge(one, other) or b"")


@given(SEEDS)
@QUICK
def test_summaries_tell_life_and_type(seed: int) -> None:
    for record, _ in history(seed).states:
        if record is not None:
            short = versions.summary(record)
            assert verify(short)
            assert clock_of(short) == clock_of(record)
            assert versions.type_of(short, NOW_MS) == versions.type_of(record, NOW_MS)
            assert is_dead(short, NOW_MS) == is_dead(record, NOW_MS)


def test_the_summary_of_a_hash_is_short_and_lives_as_long_as_its_last_field() -> None:
    draft = Draft(None, NOW_MS, HASH)
    for number in range(300):
        draft.put(b"%d" % number, b"v", NOW_MS + number)
    draft.expire(NOW_MS + 1000)
    record = draft.record(A, 1)
    short = versions.summary(record)
    assert len(short) < 200
    for now_ms in (NOW_MS, NOW_MS + 298, NOW_MS + 299, NOW_MS + 1000):
        assert (
            versions.type_of(short, now_ms)
            == versions.type_of(record, now_ms)
            == (HASH if now_ms < NOW_MS + 299 else 0)
        )
    strange = (b"f", 77, entries.pack_dot(A, 1), 0, b"?")
    assert versions.type_of(versions.summary(entries.encode({A: 1}, [strange])), NOW_MS) == OPAQUE


@given(SEEDS)
@QUICK
def test_a_pruned_record_shows_the_same_and_merges_back_to_the_whole_one(seed: int) -> None:
    for record, _ in history(seed).states:
        if record is not None and entries.has_entries(record):
            small = pruned(record)
            assert verify(small)
            assert seen_fields(small) == seen_fields(record)
            assert merge(small, record) == record


# --- big records: chunks


@given(st.integers(0, 1 << 32), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_records_of_many_chunks_are_edited_as_if_made_anew(seed: int, actors: int) -> None:
    rng = random.Random(seed)
    record, model, counter = None, {}, 0
    for _ in range(60):
        draft = Draft(record, NOW_MS, HASH)
        for _ in range(rng.choice([1, 2, 40])):
            name = b"%d" % rng.randrange(700)
            if rng.random() < 0.7:
                payload = rng.randbytes(rng.randrange(9))
                assert draft.put(name, payload) == (name not in model)
                model[name] = payload
            else:
                assert draft.remove(name) == (model.pop(name, None) is not None)
        assert dict(draft.items()) == model
        assert len(draft) == len(model)
        if draft.changed:
            counter += 1
            record = draft.record(ACTORS[rng.randrange(actors)], counter)
            assert verify(record)
            assert entries.encode(*entries.decode(record)) == record
    view = View(record, NOW_MS)
    assert dict(view.items()) == model
    assert len(view) == len(model)


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_records_of_many_chunks_merge_by_the_rule(seed: int) -> None:
    rng = random.Random(seed)
    draft = Draft(None, NOW_MS, SET)
    for number in range(600):
        draft.put(b"%d" % number, b"")
    base = draft.record(A, 1)
    sides = []
    for actor in (A, B):
        side, counter = base, 10
        for _ in range(rng.randint(1, 5)):
            counter += 1
            draft = Draft(side, NOW_MS, SET)
            for _ in range(rng.randint(1, 20)):
                name = b"%d" % rng.randrange(700)
                if rng.random() < 0.5:
                    draft.put(name, b"")
                else:
                    draft.remove(name)
            side = draft.record(actor, counter) if draft.changed else side
        sides.append(side)
    joined = merge(*sides)
    assert joined == merge(*reversed(sides)) == naive_merge(*sides)
    assert joined is not None
    assert verify(joined)


# --- dominance, contradictions, unknown kinds


def fielded(counter: int, payload: bytes = b"v", name: bytes = b"f", kind: int = HASH_FIELD) -> Entry:
    return (name, kind, entries.pack_dot(A, counter), 0, payload)


def test_contradictions_are_refused_and_a_write_of_everything_heals_them() -> None:
    one, other = entries.encode({A: 5}, [fielded(5)]), entries.encode({A: 5}, [fielded(4)])
    with pytest.raises(joins.Contradiction):
        merge(one, other)
    with pytest.raises(DamagedRecord):
        merge(entries.encode({A: 5, B: 1}, [fielded(5)]), entries.encode({A: 5, b"c" * 8: 1}, [fielded(5, b"w")]))
    healed = supersede(one, B, 9, b"new")
    assert merge(healed, other) == healed


@pytest.mark.parametrize("kind", [12, 13, 14, 15, 200, 255])
def test_an_unknown_kind_is_alive_kept_and_opaque(kind: int) -> None:
    strange = (b"f", kind, entries.pack_dot(A, 3), NOW_MS - 1, b"?")
    record = entries.encode({A: 3}, [strange])
    assert verify(record)
    assert View(record, NOW_MS).key_type == OPAQUE
    assert not is_dead(record, NOW_MS)
    assert versions.expiry_class(record) == versions.PERSISTENT
    expired = entries.encode({A: 3}, [strange, (b"", KEY_EXPIRY, entries.pack_dot(A, 3), NOW_MS - 1, b"")])
    assert not is_dead(expired, NOW_MS)
    other = entries.encode({B: 4}, [(b"g", HASH_FIELD, entries.pack_dot(B, 4), 0, b"v")])
    both = merge(record, other)
    assert both is not None
    assert entries.decode(both)[1] == sorted([strange, entries.decode(other)[1][0]])
    draft = Draft(both, NOW_MS, HASH)
    draft.put(b"f", b"w")
    draft.remove(b"g")
    assert strange in entries.decode(draft.record(B, 9))[1]
    assert merge(record, supersede(both, B, 9, b"over all")) == supersede(both, B, 9, b"over all")


# --- life and expiry


def test_life_follows_fields_keys_and_hidden_entries() -> None:
    dot = entries.pack_dot(A, 3)
    field = (b"f", HASH_FIELD, dot, NOW_MS, b"v")
    gone = entries.encode({A: 3}, [field])
    assert versions.expiry_class(gone) == versions.EXPIRING
    assert (is_dead(gone, NOW_MS - 1), is_dead(gone, NOW_MS)) == (False, True)
    assert View(gone, NOW_MS).key_type == 0
    key = entries.encode({A: 3}, [(b"f", SET_ELEMENT, dot, 0, b""), (b"", KEY_EXPIRY, dot, NOW_MS, b"")])
    assert (is_dead(key, NOW_MS - 1), is_dead(key, NOW_MS)) == (False, True)
    assert versions.last_expiry(key) == NOW_MS
    hidden = entries.encode({A: 3, B: 4}, [field, (b"e", SET_ELEMENT, entries.pack_dot(B, 4), 0, b"")])
    assert not is_dead(hidden, NOW_MS)
    buried = [
        (b"", VALUE, dot, 0, b"v"),
        (b"", TOMBSTONE, entries.pack_dot(B, 4), 0, b""),
        (b"", KEY_EXPIRY, dot, 0, b""),
    ]
    assert not is_dead(entries.encode({A: 3, B: 4}, buried), NOW_MS), "DYN.GET shows it"
    assert View(entries.encode({A: 3, B: 4}, buried), NOW_MS).key_type == 0
    assert is_dead(entries.encode({A: 3, B: 4}, buried[1:]), NOW_MS)


def test_expired_fields_leave_with_the_next_write() -> None:
    draft = Draft(None, NOW_MS, HASH)
    draft.put(b"a", b"1", NOW_MS + 5)
    draft.put(b"b", b"2")
    record = draft.record(A, 1)
    later = Draft(record, NOW_MS + 5, HASH)
    assert (len(later), later.get(b"a"), dict(later.items())) == (1, None, {b"b": b"2"})
    assert later.put(b"c", b"3")
    assert [entry[0] for entry in entries.decode(later.record(A, 2))[1]] == [b"b", b"c"]
    assert later.remove(b"b")
    assert later.remove(b"c")
    assert entries.decode(later.record(A, 2))[1][0][1] == TOMBSTONE


def test_the_expiry_of_a_field_leaves_what_is_added_at_the_same_time() -> None:
    draft = Draft(None, NOW_MS, HASH)
    draft.put(b"n", b"5")
    base = draft.record(A, 1)
    one, other = Draft(base, NOW_MS, HASH), Draft(base, NOW_MS, HASH)
    one.expire_field(b"n", NOW_MS + 10)
    other.add(b"n", Decimal(3))
    view = View(merge(one.record(A, 2), other.record(B, 3)), NOW_MS)
    assert (view.get(b"n"), view.field_expiry(b"n")) == (b"8", NOW_MS + 10)
    again = Draft(view.base, NOW_MS + 10, HASH)
    again.add(b"n", Decimal(1))
    assert View(again.record(B, 9), NOW_MS + 10).get(b"n") == b"1"


def test_a_string_with_what_was_added_is_a_number() -> None:
    draft = Draft(supersede(None, A, 1, b"1.50"), NOW_MS, STRING)
    draft.add(b"", Decimal("0.25"))
    assert draft.string() == b"1.75"
    record = draft.record(B, 2)
    assert View(record, NOW_MS).string() == b"1.75"
    assert versions.value_of(record, NOW_MS) == b"1.75"


def test_the_directory_of_a_record_is_added_up_once() -> None:
    """Of one that was looked at lately: that is most of the work of finding one field among many."""
    members = [(b"%d" % number, SET_ELEMENT, b"actor-a." + bytes(7) + b"\1", 0, b"") for number in range(2000)]
    record = entries.encode({b"actor-a.": 1}, members)
    starts = entries.Index(record).starts
    assert len(starts) > 10 and entries.Index(bytes(bytearray(record))).starts is starts
    assert entries.Index(entries.encode({b"actor-a.": 1, b"actor-b.": 2}, members)).starts == [
        start + 16 for start in starts
    ]
    assert entries.Index(record).starts == starts
