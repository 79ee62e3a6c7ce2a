"""Listpacks: short lists of strings and integers in one block of bytes, as Redis keeps small collections since 7.0.

    u32 size, u16 entries (65,535: not counted), entries, 0xFF
    entry: type and size, bytes, back length (its own size, 7 bits a byte, so that one can walk backwards)

Strings that spell an integer are kept as integers. All of a listpack that comes from outside is checked while it is read:
sizes, back lengths, the count, the end.

Source: listpack.c of Redis 7.0.15.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from server.core.formats.numbers import integer_of
from server.core.formats.pausing import Pace, Slices
from server.core.formats.payloads import TooLarge

_HEADER_BYTES: Final = 6
_END: Final = 0xFF
_UNCOUNTED: Final = 0xFFFF
_INTEGER_BYTES: Final = {0xF1: 2, 0xF2: 3, 0xF3: 4, 0xF4: 8}  # by type byte


def pack(entries: Iterable[bytes]) -> bytes:
    """The listpack of these strings."""
    body = bytearray()
    count = 0
    for entry in entries:
        encoded = _encoded(entry)
        body += encoded
        body += _back_length(len(encoded))
        count += 1
    header = (_HEADER_BYTES + len(body) + 1).to_bytes(4, "little") + min(count, _UNCOUNTED).to_bytes(2, "little")
    return b"%b%b\xff" % (header, bytes(body))


def packed_bytes(entry: bytes) -> int:
    """The size of a string within a listpack."""
    encoded = len(_encoded(entry))
    return encoded + len(_back_length(encoded))


def _encoded(entry: bytes) -> bytes:
    """A string with its type and size, as an integer if it spells one."""
    number = integer_of(entry)
    if number is not None:
        return _encoded_integer(number)
    size = len(entry)
    if size < 64:
        return b"%c%b" % (0x80 | size, entry)
    if size < 4096:
        return b"%c%c%b" % (0xE0 | size >> 8, size & 0xFF, entry)
    return b"\xf0%b%b" % (size.to_bytes(4, "little"), entry)


def _encoded_integer(number: int) -> bytes:
    """An integer in the fewest bytes."""
    if 0 <= number < 128:
        return bytes((number,))
    if -4096 <= number < 4096:
        return (0xC000 | number & 0x1FFF).to_bytes(2, "big")
    for kind, size in _INTEGER_BYTES.items():
        if -(1 << 8 * size - 1) <= number < 1 << 8 * size - 1:
            return bytes((kind,)) + number.to_bytes(size, "little", signed=True)
    raise AssertionError("an integer of a listpack has 64 bits at most")


def _back_length(size: int) -> bytes:
    """The size of an entry as it stands behind the entry: the lowest seven bits last."""
    encoded = [size & 0x7F]
    size_left = size >> 7
    while size_left:
        encoded.append(size_left & 0x7F)
        size_left >>= 7
    # At each boundary Redis takes a byte more than it needs.
    if size in (16_383, 2_097_151, 268_435_455):
        encoded.append(0)
    return bytes((encoded[-1], *(byte | 0x80 for byte in encoded[-2::-1])))


def unpack(data: bytes, entries_max: int, pace: Pace) -> Slices[list[bytes]]:
    """The strings of a listpack, integers spelled out. Raises ValueError for what Redis would not write, or TooLarge."""
    size = len(data)
    if size <= _HEADER_BYTES or int.from_bytes(data[:4], "little") != size or data[-1] != _END:
        raise ValueError("a listpack has another size")
    entries: list[bytes] = []
    place = _HEADER_BYTES
    while place < size - 1:
        if pace.is_full():
            yield
        entry, end = _entry(data, place)
        back = _back_length(end - place)
        after = end + len(back)
        if after >= size or data[end:after] != back:
            raise ValueError("an entry of a listpack has another size")
        if len(entries) == entries_max:
            raise TooLarge
        entries.append(entry)
        place = after
    count = int.from_bytes(data[4:6], "little")
    if count not in (_UNCOUNTED, len(entries)):
        raise ValueError("a listpack has another number of entries")
    return entries


def _entry(data: bytes, place: int) -> tuple[bytes, int]:
    """The string at a place, and where its back length begins. What lies beyond the data is missing from the string."""
    kind = data[place]
    if kind < 0x80:
        return b"%d" % kind, place + 1
    if kind < 0xC0:
        start, size = place + 1, kind & 0x3F
    elif kind < 0xE0:
        number = int.from_bytes(data[place : place + 2], "big") & 0x1FFF
        return b"%d" % (number - 0x2000 if number & 0x1000 else number), place + 2
    elif kind < 0xF0:
        start, size = place + 2, int.from_bytes(data[place : place + 2], "big") & 0xFFF
    elif kind == 0xF0:
        start, size = place + 5, int.from_bytes(data[place + 1 : place + 5], "little")
    elif kind in _INTEGER_BYTES:
        end = place + 1 + _INTEGER_BYTES[kind]
        return b"%d" % int.from_bytes(data[place + 1 : end], "little", signed=True), end
    else:
        raise ValueError("an entry of a listpack has an unknown type")
    return data[start : start + size], start + size
