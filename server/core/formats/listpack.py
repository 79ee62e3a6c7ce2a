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
_RUN_ENTRIES: Final = 256
_INTEGER_TEXT_BYTES_MAX: Final = 20
_DIGIT_MAX: Final = ord("9")  # a minus comes before digits
_INTEGER_BYTES: Final = {0xF1: 2, 0xF2: 3, 0xF3: 4, 0xF4: 8}  # by type byte


def pack(entries: Iterable[bytes]) -> bytes:
    """The listpack of these strings."""
    body = bytearray()
    count = 0
    for entry in entries:
        append(body, entry)
        count += 1
    return sealed(body, count)


def sealed(body: bytes | bytearray, count: int) -> bytes:
    """The listpack whose entries, of this number, have been appended to `body`."""
    header = (_HEADER_BYTES + len(body) + 1).to_bytes(4, "little") + min(count, _UNCOUNTED).to_bytes(2, "little")
    return b"%b%b\xff" % (header, bytes(body))


def append(body: bytearray, entry: bytes) -> None:
    """Appends a string with its type and size, as an integer if it spells one."""
    size = len(entry)
    if 0 < size <= _INTEGER_TEXT_BYTES_MAX and entry[0] <= _DIGIT_MAX:
        number = integer_of(entry)
        if number is not None:
            append_integer(body, number)
            return
    if size < 64:
        body.append(0x80 | size)
        body += entry
        body.append(size + 1)
        return
    head = b"%c%c" % (0xE0 | size >> 8, size & 0xFF) if size < 4096 else b"\xf0%b" % size.to_bytes(4, "little")
    body += head
    body += entry
    body += _back_length(len(head) + size)


def append_integer(body: bytearray, number: int) -> None:
    """Appends a string that spells this integer."""
    if 0 <= number < 128:
        body.append(number)
        body.append(1)
        return
    encoded = _encoded_integer(number)
    body += encoded
    body.append(len(encoded))


def _encoded_integer(number: int) -> bytes:
    """An integer above 127 or below 0 in the fewest bytes."""
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
        before = len(entries)
        place = _unpack_some(data, place, entries, min(before + _RUN_ENTRIES, entries_max))
        if place < size - 1 and len(entries) == entries_max:
            raise TooLarge
        if pace.is_full(len(entries) - before):
            yield
    count = int.from_bytes(data[4:6], "little")
    if count not in (_UNCOUNTED, len(entries)):
        raise ValueError("a listpack has another number of entries")
    return entries


def _unpack_some(data: bytes, place: int, entries: list[bytes], entries_max: int) -> int:
    """Adds the entries from a place on, until there are so many. Returns the place behind them."""
    end = len(data) - 1
    while place < end and len(entries) < entries_max:
        kind = data[place]
        if 0x80 <= kind < 0xC0:  # most are short strings
            after = place + 1 + (kind & 0x3F)
            entry = data[place + 1 : after]
        else:
            entry, after = _entry(data, place)
        size = after - place
        back_bytes = 1
        if size >= 128:
            back = _back_length(size)
            back_bytes = len(back)
            is_sound = data[after : after + back_bytes] == back
        else:
            is_sound = after < end and data[after] == size
        if not is_sound or after + back_bytes > end:
            raise ValueError("an entry of a listpack has another size")
        entries.append(entry)
        place = after + back_bytes
    return place


def _entry(data: bytes, place: int) -> tuple[bytes, int]:
    """The string at a place, which is no short one, and where its back length begins. What lies beyond the data is missing
    from the string."""
    kind = data[place]
    if kind < 0x80:
        return b"%d" % kind, place + 1
    if kind < 0xE0:
        number = int.from_bytes(data[place : place + 2], "big") & 0x1FFF
        return b"%d" % (number - 0x2000 if number & 0x1000 else number), place + 2
    if kind < 0xF0:
        start, size = place + 2, int.from_bytes(data[place : place + 2], "big") & 0xFFF
    elif kind == 0xF0:
        start, size = place + 5, int.from_bytes(data[place + 1 : place + 5], "little")
    elif kind in _INTEGER_BYTES:
        end = place + 1 + _INTEGER_BYTES[kind]
        return b"%d" % int.from_bytes(data[place + 1 : end], "little", signed=True), end
    else:
        raise ValueError("an entry of a listpack has an unknown type")
    return data[start : start + size], start + size
