"""Inner keys: no two keys of any databases share one, each leads back to its key, and its slot is that of the key."""

from __future__ import annotations

import random
from itertools import product

import pytest

from protocol.databases import (
    DATABASES,
    INNER_BYTES,
    MARK,
    PREFIXES,
    UNSWAPPED,
    Numbering,
    client_key,
    inner_key,
    space_of,
)
from protocol.slots import key_slot

KEYS = [
    b"", b"a", b"{tag}a", b"{}a", b"a{tag}b", b"{", b"}{a}", MARK, MARK[:-1], MARK + b"\x00", MARK + b"\x01a", MARK + MARK,
    PREFIXES[0], PREFIXES[3] + b"k", PREFIXES[15] + b"{t}", MARK + b"\xff", MARK + b"{t}", b"\xff", b"x" + MARK,
]  # fmt: skip


def test_no_two_keys_have_the_same_inner_key() -> None:
    chance = random.Random(1)
    keys = [*KEYS, *[MARK[: chance.randrange(9)] + chance.randbytes(chance.randrange(4)) for _ in range(200)]]
    keys = [*dict.fromkeys(keys)]
    inner = {inner_key(space, key): (space, key) for space, key in product(range(DATABASES), keys)}
    assert len(inner) == DATABASES * len(keys)
    for each, (space, key) in inner.items():
        assert (space_of(each), client_key(each)) == (space, key)


@pytest.mark.parametrize("key", KEYS)
def test_a_key_has_the_same_slot_in_every_space(key: bytes) -> None:
    if not key.startswith(MARK):
        assert inner_key(0, key) == key, "the keys of space 0 stay what they were"
    slots = {key_slot(inner_key(space, key)) for space in range(DATABASES)}
    assert len(slots) == 1


def test_bytes_that_are_no_inner_key_are_of_space_0() -> None:
    for key in (MARK, MARK + b"\x10", MARK + b"\xff"):
        assert space_of(key) == 0


def test_messages_name_the_key_and_its_database() -> None:
    assert UNSWAPPED.shown_key(b"a") == "b'a'"
    assert UNSWAPPED.shown_key(inner_key(3, b"a")) == "b'a' of database 3"
    swapped = UNSWAPPED.swapped(3, 5)
    assert swapped.shown_key(inner_key(3, b"a")) == "b'a' of database 5", "clients call it so now"
    assert len(inner_key(1, b"")) == INNER_BYTES


def test_a_numbering_and_its_reverse_belong_together_after_any_swaps() -> None:
    chance, numbering, model = random.Random(2), UNSWAPPED, list(range(DATABASES))
    for _ in range(100):
        first, second = chance.randrange(DATABASES), chance.randrange(DATABASES)
        before, numbering = numbering, numbering.swapped(first, second)
        model[first], model[second] = model[second], model[first]
        assert numbering.spaces == tuple(model)
        assert [numbering.numbers[space] for space in numbering.spaces] == list(range(DATABASES))
        assert numbering.swapped(second, first).spaces == before.spaces, "the same swap takes it back"
    assert Numbering(numbering.spaces).numbers == numbering.numbers
