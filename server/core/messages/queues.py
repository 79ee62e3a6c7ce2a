"""The kinds of messages by which nodes serve clients that wait for an element of a key (core/waiting/).

Theory. WAKE and FORGET are about the rows of waiting clients at a key's coordinator. ESCROW, CLEARED, OPENED and SETTLED
are about elements that were popped and are on their way to a client. All of them go only to nodes that have announced the
capability `queues`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from protocol.bounds import NUMBER_MAX
from protocol.frames import encode_message
from server.core.messages.kinds import Kind
from server.core.messages.reader import Malformed, Reader

PUT_BACK: Final = b"DYN.PUTBACK"  # key, id of the delivery, which end, value … (commands/blocking/pops.py)
PUT_BACK_WORDS_MIN: Final = 5
_NUMBER: Final = struct.Struct(">Q")


class Wake(NamedTuple):
    """Waiting clients of the receiver, by their numbers there, and for each a key that may have an element now."""

    numbers: list[int]
    keys: list[bytes]


class Settled(NamedTuple):
    """Deliveries of the receiver, by their numbers there: those that a client has got, and those whose client had gone."""

    delivered: list[int]
    returned: list[int]


class Opened(NamedTuple):
    """Which deliveries of the sender are open. Its process gives numbers from `first` on."""

    first: int
    numbers: list[int]


def _numbers(items: Reader) -> list[int]:
    return [number for (number,) in _NUMBER.iter_unpack(items.packed(8))]


def _packed(numbers: Sequence[int]) -> bytes:
    return b"".join([_NUMBER.pack(number) for number in numbers])


def _wake(items: Reader) -> Wake:
    wake = Wake(_numbers(items), items.blobs())
    if len(wake.numbers) != len(wake.keys):
        raise Malformed(f"{len(wake.numbers)} clients, {len(wake.keys)} keys")
    return wake


def _escrow(items: Reader) -> list[bytes]:
    words = items.words()
    if len(words) < PUT_BACK_WORDS_MIN or words[0] != PUT_BACK:
        raise Malformed("a command that puts nothing back")
    return words


WAKE: Final = Kind(b"WAKE", _wake)
FORGET: Final = Kind(b"FORGET", _numbers)
ESCROW: Final = Kind(b"ESCROW", _escrow)  # its number is that of the delivery; the content is the command of a return
CLEARED: Final = Kind(b"CLEARED", _numbers)
OPENED: Final = Kind(b"OPENED", lambda items: Opened(items.header_number(NUMBER_MAX), _numbers(items)))
SETTLED: Final = Kind(b"SETTLED", lambda items: Settled(_numbers(items), _numbers(items)))

QUEUE_KINDS: Final[Sequence[Kind[Any]]] = (WAKE, FORGET, ESCROW, CLEARED, OPENED, SETTLED)


def encode_wake(reading: int, wakes: Sequence[tuple[int, bytes]]) -> bytes:
    """Encodes WAKE: (number of the client, key), …"""
    numbers = _packed([number for number, _ in wakes])
    return encode_message((b"WAKE", reading, 0, numbers, *[key for _, key in wakes]))


def encode_forget(reading: int, numbers: Sequence[int]) -> bytes:
    """Encodes FORGET: clients of the sender that do not wait any more."""
    return encode_message((b"FORGET", reading, 0, _packed(numbers)))


def encode_escrow(reading: int, number: int, words: list[bytes]) -> bytes:
    """Encodes ESCROW: the command that puts the elements of a delivery back, if its coordinator is lost."""
    return encode_message((b"ESCROW", reading, number, words))


def encode_cleared(reading: int, numbers: Sequence[int]) -> bytes:
    """Encodes CLEARED: deliveries of the sender whose elements need not be put back by others any more."""
    return encode_message((b"CLEARED", reading, 0, _packed(numbers)))


def encode_opened(reading: int, opened: Opened) -> bytes:
    """Encodes OPENED: all open deliveries of the sender."""
    return encode_message((b"OPENED", reading, opened.first, _packed(opened.numbers)))


def encode_settled(reading: int, settled: Settled) -> bytes:
    """Encodes SETTLED: what has become of deliveries of the receiver."""
    return encode_message((b"SETTLED", reading, 0, _packed(settled.delivered), _packed(settled.returned)))
