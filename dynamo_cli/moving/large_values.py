"""Compares a large value of two servers, part by part, so that neither has to answer with all of it at once.

Strings, lists, sorted sets and streams have an order: equal parts are at equal places. Sets and hashes have none: all that
one server names by SSCAN and HSCAN is asked of the other one. As both have the same number of items, that is enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from dynamo_cli.client import Client, Reply, Word

_ITEMS: Final = 1000
_NO_ID: Final = b"%d-0" % (1 << 64)  # behind the last one
_STRING_BYTES: Final = 1 << 20


def are_equal(source: Client, target: Client, key: bytes, kind: bytes, size: int) -> bool:
    """Whether a key, which has that type and size at both servers, holds the same. Raises NotReached, and Refused."""
    if kind in (b"set", b"hash"):
        return all(_has(target, key, kind, items) for items in _scanned(source, key, kind))
    if kind == b"stream":
        return _are_equal_streams(source, target, key)
    commands = _parts(key, kind, size)
    return all(_scores(kind, source.call(*words)) == _scores(kind, target.call(*words)) for words in commands)


def _are_equal_streams(source: Client, target: Client, key: bytes) -> bool:
    start = b"-"
    while True:
        entries = source.call("XRANGE", key, start, "+", "COUNT", _ITEMS)
        if target.call("XRANGE", key, start, "+", "COUNT", _ITEMS) != entries:
            return False
        match entries:
            case []:
                return True
            case [*_, [bytes() as last, _]]:
                start = _behind(last)
            case _:
                raise source.nonsense("XRANGE", "not [[id, [field, value, ...]], ...]")
        if start == _NO_ID:
            return True


def _behind(last: bytes) -> bytes:
    """The id behind this one. ("(" before an id would say that, too, but Redis 5 and 6.0 do not know it.)"""
    ms, _, sequence = last.partition(b"-")
    number = (int(ms) << 64 | int(sequence)) + 1
    return b"%d-%d" % (number >> 64, number & (1 << 64) - 1)


def _parts(key: bytes, kind: bytes, size: int) -> Iterator[tuple[Word, ...]]:
    """The commands that read an ordered value."""
    step = _STRING_BYTES if kind == b"string" else _ITEMS
    for start in range(0, size, step):
        if kind == b"string":
            yield "GETRANGE", key, start, start + step - 1
        elif kind == b"list":
            yield "LRANGE", key, start, start + step - 1
        else:
            yield "ZRANGE", key, start, start + step - 1, "WITHSCORES"


def _scores(kind: bytes, reply: Reply) -> Any:
    """A part of a sorted set with its scores as numbers, which servers spell differently; others as they are."""
    if kind == b"zset" and isinstance(reply, list):
        return reply[::2], [float(score) for score in reply[1::2]]
    return reply


def _scanned(client: Client, key: bytes, kind: bytes) -> Iterator[list[bytes]]:
    """The members of a set, or fields and values of a hash."""
    command, cursor = "SSCAN" if kind == b"set" else "HSCAN", b"0"
    while True:
        match client.call(command, key, cursor, "COUNT", _ITEMS):
            case [bytes() as cursor, list() as items]:
                yield items
            case _:
                raise client.nonsense(command, "not [cursor, [item, ...]]")
        if cursor == b"0":
            return


def _has(client: Client, key: bytes, kind: bytes, items: list[bytes]) -> bool:
    """Whether a set has these members, or a hash these fields and values."""
    if not items:
        return True
    if kind == b"hash":
        return client.call("HMGET", key, *items[::2]) == items[1::2]
    return client.pipeline([("SISMEMBER", key, item) for item in items]) == [1] * len(items)
