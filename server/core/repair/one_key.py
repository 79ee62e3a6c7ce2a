"""The repair of a single key: all owners are asked for its record, and those that lack the join of all get it.

Theory. It is a read of all owners with read repair, but waited for: the operator wants to know that it is done. The
asking node need not be an owner and stores nothing itself. Nothing is sent if a fence has been passed since the records
were read (State.fence).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

from server.core.base.state import State
from server.core.messages.record_questions import UNREADABLE
from server.core.records import versions
from server.core.repair.exchange import LOST, UNSETTLED, wire_bytes
from server.core.work.procedures import Step
from server.core.work.questions import Questions


class KeyRepair(NamedTuple):
    """What was done; `missed` says of which owner it is not known that it holds the join, and why."""

    keys_compared: int
    keys_repaired: int
    bytes_sent: int
    missed: dict[str, str]


def make_equal(
    state: State, questions: Questions, owners: Sequence[str], storage_key: bytes
) -> Generator[Step, Any, KeyRepair]:
    """Makes all `owners` hold the join of what any of them holds under a storage key."""
    layout = state.layout
    epoch = layout.epoch if layout is not None else 0
    stamp = state.clock.last
    answers = yield questions.ask(owners, b"FETCH", epoch, storage_key)
    held: dict[str, bytes] = {owner: answer[1] for owner, answer in answers.items() if answer}
    missed = {owner: LOST for owner in owners if owner not in held}
    joined = b""
    for record in held.values():
        if record not in (b"", UNREADABLE):
            joined = versions.merge(joined or None, record) or b""
    size = sum(wire_bytes(storage_key) + wire_bytes(record) for owner, record in held.items() if owner != state.id)
    behind = [owner for owner in owners if owner in held and held[owner] != joined]
    repaired = 0
    if joined and state.fence < stamp:
        answers = yield questions.ask(behind, b"MERGE", epoch, storage_key, joined)
        for owner in behind:
            answer = answers.get(owner)
            if not answer:
                missed[owner] = LOST
                continue
            size += wire_bytes(storage_key) + wire_bytes(joined) if owner != state.id else 0
            changed, refused = (int(answer[1]), int(answer[2])) if len(answer) > 1 else (0, 1)
            repaired += changed
            if refused:
                missed[owner] = UNSETTLED
    else:
        missed |= dict.fromkeys(behind, UNSETTLED)  # nobody could read it, or it may have been collected meanwhile
    state.statistics.keys_repaired += repaired
    state.statistics.repair_bytes_sent += size
    return KeyRepair(int(joined != b""), repaired, size, missed)
