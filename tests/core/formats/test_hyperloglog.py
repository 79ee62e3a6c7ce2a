"""HyperLogLog: bytes of Redis, and the laws by which sketches of two sides merge."""

from __future__ import annotations

import random

import pytest
import redis as redis_py
from hypothesis import given
from hypothesis import strategies as st

from server.core.formats import hyperloglog
from server.core.formats.hyperloglog import SketchError, add, check, count, empty, merge, merged
from server.core.formats.murmur import murmur64a

# PFADD key a b c of redis-server 7.0.15.
THREE = bytes.fromhex("48594c4c01000000000000000000008060f38050b1844bfb80425a")
elements = st.lists(st.binary(max_size=20), max_size=60)


def _sketch(*names: bytes) -> bytes:
    return add(empty(), names) or empty()


def _many(start: int, end: int) -> bytes:
    return _sketch(*[b"%d" % number for number in range(start, end)])


def test_the_hash_is_that_of_redis() -> None:
    names = (b"a", b"abcdefgh", b"0123456789abcdef-")
    assert [hyperloglog.place_of(name) for name in names] == [
        (12711, 2),
        (1383, 1),
        (900, 2),
    ]


def test_the_bytes_are_those_of_redis() -> None:
    assert _sketch(b"a", b"b", b"c") == THREE
    assert count([THREE]) == 3
    assert count([]) == 0
    assert count([empty()]) == 0


@pytest.mark.parametrize(
    "string",
    [
        b"",
        b"HYLL",
        b"hyll" + THREE[4:],
        THREE[:4] + b"\x02" + THREE[5:],
        THREE[:15],
        THREE[:4] + b"\x00" + THREE[5:],
        THREE[:4] + b"\x00" + THREE[5:16] + bytes(12_287),
    ],
)
def test_what_is_no_sketch_is_told(string: bytes) -> None:
    with pytest.raises(SketchError, match="WRONGTYPE Key is not a valid HyperLogLog string value"):
        check(string)


@pytest.mark.parametrize(
    "body", [b"", b"\x7f", b"\x7f\xfe", b"\x7f\xff\x00", b"\x00" * 255, b"\x7f\xfd\x87", b"\xff" * 3_000]
)
def test_runs_that_cover_another_number_of_registers_are_told(body: bytes) -> None:
    sketch = THREE[:16] + body
    check(sketch)
    for use in (lambda: count([sketch]), lambda: merge(None, [sketch]), lambda: count([sketch, THREE])):
        with pytest.raises(SketchError, match="INVALIDOBJ Corrupted HLL object detected"):
            use()
    with pytest.raises(SketchError):
        for number in range(300):
            add(sketch, [b"%d" % number])
        merge(sketch, [])


@given(elements, elements)
def test_the_sketch_of_both_sides_is_that_of_all(one: list[bytes], other: list[bytes]) -> None:
    both = count([_sketch(*one, *other)])
    assert count([merged([_sketch(*one), _sketch(*other)])]) == both
    assert count([_sketch(*one), _sketch(*other)]) == both
    assert merged([_sketch(*one), _sketch(*other)]) == merged([_sketch(*other), _sketch(*one)])


def test_dense_and_sparse_merge() -> None:
    sparse, dense = _many(0, 500), _many(400, 9_000)
    assert (sparse[4], dense[4], len(dense)) == (1, 0, 12_304)
    both = count([_many(0, 9_000)])
    assert count([merged([sparse, dense])]) == count([merged([dense, sparse])]) == both
    assert count([merge(sparse, [dense])]) == both
    assert merge(dense, [sparse, dense]) == merge(sparse, [dense])
    assert abs(both - 9_000) < 300


def test_what_changes_nothing_is_told() -> None:
    assert add(THREE, [b"a", b"c"]) is None
    assert add(_many(0, 9_000), [b"17"]) is None


def test_a_count_in_the_header_is_taken_unless_it_is_outdated() -> None:
    cached = THREE[:8] + (77).to_bytes(8, "little") + THREE[16:]
    assert count([cached]) == 77
    assert count([cached, cached]) == 3
    changed = add(cached, [b"d"])
    assert changed is not None
    assert changed[15] & 0x80
    assert count([changed]) == 4


def test_registers_of_any_value_are_counted() -> None:
    """A dense sketch may come from anyone."""
    for byte in (0, 0x5A, 0xFF):
        count([THREE[:4] + b"\x00" + THREE[5:16] + bytes([byte]) * 12_288])


@pytest.mark.parametrize("seed", range(3))
def test_redis_makes_the_same_bytes(redis: redis_py.Redis, seed: int) -> None:
    chance = random.Random(seed)
    sketches = []
    for key, steps in (("one", 40), ("two", 500), ("three", 700)):
        sketch = empty()
        redis.execute_command("PFADD", key)
        for _ in range(steps):
            names = [
                b"%d" % chance.getrandbits(chance.choice((8, 40))) * chance.randint(1, 3)
                for _ in range(chance.choice((1, 4)))
            ]
            changed = add(sketch, names)
            assert redis.execute_command("PFADD", key, *names) == (changed is not None)
            sketch = changed or sketch
        assert redis.get(key) == sketch
        assert redis.execute_command("PFCOUNT", key) == count([sketch])
        sketches.append(sketch)
    assert redis.execute_command("PFCOUNT", "one", "two", "three", "none") == count(sketches)
    for target, sources in (
        ("new", ["one"]),
        ("new", ["one", "two"]),
        ("one", ["two"]),
        ("two", ["three"]),
        ("three", []),
    ):
        present = redis.get(target)
        expected = merge(present, [redis.get(source) for source in sources])
        redis.execute_command("PFMERGE", target, *sources)
        assert redis.get(target) == expected, (target, sources)


def test_the_hash_of_every_length(redis: redis_py.Redis) -> None:
    names = [bytes(range(40))[:size] for size in range(41)]
    redis.execute_command("PFADD", "key", *names)
    assert redis.get("key") == _sketch(*names)
    assert murmur64a(b"", 0xADC83B19) != murmur64a(b"\x00", 0xADC83B19)
