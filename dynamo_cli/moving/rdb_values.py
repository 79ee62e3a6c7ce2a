"""How long a value of an RDB file is, without decoding it (rdb.c of Redis 7.0 and 7.4).

A value is a row of lengths and strings, by its type. Small collections are one string, whose inside does not matter here.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Final

STRING, STREAMS, MODULE, EXPIRING_HASH_OF_VALKEY = 0, (15, 19, 21), 7, 22
_HASH, _EXPIRING_HASH = 4, 24
# What is left out of streams; these are names in the document of the result.
GROUPS, LAST_IDS, EMPTY_STREAMS = "consumer groups", "last ids", "streams without entries"
_ONE_STRING: Final = (0, 9, 10, 11, 12, 13, 16, 17, 20, 23)
_MODULE_STRING, _MODULE_DOUBLE, _MODULE_FLOAT = 5, 4, 3


class Damaged(Exception):
    """The file ends within something, or has what no Redis writes."""


class Scanner:
    """A place in an RDB file, which moves on with everything that is read. Raises Damaged."""

    __slots__ = ("data", "place", "size")

    def __init__(self, data: mmap.mmap | bytes, place: int = 0) -> None:
        self.data = data
        self.place = place
        self.size = len(data)

    def read(self, count: int) -> bytes:
        """The next bytes."""
        start = self.place
        self.skip(count)
        return self.data[start : self.place]

    def skip(self, count: int) -> None:
        """Passes over bytes."""
        if self.place + count > self.size:
            raise Damaged(f"the file ends at byte {self.size}, in the middle of a value: it is truncated")
        self.place += count

    def byte(self) -> int:
        """The next byte."""
        self.skip(1)
        return self.data[self.place - 1]

    def length(self) -> int:
        """A length, or any other number of up to 64 bits."""
        first = self.byte()
        if first < 0x40:
            return first
        if first < 0x80:
            return (first & 0x3F) << 8 | self.byte()
        if first == 0x80:
            return int.from_bytes(self.read(4), "big")
        if first == 0x81:
            return int.from_bytes(self.read(8), "big")
        raise Damaged(f"byte {self.place - 1} begins no length")

    def string(self) -> bytes | None:
        """A string; None if it is compressed."""
        first = self.data[self.place] if self.place < self.size else 0
        if first < 0xC0:
            return self.read(self.length())
        self.skip(1)
        if first <= 0xC2:
            return b"%d" % int.from_bytes(self.read(1 << (first & 3)), "little", signed=True)
        if first > 0xC3:
            raise Damaged(f"byte {self.place - 1} begins no string")
        compressed_bytes = self.length()
        self.length()
        self.skip(compressed_bytes)
        return None

    def strings(self, count: int) -> None:
        """Passes over strings."""
        for _ in range(count):
            self.string()


def skip_value(kind: int, scanner: Scanner) -> None:
    """Passes over a value of that type, which is no stream. Raises Damaged."""
    if kind in _ONE_STRING:
        scanner.string()
        return
    skip = _SKIPS.get(kind)
    if skip is None:
        raise Damaged(f"byte {scanner.place - 1} begins a value of type {kind}, which this version does not know")
    skip(scanner)


def _scores_as_text(scanner: Scanner) -> None:
    for _ in range(scanner.length()):
        scanner.string()
        size = scanner.byte()
        scanner.skip(size if size < 0xFD else 0)


def _scores(scanner: Scanner) -> None:
    for _ in range(scanner.length()):
        scanner.string()
        scanner.skip(8)


def _nodes(scanner: Scanner) -> None:
    for _ in range(scanner.length()):
        scanner.length()
        scanner.string()


def _expiring_fields(scanner: Scanner) -> None:
    for _ in range(scanner.length()):
        scanner.length()
        scanner.strings(2)


def _behind_base(skip: Callable[[Scanner], object]) -> Callable[[Scanner], None]:
    def skip_both(scanner: Scanner) -> None:
        scanner.skip(8)
        skip(scanner)

    return skip_both


def skip_module(scanner: Scanner) -> None:
    """Passes over the value of a module: parts, each with its type in front, up to a 0."""
    scanner.length()
    while part := scanner.length():
        if part == _MODULE_STRING:
            scanner.string()
        elif part in (_MODULE_FLOAT, _MODULE_DOUBLE):
            scanner.skip(4 if part == _MODULE_FLOAT else 8)
        else:
            scanner.length()


def skip_stream(kind: int, scanner: Scanner) -> tuple[int, tuple[str, ...]]:
    """Passes over a stream of the first form, or of Redis 7.0 or 7.2. Returns how many entries it has, and what of it a
    cluster has no place for: consumer groups, and the id of a deleted last entry (of which the first form does not tell),
    below which Redis takes no new ones."""
    level = STREAMS.index(kind)
    scanner.strings(2 * scanner.length())
    count, *ids = [scanner.length() for _ in range(8 if level else 3)]
    groups = scanner.length()
    for _ in range(groups):
        _skip_group(level, scanner)
    last_id, deleted_id = ids[:2], ids[4:6]
    return count, (GROUPS,) * (groups > 0) + (LAST_IDS,) * (last_id == deleted_id)


def expiring_hash_of_valkey(scanner: Scanner) -> bytes:
    """Reads a hash of fields, values and their expiries, -1 for never, of Valkey 9.0; returns it as Redis 7.4 writes it."""
    fields: list[tuple[bytes, int]] = []
    for _ in range(scanner.length()):
        start = scanner.place
        scanner.strings(2)
        field = scanner.data[start : scanner.place]
        fields.append((field, max(int.from_bytes(scanner.read(8), "little", signed=True), 0)))
    first_ms = min([ms for _, ms in fields if ms], default=0)
    if not first_ms:
        return bytes([_HASH]) + length_bytes(len(fields)) + b"".join([field for field, _ in fields])
    items = [length_bytes(ms - first_ms + 1 if ms else 0) + field for field, ms in fields]
    return bytes([_EXPIRING_HASH]) + first_ms.to_bytes(8, "little") + length_bytes(len(fields)) + b"".join(items)


def length_bytes(number: int) -> bytes:
    """A length, or any other number of up to 64 bits, as a file has it."""
    if number < 0x40:
        return bytes([number])
    if number < 0x4000:
        return (0x4000 | number).to_bytes(2, "big")
    return b"\x80" + number.to_bytes(4, "big") if number < 1 << 32 else b"\x81" + number.to_bytes(8, "big")


def _skip_group(level: int, scanner: Scanner) -> None:
    """Passes over a consumer group: its last id, what is pending for it, and its consumers, each with what is pending."""
    scanner.string()
    for _ in range(3 if level else 2):
        scanner.length()
    for _ in range(scanner.length()):
        scanner.skip(24)
        scanner.length()
    for _ in range(scanner.length()):
        scanner.string()
        scanner.skip(16 if level > 1 else 8)
        scanner.skip(16 * scanner.length())


_SKIPS: Final[dict[int, Callable[[Scanner], None]]] = {
    1: lambda scanner: scanner.strings(scanner.length()),
    2: lambda scanner: scanner.strings(scanner.length()),
    3: _scores_as_text,
    4: lambda scanner: scanner.strings(2 * scanner.length()),
    5: _scores,
    MODULE: skip_module,
    14: lambda scanner: scanner.strings(scanner.length()),
    18: _nodes,
    22: _expiring_fields,
    24: _behind_base(_expiring_fields),
    25: _behind_base(Scanner.string),
}
