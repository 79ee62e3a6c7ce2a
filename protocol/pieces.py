r"""Pieces: a large message travels in parts between which small messages pass it on the same connection.

Theory. A connection delivers in order, so whoever writes a message of 16 MiB makes all that comes behind it wait: the
acknowledgements and the gossip of a healthy node, too. A large message is therefore cut into pieces, one is written
whenever the socket has taken the one before, and what the turns have to say meanwhile is written between them. Each piece
is a frame of its own kind, so that the reader of ordinary frames pays nothing for it:

    *3\r\n $8\r\n <checksum> \r\n $24\r\n <place> \r\n $<size> \r\n <data> \r\n

`place` is three numbers of 8 bytes, big endian: of the message, of the first byte of `data` in it, of all its bytes. The
checksum is the xxh3_64 of `place` and `data` (promise P11).

Large messages of one connection follow each other, so they keep their order, and whoever receives them puts one together at
a time. Their numbers rise. A piece that does not continue the message it belongs to (TCP never does that, the simulator's
datagrams do) is dropped, and with it its message: messages may be lost, but none comes in part, or twice.

An older node does not know pieces: they are sent to a peer only once it has said that it reads them (links.py).
"""

from __future__ import annotations

from collections import deque
from struct import Struct
from typing import Any, Final

import hiredis
from xxhash import xxh3_64, xxh3_64_digest

PIECE_BYTES: Final = 64 << 10
PIECE_START: Final = b"*3\r\n$8\r\n"
_HEADER_BYTES_MAX: Final = 64
_PLACE: Final = Struct(">QQQ")
_CHECKSUM: Final = slice(8, 16)
_BEFORE_PLACE: Final = b"\r\n$24\r\n"
_BEFORE_SIZE: Final = b"\r\n$"
_PLACE_START: Final = 23
_PLACE_END: Final = 47
_SIZE_START: Final = 50
_SIZE_DIGITS_MAX: Final = 10


def piece_of(message: bytes, number: int, start: int, size: int = PIECE_BYTES) -> bytes:
    """The frame of the piece of an encoded message that begins at byte `start`."""
    place = _PLACE.pack(number, start, len(message))
    data = message[start : start + size]
    checksum = xxh3_64_digest(place + data)
    return b"%b%b%b%b%b%d\r\n%b\r\n" % (PIECE_START, checksum, _BEFORE_PLACE, place, _BEFORE_SIZE, len(data), data)


class PieceQueue:
    """The large messages that wait for their turn on one connection, first in, first out."""

    def __init__(self, piece_bytes: int = PIECE_BYTES) -> None:
        self._piece_bytes = piece_bytes
        self._messages: deque[bytes] = deque()
        self._number = 0
        self._start = 0  # of the next piece of the first message
        self.waiting_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._messages)

    def add(self, message: bytes) -> None:
        """An encoded message takes its place at the end."""
        self._messages.append(message)
        self.waiting_bytes += len(message)

    def next(self) -> bytes:
        """The frame of the next piece; empty if there is none."""
        if not self._messages:
            return b""
        message = self._messages[0]
        if not self._start:
            self._number += 1
        piece = piece_of(message, self._number, self._start, self._piece_bytes)
        sent = min(self._piece_bytes, len(message) - self._start)
        self._start += sent
        self.waiting_bytes -= sent
        if self._start == len(message):
            self._messages.popleft()
            self._start = 0
        return piece

    def pop(self) -> list[bytes]:
        """The first message, whole, in a list; an empty one if there is none. For a peer that does not read pieces."""
        if not self._messages:
            return []
        message = self._messages.popleft()
        self.waiting_bytes -= len(message)
        return [message]

    def clear(self) -> None:
        """The connection is gone, and all that waits with it."""
        self._messages.clear()
        self._start = self.waiting_bytes = 0


class DamagedPiece(Exception):
    """The bytes are not a sound piece."""


class Assembly:
    """The receiving side: puts the message together of which the pieces come, one at a time."""

    __slots__ = ("_number", "_parser", "_size", "_taken")

    def __init__(self) -> None:
        self._number = 0  # of the last message begun
        self._size = 0
        self._taken = 0
        self._parser: Any = None

    @property
    def held_bytes(self) -> int:
        """What has come of a message that is not whole."""
        return self._taken if self._parser is not None else 0

    def take(self, data: bytes, start: int, end: int, place: bytes) -> Any:
        """The piece that stands in `data` from `start` to `end`. Answers a parser that holds the whole message with its
        last piece, else None."""
        number, first, size = _PLACE.unpack(place)
        if not first and number > self._number:
            self._number, self._size, self._taken = number, size, 0
            self._parser = hiredis.Reader()
        elif self._parser is None or number != self._number or first != self._taken or size != self._size:
            return None
        self._parser.feed(data, start, end - start)
        self._taken += end - start
        if self._taken < self._size:
            return None
        parser, self._parser = self._parser, None
        return parser


class Piece:
    """Where the parts of a piece stand in the bytes of a connection; `size_max` bounds its message."""

    __slots__ = ("data_end", "data_start", "place", "stop")

    def __init__(self, data_start: int, data_end: int, place: bytes) -> None:
        self.data_start = data_start
        self.data_end = data_end
        self.stop = data_end + 2
        self.place = place


def find_piece(fed: bytes, start: int, message_bytes_max: int) -> Piece | None:
    """The piece whose header begins at `start`; None if the header is not whole yet. Raises DamagedPiece."""
    header = fed[start : start + _HEADER_BYTES_MAX]
    size_end = header.find(b"\r\n", _SIZE_START)
    fixed = (header[:8], header[16:_PLACE_START], header[_PLACE_END:_SIZE_START])
    wanted = (PIECE_START, _BEFORE_PLACE, _BEFORE_SIZE)
    if any(not word.startswith(part) for part, word in zip(fixed, wanted, strict=True)):
        raise DamagedPiece("not the header of a piece")
    if size_end < 0:
        if len(header) >= _SIZE_START + _SIZE_DIGITS_MAX:
            raise DamagedPiece("not the header of a piece")
        return None
    digits = header[_SIZE_START:size_end]
    if not digits.isdigit() or digits[:1] == b"0":
        raise DamagedPiece("not the header of a piece")
    place, size = header[_PLACE_START:_PLACE_END], int(digits)
    _, first, whole = _PLACE.unpack(place)
    if whole > message_bytes_max:
        raise DamagedPiece(f"a message of {whole} bytes: frame_bytes_max is {message_bytes_max}")
    if first + size > whole:
        raise DamagedPiece("a piece that reaches beyond its message")
    data_start = start + size_end + 2
    return Piece(data_start, data_start + size, place)


def is_sound(fed: bytes, start: int, piece: Piece) -> bool:
    """Whether the checksum of the whole piece at `start` is right, and its end is an end."""
    hash_ = xxh3_64(piece.place)
    hash_.update(memoryview(fed)[piece.data_start : piece.data_end])
    checksum = fed[start + _CHECKSUM.start : start + _CHECKSUM.stop]
    return hash_.digest() == checksum and fed[piece.data_end : piece.stop] == b"\r\n"
