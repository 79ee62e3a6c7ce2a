"""Slots against the Redis Cluster specification, a bit-by-bit CRC16, and the redis-py client."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot as redis_py_key_slot

from protocol.slots import SLOTS, hashed_part, key_slot


def crc16_bit_by_bit(data: bytes) -> int:
    """CRC16/XMODEM as the specification defines it: polynomial 0x1021, initial value 0, nothing reflected."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


KEYS = st.lists(st.sampled_from([b"{", b"}", b"a", b"b", b"\x00", b"\xff"])).map(b"".join) | st.binary()


@pytest.mark.parametrize(
    ("key", "slot"),
    [
        (b"123456789", 0x31C3 % SLOTS),  # the specification's check value of the CRC
        (b"", 0),
        (b"foo", 12182),
        (b"somekey", 11058),  # the documentation of CLUSTER KEYSLOT
        (b"foo{hash_tag}", 2515),
        (b"bar{hash_tag}", 2515),
        (b"{user1000}.following", 3443),
        (b"{user1000}.followers", 3443),
    ],
)
def test_published_vectors(key: bytes, slot: int) -> None:
    assert key_slot(key) == slot


@pytest.mark.parametrize(
    ("key", "part"),
    [
        (b"{user1000}.following", b"user1000"),
        (b"foo{}{bar}", b"foo{}{bar}"),  # nothing in the first braces: the whole key, later braces do not count
        (b"foo{{bar}}zap", b"{bar"),
        (b"foo{bar}{zap}", b"bar"),
        (b"foo{bar", b"foo{bar"),
        (b"foo}bar{", b"foo}bar{"),
        (b"}{bar}", b"bar"),
        (b"{}", b"{}"),
        (b"{a}", b"a"),
        (b"plain", b"plain"),
        (b"", b""),
    ],
)
def test_hash_tags(key: bytes, part: bytes) -> None:
    assert hashed_part(key) == part
    assert key_slot(key) == crc16_bit_by_bit(part) % SLOTS


@given(KEYS)
def test_slot_is_the_crc_of_the_hashed_part(key: bytes) -> None:
    assert key_slot(key) == crc16_bit_by_bit(hashed_part(key)) % 16384


@pytest.mark.parametrize("size", [1, 7, 8, 63, 64, 65, 66, 1000])
def test_slots_of_long_keys(size: int) -> None:
    key = bytes(place * 89 % 251 for place in range(size))
    tagged = key[: size - 5].replace(b"{", b"x") + b"{tag}"
    assert key_slot(key) == crc16_bit_by_bit(hashed_part(key)) % SLOTS
    assert key_slot(b"\xff" * size) == crc16_bit_by_bit(b"\xff" * size) % SLOTS
    assert key_slot(tagged) == crc16_bit_by_bit(b"tag") % SLOTS


@given(KEYS)
def test_clients_compute_the_same_slot(key: bytes) -> None:
    assert key_slot(key) == redis_py_key_slot(key)
