"""A reference for `Engine.scan`: what a scan answers, computed in the simplest way."""

from __future__ import annotations

from collections.abc import Mapping


def bounded(
    stored: Mapping[bytes, bytes], start: bytes, end: bytes | None, limit: int, bytes_max: int
) -> list[tuple[bytes, bytes]]:
    """At most `limit` pairs from `start` to `end`, in order, up to the value with which all reach `bytes_max` bytes."""
    pairs: list[tuple[bytes, bytes]] = []
    for key, value in sorted(stored.items()):
        if start <= key and (end is None or key < end) and len(pairs) < limit:
            pairs.append((key, value))
            if sum(len(value) for _, value in pairs) >= bytes_max:
                break
    return pairs
