"""The walk over the chunks of a record in C finds what the one in Python finds: all tests of it, and both side by side."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_digest

from server.core.records import entries, entry_structure
from server.core.records.entry_structure import is_sound
from server.core.records.kinds import (
    COUNTER_DELTA,
    HASH_DELTA,
    HASH_FIELD,
    KEY_EXPIRY,
    LIST_ITEM,
    MEMBER,
    MEMBER_DELTA,
    SET_ELEMENT,
    mark_of,
)
from server.core.records.positions import FIRST
from tests.core.records.test_entry_structure import (
    A,
    B,
    all_made,
    test_chunks_that_were_seen_before_do_not_hide_a_wrong_record,
    test_every_flipped_bit_is_refused,
    test_what_has_a_right_checksum_and_another_structure_is_refused_or_canonical,
    test_wrong_entries_are_refused,
)
from tests.native_build import CAN_BUILD, native_module

__all__ = [  # with the functions in C
    "test_chunks_that_were_seen_before_do_not_hide_a_wrong_record",
    "test_every_flipped_bit_is_refused",
    "test_what_has_a_right_checksum_and_another_structure_is_refused_or_canonical",
    "test_wrong_entries_are_refused",
]
pytestmark = [
    pytest.mark.skipif(not CAN_BUILD, reason="there is no compiler, or no headers of Python"),
    pytest.mark.interpreted,  # it puts the function in C into the sources
]


@pytest.fixture(autouse=True, scope="module")
def _walks_in_c() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entry_structure, "_sound_chunks", native_module().sound_chunks)
        yield


def in_python(record: bytes) -> bool:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entry_structure, "_sound_chunks", None)
        return is_sound(record)


def random_record(rng: random.Random) -> bytes:
    """A record of some chunks, with all that makes an entry common or not, and at times unsound."""
    made: list[entries.Entry] = []
    for _ in range(rng.choice([1, 5, 200])):
        kind = rng.choice([0, 1, 2, 3, 3, 4, 5, 5, 6, 7, 8, 9, 10, 11, 14, 15, 77])
        fields = [
            b"",
            b"f",
            b"%d" % rng.randrange(99),
            FIRST,
            FIRST + b"\x80",
            FIRST + b"\0",
            bytes(16),
            rng.randbytes(3),
        ]
        field = rng.choice([b"", b"", *fields] if kind in (0, 1, 2, 9, 10) else fields)
        payloads = [b"", b"1", b"-12", b"1.5", b"1E+3", b"-", b"0" * 1001, bytes(8), b"\x7f\xf0" + bytes(6),
                    b"\xff\xf0" + bytes(6), b"\x7f\xf0" + bytes(5) + b"\1", b"\xff\xff" + bytes(6)]  # fmt: skip
        payload = rng.choice(payloads)
        expires_at_ms = rng.choice([0, 0, 0, 7, (1 << 63) - 1, 1 << 63])
        dot = entries.pack_dot(rng.choice([A, B]), rng.choice([0, 3, 9, 10]))
        if rng.random() < 0.95 and not entry_structure._is_payload(kind, field, expires_at_ms, payload):
            continue  # most records are to be sound
        made += [(field, kind, dot, expires_at_ms, payload)] * (1 + (rng.random() < 0.01))
    clocks = [{A: 10, B: 10}, {A: 10, B: 10}, {bytes(8): 1, A: 10, B: 10, b"\xff" * 8: 1}, {A: 9, B: 10}, {B: 10}]
    return entries.encode(rng.choice(clocks), made if rng.random() < 0.3 else list(dict.fromkeys(made)))


@given(st.integers(0, 1 << 64))
@settings(max_examples=150, deadline=None)
def test_both_find_the_same_records_sound(seed: int) -> None:
    rng = random.Random(seed)
    record = random_record(rng)
    if not entries.has_entries(record):
        return
    assert is_sound(record) == in_python(record)
    for _ in range(8):
        changed = bytearray(record)
        for _ in range(rng.randrange(1, 3)):
            place = rng.randrange(11, len(record))  # what begins as another layout never comes here
            changed[place] = rng.choice([changed[place] ^ 1 << rng.randrange(8), 0, 255])
        assert is_sound(bytes(changed)) == in_python(bytes(changed))
        assert is_sound(bytes(changed[:place])) == in_python(bytes(changed[:place]))


def test_random_records_are_sound_and_not() -> None:
    """Else the test above compared little."""
    records = [random_record(random.Random(seed)) for seed in range(300)]
    sound = [is_sound(record) for record in records if entries.has_entries(record)]
    assert sound.count(True) > 40 and sound.count(False) > 40


def test_the_common_forms_are_walked_in_c() -> None:
    """Of every kind, over all chunks; and the walk goes on behind a chunk that only Python reads."""
    dot = entries.pack_dot(A, 3)
    common: list[entries.Entry] = [(b"n%d" % number, HASH_FIELD, dot, number % 2, b"v") for number in range(500)]
    common += [(b"e", SET_ELEMENT, dot, 0, b""), (b"m", MEMBER, dot, 0, bytes(8)), (FIRST, LIST_ITEM, dot, 0, b"?")]
    common += [(b"", COUNTER_DELTA, dot, 0, b"-12"), (b"f", HASH_DELTA, dot, 0, b"030"), (b"x", 77, dot, 5, b"?")]
    record = entries.encode({A: 3}, common)
    index = entries.Index(record)
    assert index.count > 4
    found = native_module().sound_chunks(record, 0, index.base, None)
    assert found == (index.count, len(record), max(common)[0], index.entries, entries.marks_of(record))
    rare = entries.encode({A: 3}, [*common, (b"n250x", HASH_DELTA, dot, 0, b"1.5")])
    index = entries.Index(rare)
    place, at, *_ = native_module().sound_chunks(rare, 0, index.base, None)
    assert 0 < place < index.count - 1 and at == index.starts[place]
    behind = native_module().sound_chunks(rare, place + 1, index.starts[place + 1], index.entries_in(place)[-1][0])
    assert behind[0] == index.count
    assert is_sound(rare)
    assert in_python(rare)


@pytest.mark.parametrize("payload", [b"15", b"1.5"], ids=["integers", "decimals"])
def test_what_c_leaves_to_python_is_read_in_slices(payload: bytes) -> None:
    """A decimal in each chunk. Those of the common form are not read by Python at all."""
    deltas: list[entries.Entry] = [(b"n%d" % number, HASH_DELTA, DOTS[3], 0, payload) for number in range(20_000)]
    record = entries.encode({A: 3}, deltas)
    slices = len(list(entry_structure.verify_in_slices(record)))
    assert slices == 0 if payload == b"15" else slices > 4
    with pytest.MonkeyPatch.context() as patch:
        if payload == b"1.5":  # all chunks are known by now, so none is read again
            patch.setattr(entry_structure, "_read_chunk", None)
        assert is_sound(record)


def in_chunks(chunks: list[list[entries.Entry]]) -> bytes:
    """A record with these chunks, which may not be the ones that `encode` makes, under a right directory and checksum."""
    rows, parts, marks = [], [], 0
    for chunk in chunks:
        parts.append(b"".join([_one(entry) for entry in chunk]))
        its_marks = 0
        for entry in chunk:
            its_marks |= mark_of(entry[1], entry[3])
        fields = 1 + sum(one[0] != other[0] for one, other in pairwise(chunk))
        rows.append(entries.pack_row(len(parts[-1]), fields, its_marks))
        marks |= its_marks
    header = entries.pack_header(0, 1, int(marks >> 16), marks & 0xFFFF, 1, sum(map(len, chunks)), len(chunks))
    body = b"".join([header, entries.encode_clock({A: 10}), *rows, *parts])
    return xxh3_64_digest(body) + body


def _one(entry: entries.Entry) -> bytes:
    """The bytes of an entry."""
    record = entries.encode({A: 10}, [entry])
    return record[entries.Index(record).base :]


DOTS = [entries.pack_dot(A, counter) for counter in range(12)]
NAMES = [b"%d" % number for number in range(400)]
BORDERS = [name for name in sorted(NAMES) if entries.is_border(name)]
INNER = [name for name in sorted(NAMES) if not entries.is_border(name)]


def field(name: bytes, dot: int = 3, kind: int = HASH_FIELD, payload: bytes = b"v") -> entries.Entry:
    return name, kind, DOTS[dot], 0, payload


@pytest.mark.parametrize(
    ("chunks", "sound"),
    [
        ([[field(INNER[0]), field(INNER[1])]], True),
        ([[field(INNER[1]), field(INNER[0])]], False),
        ([[field(INNER[0]), field(INNER[0])]], False),
        ([[field(INNER[0], 3), field(INNER[0], 4)]], True),
        ([[field(INNER[0], 4), field(INNER[0], 3)]], False),
        ([[field(INNER[0], 4), field(INNER[0], 3, HASH_DELTA, b"1")]], True),
        ([[field(INNER[0], 3, HASH_DELTA, b"1"), field(INNER[0], 4)]], False),
        ([[field(b"a"), field(b"aa")]], True),
        ([[field(b"aa"), field(b"a")]], False),
        ([[field(INNER[0], 10)]], True),
        ([[field(INNER[0], 11)]], False),  # the clock does not cover it
        ([[field(b"", kind=KEY_EXPIRY, payload=b"")], [field(BORDERS[0])]], True),
        ([[field(b"", kind=KEY_EXPIRY, payload=b"")], [field(INNER[0])]], False),  # no border begins the chunk
        ([[field(b"", kind=KEY_EXPIRY, payload=b""), field(BORDERS[0])]], False),  # a border in the middle
        ([[field(BORDERS[1])], [field(BORDERS[0])]], False),
        ([[field(BORDERS[0])], [field(BORDERS[0], 4)]], False),
        ([[field(BORDERS[0])], [field(BORDERS[1])]], True),
    ],
)
def test_the_order_and_the_borders_of_chunks(chunks: list[list[entries.Entry]], sound: bool) -> None:
    record = in_chunks(chunks)
    index = entries.Index(record)
    assert is_sound(record) == in_python(record) == sound
    place, *_ = native_module().sound_chunks(record, 0, index.base, None)
    assert (place == index.count) == sound, "C finds it by itself"


@pytest.mark.parametrize("kind", range(17))
def test_every_kind_with_all_fields_expiries_and_payloads(kind: int) -> None:
    """What C calls sound is sound; and it knows all that is but for decimals that are no integers."""
    fields = [b"", b"short", FIRST, FIRST + b"\x80", FIRST + b"\0", bytes(16)]
    payloads = [b"", b"1", b"-12", b"-", b"--1", b"1-", b"1.5", b"1E+3", b"0" * 1001, bytes(8), b"\x7f\xf0" + bytes(6),
                b"\xff\xf0" + bytes(6), b"\x7f\xf0" + bytes(5) + b"\1", b"\xff\xf0" + bytes(5) + b"\1"]  # fmt: skip
    for name, payload, expires_at_ms in product(fields, payloads, [0, 7, (1 << 63) - 1, 1 << 63]):
        beside = (b"~", HASH_FIELD, DOTS[3], 0, b"v")
        record = entries.encode({A: 10}, [(name, kind, DOTS[3], expires_at_ms, payload), beside])
        index = entries.Index(record)
        in_c = native_module().sound_chunks(record, 0, index.base, None)[0] == index.count
        rare = payload in (b"1.5", b"1E+3", b"0" * 1001) and kind in (COUNTER_DELTA, HASH_DELTA, MEMBER_DELTA)
        assert in_c == (in_python(record) and not rare), (kind, name, payload, expires_at_ms)
        assert is_sound(record) == in_python(record)


@pytest.mark.parametrize("place", [4, 8])
def test_a_row_that_says_something_else(place: int) -> None:
    """Its fields, and its marks."""
    record = bytearray(in_chunks([[field(INNER[0]), field(INNER[1])]]))
    index = entries.Index(bytes(record))
    record[index.directory + place + 3] ^= 1
    assert not is_sound(bytes(record))
    assert native_module().sound_chunks(bytes(record), 0, index.base, None)[0] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        (b"", 0, 0, None),
        (b"x" * 26, 0, 26, None),
        (b"x" * 2000, 0, 0, None),
        (bytes(60), 0, 60, b""),
        (b"\xff" * 90, 0, 26, None),
    ],
)
def test_what_is_no_record_has_no_chunks(arguments: tuple[bytes, int, int, bytes | None]) -> None:
    assert native_module().sound_chunks(*arguments)[3:] == (0, 0)


@pytest.mark.parametrize(
    "arguments", [(), (b"", 0, 0), ("", 0, 0, None), (b"", 0, 0, 5), (b"", 1 << 70, 0, None), (b"", "", 0, None)]
)
def test_other_arguments_are_refused(arguments: tuple[object, ...]) -> None:
    with pytest.raises((TypeError, OverflowError)):
        native_module().sound_chunks(*arguments)


def test_a_place_outside_is_no_chunk() -> None:
    record = all_made()[1]
    for place, at in ((-1, 0), (0, -1), (0, 1 << 40), (1 << 40, 0), (0, len(record))):
        assert native_module().sound_chunks(record, place, at, None)[3:] == (0, 0)
