"""Replies as bytes: RESP2, and RESP3 for connections that asked for it with HELLO 3.

A reply is encoded once, where it is made. From there on it is bytes: it can be cached, joined into an array, sent to
another node and passed on unchanged. So the functions take values and answer complete encodings; those of aggregates take
encoded items. Where RESP2 lacks a type, Redis encodes the value as another type; functions for which that matters take
`resp3`.

Source: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, cast

import hiredis
from mypy_extensions import i64

OK: Final = b"+OK\r\n"
PONG: Final = b"+PONG\r\n"

Value = bool | int | float | str | bytes | Sequence["Value"] | dict["Value", "Value"] | None

# hiredis' own annotation allows one argument only
pack_command = cast("Callable[[tuple[bytes | str | int, ...]], bytes]", hiredis.pack_command)


class LargeReply:
    """An encoded reply in pieces. Some pieces are views of stored records, so that large values are not copied.

    `cost_bytes` is the memory that the pieces keep alive. A record with several views counts once.
    """

    __slots__ = ("cost_bytes", "pieces")

    def __init__(self, pieces: list[bytes | memoryview], cost_bytes: int) -> None:
        self.pieces = pieces
        self.cost_bytes = cost_bytes

    def joined(self) -> bytes:
        """The reply as one copy."""
        return b"".join(self.pieces)


Reply = bytes | LargeReply


class ReplyMemory:
    """Counts the memory of replies that are kept. A record that several of them show counts once."""

    __slots__ = ("_counted", "held_bytes")

    def __init__(self) -> None:
        self.held_bytes = 0
        self._counted: dict[int, None] = {}  # ids of the records that are shown

    def add(self, reply: Reply) -> int:
        """Counts one more reply. Returns the memory of all of them."""
        if isinstance(reply, LargeReply):
            for piece in reply.pieces:
                if not isinstance(piece, memoryview):
                    self.held_bytes += len(piece)
                elif id(piece.obj) not in self._counted:
                    self._counted[id(piece.obj)] = None
                    self.held_bytes += len(piece)
        else:
            self.held_bytes += len(reply)
        return self.held_bytes


def null(resp3: bool) -> bytes:
    """The null that stands for a bulk string."""
    return b"_\r\n" if resp3 else b"$-1\r\n"


def null_array(resp3: bool) -> bytes:
    """The null that stands for an array."""
    return b"_\r\n" if resp3 else b"*-1\r\n"


def bulk(value: bytes) -> bytes:
    """HOT. A bulk string."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


def simple(text: str) -> bytes:
    """A simple string, for fixed words: `text` must not hold a line break."""
    return b"+%b\r\n" % text.encode()


def integer(number: int) -> bytes:
    """An integer; RESP has 64 bits for it."""
    return b":%d\r\n" % number


def error(message: str | bytes) -> bytes:
    """An error; its first word is the code. Line breaks become spaces, and `surrogateescape` text its former bytes."""
    data = message.encode("utf-8", "surrogateescape") if isinstance(message, str) else message
    return b"-%b\r\n" % data.replace(b"\r", b" ").replace(b"\n", b" ")


def array(encoded_items: Sequence[bytes]) -> bytes:
    """An array of encoded items."""
    return b"*%d\r\n%b" % (len(encoded_items), b"".join(encoded_items))


def array_of_replies(replies: Sequence[Reply]) -> Reply:
    """An array whose items are replies; it uses their views of stored records."""
    pieces: list[bytes | memoryview] = [b"*%d\r\n" % len(replies)]
    shared_bytes: dict[int, int] = {}
    cost_bytes = 0
    for reply in replies:
        if isinstance(reply, LargeReply):
            pieces += reply.pieces
            for piece in reply.pieces:
                if isinstance(piece, memoryview):
                    shared_bytes[id(piece.obj)] = len(piece)
        else:
            pieces.append(reply)
            cost_bytes += len(reply)
    if not shared_bytes:
        return b"".join(pieces)
    return LargeReply(pieces, cost_bytes + sum(shared_bytes.values()))


def map_(pairs: Iterable[tuple[bytes, bytes]], resp3: bool) -> bytes:
    """A map of encoded keys to encoded values, in order; in RESP2 an array of keys and values in turn."""
    items = [item for pair in pairs for item in pair]
    return b"%%%d\r\n%b" % (len(items) // 2, b"".join(items)) if resp3 else array(items)


def set_(encoded_items: Sequence[bytes], resp3: bool) -> bytes:
    """A set of encoded items, which the caller keeps distinct; in RESP2 an array."""
    return b"~%d\r\n%b" % (len(encoded_items), b"".join(encoded_items)) if resp3 else array(encoded_items)


def double(number: float, resp3: bool) -> bytes:
    """A floating point number as Redis 7.0 prints it, with 17 significant digits; in RESP2 a bulk string."""
    text = b"%.17g" % number
    return b",%b\r\n" % text if resp3 else bulk(text)


def boolean(truth: bool, resp3: bool) -> bytes:
    """True or false; in RESP2 the integers 1 and 0."""
    if resp3:
        return b"#t\r\n" if truth else b"#f\r\n"
    return b":1\r\n" if truth else b":0\r\n"


def verbatim(text: str | bytes, resp3: bool, kind: str = "txt") -> bytes:
    """Text for people, `kind` its format in three letters; in RESP2 a bulk string."""
    data = text.encode() if isinstance(text, str) else text
    return b"=%d\r\n%b:%b\r\n" % (len(data) + 4, kind.encode(), data) if resp3 else bulk(data)


def encode(value: Value, resp3: bool) -> bytes:
    """Any plain Python value, for commands that are not hot. Raises TypeError for a value that RESP has no type for."""
    if value is None:
        return null(resp3)
    if isinstance(value, bool):  # before int: a bool is an int, too
        return boolean(value, resp3)
    if isinstance(value, int):
        return integer(value)
    if isinstance(value, float):
        return double(value, resp3)
    if isinstance(value, str):
        return bulk(value.encode())
    if isinstance(value, bytes):
        return bulk(value)
    if isinstance(value, list | tuple):
        return array([encode(item, resp3) for item in value])
    if isinstance(value, dict):
        return map_([(encode(key, resp3), encode(item, resp3)) for key, item in value.items()], resp3)
    raise TypeError(f"RESP has no type for {type(value).__name__}")


def command(*arguments: bytes | str | int) -> bytes:
    """A command as a client sends it: an array of bulk strings. Raises TypeError for arguments of other types."""
    return pack_command(arguments)


def scalars_of(reply: bytes) -> Iterator[bytes]:
    """The bulk strings and doubles in one of our own encoded replies, in order, however they are nested."""
    place = 0
    while place < len(reply):
        end = reply.index(b"\r\n", place)
        kind, text = reply[place], reply[place + 1 : end]
        place = end + 2
        if kind == 0x24 and text != b"-1":
            yield reply[place : place + int(text)]
            place += int(text) + 2
        elif kind == 0x2C:
            yield text


def bulks_of(array: bytes) -> list[bytes]:
    """The items of an encoded array of bulk strings. Read in C: the elements of a pop may be very many."""
    reader = hiredis.Reader()
    reader.feed(array)
    items: list[bytes] = reader.gets()
    return items


def items_of(array: bytes) -> list[bytes]:
    """The encoded items of an encoded array, in order."""
    place = array.index(b"\r\n") + 2
    items = []
    for _ in range(int(array[1 : place - 2])):
        end = _end_of(array, place)
        items.append(array[place:end])
        place = end
    return items


def _end_of(data: bytes, place: int) -> int:
    """Where the reply ends that begins at `place`. It is one of our own: sound."""
    wanted = 1
    while wanted:
        end = data.index(b"\r\n", place)
        kind, text = data[place], data[place + 1 : end]
        place = end + 2
        wanted -= 1
        if kind in _AGGREGATES:
            wanted += max(int(text), 0) * _AGGREGATES[kind]
        elif kind in _SIZED and text != b"-1":
            place += int(text) + 2
    return place


_LINES: Final = b"+-:_,#("  # the type bytes of replies of one line
_SIZED: Final = b"$=!"  # the type bytes of replies that begin with their size
_AGGREGATES: Final = {0x2A: 1, 0x7E: 1, 0x3E: 1, 0x25: 2}  # array, set, push, map: items for each counted one
_COUNT_DIGITS_MAX: Final = 10
_BULK_BYTES_MIN: Final = 6  # $0, and two line ends
_CR: Final = 0x0D
_LF: Final = 0x0A
_DOLLAR: Final = 0x24
_ZERO: Final = 0x30
_NINE: Final = 0x39


def is_reply(data: bytes) -> bool:
    """HOT. Whether these bytes are exactly one encoded reply. Checks what another node sends for a client."""
    if data == OK or _is_bulk(data):
        return True
    place, wanted, size = 0, 1, len(data)
    while wanted:
        end = data.find(b"\r\n", place)
        if end <= place:
            return False
        kind = data[place]
        wanted -= 1
        if kind in _LINES:
            place = end + 2
            continue
        digits = data[place + 1 : end]
        count = int(digits) if digits.isdigit() and len(digits) <= _COUNT_DIGITS_MAX else -1
        place = end + 2
        if count < 0:
            if digits != b"-1" or kind not in b"$*":
                return False
        elif kind in _SIZED:
            place += count + 2
            if data[place - 2 : place] != b"\r\n":
                return False
        elif kind in _AGGREGATES:
            wanted += count * _AGGREGATES[kind]
            if wanted > size:
                return False
        else:
            return False
    return place == size


def _is_bulk(data: bytes) -> bool:
    """HOT. Whether these bytes are exactly one bulk string, the usual reply."""
    size: i64 = len(data)
    if size < _BULK_BYTES_MIN or data[0] != _DOLLAR:
        return False
    count: i64 = 0
    place: i64 = 1
    while place <= _COUNT_DIGITS_MAX and place < size - 1 and _ZERO <= data[place] <= _NINE:
        count = count * 10 + data[place] - _ZERO
        place += 1
    if place == 1 or place + count + 4 != size:
        return False
    return data[place] == _CR and data[place + 1] == _LF and data[size - 2] == _CR and data[size - 1] == _LF
