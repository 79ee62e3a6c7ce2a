"""HyperLogLog as Redis keeps it: 16,384 registers in a string of bytes, dense or sparse.

    4 bytes HYLL, u8 encoding (0 dense, 1 sparse), 3 bytes unused, u64 cached count (top bit: it is outdated), registers
    dense: six bits a register, from the lowest bit on
    sparse: 00nnnnnn n+1 registers are 0; 01nnnnnn nnnnnnnn the same, longer; 1vvvvvnn n+1 registers are v+1

Theory. An element's hash names a register (14 bits) and a rank, the place of the lowest 1 among the other 50; a register
has the highest rank of its elements. So registers of two sides merge by the maximum, which loses no element and counts none
twice. The number of elements follows from the histogram of the registers by Ertl's estimator (arXiv:1702.01284).

Nothing loops over all registers in Python. A dense string is taken apart by slices with a stride of three, translated by
table and combined as long integers; the maximum of two sets of registers is four operations on long integers; the histogram
is `bytes.count` for each value. Sparse strings are changed in place as Redis changes them, so that the bytes are the same.

Source: hyperloglog.c of Redis 7.0.15; hyperloglog_sparse.py has the sparse encoding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf, sqrt
from typing import Final

from server.core.formats.hyperloglog_sparse import (
    COVERS_NOT,
    EMPTY,
    PROMOTE,
    REGISTERS,
    expand,
    from_registers,
    set_register,
)
from server.core.formats.murmur import murmur64a

INVALID: Final = "WRONGTYPE Key is not a valid HyperLogLog string value."
CORRUPTED: Final = "INVALIDOBJ Corrupted HLL object detected"

_MAGIC: Final = b"HYLL"
_DENSE: Final = 0
_SPARSE: Final = 1
_HEADER_BYTES: Final = 16
_DENSE_BYTES: Final = _HEADER_BYTES + REGISTERS * 6 // 8
_OUTDATED: Final = b"\x00\x00\x00\x00\x00\x00\x00\x80"
_SEED: Final = 0xADC83B19
_INDEX_BITS: Final = 14
_RANK_BITS: Final = 64 - _INDEX_BITS
_ALPHA: Final = 0.721347520444481703680

# Bytes to the parts of registers that they hold, and back.
_LOW_6: Final = bytes([byte & 63 for byte in range(256)])
_HIGH_6: Final = bytes([byte >> 2 for byte in range(256)])
_HIGH_2: Final = bytes([byte >> 6 for byte in range(256)])
_LOW_4_UP: Final = bytes([(byte & 15) << 2 for byte in range(256)])
_HIGH_4: Final = bytes([byte >> 4 for byte in range(256)])
_LOW_2_UP: Final = bytes([(byte & 3) << 4 for byte in range(256)])
_LOW_2_TO_TOP: Final = bytes([(byte & 3) << 6 for byte in range(256)])
_LOW_4_TO_TOP: Final = bytes([(byte & 15) << 4 for byte in range(256)])
_LOW_6_TO_TOP: Final = bytes([(byte & 63) << 2 for byte in range(256)])
_TOP_BITS: Final = int.from_bytes(b"\x80" * REGISTERS, "little")


class SketchError(Exception):
    """A string that is no HyperLogLog; the text is Redis', with its code."""


def check(sketch: bytes) -> None:
    """Raises SketchError for a string that Redis would not take for a HyperLogLog."""
    encoding = sketch[4] if len(sketch) >= _HEADER_BYTES and sketch[:4] == _MAGIC else -1
    if encoding not in (_DENSE, _SPARSE) or (encoding == _DENSE and len(sketch) != _DENSE_BYTES):
        raise SketchError(INVALID)


def empty() -> bytes:
    """A HyperLogLog without elements, as Redis has it for the moment before it adds some."""
    return _MAGIC + bytes((_SPARSE,)) + bytes(11) + EMPTY


def new() -> bytes:
    """A HyperLogLog without elements, as PFADD without elements leaves it."""
    return _MAGIC + bytes((_SPARSE,)) + bytes(3) + _OUTDATED + EMPTY


def add(sketch: bytes, elements: Iterable[bytes]) -> bytes | None:
    """The HyperLogLog with more elements; None if they change nothing. Raises SketchError."""
    body = bytearray(sketch[_HEADER_BYTES:])
    is_sparse = sketch[4] == _SPARSE
    has_changed = False
    for element in elements:
        index, rank = place_of(element)
        if is_sparse:
            outcome = set_register(body, index, rank, 0, 0)[0]
            if outcome == COVERS_NOT:
                raise SketchError(CORRUPTED)
            if outcome != PROMOTE:
                has_changed |= bool(outcome)
                continue
            body = bytearray(_packed(_expanded(bytes(body))))
            is_sparse = False
        has_changed |= _set_dense(body, index, rank)
    return _assembled(is_sparse, bytes(body), sketch) if has_changed else None


def place_of(element: bytes) -> tuple[int, int]:
    """The register of an element, and its rank."""
    hashed = murmur64a(element, _SEED)
    rest = hashed >> _INDEX_BITS | 1 << _RANK_BITS
    return hashed & (REGISTERS - 1), (rest & -rest).bit_length()


def _assembled(is_sparse: bool, body: bytes, header: bytes) -> bytes:
    """A HyperLogLog whose cached count is outdated; the rest of the header is that of another one."""
    encoding = _SPARSE if is_sparse else _DENSE
    return _MAGIC + bytes((encoding,)) + header[5:15] + bytes((header[15] | 0x80,)) + body


def _set_dense(body: bytearray, index: int, rank: int) -> bool:
    """Raises a register to a rank; whether it was lower."""
    place, shift = index * 6 >> 3, index * 6 & 7
    pair = int.from_bytes(body[place : place + 2], "little")
    if (pair >> shift & 63) >= rank:
        return False
    pair = pair & ~(63 << shift) | rank << shift
    body[place : place + 2] = pair.to_bytes(min(2, len(body) - place), "little")
    return True


def _expanded(sparse: bytes) -> bytes:
    """The registers of a sparse body, a byte each. Raises SketchError."""
    try:
        return expand(sparse)
    except ValueError as error:
        raise SketchError(CORRUPTED) from error


def _registers(sketch: bytes) -> bytes:
    """The registers, a byte each. Raises SketchError."""
    body = sketch[_HEADER_BYTES:]
    return _expanded(body) if sketch[4] == _SPARSE else _unpacked(body)


def _either(one: bytes, other: bytes) -> bytes:
    """The bitwise or of two strings of one size."""
    return (int.from_bytes(one, "little") | int.from_bytes(other, "little")).to_bytes(len(one), "little")


def _unpacked(dense: bytes) -> bytes:
    """The registers of a dense body, a byte each."""
    first, second, third = dense[0::3], dense[1::3], dense[2::3]
    registers = bytearray(REGISTERS)
    registers[0::4] = first.translate(_LOW_6)
    registers[1::4] = _either(first.translate(_HIGH_2), second.translate(_LOW_4_UP))
    registers[2::4] = _either(second.translate(_HIGH_4), third.translate(_LOW_2_UP))
    registers[3::4] = third.translate(_HIGH_6)
    return bytes(registers)


def _packed(registers: bytes) -> bytes:
    """The dense body of registers."""
    one, two, three, four = registers[0::4], registers[1::4], registers[2::4], registers[3::4]
    dense = bytearray(REGISTERS * 6 // 8)
    dense[0::3] = _either(one, two.translate(_LOW_2_TO_TOP))
    dense[1::3] = _either(two.translate(_HIGH_6), three.translate(_LOW_4_TO_TOP))
    dense[2::3] = _either(three.translate(_HIGH_4), four.translate(_LOW_6_TO_TOP))
    return bytes(dense)


def _maximum(one: bytes, other: bytes) -> bytes:
    """The higher of each two registers. Those are below 128, so a top bit a byte says which is the higher one."""
    a, b = int.from_bytes(one, "little"), int.from_bytes(other, "little")
    not_below = ((a | _TOP_BITS) - b & _TOP_BITS) >> 7
    mask = (not_below << 8) - not_below
    return (a & mask | b & ~mask).to_bytes(REGISTERS, "little")


def count(sketches: Sequence[bytes]) -> int:
    """The number of elements in any of these HyperLogLogs. Raises SketchError.

    A single one may have a cached count that is up to date; Redis does not question it.
    """
    if len(sketches) == 1 and not sketches[0][15] & 0x80:
        return int.from_bytes(sketches[0][8:16], "little")
    registers = bytes(REGISTERS)
    for sketch in sketches:
        registers = _maximum(registers, _registers(sketch))
    return _estimate(registers)


def _estimate(registers: bytes) -> int:
    """Ertl's estimator, in the order of Redis' operations."""
    size = float(REGISTERS)
    z = size * _tau((size - registers.count(_RANK_BITS + 1)) / size)
    for rank in range(_RANK_BITS, 0, -1):
        z = (z + registers.count(rank)) * 0.5
    z += size * _sigma(registers.count(0) / size)
    estimate = _ALPHA * size * size / z if z else 0.0
    return int(estimate) + (estimate - int(estimate) >= 0.5)


def _sigma(x: float) -> float:
    if x == 1.0:
        return inf
    y, z = 1.0, x
    while True:
        x *= x
        before = z
        z += x * y
        y += y
        if before == z:
            return z


def _tau(x: float) -> float:
    if x in (0.0, 1.0):
        return 0.0
    y, z = 1.0, 1 - x
    while True:
        x = sqrt(x)
        before = z
        y *= 0.5
        z -= (1 - x) * (1 - x) * y
        if before == z:
            return z / 3


def merge(target: bytes | None, others: Iterable[bytes]) -> bytes:
    """The HyperLogLog of all elements, in the place of `target`: dense if any of them is. Raises SketchError."""
    base = empty() if target is None else target
    registers = before = _registers(base)
    is_dense = base[4] == _DENSE
    for other in others:
        registers = _maximum(registers, _registers(other))
        is_dense |= other[4] == _DENSE
    if not is_dense:
        body = from_registers(registers) if target is None else _raised(base[_HEADER_BYTES:], before, registers)
        if body is not None:
            return _assembled(True, body, base)
    return _assembled(False, _packed(registers), base)


def _raised(sparse: bytes, before: bytes, registers: bytes) -> bytes | None:
    """A sparse body whose registers are raised; None if they do not fit."""
    body = bytearray(sparse)
    place = first = 0
    for index, (old, new) in enumerate(zip(before, registers, strict=True)):
        if new > old:
            outcome, place, first = set_register(body, index, new, place, first)
            if outcome == PROMOTE:
                return None
    return bytes(body)


def merged(sketches: Sequence[bytes]) -> bytes:
    """One HyperLogLog for those that were written at the same time; the first of them if one is corrupted."""
    if len(sketches) == 1:
        return sketches[0]
    try:
        return merge(None, sketches)
    except SketchError:
        return sketches[0]


def is_valid(string: bytes) -> bool:
    """Whether Redis would take a string for a HyperLogLog."""
    try:
        check(string)
    except SketchError:
        return False
    return True
