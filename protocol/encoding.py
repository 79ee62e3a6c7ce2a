"""Encodes messages between nodes: lists of items, each a byte string or a list of byte strings, as RESP (frames.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from librt.strings import BytesWriter
from mypy_extensions import i64

from protocol.native import native

Item = bytes | int | str | Sequence[bytes]

_LINE_END: Final = b"\r\n"
_LARGE_BYTES: Final = 64 << 10  # of an item: it is copied once only, for some objects more
# The header of an item, behind the line break that ends the item before it.
_BULK_HEADERS: Final = [b"\r\n$%d\r\n" % length for length in range(1024)]
_LIST_HEADERS: Final = [b"\r\n*%d" % count for count in range(64)]
_native_encoded: Final = native("encoded")  # None, or `encode_blobs` and the others in C


def encode_message(message: Sequence[Item]) -> bytes:
    """HOT. A message as RESP. Integers and text become byte strings; raises TypeError for items of other types."""
    if _native_encoded is not None:
        encoded: bytes | None = _native_encoded(message, ())
        if encoded is not None:
            return encoded
    writer = BytesWriter()
    writer.write(b"*%d" % len(message))
    _write_items(writer, message)
    writer.write(_LINE_END)
    return writer.getvalue()


def encode_blobs(head: Sequence[Item], blobs: list[bytes]) -> bytes:
    """HOT. The same as `encode_message` of `head` and the byte strings behind it, which may be many."""
    if _native_encoded is not None:
        encoded: bytes | None = _native_encoded(head, blobs)
        if encoded is not None:
            return encoded
    writer = BytesWriter()
    writer.write(b"*%d" % (len(head) + len(blobs)))
    _write_items(writer, head)
    if blobs and len(blobs[-1]) >= _LARGE_BYTES:
        return b"".join([writer.getvalue(), *_parts_of(blobs), _LINE_END])
    for blob in blobs:
        writer.write(bulk_header(len(blob)))
        writer.write(blob)
    writer.write(_LINE_END)
    return writer.getvalue()


def _parts_of(blobs: list[bytes]) -> list[bytes]:
    """Byte strings with their headers, to be joined: large ones are copied once only."""
    return [part for blob in blobs for part in (bulk_header(len(blob)), blob)]


def encode_lists(head: Sequence[Item], lists: list[list[bytes]]) -> bytes:
    """HOT. The same as `encode_message` of `head` and the lists of byte strings behind it, which may be many."""
    if _native_encoded is not None:
        encoded: bytes | None = _native_encoded(head, lists)
        if encoded is not None:
            return encoded
    writer = BytesWriter()
    writer.write(b"*%d" % (len(head) + len(lists)))
    _write_items(writer, head)
    if lists and lists[-1] and len(lists[-1][-1]) >= _LARGE_BYTES:
        rows = [b"".join([b"\r\n*%d" % len(items), *_parts_of(items)]) for items in lists[:-1]]
        return b"".join([writer.getvalue(), *rows, b"\r\n*%d" % len(lists[-1]), *_parts_of(lists[-1]), _LINE_END])
    for items in lists:
        count: i64 = len(items)
        writer.write(_LIST_HEADERS[count] if count < 64 else b"\r\n*%d" % count)
        for item in items:
            writer.write(bulk_header(len(item)))
            writer.write(item)
    writer.write(_LINE_END)
    return writer.getvalue()


def _write_items(writer: BytesWriter, items: Sequence[Item]) -> None:
    for item in items:
        if isinstance(item, bytes):
            value = item
        elif isinstance(item, (list, tuple)):
            _write_list(writer, item)
            continue
        elif isinstance(item, int) and not isinstance(item, bool):
            value = str(item).encode()
        elif isinstance(item, str):
            value = item.encode()
        else:
            raise TypeError(f"a message cannot hold {type(item).__name__}")
        size: i64 = len(value)
        writer.write(bulk_header(size))
        writer.write(value)


def bulk_header(size: i64) -> bytes:
    return _BULK_HEADERS[size] if size < 1024 else b"\r\n$%d\r\n" % size


def _write_list(writer: BytesWriter, items: Sequence[bytes]) -> None:
    count: i64 = len(items)
    writer.write(_LIST_HEADERS[count] if count < 64 else b"\r\n*%d" % count)
    for item in items:
        size: i64 = len(item)
        writer.write(bulk_header(size))
        writer.write(item)  # TypeError if it is no byte string
