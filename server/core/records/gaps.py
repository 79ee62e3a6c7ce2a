"""Reads a range around damaged blocks: returns it in stretches, and finds out how far an unreadable part reaches.

Theory. If one byte of a block is wrong, the engine refuses to read the whole block, and with it every page of keys that
touches the block. The keys before and after the block can be read. So a scan goes on behind the unreadable part, the
*gap*. Which keys should be in the gap is known to the other owners: scrub.py asks them, and exchange.py works from
their lists.

The end of a gap is found by trial reads: at distances that double until a read succeeds, then by bisection. Distances
are counted in *positions*: the first bytes of a storage key (slot and hash) as a number.
"""

from __future__ import annotations

from typing import NamedTuple

from server.core.records.paging import may_have_more
from server.core.records.records import PREFIX_BYTES, Records
from server.core.records.versions import DamagedRecord

_HASH_BITS = 32  # a position is the slot, then so many bits of hash


class Stretch(NamedTuple):
    """The first part of a range, up to `end`: all pairs stored there, or none if `is_gap` (it cannot be read)."""

    pairs: list[tuple[bytes, bytes]]
    end: bytes
    is_gap: bool


def read_stretch(records: Records, start: bytes, end: bytes, limit: int, bytes_max: int) -> Stretch:
    """Returns a page of the range from `start` to `end` (see `Records.page`), or the gap that the range begins with.

    The slots of a gap are noted in `Records.unreadable`. A gap counts as damage once.
    """
    stretch = _read(records, start, end, limit, bytes_max)
    if stretch.is_gap:
        first = _position(start) >> _HASH_BITS
        records.note_unreadable(first, max(first, (_position(stretch.end) - 1) >> _HASH_BITS) + 1)
    return stretch


def _read(records: Records, start: bytes, end: bytes, limit: int, bytes_max: int) -> Stretch:
    page = _try(records, start, end, limit, bytes_max)
    if page is not None:
        return Stretch(page, page[-1][0] + b"\0" if may_have_more(page, limit, bytes_max) else end, False)
    first, last = _position(start), _position(end)
    high = last
    while high - first > 1:
        high = (first + high) // 2
        page = _try(records, start, _key(high), limit, bytes_max)
        if page is not None:
            return Stretch(page, page[-1][0] + b"\0" if may_have_more(page, limit, bytes_max) else _key(high), False)
    page = _try(records, start, end, 1, 1)  # a single key: a page that is not full would also read the key behind it
    if page:
        return Stretch(page, page[-1][0] + b"\0", False)
    return Stretch([], _end_of_gap(records, first, last, end), True)


def _end_of_gap(records: Records, first: int, last: int, end: bytes) -> bytes:
    """Returns the storage key from which the engine can read again, behind position `first`."""
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


def _position(key: bytes) -> int:
    return int.from_bytes(key[:PREFIX_BYTES].ljust(PREFIX_BYTES, b"\0"), "big")


def _key(position: int) -> bytes:
    return position.to_bytes(PREFIX_BYTES, "big")
