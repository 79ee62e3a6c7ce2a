"""What the Lua libraries of scripts ask the host for: operations on bits, and floating point numbers as bytes.

Theory. Lua 5.1 has neither. These functions take and return plain numbers and bytes, and never raise for what a script can
give them, so no object of Python comes into the hands of a script (lua/sandbox.lua).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Final

_MASK: Final = 0xFFFFFFFF


def _unsigned(number: float) -> int:
    """A number modulo 2^32, rounded to the nearest integer, ties to even, as LuaBitOp does."""
    return round(number) & _MASK if math.isfinite(number) else 0


def _signed(number: int) -> int:
    number &= _MASK
    return number - (1 << 32) if number >> 31 else number


def _rotated(value: int, count: int) -> int:
    count &= 31
    return (value << count) | (value >> (32 - count))


_OPERATIONS: Final[dict[bytes, Callable[[int, int], int]]] = {
    b"tobit": lambda value, other: value,
    b"bnot": lambda value, other: ~value,
    b"bswap": lambda value, other: int.from_bytes(value.to_bytes(4, "big"), "little"),
    b"band": lambda value, other: value & other,
    b"bor": lambda value, other: value | other,
    b"bxor": lambda value, other: value ^ other,
    b"lshift": lambda value, other: value << (other & 31),
    b"rshift": lambda value, other: value >> (other & 31),
    b"arshift": lambda value, other: _signed(value) >> (other & 31),
    b"rol": _rotated,
    b"ror": lambda value, other: _rotated(value, -other),
}


def bit(name: bytes, value: float, other: float) -> int:
    """An operation of the library `bit`; `unsigned` returns 32 bits without a sign."""
    if name == b"unsigned":
        return _unsigned(value)
    return _signed(_OPERATIONS[name](_unsigned(value), _unsigned(other)))


def _format(option: bytes, little: bool) -> str:
    return f"{'<' if little else '>'}{option.decode()}"


def pack_double(option: bytes, little: bool, number: float) -> bytes:
    """A number as IEEE 754 bytes: `d` has 8, `f` has 4. A number too large for `f` becomes infinite, as in C."""
    try:
        return struct.pack(_format(option, little), number)
    except OverflowError:
        return struct.pack(_format(option, little), math.copysign(math.inf, number))


def unpack_double(option: bytes, little: bool, data: bytes) -> float:
    """The number in IEEE 754 bytes, whose count is right."""
    return float(struct.unpack(_format(option, little), data)[0])
