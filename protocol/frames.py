r"""Messages between nodes, each with a checksum (promise P11).

Theory. A message is a list of byte strings, or of lists of them. A frame holds the messages of one turn, one or more, and
is RESP, so that the same listener, the same tools and the same hiredis serve both clients and nodes:

    *2\r\n $8\r\n <checksum> \r\n $<size> \r\n <body> \r\n

The body is the messages as RESP arrays, one behind the other; the checksum is its xxh3_64, 8 bytes big endian. All else in
a frame has one possible form only, and is compared with it, so that no bit of a frame can change unnoticed: that is why
the reader cuts frames by hand, while hiredis, which skips some bytes unread, gets a body only after its checksum has
proved right.

A checksum is a shield against damage and not against malice: who may connect as a node is decided elsewhere. After
damage nothing tells where the next frame begins, so the connection has to be closed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import hiredis
from xxhash import xxh3_64_digest

from protocol.resp import pack_command

Item = bytes | int | str | Sequence[bytes]

_match_header = re.compile(rb"\*2\r\n\$8\r\n(.{8})\r\n\$([1-9]\d{0,9})\r\n", re.DOTALL).match
_HEADER_BYTES_MAX = 31
_CR, _LF = b"\r\n"
_BUFFER_BYTES_KEPT = 1 << 20
_LISTS = (list, tuple)
_LIST_OF_THREE = b"*3\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
_FRAME = b"*2\r\n$8\r\n%b\r\n$%d\r\n%b\r\n"


class DamagedFrame(Exception):
    """What came is not a sound frame, or too large a one; the message says which. The connection is of no use any more."""


def encode_message(message: Sequence[Item]) -> bytes:
    """A message as RESP. HOT. Integers and text become byte strings; TypeError for items that are neither."""
    try:
        # the last item is the likeliest to be a list; to find another out costs hiredis an exception
        return _encode_nested(message) if type(message[-1]) in _LISTS else pack_command(tuple(message))  # type: ignore[arg-type]
    except (IndexError, TypeError):
        return _encode_nested(message)


def seal(messages: list[bytes], body_bytes: int = 64 << 10) -> bytes:
    """Encoded messages as one frame, or as several of about `body_bytes`. HOT.

    hiredis moves what is left of its buffer after every KiB, so many messages in one large body would cost their square.
    """
    frames = []
    gathered: list[bytes] = []
    size = 0
    for message in messages:
        gathered.append(message)
        size += len(message)
        if size >= body_bytes:
            frames.append(_frame(b"".join(gathered)))
            gathered, size = [], 0
    if gathered:
        frames.append(_frame(b"".join(gathered)))
    return b"".join(frames)


def _frame(body: bytes) -> bytes:
    return _FRAME % (xxh3_64_digest(body), len(body), body)


def encode_frame(message: Sequence[Item]) -> bytes:
    """A frame of one message."""
    return seal([encode_message(message)])


def _encode_nested(message: Sequence[Any]) -> bytes:
    parts = [b"*%d\r\n" % len(message)]
    run: list[Any] = []  # of items that are no lists
    for item in message:
        if type(item) not in _LISTS:
            run.append(item)
            continue
        if run:
            parts.append(_encode_run(run))
            run = []
        if len(item) == 3:  # most are relayed SETs, and this takes two thirds of the time
            a, b, c = item
            parts.append(_LIST_OF_THREE % (len(a), a, len(b), b, len(c), c))
        else:
            parts.append(pack_command(tuple(item)))
    if run:
        parts.append(_encode_run(run))
    return b"".join(parts)


def _encode_run(run: list[Any]) -> bytes:
    return pack_command(tuple(run)).partition(b"\n")[2]  # items alone


class FrameReader:
    """Reads messages from the bytes of one connection: `feed` what arrived, then `next` until there is none."""

    __slots__ = ("_data", "_frame_bytes_max", "_inside", "_large", "_parser", "_start", "_wanted_bytes")

    def __init__(self, frame_bytes_max: int = 256 << 20) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._data: bytes | bytearray = b""
        self._start = 0  # of the next frame
        self._wanted_bytes = (
            1  # with fewer from _start on there is nothing to look at: the incomplete frame's, if known
        )
        self._parser: Any = hiredis.Reader()
        self._inside = False  # the parser holds messages of the last frame
        self._large = False  # the last frame was, so the parser is replaced behind it to give its memory back

    def feed(self, data: bytes) -> None:
        """Add bytes as they came from the socket. HOT. What waits here is less than one frame if all were taken."""
        if not self._data:
            self._data = data
            return
        start = self._start
        if isinstance(self._data, bytes):
            self._data = bytearray(self._data[start:])
        elif start:
            del self._data[:start]
        self._start = 0
        self._data += data

    def next(self) -> list[Any] | None:
        """The next message, its items bytes or lists of bytes; None if there is no whole one. HOT.

        Raises DamagedFrame, and again from then on, once all messages before the damage were taken.
        """
        if not self._inside and not self._open_frame():
            return None
        try:
            message = self._parser.gets()
        except (TypeError, hiredis.ProtocolError):
            message = None
        if type(message) is not list:  # the checksum is right, and still: something else than a node made it
            self._inside = True  # so that all further calls fail here, too
            raise DamagedFrame("the body of a frame is not arrays")
        self._inside = self._parser.has_data()
        if not self._inside and self._large:
            self._parser = hiredis.Reader()
            self._large = False
        return message

    def _open_frame(self) -> bool:
        """Feeds the parser with the body of the next frame, if that is whole. HOT."""
        data, start = self._data, self._start
        if len(data) - start < self._wanted_bytes:
            return False
        header = _match_header(data, start)
        if header is None:
            if len(data) - start >= _HEADER_BYTES_MAX:
                raise DamagedFrame("not the header of a frame")
            return False
        checksum, size = header.groups()
        body_start = header.end()
        body_end = body_start + int(size)
        stop = body_end + 2
        if stop > len(data) or stop - start > self._frame_bytes_max:
            self._await(stop - start)
            return False
        body = data[body_start:body_end]
        if xxh3_64_digest(body) != checksum or data[stop - 1] != _LF or data[body_end] != _CR:
            raise DamagedFrame("the checksum of a frame is wrong")
        self._parser.feed(body)
        self._large = len(body) > _BUFFER_BYTES_KEPT
        self._wanted_bytes = 1
        self._start = stop
        if stop == len(data):
            self._clear()
        return True

    def _clear(self) -> None:
        self._data = b""
        self._start = 0

    def _await(self, frame_bytes: int) -> None:
        if frame_bytes > self._frame_bytes_max:
            raise DamagedFrame(f"a frame of {frame_bytes} bytes: frame_bytes_max is {self._frame_bytes_max}")
        self._wanted_bytes = frame_bytes
