"""Context tokens: any clock comes back for its own key; anything else is a BadContext."""

from __future__ import annotations

import struct
from base64 import urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_digest

from protocol.tokens import BadContext, decode_context, encode_context

ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
keys = st.binary(max_size=30)
clocks = st.dictionaries(st.binary(min_size=8, max_size=8), st.integers(0, 2**64 - 1), max_size=4).map(
    lambda counters: tuple(sorted(counters.items()))
)
A, B = b"actor--A", b"actor--B"
KEY = b"cart:1"
TOKEN = encode_context(KEY, ((A, 1 << 62), (B, 7)))


def forge(payload: bytes, key: bytes = KEY) -> bytes:
    """A token with a right checksum over any payload."""
    return urlsafe_b64encode(payload + xxh3_64_digest(key + payload)).rstrip(b"=")


def entry(actor: bytes, counter: int) -> bytes:
    return struct.pack(">8sQ", actor, counter)


@given(keys, clocks)
def test_any_clock_comes_back_for_its_key(key: bytes, clock: tuple[tuple[bytes, int], ...]) -> None:
    token = encode_context(key, clock)
    assert decode_context(key, token) == clock
    assert set(token) <= set(ALPHABET)


@given(keys, keys, clocks)
def test_a_token_is_good_for_one_key_only(key: bytes, other: bytes, clock: tuple[tuple[bytes, int], ...]) -> None:
    token = encode_context(key, clock)
    if key != other:
        with pytest.raises(BadContext, match="another key"):
            decode_context(other, token)


def test_the_layout_of_a_token() -> None:
    payload = b"\x01\x00\x02" + entry(A, 1 << 62) + entry(B, 7)
    assert forge(payload) == TOKEN
    assert encode_context(KEY, ()) == forge(b"\x01\x00\x00")


@pytest.mark.parametrize("clock", [(), ((A, 1),), ((A, 1 << 62), (B, 7))])
def test_a_token_with_any_character_changed_is_refused(clock: tuple[tuple[bytes, int], ...]) -> None:
    token = encode_context(KEY, clock)
    for position in range(len(token)):
        for character in ALPHABET + b"+/=. \n\x00\xff":
            changed = token[:position] + bytes([character]) + token[position + 1 :]
            if changed != token:
                with pytest.raises(BadContext):
                    decode_context(KEY, changed)


@given(st.integers(0, 100), st.integers(0, 100), st.binary(max_size=4))
def test_a_token_that_is_cut_or_filled_is_refused(start: int, stop: int, filling: bytes) -> None:
    changed = TOKEN[:start] + filling + TOKEN[stop:]
    if changed != TOKEN:
        with pytest.raises(BadContext):
            decode_context(KEY, changed)


@given(st.binary(max_size=80) | st.binary(max_size=80).map(forge) | st.binary(max_size=60).map(urlsafe_b64encode))
def test_junk_is_refused(junk: bytes) -> None:
    with pytest.raises(BadContext):
        decode_context(KEY, junk)


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (b"", "truncated"),
        (TOKEN + b"=", "base64url"),
        (TOKEN + b"A", "length"),
        (TOKEN + b"AA", "length"),
        (TOKEN + b"AAA", "base64url"),
        (TOKEN[:-1] + b"%c" % (TOKEN[-1] + 1), "base64url"),  # in bits that no byte takes up
        (TOKEN[:4], "truncated"),
        (b"A" * 2_000_000, "too long"),
        (forge(b"\x02\x00\x00"), "version 2"),
        (forge(b"\x01\x00\x01"), "length"),
        (forge(b"\x01\x00\x00" + entry(A, 1)), "length"),
        (forge(b"\x01\x00\x02" + entry(B, 1) + entry(A, 1)), "order"),
        (forge(b"\x01\x00\x02" + entry(A, 1) + entry(A, 1)), "order"),
        (forge(b"\x01\x00\x00", b"cart:2"), "another key"),
    ],
)
def test_the_reason_is_told(token: bytes, reason: str) -> None:
    with pytest.raises(BadContext, match=reason):
        decode_context(KEY, token)


@pytest.mark.parametrize(
    "clock", [((A[:7], 1),), ((B, 1), (A, 1)), ((A, 1), (A, 2)), ((A, -1),), ((A, 1 << 64),), ((A + b"x", 1),)]
)
def test_what_is_no_clock_gets_no_token(clock: tuple[tuple[bytes, int], ...]) -> None:
    with pytest.raises(ValueError, match="clock"):
        encode_context(KEY, clock)


def test_the_largest_clock_has_a_token() -> None:
    clock = tuple((i.to_bytes(8, "big"), i) for i in range(0xFFFF))
    assert decode_context(KEY, encode_context(KEY, clock)) == clock
    with pytest.raises(ValueError, match="clock"):
        encode_context(KEY, (*clock, (b"\xff" * 8, 1)))
