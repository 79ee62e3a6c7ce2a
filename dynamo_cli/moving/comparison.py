"""Compares the keys of a source with those of the cluster: type, expiry, and what the key holds.

Payloads of DUMP differ between servers, since each chooses its encodings. So values are read by commands: small ones whole,
many at a time, and large ones one by one in parts (large_values.py). The source is read first. Then each key needs two
commands of the cluster: for its expiry, and for its value. The value is read by the command for the type at the source. If
the cluster's key has another type, the reply is WRONGTYPE, which equals no value. While the cluster reads a page of keys,
the source is asked for the next.

What is left until a key expires is asked of the cluster later than of the source, so the cluster's may be shorter by the
time that has passed until its reply was there.

A key that differs is compared once more: it may have been written or have expired between the two readings.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from dynamo_cli.client import Client, Reply, Word
from dynamo_cli.failures import Refused
from dynamo_cli.moving.large_values import are_equal

CONTENT_MAX: Final = 1000  # items of a collection, or bytes of a string, that are read at once
_EXPIRY_SLACK_MS: Final = 2000
_SIZES: Final[dict[bytes, bytes]] = {
    b"string": b"STRLEN", b"list": b"LLEN", b"set": b"SCARD", b"zset": b"ZCARD", b"hash": b"HLEN",
    b"stream": b"XLEN",
}  # fmt: skip
_CONTENTS: Final[dict[bytes, tuple[Word, ...]]] = {
    b"string": (b"GET",), b"list": (b"LRANGE", 0, CONTENT_MAX), b"set": (b"SMEMBERS",), b"hash": (b"HGETALL",),
    b"zset": (b"ZRANGE", 0, CONTENT_MAX, b"WITHSCORES"), b"stream": (b"XRANGE", b"-", b"+", b"COUNT", CONTENT_MAX + 1),
}  # fmt: skip
_UNBOUNDED: Final = (b"set", b"hash")  # all of them is read at once, so their sizes are asked first
_STRING_START: Final[tuple[Word, ...]] = (b"GETRANGE", 0, CONTENT_MAX)
_WRONG_TYPE: Final = "WRONGTYPE"


class _Read(NamedTuple):
    """A key as the source has it. `content` is None of one that is large, and a Refused if its type has changed since."""

    key: bytes
    kind: bytes
    left_ms: int
    content: Any


class _Page(NamedTuple):
    """Keys that the cluster is asked for, and the function that waits for its replies: the expiry of each, then the content
    of each. `asked_s` is when the source was asked, as time.monotonic() tells."""

    asked_s: float
    read: list[_Read]
    replies: Callable[[], list[Reply | Refused]]


def differing(source: Client, target: Client, keys: Sequence[bytes]) -> list[bytes]:
    """Those of the keys that are not the same. Raises NotReached, and Refused."""
    comparison = Comparison(source, target)
    comparison.begin(keys)
    return comparison.finish()


class Comparison:
    """Compares pages of keys of one database."""

    def __init__(self, source: Client, target: Client) -> None:
        self._source = source
        self._target = target
        self._page: _Page | None = None

    def begin(self, keys: Sequence[bytes]) -> list[bytes]:
        """Asks the cluster for a page. Returns the keys of the page before that differ. Raises NotReached, and Refused."""
        asked_s = time.monotonic()
        read = self._read(keys)
        different = self.finish()
        self._page = self._asked(asked_s, read)
        return different

    def finish(self) -> list[bytes]:
        """Those of the last page that are not the same. Raises as `begin`."""
        page, self._page = self._page, None
        different = self._differing(page) if page is not None else []
        if not different:
            return different
        asked_s = time.monotonic()
        return self._differing(self._asked(asked_s, self._read(different)))

    def _read(self, keys: Sequence[bytes]) -> list[_Read]:
        """The keys as the source has them, without those that it does not have, or that cannot be imported."""
        told = _sound(self._source.pipeline([each for key in keys for each in ((b"TYPE", key), (b"PTTL", key))]))
        found = [each for each in zip(keys, told[::2], told[1::2], strict=True) if each[1] in _SIZES]
        first = _sound(self._source.pipeline([_first_reading(key, kind) for key, kind, _ in found]))
        small = [
            (key, kind)
            for (key, kind, _), size in zip(found, first, strict=True)
            if kind in _UNBOUNDED and not isinstance(size, Refused) and size <= CONTENT_MAX
        ]
        rest = _sound(self._source.pipeline([_reading(key, kind) for key, kind in small])) if small else []
        contents = {key: reply for (key, _), reply in zip(small, rest, strict=True)}
        return [
            _Read(*each, contents.get(each[0]) if each[1] in _UNBOUNDED else _unless_large(each[1], reply))
            for each, reply in zip(found, first, strict=True)
        ]

    def _asked(self, asked_s: float, read: list[_Read]) -> _Page:
        """Asks the cluster for keys: when they expire before what they hold, which may take long."""
        expiries: list[tuple[Word, ...]] = [(b"PTTL", one.key) for one in read]
        contents = [_reading(one.key, one.kind, one.content) for one in read]
        return _Page(asked_s, read, self._target.begin(expiries + contents))

    def _differing(self, page: _Page) -> list[bytes]:
        told = _sound(page.replies())
        passed_ms = round((time.monotonic() - page.asked_s) * 1000)
        found = zip(page.read, told[: len(page.read)], told[len(page.read) :], strict=True)
        return [one.key for one, left_ms, content in found if not self._is_equal(one, left_ms, content, passed_ms)]

    def _is_equal(self, one: _Read, left_ms: int, content: Any, passed_ms: int) -> bool:
        """Whether the cluster has the same. Its reply came at most `passed_ms` after the source was asked."""
        if one.kind == b"stream" and one.content == []:  # a cluster has no streams without entries
            return bool(content == b"none")
        if (one.left_ms < 0) != (left_ms < 0):
            return False
        if not -_EXPIRY_SLACK_MS <= one.left_ms - left_ms <= passed_ms + _EXPIRY_SLACK_MS:
            return False
        if one.content is None:
            return self._is_large_equal(one)
        return not isinstance(content, Refused) and _comparable(one.kind, one.content) == _comparable(one.kind, content)

    def _is_large_equal(self, one: _Read) -> bool:
        try:
            sizes = [client.call(_SIZES[one.kind], one.key) for client in (self._source, self._target)]
            size = sizes[0]
            if not isinstance(size, int) or sizes[1] != size:
                return False
            return are_equal(self._source, self._target, one.key, one.kind, size)
        except Refused as refused:
            if refused.code != _WRONG_TYPE:
                raise
            return False


def _first_reading(key: bytes, kind: bytes) -> tuple[Word, ...]:
    """The command that reads a small value, or the beginning of a large one, or how large it is."""
    if kind in _UNBOUNDED:
        return _SIZES[kind], key
    start = _STRING_START if kind == b"string" else _CONTENTS[kind]
    return (start[0], key, *start[1:])


def _reading(key: bytes, kind: bytes, expected: Any = b"") -> tuple[Word, ...]:
    """The command that reads a value. TYPE instead for a large value, which is compared in parts, and for a stream without
    entries."""
    if expected is None or (kind == b"stream" and expected == []):
        return b"TYPE", key
    return (_CONTENTS[kind][0], key, *_CONTENTS[kind][1:])


def _unless_large(kind: bytes, content: Any) -> Any:
    """What has been read; None if it is only the beginning of a large value."""
    if isinstance(content, bytes | list) and len(content) > CONTENT_MAX * (2 if kind == b"zset" else 1):
        return None
    return content


def _comparable(kind: bytes, reply: Any) -> Any:
    """What a key holds, in a form that does not depend on orders and spellings that servers choose."""
    if not isinstance(reply, list):
        return reply
    if kind == b"set":
        return sorted(reply)
    if kind == b"hash":
        return dict(zip(reply[::2], reply[1::2], strict=True))
    if kind == b"zset":
        return {member: float(score) for member, score in zip(reply[::2], reply[1::2], strict=True)}
    return reply


def _sound(replies: Sequence[Reply | Refused]) -> list[Any]:
    """The replies, a WRONGTYPE among them. Raises what else was refused."""
    for reply in replies:
        if isinstance(reply, Refused) and reply.code != _WRONG_TYPE:
            raise reply
    return list(replies)
