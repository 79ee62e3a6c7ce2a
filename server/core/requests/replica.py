"""The replica's side of requests: stores the records that coordinators send, and answers their reads.

Theory. A replica does not decide which write wins. It merges each record that it receives into its own. A merge is
commutative, associative and idempotent (P3), so order and repetition do no harm. The replica acknowledges in the same
turn, and the acknowledgement leaves after the turn's commit. A group of records is stored whole or refused whole, so one
message acknowledges the group.

Which function stores a group depends on who sends it, and on whether this node owns the keys:

    sent by                       this node                         function
    a coordinator, as a write     owns the keys                     store
    a coordinator, as a write     owns them no more                 store_as_former_owner
    a coordinator, as a hint      stands in for an owner            store_as_stand_in
    hint replay or cleanup        owns the keys                     store_if_owned

The first three return None or the text of the refusal; `store_if_owned` returns True, or None for a refusal.

A group may have patches in place of large records. `store_patches` stores the patches as they are. If that is not possible,
`whole_records` applies them, and the records that result are stored.
"""

from __future__ import annotations

from server.core.base.errors import no_room_for_hint
from server.core.base.room import FOR_WRITES
from server.core.base.state import State
from server.core.messages.comparison import CHECKSUM_BYTES, checksums, differences
from server.core.messages.kinds import encode_differ, encode_records, encode_refused, encode_same
from server.core.records.entries import clock_of, covers
from server.core.records.entry_structure import is_sound_after
from server.core.records.patches import apply, base_of, clock_of_result, is_patch
from server.core.records.versions import DamagedRecord
from server.core.requests.digests import SHORT_BYTES, digest, short_digest


def store(state: State, pairs: list[bytes]) -> str | None:
    """HOT. Merges `pairs` (storage key, record, storage key, record, …) into what is stored. Returns a refusal or None."""
    if not state.may_store(pairs):
        return f"DISKFULL node {state.member.name} is an owner of this key and refuses writes"
    try:
        state.records.merge_all(pairs)
    except DamagedRecord as error:
        return f"ERR node {state.member.name}: {error}"
    state.statistics.stored += len(pairs) // 2
    return None


def store_patches(state: State, pairs: list[bytes]) -> bool:
    """Stores the patches of a PATCH without applying them (records/deferred.py). Returns False at the first one that
    cannot be stored so. Then the caller applies all patches; to apply a stored one again does no harm."""
    if state.room != FOR_WRITES or not state.owns_all(pairs):
        return False
    for index in range(0, len(pairs), 2):
        if not is_patch(pairs[index + 1]) or not state.records.defer(pairs[index], pairs[index + 1]):
            return False
    state.statistics.stored += len(pairs) // 2
    return True


def whole_records(state: State, pairs: list[bytes]) -> list[bytes] | None:
    """Returns the pairs of a PATCH with whole records; None if a patch does not fit the record here (patching.py)."""
    found = list(pairs)
    made: dict[bytes, bytes] = {}  # a key may come twice
    for index in range(1, len(pairs), 2):
        key, value = pairs[index - 1], pairs[index]
        if is_patch(value):
            try:
                present = made.get(key) or state.records.get(key)
            except DamagedRecord:
                return None  # the coordinator then sends a STORE, which waits until the record is mended
            record = None if present is None else patched(present, value)
            if record is None or present is None:
                return None
            if record is not present:
                state.records.patches.note(key, present, record, value)
                state.records.deferred.made_bytes += len(record)
            found[index] = record
        made[key] = found[index]
    return found


def patched(present: bytes, patch: bytes) -> bytes | None:
    """Applies a patch to the record here (`present`). Returns the result; None if the patch does not fit `present`."""
    if present[:CHECKSUM_BYTES] == base_of(patch):
        record = apply(present, patch)
        return record if record is not None and is_sound_after(record, present) else None
    return present if covers(clock_of(present), clock_of_result(patch)) else None


def store_as_former_owner(state: State, pairs: list[bytes]) -> str | None:
    """Stores records of keys that this node does not own, and hints for their owners. Returns a refusal or None.

    Such a write comes from a coordinator that has not received the present layout. The acknowledgement counts like that of
    a stand-in: the write is on W disks, and the hints bring it to its owners; until then a read at the owners may miss it.
    A refusal would lose a write that can be kept.

    This is rare, because a move of a partition waits for every live node (membership/change_coordinator.py). It happens
    only if all nodes believed the coordinator down while the partition moved, and the coordinator then wrote before it
    received the new layout.
    """
    if state.hints.full:
        return f"ERR {no_room_for_hint(state.member.name)}"
    refusal = store(state, pairs)
    if refusal is None:
        for storage_key in pairs[::2]:
            for owner in () if state.owns(storage_key) else state.owners_of(storage_key):
                state.hints.keep(owner, [storage_key], state.time_ms, state.now_ms, True)
    return refusal


def store_as_stand_in(state: State, owner: str, pairs: list[bytes]) -> str | None:
    """Stores records, and a hint for each, on behalf of an owner that the coordinator cannot reach."""
    if owner == state.id:
        return store(state, pairs)
    if state.hints.full:
        return f"ERR {no_room_for_hint(state.member.name)}"
    if state.layout is None or all(member.id != owner for member in state.layout.members):
        return f"ERR node {state.member.name} does not know the node {owner}"
    refusal = store(state, pairs)
    if refusal is None:
        state.hints.keep(owner, pairs[::2], state.time_ms, state.now_ms, True)
    return refusal


def store_if_owned(state: State, pairs: list[bytes]) -> bool | None:
    """Answers ABSORB: stores the records. Returns True, or None if this node does not own them all, or refuses them."""
    if not all(state.owns(storage_key) for storage_key in pairs[::2]):
        return None
    return True if store(state, pairs) is None else None


def read(state: State, peer: str, number: int, their_digest: bytes, keys: list[bytes]) -> None:
    """Answers READ, which nodes of earlier versions send: SAME if all our records equal theirs, else RECORDS with all.

    Answers REFUSED in three cases: a record cannot be read; a record that is missing here may exist at the owners; several
    records together have no room in one message.
    """
    state.statistics.reads_answered += 1
    records, unreadable = state.records.get_each(keys)
    if unreadable or (None in records and _may_lack(state, keys, records)):
        state.send(peer, encode_refused(state.clock_reading(), number))
    elif (short_digest if len(their_digest) == SHORT_BYTES else digest)(records) == their_digest:
        state.send(peer, encode_same(state.clock_reading(), number))
    elif sum(len(record or b"") for record in records) > state.config.frame_bytes_max // 2 and len(records) > 1:
        state.send(peer, encode_refused(state.clock_reading(), number))
    else:
        state.send(peer, encode_records(state.clock_reading(), number, records))


def _may_lack(state: State, keys: list[bytes], records: list[bytes | None]) -> bool:
    """Whether this node may lack records that the owners have: it only stands in for an owner, or it is being filled.

    A record that is missing on such a node must not count as the vote "this key does not exist". Each missing key is looked
    up by itself: the keys of a group have the same owners in the coordinator's layout, and perhaps not in the layout here.
    """
    if state.lacks_records:
        return True
    return any(record is None and not state.owns(key) for key, record in zip(keys, records, strict=True))


def _are_same(state: State, theirs: bytes, keys: list[bytes]) -> bool:
    """Whether all these records have deferred patches (records/deferred.py) whose results have the checksums `theirs` of a
    COMPARE. If so, COMPARE can be answered without applying the patches."""
    for index, key in enumerate(keys):
        found = state.records.deferred.by_key.get(key)
        if found is None or found.checksum != theirs[CHECKSUM_BYTES * index : CHECKSUM_BYTES * (index + 1)]:
            return False
    return True


def compare(state: State, peer: str, number: int, theirs: bytes, keys: list[bytes]) -> None:
    """HOT. Answers COMPARE: SAME if our records equal the coordinator's, else DIFFER, key by key (comparison.py)."""
    state.statistics.reads_answered += 1
    if state.records.deferred.by_key and _are_same(state, theirs, keys):
        state.send(peer, encode_same(state.clock_reading(), number))
        return
    records, unreadable = state.records.get_each(keys)
    may_lack = None in records and _may_lack(state, keys, records)
    if not may_lack and checksums(records, unreadable) == theirs and not unreadable:
        state.send(peer, encode_same(state.clock_reading(), number))
    else:
        items = differences(theirs, records, unreadable, may_lack, state.config.frame_bytes_max // 2)
        state.send(peer, encode_differ(state.clock_reading(), number, items))
