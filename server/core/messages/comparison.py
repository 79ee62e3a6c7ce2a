"""How a replica answers a read group key by key. Only this module knows the bytes of these messages.

Theory. The coordinator sends the checksum of each of its records; a record begins with its checksum. If the replica
holds the same records, it answers with one word. Otherwise it answers for each key how its record compares to the
coordinator's, and sends only the records that differ. So one key that differs does not cost the whole group, and a
damaged record costs the replica's vote for that key only.

    message                     content
    COMPARE checksums key …     8 bytes a key: the checksum of the coordinator's record, or ABSENT, or UNREADABLE
    SAME                        all records are the same here (it also answers READ)
    DIFFER states record …      one byte a key; then the record of each key whose state is OTHER, in the order of the keys

    state       the replica has                                                       it counts as
    EQUAL       the coordinator's record                                              a vote
    OTHER       another record, which follows                                         a vote
    NOTHING     no record                                                             a vote
    UNKNOWN     a record that cannot be read (damaged); or no record, which says      no vote
                nothing on a stand-in and on a node that is being filled; or a
                record that had no room in the answer

A node announces that it can answer COMPARE as a capability (protocol/peer_versions.py). Other nodes are asked with
READ. It carries one digest of all records, and is answered with all of the records or none (requests/reads.py,
requests/replica.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from librt.strings import BytesWriter, read_i64_be, write_i64_be

CHECKSUM_BYTES: Final = 8
ABSENT: Final = bytes(CHECKSUM_BYTES)
UNREADABLE: Final = b"\xff" * CHECKSUM_BYTES
EQUAL: Final = 61  # "=" in a message
OTHER: Final = 43  # "+"
NOTHING: Final = 45  # "-"
UNKNOWN: Final = 63  # "?"
STATES: Final = bytes([EQUAL, OTHER, NOTHING, UNKNOWN])


def checksums(records: list[bytes | None], unreadable: Sequence[int]) -> bytes:
    """HOT. Returns the checksums for a COMPARE message. `unreadable` are the indexes of records that cannot be read."""
    words = BytesWriter()
    for record in records:
        write_i64_be(words, 0 if record is None else read_i64_be(record, 0))
    if not unreadable:
        return words.getvalue()
    marked = bytearray(words.getvalue())
    for index in unreadable:
        marked[CHECKSUM_BYTES * index : CHECKSUM_BYTES * (index + 1)] = UNREADABLE
    return bytes(marked)


def differences(
    theirs: bytes, records: list[bytes | None], unreadable: Sequence[int], may_lack: bool, bytes_max: int
) -> list[bytes]:
    """Returns the items of a DIFFER message: `records` are this node's, `theirs` the coordinator's checksums.

    `may_lack`: records that are missing here are UNKNOWN, not NOTHING. Records beyond `bytes_max` in all are not sent.
    """
    states = bytearray(len(records))
    items = [b""]
    size = 0
    for index, record in enumerate(records):
        checksum = theirs[CHECKSUM_BYTES * index : CHECKSUM_BYTES * (index + 1)]
        state = EQUAL
        if record is None:
            if may_lack or index in unreadable:
                state = UNKNOWN
            elif checksum != ABSENT:
                state = NOTHING
        elif checksum != record[:CHECKSUM_BYTES]:
            size += len(record)
            if size > bytes_max and len(items) > 1:
                state = UNKNOWN
            else:
                state = OTHER
                items.append(record)
        states[index] = state
    items[0] = bytes(states)
    return items


def by_index(states: bytes, sent: Sequence[bytes]) -> tuple[dict[int, bytes | None], list[int]]:
    """Returns what a DIFFER message says: index -> record where it differs (None: no record), and the UNKNOWN indexes."""
    records: dict[int, bytes | None] = {}
    unknown: list[int] = []
    next_record = 0
    for index, state in enumerate(states):
        if state == OTHER:
            records[index] = sent[next_record]
            next_record += 1
        elif state == NOTHING:
            records[index] = None
        elif state == UNKNOWN:
            unknown.append(index)
    return records, unknown
