"""Context tokens: a reader hands its token back with the next write, to say what that write has seen.

A context is the clock of the record that was read. The client keeps it without understanding it, so it is a token that
fits a shell variable and a URL. A wrong context is worse than none, because a write with it supersedes values that its
writer has not seen. So a token carries a checksum, which proves that it is complete and belongs to the key that it is
used with, and each clock has only one token. It is no secret and no signature: a client that forges a token harms only
its own data.

The token is base64url without padding (RFC 4648, section 5) of the following; all integers are big endian:

    0   version         u8, 1
    1   clock entries   u16 count
    3   clock           16 bytes an entry: actor 8, counter u64; sorted by actor, each actor once
    ..  checksum        xxh3_64 of the key and all of the above
"""

from __future__ import annotations

import binascii
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from itertools import pairwise

from xxhash import xxh3_64_digest

VERSION = 1
ACTOR_BYTES = 8
ENTRIES_MAX = 0xFFFF

_HEADER_BYTES = 3
_ENTRY_BYTES = 16
_CHECKSUM_BYTES = 8
_FRAME_BYTES = _HEADER_BYTES + _CHECKSUM_BYTES
_TOKEN_BYTES_MAX = (_FRAME_BYTES + ENTRIES_MAX * _ENTRY_BYTES) * 4 // 3 + 1
_pack_header = struct.Struct(">BH").pack
_unpack_header = struct.Struct(">BH").unpack_from
_pack_entry = struct.Struct(">8sQ").pack
_iterate_entries = struct.Struct(">8sQ").iter_unpack

Clock = tuple[tuple[bytes, int], ...]


class BadContext(Exception):
    """The token is no context of this key. The message says why."""


def encode_context(key: bytes, clock: Sequence[tuple[bytes, int]]) -> bytes:
    """The token of `clock` as the context of `key`.

    The clock is pairs of an 8-byte actor and a u64 counter, sorted by actor; it may be empty. Raises ValueError otherwise.
    """
    if len(clock) > ENTRIES_MAX or not _is_sorted(clock):
        raise ValueError("a clock is at most 65535 entries of an 8-byte actor and a counter, sorted by actor")
    try:
        entries = b"".join([_pack_entry(actor, counter) for actor, counter in clock])
    except struct.error as error:
        raise ValueError(f"a clock's counters are u64: {error}") from None
    payload = _pack_header(VERSION, len(clock)) + entries
    return urlsafe_b64encode(payload + xxh3_64_digest(key + payload)).rstrip(b"=")


def decode_context(key: bytes, token: bytes) -> Clock:
    """The clock of `token`. Raises BadContext for anything that `encode_context` did not make for `key`."""
    if len(token) > _TOKEN_BYTES_MAX:
        raise BadContext("the token is too long")
    try:
        data = urlsafe_b64decode(token + b"=" * (-len(token) % 4))
    except binascii.Error:
        raise BadContext("the token is not base64url") from None
    if urlsafe_b64encode(data).rstrip(b"=") != token:
        raise BadContext("the token is not base64url")
    if len(data) < _FRAME_BYTES:
        raise BadContext("the token is truncated")
    version, count = _unpack_header(data)
    if version != VERSION:
        raise BadContext(f"the token is of version {version}, this node knows {VERSION}")
    if len(data) != _FRAME_BYTES + count * _ENTRY_BYTES:
        raise BadContext("the token is damaged: it has another length than it says")
    payload = data[:-_CHECKSUM_BYTES]
    if xxh3_64_digest(key + payload) != data[-_CHECKSUM_BYTES:]:
        raise BadContext("the token is damaged, or belongs to another key")
    clock = tuple(_iterate_entries(payload[_HEADER_BYTES:]))
    if not _is_sorted(clock):
        raise BadContext("the token's actors are not in order")
    return clock


def _is_sorted(clock: Sequence[tuple[bytes, int]]) -> bool:
    """Whether every actor has 8 bytes, and they strictly ascend."""
    actors = [actor for actor, _ in clock]
    return all(len(actor) == ACTOR_BYTES for actor in actors) and all(a < b for a, b in pairwise(actors))
