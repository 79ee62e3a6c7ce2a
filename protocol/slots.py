"""Slots: the 16384 equal parts of the key space, exactly as Redis Cluster makes them.

A key's slot is CRC16 (the XMODEM variant: polynomial 0x1021, initial value 0, nothing reflected) modulo 16384. Because
this is Redis Cluster's own function, its unmodified clients send each key straight to a node that owns it. Its hash tags
work, too: of a key with `{...}` only the part between the braces is hashed, so keys with equal tags share a slot.

Source: the Redis Cluster specification, "Key distribution model" and "Hash tags".
"""

from __future__ import annotations

from binascii import crc_hqx
from typing import Final

SLOTS: Final = 16384

# The byte "{", as a number: `b"{" in key` raises and catches a TypeError inside, and takes 200 ns more.
_OPEN: Final = 0x7B
_CLOSE: Final = 0x7D  # the byte "}"
_MASK: Final = SLOTS - 1


def key_slot(key: bytes) -> int:
    """HOT. The slot of `key`, 0 to 16383."""
    if _OPEN in key:
        key = hashed_part(key)
    return crc_hqx(key, 0) & _MASK


def hashed_part(key: bytes) -> bytes:
    """The part of `key` that is hashed: the part between its first `{` and the first `}` after it.

    It is the whole key if one of the two is missing or nothing is between them.
    """
    start = key.find(_OPEN) + 1
    if start:
        end = key.find(_CLOSE, start)
        if end > start:
            return key[start:end]
    return key
