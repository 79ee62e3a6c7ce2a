"""Slots: the 16384 equal parts of the key space, exactly as Redis Cluster makes them.

A key's slot is CRC16 (the XMODEM variant: polynomial 0x1021, initial value 0, nothing reflected) modulo 16384. Because
this is Redis Cluster's own function, its unmodified clients send each key straight to a node that owns it. Its hash tags
work, too: of a key with `{...}` only the part between the braces is hashed, so keys with equal tags share a slot.

A key of another database than 0 has the slot that it has in database 0 (databases.py).

Source: the Redis Cluster specification, "Key distribution model" and "Hash tags".
"""

from __future__ import annotations

from binascii import crc_hqx
from typing import Final

from librt.strings import read_i16_be
from mypy_extensions import i16, i64

from protocol.databases import INNER_BYTES, MARK
from protocol.native import native

SLOTS: Final = 16384

_OPEN: Final = 0x7B  # the byte "{"
_CLOSE: Final = 0x7D  # the byte "}"
_MASK: Final = SLOTS - 1
_native_key_slot: Final = native("key_slot")  # None, or in C: -1 if there is a "{"
_SHORT_BYTES_MAX: Final = 64
# The CRC of each single byte, two bytes a number: `crc_hqx` is called only for long keys, as a call and its objects cost
# more than the loop below takes for 20 bytes.
_CRCS: Final = b"".join([crc_hqx(bytes([byte]), 0).to_bytes(2, "big") for byte in range(256)])


def key_slot(key: bytes) -> i16:
    """HOT. The slot of an inner key, 0 to 16383."""
    if _native_key_slot is not None:
        slot: i64 = _native_key_slot(key)
        return i16(slot) if slot >= 0 else _slot_of_part(hashed_part(key))
    size: i64 = len(key)
    if size > _SHORT_BYTES_MAX:
        return _slot_of_part(hashed_part(key))
    crcs = _CRCS
    crc: i64 = 0
    index: i64 = 0
    while index < size:
        byte: i64 = key[index]
        if byte == _OPEN:
            return _slot_of_part(hashed_part(key))
        index += 1
        crc = crc << 8 ^ i64(read_i16_be(crcs, ((crc >> 8 ^ byte) & 0xFF) << 1))
    return i16(crc & _MASK)


def _slot_of_part(part: bytes) -> i16:
    return i16(crc_hqx(part, 0) & _MASK)


def hashed_part(key: bytes) -> bytes:
    """The part of an inner key that is hashed: the part of the key between its first `{` and the first `}` after it.

    It is the whole key if one of the two is missing or nothing is between them.
    """
    if key.startswith(MARK):
        key = key[INNER_BYTES:]
    start = key.find(_OPEN) + 1
    if start:
        end = key.find(_CLOSE, start)
        if end > start:
            return key[start:end]
    return key
