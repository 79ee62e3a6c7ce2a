"""How a replica answers a group of reads key by key, and the one place that knows the bytes of it.

Theory. The coordinator sends the checksum that each of its records begins with. A replica that holds the same records
answers with one word. Otherwise it says for each key how its record stands to the coordinator's, and sends only the records
that differ: so a key that differs costs that key and not the whole group, and a damaged record costs the replica's vote for
that key only.

    COMPARE checksums key …     8 bytes a key: the checksum of the coordinator's record, ABSENT, or UNREADABLE
    SAME                        (as an answer to READ, too) all records are the same here
    DIFFER states record …      one byte a key, and the record of each key whose state is OTHER, in the order of the keys

    state        what it says of the key here          what it counts for
    EQUAL        the coordinator's record              a vote
    OTHER        another record, which follows         a vote
    NOTHING      no record                             a vote
    UNKNOWN      it cannot be read (damaged), or it    no vote
                 is not here and that says nothing
                 (the replica is a stand-in, or is
                 being filled), or its record had
                 no room in the answer

A node that can answer COMPARE announces that as a capability (protocol/peer_versions.py). Others are asked with READ, which
carries one digest of all records and is answered with all or none of them (reads.py, replica.py).
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
    """HOT. What COMPARE carries for the coordinator's records, of which those at some places cannot be read."""
    words = BytesWriter()
    for record in records:
        write_i64_be(words, 0 if record is None else read_i64_be(record, 0))
    if not unreadable:
        return words.getvalue()
    marked = bytearray(words.getvalue())
    for place in unreadable:
        marked[CHECKSUM_BYTES * place : CHECKSUM_BYTES * (place + 1)] = UNREADABLE
    return bytes(marked)


def differences(
    theirs: bytes, records: list[bytes | None], unreadable: Sequence[int], may_lack: bool, bytes_max: int
) -> list[bytes]:
    """The items of a DIFFER message for `records` of this node, where `checksums` of the coordinator's are `theirs`.

    `may_lack` says that what this node does not hold is UNKNOWN to it. Records of more than `bytes_max` together are not
    sent.
    """
    states = bytearray(len(records))
    items = [b""]
    size = 0
    for place, record in enumerate(records):
        checksum = theirs[CHECKSUM_BYTES * place : CHECKSUM_BYTES * (place + 1)]
        state = EQUAL
        if record is None:
            if may_lack or place in unreadable:
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
        states[place] = state
    items[0] = bytes(states)
    return items


def by_index(states: bytes, told: Sequence[bytes]) -> tuple[dict[int, bytes | None], list[int]]:
    """What the states and the records of a DIFFER message say: by place the records (None: nothing) that are not the
    coordinator's, and the places of those that are UNKNOWN."""
    records: dict[int, bytes | None] = {}
    unknown: list[int] = []
    index = 0
    for place, state in enumerate(states):
        if state == OTHER:
            records[place] = told[index]
            index += 1
        elif state == NOTHING:
            records[place] = None
        elif state == UNKNOWN:
            unknown.append(place)
    return records, unknown
