"""The repair of a single key: asks all owners for its record, and sends the merge to those that differ from it.

This is a read of all owners with a read repair that the operator waits for. The node that runs it need not be an owner
and stores nothing itself. If a fence (`State.fence`) has passed since the records were read, nothing is sent.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

from server.core.base.state import State
from server.core.messages.asking import UNREADABLE
from server.core.messages.exchange_questions import FETCH, MERGE, FetchAnswer, Keys, MergeAnswer, Pairs
from server.core.records import versions
from server.core.repair.exchange import LOST, UNSETTLED, wire_bytes
from server.core.work.procedures import Step
from server.core.work.questions import Questions


class KeyRepair(NamedTuple):
    """The counts of a repair. `missed` says which owners may not hold the merge: owner -> LOST or UNSETTLED."""

    keys_compared: int
    keys_repaired: int
    bytes_sent: int
    missed: dict[str, str]


def make_equal(
    state: State, questions: Questions, owners: Sequence[str], storage_key: bytes
) -> Generator[Step, Any, KeyRepair]:
    """Makes all `owners` hold the merge of what any of them holds under a storage key."""
    layout = state.layout
    epoch = layout.epoch if layout is not None else 0
    stamp = state.clock.last
    answers = yield questions.ask(owners, FETCH, Keys(epoch, [storage_key]))
    found: dict[str, FetchAnswer | None] = answers
    held = {owner: answer.records[0] for owner, answer in found.items() if answer is not None}
    missed = {owner: LOST for owner in owners if owner not in held}
    merged = b""
    for record in held.values():
        if record not in (b"", UNREADABLE):
            merged = versions.merge(merged or None, record) or b""
    size = sum(wire_bytes(storage_key) + wire_bytes(record) for owner, record in held.items() if owner != state.id)
    behind = [owner for owner in owners if owner in held and held[owner] != merged]
    repaired = 0
    if merged and state.fence < stamp:
        answers = yield questions.ask(behind, MERGE, Pairs(epoch, [storage_key, merged]))
        for owner in behind:
            answer: MergeAnswer | None = answers.get(owner)
            if answer is None:
                missed[owner] = LOST
                continue
            size += wire_bytes(storage_key) + wire_bytes(merged) if owner != state.id else 0
            changed, refused = (answer.changed, answer.failed) if answer.changed >= 0 else (0, 1)
            repaired += changed
            if refused:
                missed[owner] = UNSETTLED
    else:
        missed |= dict.fromkeys(behind, UNSETTLED)  # no owner could read it, or it may have been collected meanwhile
    state.statistics.keys_repaired += repaired
    state.statistics.repair_bytes_sent += size
    return KeyRepair(int(merged != b""), repaired, size, missed)
