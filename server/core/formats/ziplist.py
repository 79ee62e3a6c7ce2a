"""Ziplists and zipmaps: what Redis before 7.0 had in place of listpacks. They are only read, from older payloads.

    ziplist: u32 size, u32 offset of the last entry, u16 entries (65,535: not counted), entries, 0xFF
    entry: size of the entry before (1 byte, or 0xFE and u32), type and size, bytes
    zipmap (before 2.6): u8 pairs (254: not counted), pairs, 0xFF
    pair: size, field, size, unused bytes, value, unused bytes; a size is a byte, or 0xFE and u32

Source: ziplist.c and zipmap.c of Redis 7.0.15.
"""

from __future__ import annotations

from typing import Final

from server.core.formats.pausing import Pace, Slices
from server.core.formats.payloads import TooLarge

_HEADER_BYTES: Final = 10
_END: Final = 0xFF
_LARGE: Final = 0xFE
_UNCOUNTED: Final = 0xFFFF
_INTEGER_BYTES: Final = {0xC0: 2, 0xD0: 4, 0xE0: 8, 0xF0: 3, 0xFE: 1}  # by type byte


def unpack(data: bytes, entries_max: int, pace: Pace) -> Slices[list[bytes]]:
    """The strings of a ziplist, integers spelled out. Raises ValueError for what Redis would not write, or TooLarge."""
    size = len(data)
    if size <= _HEADER_BYTES or int.from_bytes(data[:4], "little") != size or data[-1] != _END:
        raise ValueError("a ziplist has another size")
    entries: list[bytes] = []
    last = place = _HEADER_BYTES
    size_before = 0
    while place < size - 1:
        if pace.is_full():
            yield
        told, start = _size(data, place)
        if told != size_before:
            raise ValueError("an entry of a ziplist has another size")
        entry, end = _entry(data, start)
        if end >= size:
            raise ValueError("an entry of a ziplist leads out of it")
        if len(entries) == entries_max:
            raise TooLarge
        entries.append(entry)
        last, place, size_before = place, end, end - place
    if entries and int.from_bytes(data[4:8], "little") != last:
        raise ValueError("the last entry of a ziplist is elsewhere")
    count = int.from_bytes(data[8:10], "little")
    if count not in (_UNCOUNTED, len(entries)):
        raise ValueError("a ziplist has another number of entries")
    return entries


def _size(data: bytes, place: int) -> tuple[int, int]:
    """A size of one byte or five, and where what follows begins."""
    if data[place] < _LARGE:
        return data[place], place + 1
    return int.from_bytes(data[place + 1 : place + 5], "little"), place + 5


def _entry(data: bytes, place: int) -> tuple[bytes, int]:
    """The string at a place, and where it ends. What lies beyond the data is missing from the string."""
    kind = data[place] if place < len(data) else _END
    if kind < 0x40:
        start, size = place + 1, kind
    elif kind < 0x80:
        start, size = place + 2, int.from_bytes(data[place : place + 2], "big") & 0x3FFF
    elif kind < 0xC0:
        start, size = place + 5, int.from_bytes(data[place + 1 : place + 5], "big")
    elif kind in _INTEGER_BYTES:
        end = place + 1 + _INTEGER_BYTES[kind]
        return b"%d" % int.from_bytes(data[place + 1 : end], "little", signed=True), end
    elif 0xF1 <= kind <= 0xFD:
        return b"%d" % ((kind & 0x0F) - 1), place + 1
    else:
        raise ValueError("an entry of a ziplist has an unknown type")
    return data[start : start + size], start + size


def unpack_zipmap(data: bytes, entries_max: int, pace: Pace) -> Slices[list[bytes]]:
    """The fields and values of a zipmap in turn. Raises ValueError for what Redis would not write, or TooLarge."""
    if len(data) < 2 or data[-1] != _END:
        raise ValueError("a zipmap has no end")
    entries: list[bytes] = []
    place = 1
    while place < len(data) - 1:
        if pace.is_full(2):
            yield
        for unused_bytes in (0, 1):
            size, start = _size(data, place)
            start += unused_bytes
            end = start + size
            unused = data[start - 1] if unused_bytes and start <= len(data) else 0
            if end + unused >= len(data):
                raise ValueError("an entry of a zipmap leads out of it")
            if len(entries) == entries_max:
                raise TooLarge
            entries.append(data[start:end])
            place = end + unused
    if data[0] < _LARGE and data[0] * 2 != len(entries):
        raise ValueError("a zipmap has another number of entries")
    return entries
