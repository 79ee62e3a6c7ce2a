"""The sparse encoding of HyperLogLog registers; hyperloglog.py has the theory.

Redis changes a sparse string in place: it splits the run that covers a register, and then joins neighbours that have the
same value. The bytes depend on the order of these steps, so they are the same here.
"""

from __future__ import annotations

from typing import Final

REGISTERS: Final = 1 << 14
COVERS_NOT: Final = -1  # outcomes of `set_register`, beside 0 for no change and 1 for a change
PROMOTE: Final = 2

_ZERO_MAX: Final = 64
_VALUE_MAX: Final = 32
_VALUE_RUN_MAX: Final = 4
_BYTES_MAX: Final = 3000 - 16  # hll-sparse-max-bytes, less the header
_SCANNED: Final = 5  # so many runs are looked at for neighbours to join
EMPTY: Final = b"\x7f\xff"
_SPANS: Final = [(byte & 3 if byte & 0x80 else byte) + 1 for byte in range(256)]  # of runs of one byte


def _span(sparse: bytes | bytearray, place: int) -> tuple[int, int]:
    """How many registers the run at a place covers, and how many bytes it has."""
    byte = sparse[place]
    if byte & 0x80:
        return (byte & 3) + 1, 1
    if byte & 0x40:
        low = sparse[place + 1] if place + 1 < len(sparse) else 0
        return ((byte & 0x3F) << 8 | low) + 1, 2
    return (byte & 0x3F) + 1, 1


def _zeros(count: int) -> bytes:
    """A run of registers that are 0; nothing for none."""
    if count <= _ZERO_MAX:
        return bytes((count - 1,)) if count else b""
    return bytes((0x40 | count - 1 >> 8, count - 1 & 0xFF))


def _values(value: int, count: int) -> bytes:
    """A run of registers with a value; nothing for none."""
    return bytes((0x80 | value - 1 << 2 | count - 1,)) if count else b""


def expand(sparse: bytes) -> bytes:
    """The registers, a byte each. Raises ValueError if the runs do not cover just all of them."""
    registers = bytearray(REGISTERS)
    index = place = 0
    while place < len(sparse):
        span, size = _span(sparse, place)
        if sparse[place] & 0x80:
            if index + span > REGISTERS:
                break
            registers[index : index + span] = bytes(((sparse[place] >> 2 & 0x1F) + 1,)) * span
        index += span
        place += size
    if index != REGISTERS or place < len(sparse):
        raise ValueError("a sparse HyperLogLog covers another number of registers")
    return bytes(registers)


def set_register(sparse: bytearray, index: int, value: int, place: int, first: int) -> tuple[int, int, int]:
    """Raises a register to a value.

    The search begins at `place`, whose run begins at register `first`. Returns the outcome, and such a place for the next
    register that is not lower: where the run before this one is.
    """
    if value > _VALUE_MAX:
        return PROMOTE, 0, 0
    before, before_first = place, first
    end = len(sparse)
    size = span = 0
    while place < end:  # the loop that counts: up to 3,000 runs
        byte = sparse[place]
        if 0x40 <= byte < 0x80:
            span, size = _span(sparse, place)
        else:
            span, size = _SPANS[byte], 1
        if index < first + span:
            break
        before, before_first = place, first
        place += size
        first += span
    if place >= end:
        return COVERS_NOT, 0, 0
    present = (sparse[place] >> 2 & 0x1F) + 1 if sparse[place] & 0x80 else 0
    if present >= value:
        return 0, before, before_first
    head, tail = index - first, first + span - 1 - index
    if present:
        runs = _values(present, head) + _values(value, 1) + _values(present, tail)
    else:
        runs = _zeros(head) + _values(value, 1) + _zeros(tail)
    if len(runs) > size and len(sparse) + len(runs) - size > _BYTES_MAX:
        return PROMOTE, 0, 0
    sparse[place : place + size] = runs
    _join(sparse, before)
    return 1, before, before_first


def _join(sparse: bytearray, place: int) -> None:
    """Joins neighbours of the same value, in the next few runs."""
    for _ in range(_SCANNED):
        if place >= len(sparse):
            return
        byte = sparse[place]
        if not byte & 0x80:
            place += 2 if byte & 0x40 else 1
            continue
        if place + 1 < len(sparse):
            after = sparse[place + 1]
            count = (byte & 3) + (after & 3) + 2
            if after & 0xFC == byte & 0xFC and count <= _VALUE_RUN_MAX:
                sparse[place : place + 2] = bytes((byte & 0xFC | count - 1,))
                continue
        place += 1


def from_registers(registers: bytes) -> bytes | None:
    """What the empty encoding becomes when registers are raised from the first to the last; None if they do not fit."""
    sparse = bytearray(EMPTY)
    place = first = 0
    for index, value in enumerate(registers):
        if value:
            outcome, place, first = set_register(sparse, index, value, place, first)
            if outcome == PROMOTE:
                return None
    return bytes(sparse)
