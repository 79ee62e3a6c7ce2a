"""Leftovers: joins the bytes of an incomplete message with those that arrive next.

Mostly little or nothing is left. Then both are joined as bytes, because bytes are read faster than a bytearray. A large
message arrives in many parts, and joining anew for each part would cost the square of its size. So that becomes a
bytearray, which grows in place.
"""

from __future__ import annotations

from typing import Final

_JOINED_BYTES_MAX: Final = 8192


def joined(data: bytes | bytearray, start: int, more: bytes) -> bytes | bytearray:
    """HOT. The bytes of `data` from `start` on, with `more` behind them. May change `data`: the caller must drop it."""
    if len(data) - start <= _JOINED_BYTES_MAX:
        return bytes(data[start:]) + more
    if isinstance(data, bytes):
        rest = bytearray(data[start:])
        rest += more
        return rest
    del data[:start]
    data += more
    return data
