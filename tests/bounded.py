"""What a scan answers, by the simplest of means."""

from __future__ import annotations

from collections.abc import Mapping


def bounded(
    stored: Mapping[bytes, bytes], start: bytes, end: bytes | None, limit: int, bytes_max: int
) -> list[tuple[bytes, bytes]]:
    """Up to `limit` pairs from `start` to `end`, in order, none after the value that brings all to `bytes_max`."""
    pairs: list[tuple[bytes, bytes]] = []
    for key, value in sorted(stored.items()):
        if start <= key and (end is None or key < end) and len(pairs) < limit:
            pairs.append((key, value))
            if sum(len(value) for _, value in pairs) >= bytes_max:
                break
    return pairs
