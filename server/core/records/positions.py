"""Positions of list items: byte strings whose order is that of the list, with room between any two of them.

Theory. A list is a set of entries like every other type (entries.py), so an item needs a field that says where it stands,
and that never changes while others come and go. It is a *position*: a head of 8 bytes, which counts from the middle of its
range to either end, and a fraction, which is empty for items that were pushed. Positions compare as bytes.

- A push takes the head before the first one, or after the last one. So a list that is only pushed has 8 bytes an item.
- An insertion takes a position between its two neighbours. There always is one, because no fraction ends with a zero byte:
  a shorter string, or a longer one, lies between any two. A fraction grows by one byte for each seven insertions at one
  place.

Two sides of a partition may take the same position for different items. Nothing is lost: each entry is an item, and the
two stand beside each other, in the order of their dots (views.py). This is simpler than positions that no two nodes can
choose alike (Logoot, LSEQ), which have to carry the actor and a counter: 16 bytes more for each item.
"""

from __future__ import annotations

from typing import Final

_HEAD_BYTES: Final = 8
_HEAD_MAX: Final = (1 << 64) - 1
FIRST: Final = (1 << 63).to_bytes(_HEAD_BYTES, "big")  # of the first item of a list
_MIDDLE: Final = b"\x80"
_AFTER_ZERO: Final = b"\x00\x80"


def is_position(field: bytes) -> bool:
    """Whether a field is a position."""
    return len(field) == _HEAD_BYTES or (len(field) > _HEAD_BYTES and field[-1] != 0)


def before(position: bytes) -> bytes:
    """Returns the position of an item that is pushed before the first one, which has this position."""
    head = _head(position)
    assert head, "2 ** 63 items were pushed to one end"
    return (head - 1).to_bytes(_HEAD_BYTES, "big")


def after(position: bytes) -> bytes:
    """Returns the position of an item that is pushed behind the last one, which has this position."""
    head = _head(position)
    assert head < _HEAD_MAX, "2 ** 63 items were pushed to one end"
    return (head + 1).to_bytes(_HEAD_BYTES, "big")


def between(left: bytes, right: bytes) -> bytes:
    """Returns a position between two different ones."""
    assert left < right
    low, high = _head(left), _head(right)
    if high - low > 1:
        return ((low + high) // 2).to_bytes(_HEAD_BYTES, "big")
    if low != high:
        return left[:_HEAD_BYTES] + _greater(left[_HEAD_BYTES:])
    return left[:_HEAD_BYTES] + _between(left[_HEAD_BYTES:], right[_HEAD_BYTES:])


def _head(position: bytes) -> int:
    return int.from_bytes(position[:_HEAD_BYTES], "big")


def _greater(fraction: bytes) -> bytes:
    """Returns a short fraction that is greater."""
    for place, byte in enumerate(fraction):
        if byte < 0xFF:
            return fraction[:place] + bytes([byte + (0x100 - byte) // 2])
    return fraction + _MIDDLE


def _between(left: bytes, right: bytes) -> bytes:
    """Returns a fraction between two. The right one may begin with the left one."""
    place = 0
    while place < len(left) and left[place] == right[place]:
        place += 1
    if place < len(left):
        if right[place] - left[place] > 1:
            return left[:place] + bytes([(left[place] + right[place]) // 2])
        return left[: place + 1] + _greater(left[place + 1 :])
    while not right[place]:
        place += 1
    return right[:place] + (bytes([right[place] // 2]) if right[place] > 1 else _AFTER_ZERO)
