"""Records, checked against a naive model of sets (naive_versions.py): random histories, the laws of merge, the bytes."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_digest

from server.core.records.versions import (
    COUNT_MAX,
    TOMBSTONE,
    VALUE,
    DamagedRecord,
    ForeignDot,
    Sibling,
    _merge_decoded,
    _newer_of_one_writer,
    clock_of,
    context_after,
    decode,
    encode,
    merge,
    newest,
    sibling_count,
    siblings_of,
    skeleton,
    supersede,
    value_of,
    verify,
    visible,
    write,
)
from tests.core.records import naive_versions as naive
from tests.core.records.naive_versions import ACTORS, NOW_MS, STEPS, Step, check, states_of

QUICK = settings(max_examples=40)
A, B, C = b"actor-a.", b"actor-b.", b"actor-c."


def some_records(steps: list[Step], count: int) -> list[bytes]:
    """Returns up to `count` different records from one history, the last ones first."""
    records = dict.fromkeys(record for record, _ in reversed(states_of(steps)) if record is not None)
    return list(records)[:count]


# --- histories


@given(STEPS, st.randoms(use_true_random=False))
@settings(max_examples=80)
def test_replicas_show_what_the_model_shows_and_converge_to_equal_bytes(steps: list[Step], rng: random.Random) -> None:
    states = states_of(steps)
    final: naive.State = (None, naive.NOTHING)
    for record, model in states:
        final = merge(final[0], record), final[1] | model
        check(*final)
    for _ in ACTORS:
        rng.shuffle(states)
        joined = None
        for record, _model in states:
            joined = merge(joined, record)
        assert joined == final[0]


@given(STEPS)
@QUICK
def test_merge_is_a_join(steps: list[Step]) -> None:
    records = some_records(steps, 5)
    for one in records:
        assert merge(one, None) is one
        assert merge(None, one) is one
        assert merge(one, bytes(bytearray(one))) == one
        for other in records:
            joined = merge(one, other)
            assert joined == merge(other, one)
            assert merge(joined, one) is joined
            assert merge(other, joined) is joined
            assert joined is one or joined not in (one, other) or joined is other
            for third in records:
                assert merge(joined, third) == merge(one, merge(other, third))


def test_merge_of_nothing_is_nothing() -> None:
    assert merge(None, None) is None


@given(STEPS)
@QUICK
def test_clever_versions_equal_the_plain_ones(steps: list[Step]) -> None:
    records = some_records(steps, 12)
    for one in records:
        for other in records:
            fast = _newer_of_one_writer(one, other) if one != other else one
            assert fast is None or ((fast is one or fast is other) and fast == _merge_decoded(one, other))
        for actor in (*ACTORS, A):
            full = write(one, actor, 1 << 40, b"v", 7, TOMBSTONE, clock_of(one))
            assert supersede(one, actor, 1 << 40, b"v", 7, TOMBSTONE) == full
        sibling = visible(one, NOW_MS)
        assert value_of(one, NOW_MS) == (None if sibling is None else sibling.value)


def all_small_records() -> Iterator[bytes]:
    """Returns all records of two actors with any siblings that the clock covers, not only those that histories make."""
    for of_a, of_b in itertools.product(range(4), range(2)):
        clock = {actor: counter for actor, counter in ((A, of_a), (B, of_b)) if counter}
        possible = [Sibling(actor, at + 1, 0, VALUE, b"%d" % at) for actor in clock for at in range(clock[actor])]
        for size in range(len(possible) + 1):
            yield from (encode(clock, list(chosen)) for chosen in itertools.combinations(possible, size))


def test_the_fast_merge_follows_the_rule_for_any_two_records() -> None:
    records = list(all_small_records())
    assert len(records) == 45
    for one, other in itertools.permutations(records, 2):
        assert merge(one, other) == _merge_decoded(one, other)


@given(STEPS)
@QUICK
def test_skeletons_merge_like_records(steps: list[Step]) -> None:
    records = some_records(steps, 8)
    for one in records:
        bare = skeleton(one)
        assert siblings_of(bare) == [sibling._replace(value=b"") for sibling in siblings_of(one)]
        assert clock_of(bare) == clock_of(one)
        for other in records:
            joined = merge(one, other)
            assert joined is not None
            assert merge(bare, skeleton(other)) == skeleton(joined)


# --- what a context covers


def test_a_context_may_cover_what_this_replica_has_not_seen_yet() -> None:
    at_b = supersede(None, B, 5, b"old")
    at_a = write(None, A, 1, b"new", context=clock_of(at_b))
    assert siblings_of(merge(at_a, at_b)) == [Sibling(A, 1, 0, VALUE, b"new")]


def test_a_context_covers_nothing_that_came_after_it() -> None:
    first = supersede(None, A, 1, b"first")
    second = supersede(first, A, 7, b"second")
    beside = write(second, A, 9, b"third", context=clock_of(first))
    assert [sibling.value for sibling in siblings_of(beside)] == [b"second", b"third"]
    assert clock_of(beside) == ((A, 9),)


def test_an_own_entry_beyond_all_siblings_stays() -> None:
    at_a = supersede(None, A, 9, b"superseded elsewhere")
    at_b = write(None, B, 3, b"kept", context=clock_of(at_a))
    assert clock_of(at_b) == ((A, 9), (B, 3))
    assert merge(at_a, at_b) is at_b
    again = supersede(at_b, A, 10, b"again")
    assert merge(at_b, again) is again


@pytest.mark.parametrize("counter", [8, 9])
def test_no_dot_is_taken_that_was_issued_or_covered_before(counter: int) -> None:
    single = supersede(None, A, 9, b"v")
    several = supersede(supersede(single, B, 1, b"v"), C, 1, b"v")
    with pytest.raises(ForeignDot):
        supersede(single, A, counter, b"w")
    with pytest.raises(ForeignDot):
        supersede(several, A, counter, b"w")
    with pytest.raises(ForeignDot):
        write(single, A, counter, b"w")
    with pytest.raises(ForeignDot):  # a context that speaks of writes of ours that never were
        write(None, A, counter, b"w", context=((A, 9),))


@pytest.mark.parametrize(
    ("actor_after", "counter", "left"),
    [
        (A, 20, [b"after the loss"]),  # the survivor of the first life goes, though nobody has superseded it
        (A, 5, [b"before the loss"]),  # a clock set back: the acknowledged new write goes
        (C, 20, [b"before the loss", b"after the loss"]),
        (C, 5, [b"after the loss", b"before the loss"]),
    ],
)
def test_an_actor_that_forgot_what_it_issued_loses_concurrent_values(
    actor_after: bytes, counter: int, left: list[bytes]
) -> None:
    """Why P2 is needed: a node loses its disk, or only the record of one key, while another replica has its write."""
    elsewhere = merge(None, supersede(None, A, 10, b"before the loss"))
    here = write(None, actor_after, counter, b"after the loss")
    assert [sibling.value for sibling in siblings_of(merge(elsewhere, here))] == left


# --- fast paths, case by case


@pytest.mark.parametrize("entries", [1, 2, 3, 255, 256, 300])
def test_the_fast_paths_are_taken_and_right_for_any_number_of_entries(entries: int) -> None:
    clock = {b"%08d" % index: 5 for index in range(entries)}
    for actor in dict.fromkeys((b"%08d" % 0, b"%08d" % (entries // 2), b"%08d" % (entries - 1))):
        old = encode(clock, [Sibling(actor, 5, 0, VALUE, b"old")])
        new = supersede(old, actor, 600, b"new")
        assert new == write(old, actor, 600, b"new", context=clock_of(old))
        assert _newer_of_one_writer(old, new) is new
        assert _newer_of_one_writer(new, old) is new
        assert value_of(new, NOW_MS) == b"new"


def test_the_fast_merge_declines_what_is_concurrent() -> None:
    base = supersede(supersede(None, A, 1, b""), B, 2, b"")
    by_a, by_b = supersede(base, A, 3, b"a"), supersede(base, B, 3, b"b")
    beside = write(base, A, 4, b"beside")
    for one, other in ((by_a, by_b), (base, beside), (by_a, supersede(by_b, C, 4, b"c"))):
        assert _newer_of_one_writer(one, other) is None
        assert _newer_of_one_writer(other, one) is None
    assert siblings_of(merge(by_a, by_b)) == [Sibling(A, 3, 0, VALUE, b"a"), Sibling(B, 3, 0, VALUE, b"b")]


def test_bytes_that_look_like_an_entry_but_lie_across_two_are_passed_over() -> None:
    actor = b"\0\0\0\2\0\0\0\0"
    looks_like_actor = int.from_bytes(actor, "big")
    fifth = (5).to_bytes(8, "big")
    for known in ({}, {actor: 4}):
        old = encode({bytes(8): looks_like_actor, **known}, [Sibling(bytes(8), looks_like_actor, 0, VALUE, b"old")])
        new = supersede(old, actor, 5, b"new")
        assert clock_of(new) == ((bytes(8), looks_like_actor), (actor, 5))
        assert merge(old, new) is new
    late = encode({bytes(8): looks_like_actor, fifth: 1, actor: 5}, [Sibling(actor, 5, 0, VALUE, b"late")])
    early_actor = (4).to_bytes(8, "big")
    early = encode({bytes(8): looks_like_actor, early_actor: 1, actor: 5}, [Sibling(actor, 5, 0, VALUE, b"late")])
    joined = merge(late, early)
    assert joined is not None
    assert [entry[0] for entry in clock_of(joined)] == [bytes(8), early_actor, fifth, actor]


def test_a_record_whose_siblings_are_all_superseded_merges_and_reads() -> None:
    """Only a forged context makes such a record; it must not crash a node."""
    bare = encode({A: 5}, [])
    assert siblings_of(bare) == []
    assert newest(bare) is None
    assert value_of(bare, NOW_MS) is None
    assert merge(bare, supersede(None, A, 4, b"v")) is bare
    assert siblings_of(merge(supersede(None, B, 4, b"v"), bare)) == [Sibling(B, 4, 0, VALUE, b"v")]
    assert siblings_of(supersede(bare, A, 6, b"v")) == [Sibling(A, 6, 0, VALUE, b"v")]


# --- tombstones and expiry


@pytest.mark.parametrize(
    ("expires_at_ms", "kind", "live"),
    [
        (0, VALUE, True),
        (NOW_MS + 1, VALUE, True),
        (NOW_MS, VALUE, False),
        (NOW_MS - 1, VALUE, False),
        (0, TOMBSTONE, False),
        (NOW_MS + 1, TOMBSTONE, False),
    ],
)
def test_who_is_seen_at_a_moment(expires_at_ms: int, kind: int, live: bool) -> None:
    lone = supersede(None, B, 5, b"v", expires_at_ms, kind)
    below = write(lone, A, 4, b"older, lives for ever")
    for record in (lone, below, supersede(below, B, 6, b"v", expires_at_ms, kind)):
        assert (visible(record, NOW_MS) is not None) == live
        assert value_of(record, NOW_MS) == (b"v" if live else None)
    above = write(below, C, 5, b"newest by actor")
    assert value_of(above, NOW_MS) == b"newest by actor"
    assert value_of(supersede(None, A, 1, b"v", 1 << 56), 1 << 56) is None
    assert newest(None) is None
    assert visible(None, NOW_MS) is None


# --- bytes


SIBLINGS = st.builds(
    Sibling,
    st.binary(min_size=8, max_size=8),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.sampled_from([VALUE, TOMBSTONE]),
    st.binary(max_size=40),
)


@given(
    st.dictionaries(st.binary(min_size=8, max_size=8), st.integers(0, 2**64 - 1), max_size=6),
    st.lists(SIBLINGS, max_size=6, unique_by=lambda sibling: sibling[:2]),
    st.randoms(use_true_random=False),
)
@QUICK
def test_bytes_are_canonical_and_read_back(
    clock: dict[bytes, int], siblings: list[Sibling], rng: random.Random
) -> None:
    record = encode(clock, siblings)
    assert decode(record) == (clock, sorted(siblings))
    assert encode(*decode(record)) == record
    entries = list(clock.items())
    rng.shuffle(entries)
    rng.shuffle(siblings)
    assert encode(dict(entries), siblings) == record


@pytest.mark.parametrize("size", [(64 << 10) - 1, 64 << 10, 1 << 20])
def test_records_of_large_values_are_built_as_small_ones_are(size: int) -> None:
    actor, value = b"a" * 8, random.Random(size).randbytes(size)
    expected = encode({actor: 1 << 40}, [Sibling(actor, 1 << 40, 5, VALUE, value)])
    assert supersede(None, actor, 1 << 40, value, 5) == expected


def test_counts_fill_two_bytes_and_no_more() -> None:
    actors = [b"%08d" % index for index in range(COUNT_MAX + 1)]
    crowd = [Sibling(A, counter, 0, VALUE, b"%d" % counter) for counter in range(1, 258)]
    crowded = encode({A: 257}, crowd)
    assert sibling_count(crowded) == 257
    assert value_of(crowded, NOW_MS) == b"257"
    assert siblings_of(supersede(crowded, A, 258, b"one")) == [Sibling(A, 258, 0, VALUE, b"one")]
    clock = dict.fromkeys(actors, 1)
    with pytest.raises(ValueError, match="65535"):
        encode(clock, [])
    with pytest.raises(ValueError, match="65535"):
        encode({}, [crowd[0]] * (COUNT_MAX + 1))
    del clock[actors[0]]
    assert len(clock_of(encode(clock, []))) == COUNT_MAX


SAMPLES = [
    supersede(None, A, 1 << 56, b"x" * 50),
    write(supersede(supersede(None, A, 1, b"a"), B, 2, b"b" * 30, 99), C, 3, b"", 0, TOMBSTONE),
]


@pytest.mark.parametrize("record", SAMPLES)
def test_a_flipped_bit_is_noticed_wherever_it_is(record: bytes) -> None:
    assert verify(record)
    as_number = int.from_bytes(record, "big")
    for bit in range(8 * len(record)):
        assert not verify((as_number ^ 1 << bit).to_bytes(len(record), "big"))
    for size in range(len(record)):
        assert not verify(record[:size])
    assert not verify(record + b"\0")


def test_no_checksum_makes_a_record_of_nothing() -> None:
    assert not verify(xxh3_64_digest(b""))
    assert not verify(encode({}, []))


@given(st.binary(max_size=120), st.sampled_from(SAMPLES), st.integers(0, 200), st.integers(0, 200))
@settings(max_examples=200)
def test_junk_is_a_damaged_record_and_nothing_worse(junk: bytes, sound: bytes, start: int, end: int) -> None:
    for damaged in (junk, sound[:end], sound[:start] + junk + sound[end:], sound[:8] + junk):
        try:
            clock, siblings = decode(damaged)
        except DamagedRecord:
            continue
        again = encode(clock, siblings)  # whatever was read is in there, and nothing else
        assert len(again) == len(damaged) or len(clock) < int.from_bytes(damaged[8:10], "big")


@pytest.mark.parametrize("record", SAMPLES)
def test_every_truncation_is_a_damaged_record(record: bytes) -> None:
    for size in range(len(record)):
        with pytest.raises(DamagedRecord):
            decode(record[:size])
    with pytest.raises(DamagedRecord):
        decode(record + b"\0")


def test_the_context_after_a_blind_write_covers_no_sibling_that_its_author_has_not_seen() -> None:
    first = write(None, b"A" * 8, 5, b"a")
    assert context_after(first, (), b"A" * 8, 5) == ((b"A" * 8, 5),)
    second = write(first, b"A" * 8, 7, b"b")  # a clock that names (A, 7) covers (A, 5), too
    assert context_after(second, (), b"A" * 8, 7) == ()
    other = write(first, b"B" * 8, 7, b"b")
    assert context_after(other, (), b"B" * 8, 7) == ((b"B" * 8, 7),)
    resolved = write(second, b"A" * 8, 9, b"c", context=((b"A" * 8, 7),))
    assert context_after(resolved, ((b"A" * 8, 7),), b"A" * 8, 9) == ((b"A" * 8, 9),)
