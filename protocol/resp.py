"""provisional"""

from __future__ import annotations
from collections.abc import Sequence
import hiredis

OK = b"+OK\r\n"
PONG = b"+PONG\r\n"


def null(resp3: bool) -> bytes:
    return b"_\r\n" if resp3 else b"$-1\r\n"


def null_array(resp3: bool) -> bytes:
    return b"_\r\n" if resp3 else b"*-1\r\n"


def bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


def simple(text: str) -> bytes:
    return b"+" + text.encode() + b"\r\n"


def integer(n: int) -> bytes:
    return b":%d\r\n" % n


def error(message: str | bytes) -> bytes:
    if isinstance(message, str):
        message = message.encode()
    return b"-" + message.replace(b"\r", b" ").replace(b"\n", b" ") + b"\r\n"


def array(items: Sequence[bytes]) -> bytes:
    return b"*%d\r\n" % len(items) + b"".join(items)


def command(*args: bytes | str | int) -> bytes:
    return hiredis.pack_command(args)
