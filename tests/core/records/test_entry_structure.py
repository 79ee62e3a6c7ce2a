"""No bytes but sound records of entries pass: flipped bits, cut ends, wrong structures under a right checksum."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_digest

from server.core.records import entries
from server.core.records.draft import Draft
from server.core.records.kinds import (
    COUNTER_DELTA,
    HASH_FIELD,
    HYPERLOGLOG,
    KEY_EXPIRY,
    LIST_ITEM,
    MEMBER,
    SET_ELEMENT,
    ZSET,
)
from server.core.records.positions import FIRST
from server.core.records.siblings import TOMBSTONE, VALUE
from server.core.records.versions import skeleton, verify
from server.core.records.views import View

NOW_MS = 1_000_000
A, B = b"actor-a.", b"actor-b."


def all_made() -> list[bytes]:
    """Records with every kind, of one chunk and of several."""
    dot, late = entries.pack_dot(A, 3), entries.pack_dot(B, 4)
    of_all = [
        (b"", VALUE, dot, 0, b"7"), (b"", TOMBSTONE, late, 0, b""), (b"", COUNTER_DELTA, dot, 0, b"-1.5"),
        (b"", HYPERLOGLOG, dot, 0, b"HYLL"), (b"", KEY_EXPIRY, dot, NOW_MS, b""), (b"f", HASH_FIELD, dot, NOW_MS, b"v"),
        (b"f", 4, dot, 0, b"12"), (b"e", SET_ELEMENT, dot, 0, b""), (b"m", MEMBER, dot, 0, bytes(8)),
        (b"m", 7, dot, 0, b"1E+30"), (FIRST, LIST_ITEM, late, 0, b"?"), (b"x", 77, late, 5, b"?"),
    ]  # fmt: skip
    many = Draft(None, NOW_MS, ZSET)
    for number in range(150):
        many.put(b"%d" % number, bytes(8))
    return [entries.encode({A: 3, B: 9}, of_all), many.record(A, 1), entries.encode({A: 3}, [of_all[2]])]


def test_every_flipped_bit_is_refused() -> None:
    for record in all_made():
        assert verify(record)
        for place, bit in itertools.product(range(len(record)), (0, 3, 7)):
            damaged = bytearray(record)
            damaged[place] ^= 1 << bit
            assert not verify(bytes(damaged))
        for end in range(len(record)):
            assert not verify(record[:end])
        assert not verify(record + b"\0")


@given(st.integers(0, 1 << 32))
@settings(max_examples=100, deadline=None)
def test_what_has_a_right_checksum_and_another_structure_is_refused_or_canonical(seed: int) -> None:
    """Every change of the bytes under a right checksum is refused, or makes a record that `encode` makes, too."""
    rng = random.Random(seed)
    for record in all_made():
        body = bytearray(record[8:])
        for _ in range(rng.choice([1, 1, 2])):
            place = rng.randrange(min(len(body), 400))
            body[place] = rng.choice([body[place] ^ 1 << rng.randrange(8), 0, 255, rng.randrange(256)])
        changed = xxh3_64_digest(bytes(body)) + bytes(body)
        if verify(changed):
            assert entries.encode(*entries.decode(changed)) == changed
            assert len(View(changed, NOW_MS)) == len(dict(View(changed, NOW_MS).items()))
            assert verify(skeleton(changed))


def test_chunks_that_were_seen_before_do_not_hide_a_wrong_record() -> None:
    """A record of many chunks: their order, the rows of the directory and the clock are checked each time."""
    draft = Draft(None, NOW_MS, ZSET)
    for number in range(600):
        draft.put(b"%d" % number, bytes(8))
    record = draft.record(A, 5)
    assert verify(record)
    index = entries.Index(record)
    assert index.count > 4
    rows = [record[index.directory + 12 * chunk :][:12] for chunk in range(index.count)]
    chunks = [record[index.starts[chunk] : index.starts[chunk + 1]] for chunk in range(index.count)]

    def remade(rows: list[bytes], chunks: list[bytes], clock: bytes = record[26:42]) -> bytes:
        header = record[8:18] + record[18:22] + len(rows).to_bytes(4, "big")
        body = b"".join((header, clock, *rows, *chunks))
        return xxh3_64_digest(body) + body

    assert remade(rows, chunks) == record
    assert not verify(remade([rows[1], rows[0], *rows[2:]], [chunks[1], chunks[0], *chunks[2:]])), "order"
    assert not verify(remade([rows[1], rows[0], *rows[2:]], chunks)), "rows"
    assert not verify(remade(rows[1:], chunks[1:])), "the number of entries"
    assert not verify(remade(rows, chunks, A + (4).to_bytes(8, "big"))), "a dot that the clock does not cover"
    assert not verify(remade(rows, chunks, B + (5).to_bytes(8, "big"))), "a dot of another actor"
    for place in range(0, len(record), 97):
        damaged = bytearray(record)
        damaged[place] ^= 1
        assert not verify(bytes(damaged))


@pytest.mark.parametrize(
    "wrong",
    [
        (b"f", VALUE, 3, 0, b""), (b"f", KEY_EXPIRY, 3, 0, b""), (b"", KEY_EXPIRY, 3, 0, b"x"),
        (b"e", SET_ELEMENT, 3, 0, b"x"), (b"m", MEMBER, 3, 0, bytes(7)), (b"m", MEMBER, 3, 0, b"\x7f\xf8" + bytes(6)),
        (b"", COUNTER_DELTA, 3, 0, b""), (b"", COUNTER_DELTA, 3, 0, b"1 "), (b"", COUNTER_DELTA, 3, 0, b"nan"),
        (b"", COUNTER_DELTA, 3, 5, b"1"), (b"f", HASH_FIELD, 4, 0, b""), (b"f", HASH_FIELD, 3, 1 << 63, b""),
        (b"short", LIST_ITEM, 3, 0, b"v"), (FIRST + b"\0", LIST_ITEM, 3, 0, b"v"), (FIRST, LIST_ITEM, 3, 5, b"v"),
    ],
)  # fmt: skip
def test_wrong_entries_are_refused(wrong: tuple[bytes, int, int, int, bytes]) -> None:
    name, kind, counter, expires_at_ms, payload = wrong
    entry = (name, kind, entries.pack_dot(A, counter), expires_at_ms, payload)
    assert not verify(entries.encode({A: 3}, [entry, (b"z", HASH_FIELD, entries.pack_dot(A, 3), 0, b"v")]))
