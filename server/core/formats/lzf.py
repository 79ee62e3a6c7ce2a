"""LZF, the compression of strings within Redis' payloads: bytes that Redis would write, and a bounded reader.

Theory. The compressed form is a sequence of runs. A control byte under 32 says how many literal bytes follow, less one. Any
other has the length of a back reference in its upper three bits (7: a byte with more length follows) and the upper five
bits of the distance; the byte at the end has the lower eight. The compressor remembers where each hash of three bytes was
last seen, as liblzf does with VERY_FAST, so that it writes the bytes that redis-server writes. (redis-server does not clear
its table before use, so now and then it finds a reference that another run of it would not.)

The packages for LZF on PyPI have no binary distributions, and a node is set up without a compiler. Both directions are
loops over bytes. So callers bound what they compress, and the reader pauses.

Source: lzf_c.c and lzf_d.c of Redis 7.0.15.
"""

from __future__ import annotations

from typing import Final

from server.core.formats.pausing import Pace, Slices

_LITERALS_MAX: Final = 32
_DISTANCE_MAX: Final = 1 << 13
_REFERENCE_MAX: Final = (1 << 8) + (1 << 3)
_EXPANSION_MAX: Final = 88  # three bytes stand for 264 at most
_SAVED_MIN: Final = 4


def compress(data: bytes) -> bytes | None:
    """The compressed form; None if that would not save four bytes."""
    size = len(data)
    room = size - _SAVED_MIN
    if room <= 0:
        return None
    seen: dict[int, int] = {}
    out = bytearray()
    first_literal = place = 0
    while place < size - 2:
        slot = _slot(data, place)
        before = seen.get(slot, 0)
        seen[slot] = place
        if not before or place - before > _DISTANCE_MAX or data[before : before + 3] != data[place : place + 3]:
            if len(out) + 1 + place - first_literal >= room:
                return None
            place += 1
            if place - first_literal == _LITERALS_MAX:
                out.append(_LITERALS_MAX - 1)
                out += data[first_literal:place]
                first_literal = place
            continue
        if len(out) + (place - first_literal) + (place > first_literal) + 4 >= room:
            return None
        _add_literals(out, data, first_literal, place)
        length = _match_length(data, before, place)
        _add_reference(out, length, place - before - 1)
        place += length
        first_literal = place
        if place < size - 2:
            seen[_slot(data, place - 2)] = place - 2
            seen[_slot(data, place - 1)] = place - 1
    if len(out) + 1 + (place - first_literal) + 3 > room:
        return None
    while size - first_literal >= _LITERALS_MAX:
        _add_literals(out, data, first_literal, first_literal + _LITERALS_MAX)
        first_literal += _LITERALS_MAX
    _add_literals(out, data, first_literal, size)
    return bytes(out)


def _slot(data: bytes, place: int) -> int:
    """The hash of three bytes."""
    middle = data[place + 1]
    return ((data[place] << 8 | middle) - 5 * (middle << 8 | data[place + 2])) & 0xFFFF


def _match_length(data: bytes, before: int, place: int) -> int:
    """How many bytes are equal at two places of which the first three are; as long as liblzf looks at them."""
    longest = min(len(data) - place - 2, _REFERENCE_MAX)
    length = 3
    unchecked = 19 if longest > 16 else 3  # liblzf checks its limit only from here on
    while (length < unchecked or length < longest) and data[before + length] == data[place + length]:
        length += 1
    return length


def _add_literals(out: bytearray, data: bytes, start: int, end: int) -> None:
    """Adds a run of at most 32 literal bytes, if there are any."""
    if end > start:
        out.append(end - start - 1)
        out += data[start:end]


def _add_reference(out: bytearray, length: int, distance: int) -> None:
    """Adds a reference to `length` bytes that lie `distance` + 1 bytes before."""
    if length < 9:
        out.append((distance >> 8) + ((length - 2) << 5))
    else:
        out.append((distance >> 8) + (7 << 5))
        out.append(length - 9)
    out.append(distance & 0xFF)


def decompress(data: bytes, size: int, pace: Pace) -> Slices[bytes]:
    """Returns the `size` bytes that a compressed form stands for. Raises ValueError unless it stands for just so many."""
    if size > len(data) * _EXPANSION_MAX:
        raise ValueError("the compressed form is too short for its size")
    out = bytearray()
    place = 0
    try:
        while place < len(data):
            if pace.is_full():
                yield
            control = data[place]
            place += 1
            if control < _LITERALS_MAX:
                run = data[place : place + control + 1]
                if len(run) <= control:
                    raise ValueError("a run of literal bytes ends too early")
                out += run
                place += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += data[place]
                place += 1
            start = len(out) - ((control & 0x1F) << 8) - data[place] - 1
            place += 1
            if start < 0 or len(out) + length + 2 > size:
                raise ValueError("a reference leads out of the data")
            pattern = out[start : start + length + 2]
            out += (pattern * ((length + 1) // len(pattern) + 1))[: length + 2]
    except IndexError as error:
        raise ValueError("a reference ends too early") from error
    if len(out) != size:
        raise ValueError("the compressed form has another size")
    return bytes(out)
