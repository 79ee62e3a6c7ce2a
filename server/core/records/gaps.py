"""Reading around a damaged block: a range in stretches, of which some cannot be read, as small as that can be found out.

Theory. An engine refuses to read a whole block because one byte in it is wrong, and a page of keys that meets the block is
refused as a whole. But what lies before and behind can be read, so whoever walks over a range goes on behind the *gap*, and
asks others which keys should be in it (scrub.py), or goes by the keys that others have (exchange.py). Where a gap ends is
found by trying: places in steps that double, then by halves. A place is the beginning of a storage key, slot and hash.
"""

from __future__ import annotations

from typing import NamedTuple

from server.core.records.records import PREFIX_BYTES, Records, may_go_on
from server.core.records.versions import DamagedRecord

_HASH_BITS = 32  # of a place, behind the slot


class Stretch(NamedTuple):
    """The first part of a range, up to `end`: all that is stored there; or, if `is_gap`, nothing could be read."""

    pairs: list[tuple[bytes, bytes]]
    end: bytes
    is_gap: bool


def read_stretch(records: Records, start: bytes, end: bytes, limit: int, bytes_max: int) -> Stretch:
    """A page of what is stored from `start` to `end` (see `Records.page`), or the gap that it begins with.

    The slots of a gap are noted in `Records.unreadable`. A gap is counted as damage the first time.
    """
    stretch = _read(records, start, end, limit, bytes_max)
    if stretch.is_gap:
        first = _place(start) >> _HASH_BITS
        records.note_unreadable(first, max(first, (_place(stretch.end) - 1) >> _HASH_BITS) + 1)
    return stretch


def _read(records: Records, start: bytes, end: bytes, limit: int, bytes_max: int) -> Stretch:
    page = _try(records, start, end, limit, bytes_max)
    if page is not None:
        return Stretch(page, page[-1][0] + b"\0" if may_go_on(page, limit, bytes_max) else end, False)
    first, last = _place(start), _place(end)
    high = last
    while high - first > 1:
        high = (first + high) // 2
        page = _try(records, start, _key(high), limit, bytes_max)
        if page is not None:
            return Stretch(page, page[-1][0] + b"\0" if may_go_on(page, limit, bytes_max) else _key(high), False)
    page = _try(records, start, end, 1, 1)  # a page that is not full looks at what lies behind it
    if page:
        return Stretch(page, page[-1][0] + b"\0", False)
    return Stretch([], _end_of_gap(records, first, last, end), True)


def _end_of_gap(records: Records, first: int, last: int, end: bytes) -> bytes:
    """Where the engine can read again, behind the place `first`."""
    width = 1
    while first + width < last and _try(records, _key(first + width), end, 1, 1) is None:
        width *= 2
    low, high = first + width // 2, first + width
    if high >= last:
        high = last
    while high - low > 1:
        middle = (low + high) // 2
        if _try(records, _key(middle), end, 1, 1) is None:
            low = middle
        else:
            high = middle
    return end if high >= last else _key(high)


def _try(records: Records, start: bytes, end: bytes, limit: int, bytes_max: int) -> list[tuple[bytes, bytes]] | None:
    try:
        return records.page(start, end, limit, bytes_max)
    except DamagedRecord:
        return None


def _place(key: bytes) -> int:
    return int.from_bytes(key[:PREFIX_BYTES].ljust(PREFIX_BYTES, b"\0"), "big")


def _key(place: int) -> bytes:
    return place.to_bytes(PREFIX_BYTES, "big")
