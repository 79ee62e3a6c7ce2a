r"""Pieces: a large message is sent in parts, so that small messages can pass it on the same connection.

The problem. A connection delivers in order. Behind a message of 16 MiB everything waits, the acknowledgements and the
gossip of a healthy node included.

The idea. A large message is cut into pieces. A piece is written whenever the socket has accepted the one before, and the
messages of the turns in between are written between pieces. Each piece is a frame of its own kind, so that the reader of
ordinary frames pays nothing for it:

    *3\r\n $8\r\n <checksum> \r\n $24\r\n <place> \r\n $<size> \r\n <data> \r\n

`place` is three numbers of 8 bytes, big endian: the number of the message, the offset of `data` in it, and its size in
bytes. The checksum is the xxh3_64 of `place` and `data` (promise P11).

The large messages of one connection are sent one after the other. So they keep their order, and the receiver assembles
one at a time. Their numbers rise. A piece that does not continue its message is dropped, and the message with it. (That
never happens over TCP, but does with the simulator's datagrams.) So a message may be lost, but is never delivered in part
or twice.

Earlier versions do not know pieces: a peer gets them only once it has announced that it reads them (links.py).
"""

from __future__ import annotations

from collections import deque
from struct import Struct
from typing import Any, Final

import hiredis
from xxhash import xxh3_64

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
    """The frame of one piece of an encoded message: `size` bytes from `start` on."""
    place = _PLACE.pack(number, start, len(message))
    data = memoryview(message)[start : start + size]
    checksum = xxh3_64(place)
    checksum.update(data)
    front = (PIECE_START, checksum.digest(), _BEFORE_PLACE, place, _BEFORE_SIZE, len(data))
    return b"".join((b"%b%b%b%b%b%d\r\n" % front, data, b"\r\n"))


class PieceQueue:
    """The large messages that wait on one connection, first in, first out."""

    def __init__(self, piece_bytes: int = PIECE_BYTES) -> None:
        self._piece_bytes = piece_bytes
        self._messages: deque[bytes] = deque()
        self._number = 0
        self._start = 0  # of the next piece of the first message
        self.waiting_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._messages)

    def add(self, message: bytes) -> None:
        """Appends an encoded message."""
        self._messages.append(message)
        self.waiting_bytes += len(message)

    def next(self) -> bytes:
        """Removes the next piece and returns its frame; empty bytes if there is none."""
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
        """Removes the first message and returns it whole, in a list; an empty list if there is none.

        For peers that do not read pieces.
        """
        if not self._messages:
            return []
        message = self._messages.popleft()
        self.waiting_bytes -= len(message)
        return [message]

    def clear(self) -> None:
        """Removes everything, after the connection was lost."""
        self._messages.clear()
        self._start = self.waiting_bytes = 0


class DamagedPiece(Exception):
    """The bytes are not a sound piece."""


class MessageAssembly:
    """The receiving side: assembles messages from their pieces, one message at a time."""

    __slots__ = ("_number", "_parser", "_received", "_size")

    def __init__(self) -> None:
        self._number = 0  # of the last message begun
        self._size = 0
        self._received = 0
        self._parser: Any = None

    @property
    def held_bytes(self) -> int:
        """The bytes held of a message that is not complete."""
        return self._received if self._parser is not None else 0

    def add(self, data: bytes, start: int, end: int, place: bytes) -> Any:
        """Adds the piece in `data` from `start` to `end`. With the last piece, returns a parser that holds the message."""
        number, first, size = _PLACE.unpack(place)
        if not first and number > self._number:
            self._number, self._size, self._received = number, size, 0
            self._parser = hiredis.Reader()
        elif self._parser is None or number != self._number or first != self._received or size != self._size:
            return None
        self._parser.feed(data, start, end - start)
        self._received += end - start
        if self._received < self._size:
            return None
        parser, self._parser = self._parser, None
        return parser


class Piece:
    """The positions of a piece in the bytes of a connection."""

    __slots__ = ("data_end", "data_start", "place", "stop")

    def __init__(self, data_start: int, data_end: int, place: bytes) -> None:
        self.data_start = data_start
        self.data_end = data_end
        self.stop = data_end + 2
        self.place = place


def find_piece(fed: bytes, start: int, message_bytes_max: int) -> Piece | None:
    """The piece whose header begins at `start`; None if the header is incomplete. Raises DamagedPiece."""
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
    """Whether the checksum of the complete piece at `start` is right, and CR LF ends it."""
    hash_ = xxh3_64(piece.place)
    hash_.update(memoryview(fed)[piece.data_start : piece.data_end])
    checksum = fed[start + _CHECKSUM.start : start + _CHECKSUM.stop]
    return hash_.digest() == checksum and fed[piece.data_end : piece.stop] == b"\r\n"
