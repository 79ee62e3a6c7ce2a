"""MurmurHash64A, the hash of HyperLogLog.

No package on PyPI offers it with binary distributions (murmurhash keeps its 64-bit hash to users of Cython), so here is the
loop over words of eight bytes.
"""

from __future__ import annotations

from struct import unpack_from
from typing import Final

_FACTOR: Final = 0xC6A4A7935BD1E995
_MASK: Final = (1 << 64) - 1
_SHIFT: Final = 47


def murmur64a(data: bytes, seed: int) -> int:
    """The 64-bit hash of some bytes."""
    size = len(data)
    words = size >> 3
    hashed = seed ^ (size * _FACTOR & _MASK)
    for word in unpack_from(f"<{words}Q", data):
        mixed = word * _FACTOR & _MASK
        hashed = (hashed ^ ((mixed ^ mixed >> _SHIFT) * _FACTOR & _MASK)) * _FACTOR & _MASK
    if size & 7:
        hashed = (hashed ^ int.from_bytes(data[words << 3 :], "little")) * _FACTOR & _MASK
    hashed = (hashed ^ hashed >> _SHIFT) * _FACTOR & _MASK
    return hashed ^ hashed >> _SHIFT
