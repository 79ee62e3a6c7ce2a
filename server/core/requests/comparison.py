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

A node that can answer COMPARE says so when a link to it is opened: ORDERLY carries the word COMPARES. Others are asked
with READ, which carries one digest of all records and is answered with all or none of them (reads.py, replica.py).
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
COMPARES: Final = b"compares"  # what an ORDERLY message of a node carries that answers COMPARE


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


def decode_differences(keys: int, items: Sequence[bytes]) -> tuple[dict[int, bytes | None], list[int]]:
    """What a DIFFER message tells of a group of so many keys: by place the records (None: nothing) that are not the
    coordinator's, and the places of those that are UNKNOWN. Raises ValueError if it fits no such group."""
    states = items[0] if items else b""
    if len(states) != keys or states.count(OTHER) != len(items) - 1:
        raise ValueError(
            f"a DIFFER message has {len(states)} states of {keys} keys, and {len(items) - 1} records for "
            f"{states.count(OTHER)} that differ"
        )
    records: dict[int, bytes | None] = {}
    unknown: list[int] = []
    index = 1
    for place, state in enumerate(states):
        if state == OTHER:
            records[place] = items[index]
            index += 1
        elif state == NOTHING:
            records[place] = None
        elif state == UNKNOWN:
            unknown.append(place)
        elif state != EQUAL:
            raise ValueError(f"a DIFFER message tells the state {state} of a key, which there is not")
    return records, unknown
