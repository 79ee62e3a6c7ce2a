r"""Messages between nodes, each with a checksum (promise P11).

A message is a list of items, each a byte string or a list of byte strings. A frame holds one or more messages of one
turn. It is RESP, so that the same listener, the same tools and the same hiredis serve both clients and nodes:

    *2\r\n $8\r\n <checksum> \r\n $<size> \r\n <body> \r\n

The body is the messages as RESP arrays, one behind the other; the checksum is its xxh3_64, 8 bytes big endian. Everything
else in a frame has only one possible form, and the reader compares it with that form, so every changed bit is detected.
hiredis skips some bytes unread, so this module reads frames by itself; it looks at a body only after its checksum was
right. (That also takes half of the instructions that hiredis takes for a body, which has to be copied for it first.)

A checksum detects damage, not malice: other code decides who may connect as a node. After damage nothing says where the
next frame begins, so the connection has to be closed.

A large message is sent in pieces, which are frames of another kind between these (pieces.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import hiredis
from librt.strings import read_i64_be
from mypy_extensions import i64
from xxhash import xxh3_64_digest

from protocol.encoding import Item, bulk_header
from protocol.encoding import encode_blobs as encode_blobs
from protocol.encoding import encode_lists as encode_lists
from protocol.encoding import encode_message as encode_message
from protocol.leftovers import joined
from protocol.native import native
from protocol.pieces import PIECE_START, DamagedPiece, MessageAssembly, find_piece, is_sound

_BEFORE_CHECKSUM: Final = b"*2\r\n$8\r\n"
_BEFORE_CHECKSUM_NUMBER: Final = 0x2A320D0A24380D0A  # the same eight bytes as one number, to compare them at once
_CHECKSUM_START: Final = 8
_CHECKSUM_END: Final = 16
_SIZE_DIGITS_MAX: Final = 10
_HEADER_BYTES_MAX: Final = 31
_LINE_END: Final = b"\r\n"
_CR: Final = 0x0D  # as numbers, and final, for the compiler
_LF: Final = 0x0A
_DOLLAR: Final = 0x24
_STAR: Final = 0x2A
_ZERO: Final = 0x30
_NINE: Final = 0x39
_VIEWED_BYTES_MIN: Final = 4 << 10  # of a body: to view it costs less than to copy it
BODY_BYTES: Final = 64 << 10


_NO_ARRAYS: Final = "the body of a frame is not arrays"
_native_message_at: Final = native("message_at")  # None, or `_message_at` in C: it returns None instead of raising


class DamagedFrame(Exception):
    """The bytes are no sound frame, or the frame is too large; the message says which. The connection must be closed."""


def seal(messages: list[bytes], body_bytes: int = BODY_BYTES) -> bytes:
    """HOT. Encoded messages as one frame, or as several frames of about `body_bytes`.

    hiredis moves the rest of its buffer after every KiB, so many messages in one large body would cost quadratic time.
    """
    return seal_small(messages, 1 << 62, [], body_bytes)


def seal_small(messages: list[bytes], large_bytes: i64, large: list[bytes], body_bytes: i64 = BODY_BYTES) -> bytes:
    """HOT. As `seal`, but messages of at least `large_bytes` (which is at least `body_bytes`) are appended to `large`."""
    parts: list[bytes] = []
    gathered: list[bytes] = []
    size = 0
    for message in messages:
        gathered.append(message)
        size += len(message)
        if size >= body_bytes:
            if len(message) >= large_bytes:
                large.append(gathered.pop())
                size -= len(message)
                continue
            _add_frame(parts, gathered)
            gathered, size = [], 0
    if gathered:
        _add_frame(parts, gathered)
    return b"".join(parts)


def _add_frame(parts: list[bytes], messages: list[bytes]) -> None:
    body = messages[0] if len(messages) == 1 else b"".join(messages)
    size: i64 = len(body)
    parts += (_BEFORE_CHECKSUM, xxh3_64_digest(body), bulk_header(size), body, _LINE_END)


def encode_frame(message: Sequence[Item]) -> bytes:
    """A frame of one message."""
    return seal([encode_message(message)])


def _read_header(data: bytes, start: i64) -> tuple[i64, i64]:
    """HOT. The start and the size of the body of the frame at `start`; zeros if the header is incomplete or wrong."""
    try:
        if read_i64_be(data, start) != _BEFORE_CHECKSUM_NUMBER:
            return 0, 0
        scan: i64 = start + _CHECKSUM_END
        if data[scan] != _CR or data[scan + 1] != _LF or data[scan + 2] != _DOLLAR or data[scan + 3] == _ZERO:
            return 0, 0
        scan += 3
        first: i64 = scan
        size: i64 = 0
        while _ZERO <= data[scan] <= _NINE and scan - first < _SIZE_DIGITS_MAX:
            size = size * 10 + data[scan] - _ZERO
            scan += 1
        sound = data[scan] == _CR and data[scan + 1] == _LF and scan > first
    except IndexError:
        return 0, 0
    return (scan + 2, size) if sound else (0, 0)


def _number_at(data: bytes, scan: i64) -> tuple[i64, i64]:
    """HOT. The number between the type byte at `scan` and the next line break, and where what follows begins.

    Raises IndexError if the bytes end before, and ValueError if it is no number.
    """
    number: i64 = data[scan + 1] - _ZERO
    if number > 9:
        raise ValueError
    scan += 2
    stop = scan + _SIZE_DIGITS_MAX - 1
    byte: i64 = data[scan]
    while byte != _CR:
        digit = byte - _ZERO
        if digit < 0 or digit > 9 or scan == stop:
            raise ValueError
        number = number * 10 + digit
        scan += 1
        byte = data[scan]
    if number < 0 or data[scan + 1] != _LF:
        raise ValueError
    return number, scan + 2


def _message_at(data: bytes, start: i64, end: i64) -> tuple[list[Any], i64]:
    """HOT. The message at `start` in a body that ends at `end`, and where the next one begins.

    Raises IndexError or ValueError if there is no message of byte strings and lists of byte strings.
    """
    if data[start] != _STAR:
        raise ValueError
    left, scan = _number_at(data, start)
    message: list[Any] = []
    while left > 0:
        left -= 1
        if data[scan] == _STAR:
            count, scan = _number_at(data, scan)
            items: list[bytes] = []
            while count > 0:
                count -= 1
                if data[scan] != _DOLLAR:
                    raise ValueError
                size, scan = _number_at(data, scan)
                items.append(data[scan : scan + size])
                scan += size + 2
            message.append(items)
        elif data[scan] == _DOLLAR:
            size, scan = _number_at(data, scan)
            message.append(data[scan : scan + size])
            scan += size + 2
        else:
            raise ValueError
    if scan > end:
        raise ValueError
    return message, scan


def _find_message(data: bytes, start: int, end: int) -> tuple[list[Any], int] | None:
    """HOT. The same as `_message_at`, but None if there is no message."""
    if _native_message_at is not None:
        found: tuple[list[Any], int] | None = _native_message_at(data, start, end)
        return found
    try:
        message, after = _message_at(data, start, end)
    except (IndexError, ValueError):
        return None
    return message, int(after)


class FrameReader:
    """Reads messages from the bytes of one connection: `feed` what arrived, then `next` until there is none."""

    __slots__ = (
        "_assembly",
        "_body_end",
        "_data",
        "_frame_bytes_max",
        "_inside",
        "_parser",
        "_start",
        "_wanted_bytes",
        "in_pieces",
    )

    def __init__(self, frame_bytes_max: int = 256 << 20) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._assembly: MessageAssembly | None = None  # of the first piece, and from then on
        self._data: bytes | bytearray = b""
        self._start = 0  # of the next frame; inside a body, of its next message
        self._body_end = 0  # of the body that `_start` is in
        self._wanted_bytes = 1  # from _start on: with fewer no frame can be read (its size, once that is known)
        self.in_pieces = False  # the last message has come in pieces: it is large, or must not overtake one that is
        self._inside = False  # there are more messages in the last frame
        self._parser: hiredis.Reader | None = None  # holds the message whose last piece has come

    def feed(self, data: bytes) -> None:
        """HOT. Adds bytes as they came from the socket. After `next` has answered None, less than one frame is held."""
        if not self._data:
            self._data = data
            return
        self._data = joined(self._data, self._start, data)
        self._body_end -= self._start
        self._start = 0

    @property
    def pending_bytes(self) -> int:
        """HOT. The bytes held of an incomplete frame, and of an incomplete message in pieces."""
        pending = len(self._data) - self._start
        return pending if self._assembly is None else pending + self._assembly.held_bytes

    def next(self) -> list[Any] | None:
        """HOT. The next message, its items bytes or lists of bytes; None if there is no complete one.

        Raises DamagedFrame after all messages before the damage were answered, and again with every further call.
        """
        if not self._inside and not self._open_frame():
            return None
        if self._parser is not None:
            return self._assembled(self._parser)
        data = self._data
        if not isinstance(data, bytes):
            data = bytes(data)
        found = _find_message(data, self._start, self._body_end)
        if found is None:  # the checksum is right, so the sender is no node
            self._inside = True  # so that all further calls fail here, too
            raise DamagedFrame(_NO_ARRAYS)
        message, after = found
        if after == self._body_end:
            self._inside = False
            self._leave(after + 2)
        else:
            self._inside = True
            self._start = after
        return message

    def _assembled(self, parser: hiredis.Reader) -> list[Any]:
        """The message that has come in pieces."""
        try:
            message = parser.gets()
        except (TypeError, hiredis.ProtocolError):
            message = None
        if type(message) is not list:
            self._inside = True
            raise DamagedFrame(_NO_ARRAYS)
        self._inside = parser.has_data()
        if not self._inside:
            self._parser = None
        return message

    def _open_frame(self) -> bool:
        """HOT. Finds the next complete frame or message in pieces; False if there is none."""
        data = self._data
        start: i64 = self._start
        if len(data) - start < self._wanted_bytes:
            return False
        if not isinstance(data, bytes):
            self._data = data = bytes(data)
        fed: bytes = data
        body_start, size = _read_header(fed, start)
        if body_start == 0:
            if PIECE_START.startswith(fed[start : start + len(PIECE_START)]):
                return self._open_pieces(fed, int(start))
            if len(fed) - start >= _HEADER_BYTES_MAX:
                raise DamagedFrame("not the header of a frame")
            return False
        body_end = body_start + size
        stop = body_end + 2
        if stop > len(fed) or stop - start > self._frame_bytes_max:
            self._await(stop - start)
            return False
        body = fed[body_start:body_end] if size < _VIEWED_BYTES_MIN else memoryview(fed)[body_start:body_end]
        checksum = fed[start + _CHECKSUM_START : start + _CHECKSUM_END]
        if xxh3_64_digest(body) != checksum or fed[body_end] != _CR or fed[stop - 1] != _LF:
            raise DamagedFrame("the checksum of a frame is wrong")
        self.in_pieces = False
        self._wanted_bytes = 1
        self._start = int(body_start)
        self._body_end = int(body_end)
        return True

    def _open_pieces(self, fed: bytes, start: int) -> bool:
        """Reads pieces from `start` on, until one completes its message or the next bytes are no complete piece."""
        if self._assembly is None:
            self._assembly = MessageAssembly()
        try:
            while fed.startswith(PIECE_START, start):
                piece = find_piece(fed, start, self._frame_bytes_max)
                if piece is None or piece.stop > len(fed):
                    self._await((len(fed) + 1 if piece is None else piece.stop) - start)
                    return False
                if not is_sound(fed, start, piece):
                    raise DamagedFrame("the checksum of a piece is wrong")
                parser = self._assembly.add(fed, piece.data_start, piece.data_end, piece.place)
                self._wanted_bytes = 1
                start = piece.stop
                self._leave(start)
                if parser is not None:
                    self._parser = parser
                    self.in_pieces = True
                    return True
        except DamagedPiece as error:
            raise DamagedFrame(str(error)) from error
        if start == len(fed):
            return False
        return False if PIECE_START.startswith(fed[start:]) else self._open_frame()

    def _leave(self, stop: int) -> None:
        """HOT. The next frame begins at `stop`."""
        self._start = stop
        if stop == len(self._data):  # so an idle connection holds no memory
            self._data = b""
            self._start = 0

    def _await(self, frame_bytes: int) -> None:
        if frame_bytes > self._frame_bytes_max:
            raise DamagedFrame(f"a frame of {frame_bytes} bytes: frame_bytes_max is {self._frame_bytes_max}")
        self._wanted_bytes = frame_bytes
