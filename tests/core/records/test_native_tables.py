"""Look-ups in C in the dictionaries of the cache (protocol/c/tables.h) find what Python finds, and replace only records."""

from __future__ import annotations

import random
import sys
from typing import Any

import pytest

from server.core.records.storage_keys import storage_key_of
from server.core.records.versions import supersede
from tests.native_build import CAN_BUILD, native_module

pytestmark = [
    pytest.mark.skipif(not CAN_BUILD, reason="there is no compiler, or no headers of Python"),
    pytest.mark.interpreted,  # it is about the functions in C alone
]
ACTOR = b"actor-a."
KEY = b"some key"
SLOT = int.from_bytes(storage_key_of(KEY)[:2], "big")


def shelf_of(shard: dict[Any, Any]) -> Any:
    """A shelf all of whose shards are the same dictionary."""
    return native_module().Shelf(
        [shard] * 256, bytearray(1 << 17), bytearray(1 << 16), bytearray(1 << 16), 16, 1000, b"m"
    )


@pytest.mark.parametrize("count", [1, 5, 100, 300, 70_000])  # the places in a table take 1, 2 or 4 bytes
def test_each_key_is_found_whatever_came_and_went(count: int) -> None:
    rng = random.Random(count)
    shard: dict[bytes, bytes | None] = {}
    keys = [storage_key_of(b"%d" % number) for number in range(2 * count)]
    for key in keys[:count]:
        shard[key] = rng.choice([None, b"record of " + key])
    gone = rng.sample(keys[:count], count // 3)
    for key in gone:
        del shard[key]  # which leaves a gap in the rows of places that look-ups walk along
    for key in keys[count : count + count // 4]:
        shard[key] = b"later " + key
    shelf = shelf_of(shard)
    present = [bytes(bytearray(key)) for key in shard]  # equal to the keys, and not the same objects
    assert native_module().young_of(shelf, present) == list(shard.values())
    for key in [*gone[:500], *keys[count + count // 4 :][:500]]:
        assert native_module().young_of(shelf, [key]) is None


def test_a_record_takes_the_place_of_the_one_before() -> None:
    before = supersede(None, ACTOR, 5, b"old")
    shard = {storage_key_of(b"%d" % number): before[:] for number in range(40)}
    shard[storage_key_of(KEY)] = before = supersede(None, ACTOR, 5, b"older")
    others = dict(shard)
    del others[storage_key_of(KEY)]
    keys, references = list(shard), sys.getrefcount(before)
    writes: dict[bytes, bytes] = {}
    key, record, old = native_module().overwrite(shelf_of(shard), KEY, SLOT, ACTOR, 6, b"new", writes)
    assert old is before and record == supersede(before, ACTOR, 6, b"new") and writes == {key: record}
    assert shard == others | {key: record} and all(one is other for one, other in zip(shard, keys, strict=True))
    del old
    assert sys.getrefcount(before) == references - 1  # the shard has let it go


@pytest.mark.parametrize("other", [storage_key_of(KEY).decode("latin-1"), 7])
def test_a_key_of_another_type_is_none_of_the_cache(other: Any) -> None:
    key = storage_key_of(KEY)
    assert hash(key.decode("latin-1")) == hash(key), "text and bytes with the same content have the same place"
    for shard in ({}, {other: b"no record"}, {other: b"no record", 8: None}):
        assert native_module().young_of(shelf_of(shard), [key]) is None
        assert native_module().overwrite(shelf_of(shard), KEY, SLOT, ACTOR, 6, b"new", {}) is None
    assert native_module().young_of(shelf_of({other: b"no record", key: b"record"}), [key]) == [b"record"]
