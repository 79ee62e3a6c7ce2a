"""Leftovers: what of the bytes that came is no whole message yet, and the next bytes behind it.

Theory. Mostly nothing is left, or little: then all is joined as bytes, which are read faster than a bytearray. What is
large comes in many pieces, and joining anew for each would cost the square of its size: that becomes a bytearray, which
grows in place.
"""

from __future__ import annotations

from typing import Final

_JOINED_BYTES_MAX: Final = 8192


def joined(data: bytes | bytearray, start: int, more: bytes) -> bytes | bytearray:
    """What stands in `data` from `start` on, and `more` behind it. Takes `data` for its own. HOT."""
    if len(data) - start <= _JOINED_BYTES_MAX:
        return bytes(data[start:]) + more
    if isinstance(data, bytes):
        rest = bytearray(data[start:])
        rest += more
        return rest
    del data[:start]
    data += more
    return data
