"""CRC-64 of Jones, as in RDB files and in the payloads of DUMP and RESTORE (rdb.c and cluster.c of Redis 7.0)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import anycrc

FOOTER_BYTES: Final = 10  # of a payload: version and checksum
CHECKSUM_BYTES: Final = 8
_CRC: Final = anycrc.Model("CRC64-REDIS")


def checksum_of(parts: Iterable[bytes]) -> int:
    """The checksum of the concatenation of `parts`."""
    checksum: int = _CRC.calc(b"")
    for part in parts:
        checksum = _CRC.calc(part, checksum)
    return checksum


def sealed(value: bytes, version: int) -> bytes:
    """The payload of a value, its type in front, for RESTORE."""
    covered = value + version.to_bytes(2, "little")
    return covered + checksum_of([covered]).to_bytes(CHECKSUM_BYTES, "little")
