"""Checks RocksDB's log files before RocksDB reads them, for the two kinds of damage that its reader does not refuse.

Format. A log is a row of blocks of 32 KiB, and a block is a row of records that never cross its end: masked CRC-32C of
type and payload, length, type, payload. The MANIFEST has the same format. See
https://github.com/facebook/rocksdb/wiki/Write-Ahead-Log-File-Format and db/log_reader.cc.

A wrong byte fails the checksum, and RocksDB refuses it. There are two fields that it uses before it computes the
checksum:

- A type of a recycled log. We never recycle logs, but one wrong bit turns the type of a whole record into such a type. If
  that happens in the first record, RocksDB 9.8 takes it for the end of the log. In a later record, RocksDB reads it again
  and again without end, and holds the GIL.
- A length that reaches behind the end of the file. A write that a crash cut short looks the same. But in that case no
  shorter length fits the checksum, while for a wrong length in a complete record one does. So we look for such a length.

Only the headers are read: some 0.3 µs a record, and nothing after a clean stop, which leaves an empty log.
"""

from __future__ import annotations

from mmap import ACCESS_READ, mmap
from pathlib import Path
from struct import Struct

LOG_BLOCK_BYTES = 32 << 10
HEADER = Struct("<IHB")  # masked checksum, length, type
RECYCLED_TYPES = frozenset((5, 6, 7, 8, 11))
CASTAGNOLI_REVERSED = 0x82F63B78
MASK_DELTA = 0xA282EAD8


def find_damage(log: Path) -> str | None:
    """The damage of `log` that RocksDB does not detect, as a text for operators; None if there is none."""
    with log.open("rb") as file:
        if log.stat().st_size == 0:
            return None
        with mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            found = _walk(content)
    return None if found is None else f"{found} in {log.name}"


def _walk(content: mmap) -> str | None:
    position, end = 0, len(content)
    while position + HEADER.size <= end:
        block_end = min(position - position % LOG_BLOCK_BYTES + LOG_BLOCK_BYTES, end)
        if position + HEADER.size > block_end:  # no room for a header: filled with zeros
            position = block_end
            continue
        checksum, length, kind = HEADER.unpack_from(content, position)
        if kind in RECYCLED_TYPES:
            return f"wrong record type {kind} at byte {position}"
        if kind == length == 0:  # preallocated space that was not written
            position = block_end
            continue
        if position + HEADER.size + length > block_end:
            if block_end == end and _fits_when_shorter(content[position + HEADER.size - 1 :], checksum):
                return f"wrong record length {length} at byte {position}"
            return None  # torn, or damage that RocksDB refuses
        position += HEADER.size + length
    return None


def _fits_when_shorter(type_and_payload: bytes, masked_checksum: int) -> bool:
    """Whether `type_and_payload`, the rest of the file, begins with a record of that checksum."""
    rotated = (masked_checksum - MASK_DELTA) & 0xFFFFFFFF
    checksum = (rotated >> 17) | (rotated << 15) & 0xFFFFFFFF
    wanted, running = checksum ^ 0xFFFFFFFF, 0xFFFFFFFF
    for byte in type_and_payload:
        running = _CRC_TABLE[(running ^ byte) & 0xFF] ^ (running >> 8)
        if running == wanted:
            return True
    return False


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        remainder = byte
        for _ in range(8):
            remainder = (remainder >> 1) ^ (CASTAGNOLI_REVERSED if remainder & 1 else 0)
        table.append(remainder)
    return table


_CRC_TABLE = _crc_table()
