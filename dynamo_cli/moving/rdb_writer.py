"""Writes an RDB file that redis-server loads: payloads of DUMP without their ends, key by key.

The file gets its name when it is whole. It is of version 10 (Redis 7.0), or of 12 (Redis 7.4) if a hash has fields that
expire; that is known at the end only, so the checksum is made of what was written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from dynamo_cli.moving.checksums import CHECKSUM_BYTES, FOOTER_BYTES, checksum_of
from dynamo_cli.moving.rdb_reader import AUX, DATABASE, END, EXPIRY_MS
from dynamo_cli.moving.rdb_values import length_bytes
from dynamo_cli.replaced_files import replaceable

_VERSION: Final = 10
_CHUNK_BYTES: Final = 4 << 20


class RdbWriter:
    """An RDB file to be at `path`. Its methods raise OSError, making it WrongUsage, too."""

    def __init__(self, path: Path) -> None:
        self._path = replaceable(path)
        self._beside = self._path.with_name(self._path.name + ".new")
        self._version = _VERSION
        self._database = -1
        self._file: BinaryIO = self._beside.open("w+b")
        self._file.write(b"REDIS%04d" % _VERSION)
        self._file.write(bytes([AUX]) + _string(b"redis-ver") + _string(b"7.0.15"))
        self.size_bytes = 0

    def add(self, database: int, key: bytes, payload: bytes, expires_at_ms: int) -> None:
        """Adds a key of a database. Those of one database come together."""
        if database != self._database:
            self._database = database
            self._file.write(bytes([DATABASE]) + length_bytes(database))
        self._version = max(self._version, int.from_bytes(payload[-FOOTER_BYTES:-CHECKSUM_BYTES], "little"))
        expiry = bytes([EXPIRY_MS]) + expires_at_ms.to_bytes(8, "little") if expires_at_ms else b""
        self._file.write(b"%b%c%b%b" % (expiry, payload[0], _string(key), payload[1:-FOOTER_BYTES]))

    def finish(self) -> None:
        """Writes the end of the file, and gives it its name."""
        file = self._file
        file.write(bytes([END]))
        file.seek(0)
        file.write(b"REDIS%04d" % self._version)
        file.seek(0)
        checksum = checksum_of(_chunks(file))
        file.write(checksum.to_bytes(CHECKSUM_BYTES, "little"))
        self.size_bytes = file.tell()
        file.flush()
        os.fsync(file.fileno())
        file.close()
        os.replace(self._beside, self._path)

    def abandon(self) -> None:
        """Removes what was written."""
        self._file.close()
        self._beside.unlink(missing_ok=True)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk


def _string(data: bytes) -> bytes:
    return length_bytes(len(data)) + data
