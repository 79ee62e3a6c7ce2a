"""Pages of stored pairs, as the present turn sees them: what the store has, with what this turn has written over it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

PAGE_BYTES: Final = 4 << 20  # values in a page: a page holds this much at most, and one value more
Pairs = list[tuple[bytes, bytes]]
Scan = Callable[[bytes, bytes | None, int, int], Pairs]  # from, to, most pairs, most bytes of values


def may_have_more(page: Pairs, limit: int, bytes_max: int = PAGE_BYTES) -> bool:
    """Whether more pairs may follow a page that was limited to `limit` pairs and `bytes_max` bytes of values."""
    return len(page) == limit or sum([len(value) for _, value in page]) >= bytes_max


def page_of(
    scan: Scan, written: Mapping[bytes, bytes | None], start: bytes, end: bytes | None, limit: int, bytes_max: int
) -> Pairs:
    """Returns pairs from `start` to `end`: up to `limit`, or until `bytes_max` of values are reached. `scan` reads the
    store; what it raises is raised here."""
    writes = {key: value for key, value in written.items() if start <= key and (end is None or key < end)}
    pairs: Pairs = []
    size = 0
    while True:
        stored = scan(start, end, limit, bytes_max)
        if not writes:
            return stored
        last = stored[-1][0] if may_have_more(stored, limit, bytes_max) else None
        merged: dict[bytes, bytes | None] = dict(stored)
        merged |= {key: value for key, value in writes.items() if start <= key and (last is None or key <= last)}
        for key in sorted(merged):
            if (value := merged[key]) is not None:
                pairs.append((key, value))
                size += len(value)
                if len(pairs) == limit or size >= bytes_max:
                    return pairs
        if last is None:
            return pairs
        start = last + b"\0"
