"""The keys of an RDB file, versions 6 to 12 (rdb.c of Redis 3.2 to 7.4), and 80 (rdb.c of Valkey 9.0).

    REDIS and four digits, or VALKEY and three digits, the version
    parts: facts about the server, a database, a key with its expiry and value, functions, …
    a byte 255, the CRC-64 of all before it (0 if the server that wrote the file had turned that off)

The checksum is looked at before anything else is: a file that is damaged or truncated writes nothing. A server that sends
its file while it makes it ends it with a mark of 40 hexadecimal digits, which redis-cli --rdb of Redis 4.0 leaves there.

Valkey forked at version 11. Its version 80 is that but for hashes with fields that expire, whose type means something else
in Redis 7.4. So they are written anew, as Redis 7.4 has them, and all else is as in a file of version 11.
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
    EXPIRING_HASH_OF_VALKEY,
    MODULE,
    STREAMS,
    STRING,
    Damaged,
    Scanner,
    expiring_hash_of_valkey,
    skip_module,
    skip_stream,
    skip_value,
)

VERSION_MIN: Final = 6
VERSION_MAX: Final = 12
_VALKEY_VERSION: Final = 80
_VALKEY_PAYLOADS: Final = 12  # the version of its values: 11, and 12 for hashes with fields that expire
HEADER_BYTES: Final = 9  # of both
_END_MARK_BYTES: Final = 40
_HEX_DIGITS: Final = b"0123456789abcdef"
_SLOT, _FUNCTION, _FUNCTION_BEFORE, _MODULE_AUX, _IDLE, _FREQUENCY = 0xF4, 0xF5, 0xF6, 0xF7, 0xF8, 0xF9
AUX, RESIZE, EXPIRY_MS, EXPIRY_S, DATABASE, END = 0xFA, 0xFB, 0xFC, 0xFD, 0xFE, 0xFF
_CHUNK_BYTES: Final = 4 << 20
_DECOMPRESSED_BYTES_MAX: Final = 16 << 10  # of a string, compressed; longer ones are decompressed by the cluster


class Key(NamedTuple):
    """A key of the file. `value` has its type in front; `text` is the value of a plain string, unless that is long
    and compressed.

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
        self._is_of_valkey, self.version = self._head()
        self.functions = 0  # libraries of functions that were passed over

    def _head(self) -> tuple[bool, int]:
        """Whether the file is of Valkey, and the version of its values. Raises WrongUsage."""
        head = self._data[:HEADER_BYTES]
        is_of_valkey = head[:6] == b"VALKEY"
        digits = head[6:] if is_of_valkey else head[5:]
        if not (is_of_valkey or head[:5] == b"REDIS") or not digits.isdigit() or len(head) < HEADER_BYTES:
            raise WrongUsage(f"{self.path} is no RDB file: it does not begin with REDIS or VALKEY and a version")
        version = int(digits)
        if is_of_valkey and version == _VALKEY_VERSION:
            return True, _VALKEY_PAYLOADS
        if is_of_valkey or not VERSION_MIN <= version <= VERSION_MAX:
            raise WrongUsage(
                f"{self.path} is of version {version} of {'Valkey' if is_of_valkey else 'Redis'}, and versions "
                f"{VERSION_MIN} to {VERSION_MAX} of Redis and {_VALKEY_VERSION} of Valkey can be read",
                "load it into the server that wrote it, and import from there: dyn import redis://HOST:PORT",
            )
        return False, version

    def check(self) -> None:
        """Raises Failure unless the checksum of the file is right."""
        size = self.size_bytes
        mark = self._data[max(size - _END_MARK_BYTES, 0) :]
        if not self._ends_at(size) and (mark.strip(_HEX_DIGITS) or not self._ends_at(size - _END_MARK_BYTES)):
            raise self._damaged("its checksum does not fit its content, so it is truncated or damaged")

    def _ends_at(self, size: int) -> bool:
        """Whether so many bytes are a whole file: the last part, and then the checksum of all before, or 0."""
        end = size - CHECKSUM_BYTES
        if end <= HEADER_BYTES or self._data[end - 1] != END:
            return False
        told = int.from_bytes(self._data[end:size], "little")
        chunks = (self._data[start : min(start + _CHUNK_BYTES, end)] for start in range(0, end, _CHUNK_BYTES))
        return not told or checksum_of(chunks) == told  # 0: rdbchecksum was off

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
                yield _key(scanner, part, database, expires_at_ms, self._is_of_valkey)
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


def _key(scanner: Scanner, kind: int, database: int, expires_at_ms: int, is_of_valkey: bool) -> Key:
    start = scanner.place
    key = scanner.string()
    if key is None:  # a long key may be compressed
        key = _decompressed(scanner.data[start : scanner.place])
    begin = scanner.place
    if kind == STRING:
        text = scanner.string()
        value = b""
        if text is None and scanner.place - begin <= _DECOMPRESSED_BYTES_MAX:
            text = _decompressed(scanner.data[begin : scanner.place])
        elif text is None:
            value = bytes([kind]) + scanner.data[begin : scanner.place]
        return Key(database, key, expires_at_ms, value, text, "", (), scanner.place)
    if is_of_valkey and kind == EXPIRING_HASH_OF_VALKEY:
        value = expiring_hash_of_valkey(scanner)
        return Key(database, key, expires_at_ms, value, None, "", (), scanner.place)
    if is_of_valkey and kind > EXPIRING_HASH_OF_VALKEY:
        raise Damaged(f"byte {begin - 1} begins a value of type {kind}, which this version does not know")
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
        start = len(made) - ((control & 31) << 8 | scanner.byte()) - 1
        if start < 0:
            raise Damaged("a compressed string copies from before its beginning")
        pattern = made[start : start + count + 2]  # shorter if it copies what it makes
        made += (pattern * ((count + 1) // len(pattern) + 1))[: count + 2]
    if len(made) != size:
        raise Damaged("a compressed string has another length than it says")
    return bytes(made)
