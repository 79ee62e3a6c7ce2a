"""Digests of the records of a group of reads: what READ carries, which nodes of an earlier version are asked with."""

from __future__ import annotations

from xxhash import xxh3_64_digest

SHORT_BYTES = 9  # of a short digest
_ABSENT = bytes(8)


def digest(records: list[bytes | None]) -> bytes:
    """HOT. Equal lists of records have equal digests. A record names its own write, so positions cannot be confused."""
    return xxh3_64_digest(_joined(records))


def short_digest(records: list[bytes | None]) -> bytes:
    """As `digest`, of the records' own checksums: for large records, whose bytes cost more than the rest of a read. It is
    told from a digest by its length."""
    return b"s" + xxh3_64_digest(b"".join([record[:8] if record else _ABSENT for record in records]))


def _joined(records: list[bytes | None]) -> bytes:
    try:
        return b"".join(records)  # type: ignore[arg-type]
    except TypeError:
        return b"".join([record or b"-" for record in records])
