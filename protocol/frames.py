"""provisional"""

from __future__ import annotations
from collections.abc import Sequence
from typing import Any
import hiredis
from xxhash import xxh3_64_digest


class DamagedFrame(Exception):
    pass


def encode_frame(message: Sequence[Any]) -> bytes:
    if any(isinstance(m, (tuple, list)) for m in message):
        body = b"*%d\r\n" % len(message) + b"".join(
            [
                hiredis.pack_command(tuple(m)) if isinstance(m, (tuple, list)) else hiredis.pack_command((m,))[4:]
                for m in message
            ]
        )
    else:
        body = hiredis.pack_command(tuple(message))
    return b"*2\r\n$8\r\n%b\r\n$%d\r\n%b\r\n" % (xxh3_64_digest(body), len(body), body)


class FrameReader:
    def __init__(self, frame_bytes_max: int) -> None:
        self._r = hiredis.Reader()
        self._b = hiredis.Reader()

    def feed(self, data: bytes) -> None:
        self._r.feed(data)

    def next(self) -> list[Any] | None:
        m = self._r.gets()
        if m is False:
            return None
        if xxh3_64_digest(m[1]) != m[0]:
            raise DamagedFrame("x")
        self._b.feed(m[1])
        return self._b.gets()
