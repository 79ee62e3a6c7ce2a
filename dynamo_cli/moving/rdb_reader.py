"""The keys of an RDB file, versions 6 to 12 (rdb.c of Redis 3.2 to 7.4).

    REDIS and four digits, the version
    parts: facts about the server, a database, a key with its expiry and value, functions, …
    a byte 255, the CRC-64 of all before it (0 if the server that wrote the file had turned that off)

The checksum is looked at before anything else is: a file that is damaged or truncated writes nothing.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from dynamo_cli.failures import Failure, WrongUsage
from dynamo_cli.moving.checksums import CHECKSUM_BYTES, checksum_of
from dynamo_cli.moving.rdb_values import (
    EMPTY_STREAMS,
    MODULE,
    STREAMS,
    STRING,
    Damaged,
    Scanner,
    skip_module,
    skip_stream,
    skip_value,
)

VERSION_MIN: Final = 6
VERSION_MAX: Final = 12
HEADER_BYTES: Final = 9
_SLOT, _FUNCTION, _FUNCTION_BEFORE, _MODULE_AUX, _IDLE, _FREQUENCY = 0xF4, 0xF5, 0xF6, 0xF7, 0xF8, 0xF9
AUX, RESIZE, EXPIRY_MS, EXPIRY_S, DATABASE, END = 0xFA, 0xFB, 0xFC, 0xFD, 0xFE, 0xFF
_CHUNK_BYTES: Final = 4 << 20


class Key(NamedTuple):
    """A key of the file. `value` has its type in front; `text` is the value of a plain string that is not compressed.

    `left_out` says what cannot be imported: then there is no value. `parts_left_out` says that of a value that can be.
    `end` is the place behind the key.
    """

    database: int
    key: bytes
    expires_at_ms: int
    value: bytes
    text: bytes | None
    left_out: str
    parts_left_out: tuple[str, ...]
    end: int


class RdbFile:
    """An RDB file, open for reading. Raises WrongUsage if it is none, and Failure if it is damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self.size_bytes = file.seek(0, 2)
                self.modified_ns = path.stat().st_mtime_ns
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if self.size_bytes else b""
        except OSError as error:
            raise Failure(f"cannot read {path}: {error.strerror or error}") from None
        head = self._data[:HEADER_BYTES]
        if head[:5] != b"REDIS" or not head[5:].isdigit() or len(head) < HEADER_BYTES:
            raise WrongUsage(f"{path} is no RDB file: it does not begin with REDIS and a version")
        self.version = int(head[5:])
        if not VERSION_MIN <= self.version <= VERSION_MAX:
            raise WrongUsage(
                f"{path} is of version {self.version}, and versions {VERSION_MIN} to {VERSION_MAX} can be read",
                "load it into a Redis of version 3.2 to 7.4, and import from there: dyn import redis://HOST:PORT",
            )
        self.functions = 0  # libraries of functions that were passed over

    def check(self) -> None:
        """Raises Failure unless the checksum of the file is right."""
        end = self.size_bytes - CHECKSUM_BYTES
        told = int.from_bytes(self._data[max(end, 0) :], "little")
        if end > HEADER_BYTES and self._data[end - 1] == END and not told:
            return  # rdbchecksum was off
        chunks = (self._data[start : min(start + _CHUNK_BYTES, end)] for start in range(0, end, _CHUNK_BYTES))
        if end <= HEADER_BYTES or self._data[end - 1] != END or checksum_of(chunks) != told:
            raise self._damaged("its checksum does not fit its content, so it is truncated or damaged")

    def keys(self, place: int = 0, database: int = 0) -> Iterator[Key]:
        """The keys from a place on, which is behind a key of `database`. Raises Failure for a file that is damaged."""
        scanner = Scanner(self._data, place or HEADER_BYTES)
        try:
            yield from self._keys(scanner, database)
        except Damaged as error:
            raise self._damaged(str(error)) from None

    def _damaged(self, why: str) -> Failure:
        return Failure(f"{self.path} cannot be imported: {why}", "redis-check-rdb FILE tells more; copy the file again")

    def _keys(self, scanner: Scanner, database: int) -> Iterator[Key]:
        expires_at_ms = 0
        while (part := scanner.byte()) != END:
            if part == DATABASE:
                database = scanner.length()
            elif part == EXPIRY_MS:
                expires_at_ms = int.from_bytes(scanner.read(8), "little", signed=True)
            elif part == EXPIRY_S:
                expires_at_ms = int.from_bytes(scanner.read(4), "little", signed=True) * 1000
            elif part >= _SLOT:
                self._skip(part, scanner)
            else:
                yield _key(scanner, part, database, expires_at_ms)
                expires_at_ms = 0

    def _skip(self, part: int, scanner: Scanner) -> None:
        """Passes over what is no key."""
        if part == AUX:
            scanner.strings(2)
        elif part == RESIZE:
            scanner.length()
            scanner.length()
        elif part == _FREQUENCY:
            scanner.skip(1)
        elif part == _IDLE:
            scanner.length()
        elif part == _FUNCTION:
            self.functions += 1
            scanner.string()
        elif part == _MODULE_AUX:
            skip_module(scanner)
        elif part == _SLOT:
            for _ in range(3):
                scanner.length()
        elif part == _FUNCTION_BEFORE:
            raise Damaged("it has functions in the form of a release candidate of Redis 7.0")


def _key(scanner: Scanner, kind: int, database: int, expires_at_ms: int) -> Key:
    start = scanner.place
    key = scanner.string()
    if key is None:  # a long key may be compressed
        key = _decompressed(scanner.data[start : scanner.place])
    begin = scanner.place
    if kind == STRING:
        text = scanner.string()
        value = bytes([kind]) + scanner.data[begin : scanner.place] if text is None else b""
        return Key(database, key, expires_at_ms, value, text, "", (), scanner.place)
    left_out, parts_left_out = "module" if kind == MODULE else "", tuple[str, ...]()
    if kind in STREAMS:
        entries, parts_left_out = skip_stream(kind, scanner)
        left_out = "" if entries else EMPTY_STREAMS
    else:
        skip_value(kind, scanner)
    value = b"" if left_out else bytes([kind]) + scanner.data[begin : scanner.place]
    return Key(database, key, expires_at_ms, value, None, left_out, parts_left_out, scanner.place)


def _decompressed(string: bytes) -> bytes:
    """A compressed string (LZF): literal runs, and copies of what came before."""
    scanner = Scanner(string, 1)
    end, size = scanner.length(), scanner.length()
    end += scanner.place
    made = bytearray()
    while scanner.place < end:
        control = scanner.byte()
        if control < 32:
            made += scanner.read(control + 1)
            continue
        count = control >> 5
        if count == 7:
            count += scanner.byte()
        back = ((control & 31) << 8 | scanner.byte()) + 1
        if back > len(made):
            raise Damaged("a compressed key copies from before its beginning")
        for _ in range(count + 2):
            made.append(made[-back])
    if len(made) != size:
        raise Damaged("a compressed key has another length than it says")
    return bytes(made)
