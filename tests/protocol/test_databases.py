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
    client_key,
    database_of,
    inner_key,
    shown_key,
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
    inner = {inner_key(database, key): (database, key) for database, key in product(range(DATABASES), keys)}
    assert len(inner) == DATABASES * len(keys)
    for each, (database, key) in inner.items():
        assert (database_of(each), client_key(each)) == (database, key)


@pytest.mark.parametrize("key", KEYS)
def test_a_key_has_the_same_slot_in_every_database(key: bytes) -> None:
    if not key.startswith(MARK):
        assert inner_key(0, key) == key, "the keys of database 0 stay what they were"
    slots = {key_slot(inner_key(database, key)) for database in range(DATABASES)}
    assert len(slots) == 1


def test_bytes_that_are_no_inner_key_are_of_database_0() -> None:
    for key in (MARK, MARK + b"\x10", MARK + b"\xff"):
        assert database_of(key) == 0


def test_messages_name_the_key_and_its_database() -> None:
    assert shown_key(b"a") == "b'a'"
    assert shown_key(inner_key(3, b"a")) == "b'a' of database 3"
    assert len(inner_key(1, b"")) == INNER_BYTES
