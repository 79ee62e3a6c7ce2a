"""The replica's side: keeping records that coordinators send, and telling what is kept.

Theory. A replica decides nothing: it merges what comes (P3 makes order and repetition harmless) and acknowledges in the
same turn; the acknowledgement leaves after the turn's commit. A group of records is taken whole or refused whole, so
one word acknowledges it.
"""

from __future__ import annotations

from server.core.base.state import State
from server.core.messages.comparison import checksums, differences
from server.core.records.versions import DamagedRecord
from server.core.requests.digests import SHORT_BYTES, digest, short_digest


def store(state: State, pairs: list[bytes]) -> str | None:
    """HOT. Merges storage key, record, storage key, record, … into what is stored. Answers why not, if not."""
    if not state.may_store(pairs):
        return f"DISKFULL node {state.member.name} is an owner of this key and refuses writes"
    try:
        state.records.absorb(pairs)
    except DamagedRecord as error:
        return f"ERR node {state.member.name}: {error}"
    state.statistics.stored += len(pairs) // 2
    return None


def take_in(state: State, pairs: list[bytes]) -> str | None:
    """Keeps records that are not all ours: whoever sent them has not heard of the present layout yet. Their owners get
    them with hints. Answers why not, if not.

    The acknowledgement is as good as a stand-in's: what it counts for is on W disks and reaches its owners, but who reads
    there may miss it until it does. That needs a coordinator that all have held for down while the reads moved
    (steward.py waits for the others), and that speaks before it has heard of it. To refuse would lose its client a write
    that could be kept.
    """
    if state.hints.full:
        return f"ERR node {state.member.name} has no room for another hint"
    refusal = store(state, pairs)
    if refusal is None:
        for storage_key in pairs[::2]:
            for owner in () if state.owns(storage_key) else state.owners_of(storage_key):
                state.hints.keep(owner, [storage_key], state.time_ms, state.now_ms, True)
    return refusal


def stand_in(state: State, owner: str, pairs: list[bytes]) -> str | None:
    """Keeps records, and a hint of each, for an owner that a coordinator cannot reach. Answers why not, if not."""
    if owner == state.id:
        return store(state, pairs)
    if state.hints.full:
        return f"ERR node {state.member.name} has no room for another hint"
    if state.layout is None or all(member.id != owner for member in state.layout.members):
        return f"ERR node {state.member.name} does not know the node {owner}"
    refusal = store(state, pairs)
    if refusal is None:
        state.hints.keep(owner, pairs[::2], state.time_ms, state.now_ms, True)
    return refusal


def absorb(state: State, pairs: list[bytes]) -> list[bytes]:
    """Takes records that repair brings: answers one word, or nothing if they are refused: not all of them are ours, say."""
    if not all(state.owns(storage_key) for storage_key in pairs[::2]):
        return []
    return [b"1"] if store(state, pairs) is None else []


def read(state: State, peer: str, number: int, their_digest: bytes, keys: list[bytes]) -> None:
    """READ, of a node of an earlier version: one word if we hold what the coordinator holds, else all our records."""
    state.statistics.reads_answered += 1
    records, unreadable = state.records.get_each(keys)
    # a stand-in knows what it holds, and nothing of what it does not
    if unreadable or (None in records and _may_lack(state, keys)):
        state.send(peer, state.message(b"REFUSED", number))
    elif (short_digest if len(their_digest) == SHORT_BYTES else digest)(records) == their_digest:
        state.send(peer, state.message(b"SAME", number))
    elif sum(len(record or b"") for record in records) > state.config.frame_bytes_max // 2 and len(records) > 1:
        state.send(peer, state.message(b"REFUSED", number))
    else:
        state.send(peer, state.message(b"RECORDS", number, *[record or b"" for record in records]))


def _may_lack(state: State, keys: list[bytes]) -> bool:
    """Whether what is not held here says nothing: this node only stands in for an owner, or is being filled."""
    return state.lacks_records or not state.owns(keys[0])


def compare(state: State, peer: str, number: int, theirs: bytes, keys: list[bytes]) -> None:
    """HOT. COMPARE: answers with one word if we hold what the coordinator holds, else key by key (comparison.py)."""
    state.statistics.reads_answered += 1
    records, unreadable = state.records.get_each(keys)
    may_lack = None in records and _may_lack(state, keys)
    if not may_lack and checksums(records, unreadable) == theirs and not unreadable:
        state.send(peer, state.message(b"SAME", number))
    else:
        items = differences(theirs, records, unreadable, may_lack, state.config.frame_bytes_max // 2)
        state.send(peer, state.message(b"DIFFER", number, *items))
