"""The side of an exchange that is asked: pages and their limits, what is told of damage, and who gets no answer."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from server.core.messages import exchange_questions as questions
from server.core.messages.asking import UNREADABLE, read_answer
from server.core.messages.reader import Reader
from server.core.records.records import storage_key_of
from server.core.records.trees import EMPTY
from server.core.repair.exchange_answers import (
    CHECKSUMS,
    LISTED_KEYS,
    PAGE_BYTES,
    RECORDS,
    absorb,
    equal_spans,
    read_ranges,
    rest_of,
    split,
)
from server.core.work.background import BATCH_KEYS
from tests.core.messages.reading import read, written
from tests.core.repair.machines import Machine, Machines, keys_of, record_of, tombstone

WHOLE = (b"\0\0", b"\x40\0")
A, B, C, D = b"\0\1", b"\0\2", b"\0\3", b"\0\4"


def encode_spans(spans: Sequence[tuple[int, int]]) -> bytes:
    """Returns ranges of leaves as HASHES has them."""
    return questions.HASHES.write(questions.Hashes(1, 14, 1, list(spans)))[-1]


def machine_with(count: int, value: bytes = b"v") -> tuple[Machine, list[bytes]]:
    """A machine that stores so many keys, and their storage keys in order."""
    machine = Machines(1)[1]
    keys = keys_of(count)
    machine.put(record_of(value), *keys)
    return machine, [storage_key_of(key) for key in keys]


def ask(machine: Machine, kind: bytes, *words: bytes, epoch: int = 1) -> list[bytes]:
    """What a machine answers behind the word about whether clients are served."""
    question = {each.name: each for each in questions.EXCHANGE_QUESTIONS}[kind]
    answer = written(question, machine.answerers[kind](read(question, b"%d" % epoch, *words)))
    assert not answer or answer[0] in (b"0", b"1")
    return answer[1:]


# --- ranges


@pytest.mark.parametrize(
    ("place", "before", "behind"),
    [
        (b"", [(A, B), (C, D)], []),
        (A, [], [(A, B), (C, D)]),
        (A + b"\0", [(A, A + b"\0")], [(A + b"\0", B), (C, D)]),
        (B, [(A, B)], [(C, D)]),
        (C, [(A, B)], [(C, D)]),
        (D, [(A, B), (C, D)], []),
    ],
)
def test_ranges_are_split_at_a_place(
    place: bytes, before: list[tuple[bytes, bytes]], behind: list[tuple[bytes, bytes]]
) -> None:
    assert split([(A, B), (C, D)], place) == (before, behind)


def test_the_rest_of_ranges_begins_behind_the_last_key_of_a_page() -> None:
    assert rest_of([(A, B), (C, D)], b"") == [], "a page without a cut was the last one"
    assert rest_of([(A, B), (C, D)], A + b"key") == [(A + b"key\0", B), (C, D)]
    assert rest_of([(A, B), (C, D)], C) == [(C + b"\0", D)]


@pytest.mark.parametrize(
    ("span", "parts", "expected"),
    [
        ((0, 16), 4, [(0, 4), (4, 8), (8, 12), (12, 16)]),
        ((5, 6), 16, [(5, 6)]),
        ((0, 10), 4, [(0, 3), (3, 6), (6, 9), (9, 10)]),
        ((7, 9), 1, [(7, 9)]),
        ((0, 3), 2, [(0, 2), (2, 3)]),
    ],
)
def test_a_range_of_leaves_is_cut_into_parts(
    span: tuple[int, int], parts: int, expected: list[tuple[int, int]]
) -> None:
    assert equal_spans(span, parts) == expected


# --- pages


def test_an_empty_range_is_an_empty_page_and_the_last() -> None:
    machine, _ = machine_with(0)
    assert read_ranges(machine.state.records, [WHOLE]) == ([], b"", b"")
    assert read_ranges(machine.state.records, []) == ([], b"", b"")
    assert read_ranges(machine.state.records, [(A, A)]) == ([], b"", b"")


def test_pages_hold_a_batch_of_keys_and_join_to_the_whole() -> None:
    machine, stored = machine_with(2 * BATCH_KEYS + 3)
    ranges, sizes, seen = [WHOLE], [], []
    while ranges:
        page = read_ranges(machine.state.records, ranges)
        sizes.append(len(page.pairs))
        seen += [key for key, _ in page.pairs]
        assert page.cut == (page.pairs[-1][0] if len(page.pairs) == BATCH_KEYS else b"")
        ranges = rest_of(ranges, page.cut)
    assert sizes == [BATCH_KEYS, BATCH_KEYS, 3] and seen == stored


def test_a_page_holds_no_more_bytes_than_fit_but_one_record_always() -> None:
    machine, stored = machine_with(5, bytes(PAGE_BYTES // 2))
    page = read_ranges(machine.state.records, [WHOLE])
    assert [key for key, _ in page.pairs] == stored[:2] and page.cut == stored[1]
    large, [key] = machine_with(1, bytes(3 * PAGE_BYTES))
    assert [pair[0] for pair in read_ranges(large.state.records, [WHOLE]).pairs] == [key]


def test_a_page_goes_over_several_ranges() -> None:
    machine, stored = machine_with(9)
    ranges = [(stored[0], stored[2]), (stored[4], stored[5]), (stored[7], b"\x40\0")]
    assert [key for key, _ in read_ranges(machine.state.records, ranges).pairs] == [
        *stored[:2], stored[4], *stored[7:]
    ]  # fmt: skip


def test_a_page_over_several_ranges_is_a_page_of_them_together() -> None:
    machine, stored = machine_with(3 * BATCH_KEYS)
    middle = stored[10]
    page = read_ranges(machine.state.records, [(b"\0\0", middle), (middle, b"\x40\0")])
    assert [key for key, _ in page.pairs] == stored[:BATCH_KEYS]
    large, stored = machine_with(3, bytes(PAGE_BYTES * 2 // 3))
    page = read_ranges(large.state.records, [(b"\0\0", stored[1]), (stored[1], b"\x40\0")])
    assert [key for key, _ in page.pairs] == stored[:2] and page.cut == stored[1]


def test_a_page_ends_before_a_gap_and_one_that_begins_with_it_says_where_it_ends() -> None:
    machine, stored = machine_with(6)
    machine.disk.unreadable[stored[3]] = None
    page = read_ranges(machine.state.records, [WHOLE])
    assert [key for key, _ in page.pairs] == stored[:3] and not page.gap_end
    [rest] = rest_of([WHOLE], page.cut)
    beyond = read_ranges(machine.state.records, [rest])
    while beyond.pairs:  # what was read before the gap was met
        [rest] = rest_of([rest], beyond.cut)
        beyond = read_ranges(machine.state.records, [rest])
    assert beyond.pairs == [] and stored[3] < beyond.gap_end <= stored[4]
    behind = read_ranges(machine.state.records, split([rest], beyond.gap_end)[1])
    assert [key for key, _ in behind.pairs] == stored[4:]
    assert machine.state.records.unreadable, "and it is known as damage"


# --- questions


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (b"HASHES", (b"14", b"1", encode_spans([(0, 1)]))),
        (b"LIST", (CHECKSUMS, *WHOLE)),
        (b"FETCH", (storage_key_of(b"k0"),)),
        (b"MERGE", (storage_key_of(b"k0"), record_of(b"newer", 9))),
    ],
)
def test_under_another_layout_there_is_no_answer_and_nothing_is_stored(kind: bytes, words: tuple[bytes, ...]) -> None:
    machine, _ = machine_with(1)
    question = {each.name: each for each in questions.EXCHANGE_QUESTIONS}[kind]
    assert machine.answerers[kind](read(question, b"2", *words)) is None
    assert machine.value(b"k0") == b"v"
    machine.state.leave()
    assert machine.answerers[kind](read(question, b"1", *words)) is None, "nor without one"


def test_each_answer_says_whether_clients_are_delayed() -> None:
    machine, [key] = machine_with(1)
    fetch = read(questions.FETCH, b"1", key)
    assert machine.answerers[b"FETCH"](fetch).is_busy is False
    machine.pace.delays_clients = True
    assert machine.answerers[b"FETCH"](fetch).is_busy is True


def test_hashes_are_those_of_the_parts_and_one_word_for_nothing() -> None:
    machine, _ = machine_with(50)
    trees = machine.state.records.trees
    span = (0, 1 << 14)
    [hashes] = ask(machine, b"HASHES", b"14", b"16", encode_spans([span, (0, 1)]))
    expected = [trees.hash_of(part) for part in [*equal_spans(span, 16), (0, 1)]]
    assert hashes == b"".join(expected)
    machine.node.state.records.remove(storage_key_of(b"k0"))
    [other] = ask(machine, b"HASHES", b"14", b"16", encode_spans([span]))
    assert sum(other[at : at + 8] != hashes[at : at + 8] for at in range(0, len(other), 8)) == 1
    empty, _ = machine_with(0)
    assert ask(empty, b"HASHES", b"14", b"1", encode_spans([span])) == [EMPTY]


def test_leaves_of_another_size_have_no_hashes_to_compare() -> None:
    machine, _ = machine_with(1)
    assert ask(machine, b"HASHES", b"20", b"1", encode_spans([(0, 1)])) == [b""]


def test_a_list_has_the_checksum_and_the_key_of_each_record_or_the_records() -> None:
    machine, stored = machine_with(2)
    record = record_of(b"v")
    assert ask(machine, b"LIST", CHECKSUMS, *WHOLE) == [b"", *[record[:8] + key for key in stored]]
    assert ask(machine, b"LIST", RECORDS, *WHOLE) == [b"", stored[0], record, stored[1], record]
    assert ask(machine, b"LIST", CHECKSUMS, stored[0], stored[1]) == [b"", record[:8] + stored[0]]


@pytest.mark.parametrize(
    ("mode", "keys_max", "items_of_a_key"), [(CHECKSUMS, LISTED_KEYS, 1), (RECORDS, BATCH_KEYS, 2)]
)
def test_a_list_that_does_not_reach_the_end_says_how_far_it_is_complete(
    mode: bytes, keys_max: int, items_of_a_key: int
) -> None:
    machine, stored = machine_with(keys_max + 1)
    cut, *items = ask(machine, b"LIST", mode, *WHOLE)
    assert cut == stored[keys_max - 1] and len(items) == keys_max * items_of_a_key


def test_a_damaged_record_is_listed_by_key_and_its_bytes_are_never_sent() -> None:
    machine, stored = machine_with(3)
    machine.damage(b"k1")
    damaged = storage_key_of(b"k1")
    listed = dict(zip(*[iter(ask(machine, b"LIST", RECORDS, *WHOLE)[1:])] * 2, strict=True))
    assert listed == {key: UNREADABLE if key == damaged else record_of(b"v") for key in stored}
    assert ask(machine, b"FETCH", *stored) == [listed[key] for key in stored]
    assert machine.damaged, "and whoever mends is told"


@pytest.mark.parametrize("damaged", [b"", b"junk", b"longer than a checksum"])
def test_damaged_bytes_have_a_place_in_the_list_of_checksums_too(damaged: bytes) -> None:
    """As they are, so that they differ from what others have; and the answer can be read, however short they are."""
    machine, [first, second] = machine_with(2)
    machine.disk.commit({first: damaged})
    answer = machine.answerers[b"LIST"](read(questions.LIST, b"1", CHECKSUMS, *WHOLE))
    items = written(questions.LIST, answer)
    assert read_answer(questions.LIST, Reader(items, 0, 0), [b"1", CHECKSUMS, *WHOLE]) == answer
    assert list(answer.stored) == [first, second] and answer.stored[first] == damaged.ljust(8, b"\0")[:8]


def test_a_range_that_cannot_be_listed_is_said_so_with_its_end() -> None:
    machine, stored = machine_with(3)
    machine.disk.unreadable[stored[0]] = None
    place = stored[0][:6]
    word, end = ask(machine, b"LIST", CHECKSUMS, place, b"\x40\0")
    assert word == UNREADABLE and stored[0] < end <= stored[1]


def test_what_is_fetched_is_in_the_order_of_the_keys_and_empty_for_none() -> None:
    machine, stored = machine_with(2)
    absent = storage_key_of(b"absent")
    assert ask(machine, b"FETCH", stored[1], absent, stored[0]) == [record_of(b"v"), b"", record_of(b"v")]


def test_what_is_fetched_ends_with_the_record_that_fills_a_page() -> None:
    machine, stored = machine_with(3, bytes(PAGE_BYTES // 2))
    assert len(ask(machine, b"FETCH", *stored)) == 2


def test_merging_counts_what_it_has_changed() -> None:
    machine, stored = machine_with(3)
    newer, old = record_of(b"new", 5), record_of(b"older", 0)
    absent = storage_key_of(b"absent")
    assert ask(machine, b"MERGE", stored[0], newer, stored[1], old, stored[2], record_of(b"v"), absent, newer) == [
        b"2", b"0"
    ]  # fmt: skip
    assert [machine.state.records.get(key) for key in (*stored, absent)] == [
        newer, record_of(b"v"), record_of(b"v"), newer
    ]  # fmt: skip


def test_what_meets_damage_is_not_taken_and_the_rest_is() -> None:
    machine, stored = machine_with(2)
    machine.damage(b"k0")
    words = [word for key in stored for word in (key, record_of(b"new", 5))]
    assert ask(machine, b"MERGE", *words) == [b"1", b"1"]
    assert machine.value(b"k1") == b"new"


def test_a_full_disk_takes_nothing_and_says_no_numbers() -> None:
    machine, [key] = machine_with(1)
    machine.state.room = 1
    assert ask(machine, b"MERGE", key, tombstone(5)) == []
    assert machine.record(b"k0") == record_of(b"v")


def test_absorbing_tells_whether_it_has_changed_anything() -> None:
    machine, [key] = machine_with(1)
    records = machine.state.records
    assert not absorb(records, key, record_of(b"v"))
    assert not absorb(records, key, record_of(b"older", 0))
    assert absorb(records, key, tombstone(5)) and machine.value(b"k0") is None
    assert absorb(records, key, record_of(b"beside", 5, b"actor-y.")), "a sibling"
