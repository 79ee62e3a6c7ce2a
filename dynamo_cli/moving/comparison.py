"""Compares the keys of a source with those of the cluster: type, expiry, and what the key holds.

Payloads of DUMP differ between servers, since each chooses its encodings. So values are read by commands: small ones whole,
many at a time, and large ones one by one in parts (large_values.py). A key that differs is compared once more: it may have
been written or have expired between the two readings. A key whose type changes between two commands of a reading differs,
too: its WRONGTYPE stands in the place of the value, and equals nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from dynamo_cli.client import Client, Reply, Word
from dynamo_cli.failures import Refused
from dynamo_cli.moving.large_values import are_equal

CONTENT_MAX: Final = 1000  # items of a collection, or bytes of a string, that are read at once
_EXPIRY_SLACK_MS: Final = 2000
_SIZES: Final[dict[bytes, str]] = {
    b"string": "STRLEN", b"list": "LLEN", b"set": "SCARD", b"zset": "ZCARD", b"hash": "HLEN",
    b"stream": "XLEN",
}  # fmt: skip
_CONTENTS: Final[dict[bytes, tuple[Word, ...]]] = {
    b"string": ("GET",), b"list": ("LRANGE", 0, -1), b"set": ("SMEMBERS",), b"hash": ("HGETALL",),
    b"zset": ("ZRANGE", 0, -1, "WITHSCORES"), b"stream": ("XRANGE", "-", "+"),
}  # fmt: skip
_WRONG_TYPE: Final = "WRONGTYPE"
Outline = tuple[bytes, int, Any]  # type, ms left, and size, which is a Refused if the type has changed meanwhile


def differing(source: Client, target: Client, keys: Sequence[bytes]) -> list[bytes]:
    """Those of the keys that are not the same. Raises NotReached, and Refused."""
    different = _differing(source, target, keys)
    return _differing(source, target, different) if different else different


def _differing(source: Client, target: Client, keys: Sequence[bytes]) -> list[bytes]:
    both = [_outlines(client, keys) for client in (source, target)]
    alike = {key: one for key, one, other in zip(keys, *both, strict=True) if _are_alike(one, other)}
    readable = [key for key, (kind, _, _) in alike.items() if kind in _CONTENTS]
    kind_of = {key: alike[key][0] for key in readable if alike[key][2] <= CONTENT_MAX}
    contents = [_contents(client, kind_of) for client in (source, target)]
    equal = {key: one == other for key, one, other in zip(kind_of, *contents, strict=True)}
    for key in readable:
        if key not in kind_of:
            equal[key] = _are_equal(source, target, key, alike[key])
    return [key for key in keys if key not in alike or not equal.get(key, True)]


def _are_equal(source: Client, target: Client, key: bytes, outline: Outline) -> bool:
    kind, _, size = outline
    try:
        return are_equal(source, target, key, kind, size)
    except Refused as refused:
        if refused.code != _WRONG_TYPE:
            raise
        return False


def _outlines(client: Client, keys: Sequence[bytes]) -> list[Outline]:
    """Of each key the type, the ms that it has left, and the number of its items; of a string its bytes."""
    told = _sound(client.pipeline([each for key in keys for each in (("TYPE", key), ("PTTL", key))]))
    kinds, left_ms = told[::2], told[1::2]
    sized = [(key, kind) for key, kind in zip(keys, kinds, strict=True) if kind in _SIZES]
    sizes = _sound(client.pipeline([(_SIZES[kind], key) for key, kind in sized]))
    size_of = {key: size for (key, _), size in zip(sized, sizes, strict=True)}
    return [(kind, ms, size_of.get(key, 0)) for key, kind, ms in zip(keys, kinds, left_ms, strict=True)]


def _are_alike(one: Outline, other: Outline) -> bool:
    """Whether two outlines are those of the same key. A type that cannot be imported is no difference."""
    if one[0] not in _SIZES:
        return True
    if one[0] == b"stream" and not one[2]:  # a cluster has no streams without entries
        return other[0] == b"none"
    same_expiry = (one[1] < 0) == (other[1] < 0) and abs(one[1] - other[1]) <= _EXPIRY_SLACK_MS
    return (one[0], one[2]) == (other[0], other[2]) and same_expiry


def _contents(client: Client, kind_of: dict[bytes, bytes]) -> list[Any]:
    commands = [(_CONTENTS[kind][0], key, *_CONTENTS[kind][1:]) for key, kind in kind_of.items()]
    replies = _sound(client.pipeline(commands))
    return [_in_any_order(kind, reply) for kind, reply in zip(kind_of.values(), replies, strict=True)]


def _in_any_order(kind: bytes, reply: Any) -> Any:
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
