"""Digests of the records of a read group, for READ: the question to and from nodes of earlier versions.

Two digests exist. `digest` hashes the records themselves. `short_digest` hashes only the checksum that each record
begins with: for large records, hashing all their bytes would cost more than the rest of the read. The receiver tells
the two apart by their length.
"""

from __future__ import annotations

from xxhash import xxh3_64_digest

SHORT_BYTES = 9  # length of a short digest
_ABSENT = bytes(8)


def digest(records: list[bytes | None]) -> bytes:
    """HOT. Returns 8 bytes, equal for equal lists of records.

    The records are joined without separators; `-` stands for an absent record. Different lists give different
    joined bytes, and these are hashed. A record states its own length (its counts and the sizes of its values), so joined
    records can be split in one way only. A record that begins with the byte `-` could be taken for an absent record and
    one more record. But the bytes after that `-` are no valid record: their checksum does not match.
    """
    return xxh3_64_digest(_joined(records))


def short_digest(records: list[bytes | None]) -> bytes:
    """Returns `SHORT_BYTES` bytes, equal for equal lists of records, computed from the records' checksums only."""
    return b"s" + xxh3_64_digest(b"".join([record[:8] if record else _ABSENT for record in records]))


def _joined(records: list[bytes | None]) -> bytes:
    try:
        return b"".join(records)  # type: ignore[arg-type]
    except TypeError:
        return b"".join([record or b"-" for record in records])
