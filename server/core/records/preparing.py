"""Does work on large records in slices, before the message that brings them is handled.

Theory. To verify a record of 100,000 entries takes 70 ms, and to join it with one that other nodes have changed meanwhile
up to 350 ms. Nobody else would be served then. A large message travels in pieces, and later messages pass it. So it may as
well wait for some turns more: whoever has received it first runs `prepare` (shell/inbound.py).

The handler of the message does as it always did. It finds the chunks verified (entry_structure.py) and the join made
(prepared.py), if the stored record is still the one that was joined. If not, it makes the join at once.
"""

from __future__ import annotations

from typing import Any, Final

from server.core.formats.pausing import Slices
from server.core.records.entries import has_entries
from server.core.records.entry_structure import verify_in_slices
from server.core.records.records import PREFIX_BYTES, Records, storage_key_of
from server.core.records.siblings import DamagedRecord
from server.core.records.structure import verify

PREPARED_BYTES_MIN: Final = 64 << 10  # of a record: less is little work


def prepare(records: Records, message: list[Any]) -> Slices[None]:
    """Does in slices most of what the handler of a large message would do at once for its records."""
    for before, record in _large_records(message):
        yield from verify_in_slices(record)
        if not verify(record) or len(before) < PREFIX_BYTES or before != storage_key_of(before[PREFIX_BYTES:]):
            continue
        try:
            present = records.get(before)
        except DamagedRecord:  # the handler meets it again
            continue
        if present is not None:
            yield from records.prepared.add(before, present, record)


def _large_records(message: list[Any]) -> list[tuple[bytes, bytes]]:
    """Returns the items of a message that may be large records of entries, each behind the item before it."""
    found: list[tuple[bytes, bytes]] = []
    before = b""
    for item in message:
        if type(item) is bytes:
            if len(item) >= PREPARED_BYTES_MIN and has_entries(item):
                found.append((before, item))
            before = item
    return found
