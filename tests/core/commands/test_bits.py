"""Commands on bits are those of a plain list of bits, however their work is cut into pieces and slices."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.core.base.errors import CommandError
from server.core.commands import bitop, bits
from server.core.commands.bitfield import OPERATIONS_MAX, bitfield, bitfield_ro
from server.core.commands.bitop import combine
from server.core.commands.bits import NO_OFFSET, bit_count, bit_position, get_bit, set_bit
from tests.core.commands.talking import CONFIG, Client, make_node

BYTES_MAX = 1000
VALUES = st.one_of(st.binary(max_size=40), st.builds(lambda a, n, b: a + n + b, st.binary(max_size=3), st.sampled_from(
    [b"\0" * 9, b"\xff" * 9, b"\0" * 30]), st.binary(max_size=3)))  # fmt: skip
PLACES = st.integers(-400, 400)


def run(slices: Generator[None, None, Any]) -> tuple[Any, int]:
    """The result of a sliced computation, and how often it has paused."""
    pauses = 0
    while True:
        try:
            next(slices)
        except StopIteration as stop:
            return stop.value, pauses
        pauses += 1


def bits_of(value: bytes) -> list[int]:
    """The bits of a value, the highest one of each byte first."""
    return [byte >> (7 - place) & 1 for byte in value for place in range(8)]


def cut(found: list[int], start: int, end: int, unit: int) -> tuple[int, list[int]]:
    """The bits of Redis' range of units, and the place of the first one."""
    size = len(found) // unit
    start = max(start + size if start < 0 else start, 0)
    end = min(max(end + size if end < 0 else end, 0), size - 1)
    return start * unit, found[start * unit : (end + 1) * unit]


@given(VALUES, PLACES, PLACES, st.sampled_from([(b"BYTE", 8), (b"BIT", 1)]))
def test_bits_are_counted_and_found_in_a_range(value: bytes, start: int, end: int, unit: tuple[bytes, int]) -> None:
    first, inside = cut(bits_of(value), start, end, unit[1])
    words = [b"%d" % start, b"%d" % end, unit[0]]
    both_negative = start < 0 and end < 0 and start > end
    counted, _ = run(bit_count(value, [b"BITCOUNT", b"k", *words]))
    assert counted == (0 if both_negative else sum(inside))
    for bit in (0, 1):
        found = bit_position(value, [b"BITPOS", b"k", b"%d" % bit, *words])
        assert found == (first + inside.index(bit) if bit in inside else -1)


@given(VALUES)
def test_zeros_follow_a_value_unless_an_end_is_given(value: bytes) -> None:
    found = [*bits_of(value), 0]
    if value:
        assert bit_position(value, [b"BITPOS", b"k", b"0"]) == found.index(0)
        assert bit_position(value, [b"BITPOS", b"k", b"0", b"0"]) == found.index(0)
    assert run(bit_count(value, [b"BITCOUNT", b"k"]))[0] == sum(found)


@given(st.binary(max_size=10), st.integers(0, 200), st.integers(0, 1))
def test_a_bit_that_is_set_is_there_and_no_other_changes(value: bytes, offset: int, bit: int) -> None:
    before, after = set_bit(value, [b"SETBIT", b"k", b"%d" % offset, b"%d" % bit], BYTES_MAX)
    assert after is not None
    wanted = bits_of(value.ljust(offset // 8 + 1, b"\0"))
    assert before == wanted[offset]
    wanted[offset] = bit
    assert bits_of(after) == wanted
    assert get_bit(after, [b"GETBIT", b"k", b"%d" % offset]) == bit
    assert get_bit(value, [b"GETBIT", b"k", b"%d" % (8 * len(value) + offset)]) == 0


@given(st.lists(st.binary(max_size=12), min_size=1, max_size=4), st.sampled_from([b"AND", b"OR", b"XOR", b"NOT"]))
def test_values_are_combined_byte_by_byte(sources: list[bytes], name: bytes) -> None:
    size = max(map(len, sources))
    wanted = bytearray(sources[0].ljust(size, b"\0"))
    if name == b"NOT":
        wanted = bytearray(byte ^ 0xFF for byte in wanted)
    for source in sources[1:] if name != b"NOT" else ():
        for place, byte in enumerate(source.ljust(size, b"\0")):
            wanted[place] = {b"AND": wanted[place] & byte, b"OR": wanted[place] | byte, b"XOR": wanted[place] ^ byte}[
                name
            ]
    assert run(combine(name, sources))[0] == bytes(wanted)


def test_a_piece_of_many_sources_is_cut_into_slices() -> None:
    sources = [b"\x01" * 1000, *[b""] * 20_000]
    combined, pauses = run(combine(b"OR", sources))
    assert combined == sources[0]
    assert pauses >= 10


def test_work_on_large_values_is_cut_into_slices() -> None:
    size = 5 * bits._SLICE_BYTES + 3
    value = b"\x81" * size
    assert run(bit_count(value, [b"BITCOUNT", b"k"])) == (2 * size, 5)
    assert run(bit_count(value, [b"BITCOUNT", b"k", b"1", b"-2", b"BIT"]))[0] == 2 * size - 2
    combined, pauses = run(combine(b"XOR", [value, value[: size // 2], b"\x01"]))
    assert combined == b"\x01" + b"\0" * (size // 2 - 1) + value[size // 2 :]
    assert pauses >= 3 * size // bitop._SLICE_BYTES - 2
    assert bit_position(b"\0" * size + b"\x10", [b"BITPOS", b"k", b"1"]) == 8 * size + 3


TYPES = st.one_of(st.tuples(st.just("i"), st.integers(1, 64)), st.tuples(st.just("u"), st.integers(1, 63)))
AMOUNTS = st.one_of(st.integers(-300, 300), st.integers(-(1 << 63), (1 << 63) - 1))


@example(b"", ("u", 5), 3, -1, "SET", "SAT")
@example(b"", ("u", 5), 3, -1, "INCRBY", "SAT")
@example(b"\xff\xff", ("i", 64), 9, -(1 << 63), "INCRBY", "WRAP")
@given(
    st.binary(max_size=12), TYPES, st.integers(0, 100), AMOUNTS, st.sampled_from(["SET", "INCRBY"]),
    st.sampled_from(["WRAP", "SAT", "FAIL"]),
)  # fmt: skip
def test_an_integer_within_a_value(
    value: bytes, kind: tuple[str, int], offset: int, amount: int, name: str, overflow: str
) -> None:
    sign, width = kind
    call = f"BITFIELD k GET {sign}{width} {offset} OVERFLOW {overflow} {name} {sign}{width} {offset} {amount} " \
        f"GET {sign}{width} {offset}"  # fmt: skip
    answers, after = bitfield(value, call.encode().split(), BYTES_MAX)
    assert after is not None
    assert isinstance(answers, list)
    before, answer, now = answers
    row = bits_of(value.ljust((offset + width + 7) // 8, b"\0"))
    number = int("".join(map(str, row[offset : offset + width])), 2)
    least = -(1 << (width - 1)) if sign == "i" else 0
    assert before == (number - (1 << width) if sign == "i" and row[offset] else number)
    wanted = amount if name == "SET" else before + amount
    if not least <= wanted < least + (1 << width):
        if overflow == "FAIL":
            assert (answer, now) == (None, before)
            return
        if overflow == "WRAP":
            wanted = (wanted - least) % (1 << width) + least
        else:
            wanted = least if wanted < least and (sign == "i" or name == "INCRBY") else least + (1 << width) - 1
    assert now == wanted
    assert answer == (before if name == "SET" else wanted)
    assert bits_of(after)[:offset] == row[:offset]
    assert bits_of(after)[offset + width :] == row[offset + width :]


@pytest.mark.parametrize("call", ["GET", "SET u8 0", "INCRBY u8 0", "OVERFLOW", "NOSUCH u8 0", "GET u64 0", "GET i65 0",
    "GET u0 0", "GET x8 0", "GET u 0", "GET u8 -1", "GET u8 #-1", "GET u8 x", "SET u8 0 x", "OVERFLOW no"])  # fmt: skip
def test_operations_that_are_refused_change_nothing(call: str) -> None:
    with pytest.raises(CommandError):
        bitfield(b"abc", [b"BITFIELD", b"k", b"SET", b"u8", b"0", b"1", *call.encode().split()], BYTES_MAX)


def test_a_call_is_bounded_in_operations_and_in_bytes() -> None:
    one = [b"GET", b"u8", b"0"]
    assert bitfield_ro(b"\x05", [b"BITFIELD_RO", b"k", *one * OPERATIONS_MAX]) == [5] * OPERATIONS_MAX
    with pytest.raises(CommandError):
        bitfield_ro(b"\x05", [b"BITFIELD_RO", b"k", *one * (OPERATIONS_MAX + 1)])
    client = Client(make_node())
    over = CONFIG.value_bytes_max * 8
    refused = "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
    for line, error in (
        (f"SETBIT k {over} 1", NO_OFFSET),
        (f"GETBIT k {over}", NO_OFFSET),
        (f"BITFIELD k SET u8 {over} 1", NO_OFFSET),
        (f"BITFIELD k SET u8 {over - 1} 1", refused),
        (f"SETRANGE k {over // 8} x", refused),
    ):
        assert client.error(line) == error
    assert client.ask("EXISTS k") == 0


def test_bits_are_kept_with_their_expiry() -> None:
    client = Client(make_node())
    assert client.ask("SETBIT k 7 1") == 0
    assert client.ask("EXPIRE k 1000") == 1
    assert client.ask("SETBIT k 7 1") == 1
    assert client.ask("BITFIELD k SET u8 8 3 GET u8 0") == [0, 1]
    assert client.ask("APPEND k x") == 3
    assert client.ask("GET k") == "\x01\x03x"
    assert client.ask("TTL k") == 1000
    assert client.ask("BITOP NOT k k") == 3
    assert client.ask("TTL k") == -1
