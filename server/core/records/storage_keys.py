"""Storage keys: what a record lies under in the store. records.py says how they are ordered."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i16, i64
from xxhash import xxh32_digest

from protocol.native import native
from protocol.slots import SLOTS, key_slot

_digest: Final = xxh32_digest  # compiled code looks an imported function up by its name, and a constant not
_native_storage_key: Final = native("storage_key")  # None, or `storage_key_in` in C
PREFIX_BYTES: Final = 6
SLOT_PREFIX: Final = [slot.to_bytes(2, "big") for slot in range(SLOTS + 1)]


def storage_key_of(key: bytes) -> bytes:
    """Returns the storage key of a key."""
    return storage_key_in(key_slot(key), key)


def storage_key_in(slot: i16, key: bytes) -> bytes:
    """HOT. Returns the storage key of a key whose slot is known."""
    if _native_storage_key is not None:
        storage_key: bytes = _native_storage_key(slot, key)
        return storage_key
    return b"%b%b%b" % (SLOT_PREFIX[i64(slot)], _digest(key), key)
