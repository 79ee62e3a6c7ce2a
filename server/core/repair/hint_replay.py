"""Hinted handoff: paying the debts that hints.py lists, as soon as their owners can be reached.

Theory (Dynamo, section 4.6). Each owner that something is owed to and that is live has one procedure here, which brings it
the records in batches, oldest first, at the pace of all background work. The owner confirms a batch once it has merged it,
and its answer leaves after its commit; a hint then goes if the record held here is still the one that was sent. If not, a
newer write has come meanwhile, and the next pass brings that.

No idle timer stands between an owner's return and its first hint: every tick looks, and so does the operator's
`dyn hints replay`. An owner that does not confirm is left alone for `RETRY_MS`.

When the layout has changed all hints are looked through: those of owners that do not keep their key any more change hands
(P6). And a record that is not kept here any more is owed to all its keepers, the new ones included. Yet it does not go with
its last hint: a node that has been started meanwhile does not know what it owned once. It goes as all such records go, when
all keepers have confirmed it (cleanup.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from typing import Any

from server.core.base.room import FOR_NOTHING
from server.core.base.state import State
from server.core.records.versions import DamagedRecord
from server.core.ring.layout import Layout
from server.core.work.background import BATCH_KEYS, Background
from server.core.work.procedures import Step, Steps
from server.core.work.questions import Questions

RETRY_MS = 1000
BATCH_BYTES_MAX = 256 << 10
_REVIEWED_KEYS = 200  # in a turn
TOUCHES_KEPT_MS = 60_000  # longer than a collection takes from its vote to its end (see collection.py)


class HintReplay:
    """The procedures that deliver hints."""

    def __init__(self, state: State, background: Background, questions: Questions, let_go: Callable[[], None]) -> None:
        """`let_go` is called when there may be records that nothing is owed of any more."""
        self._let_go = let_go
        self._state = state
        self._background = background
        self._questions = questions
        self._running: dict[str, None] = {}  # owners that a procedure runs for
        self._retry_ms: dict[str, int] = {}
        self._looked_ms = 0
        self._began_ms: int | None = None
        self._review_due = True
        self._reviewing = False
        self._layout: Layout | None = None  # by which the hints were looked through last

    def tick(self, now_ms: int) -> None:
        """Begins to pay what can be paid."""
        if self._began_ms is None:
            self._began_ms = now_ms
        if self._state.room == FOR_NOTHING:
            return  # the end of a hint is a write, too
        for owner in self._state.hints.owners():
            if owner not in self._running and now_ms >= self._retry_ms.get(owner, 0) and self._state.is_usable(owner):
                self._running[owner] = None
                self._background.run("hint replay", self._replay(owner))
        if now_ms - self._looked_ms > RETRY_MS:
            self._looked_ms = now_ms
            self._give_up_old(now_ms)
            self._review_due = self._review_due or any(
                owner not in self._state.members for owner in self._state.hints.owners()
            )
            self._state.hints.forget_changes(now_ms - TOUCHES_KEPT_MS)

        if self._review_due and not self._reviewing and self._state.layout is not None:
            self._reviewing = True
            self._background.run_to_end("hint review", self._review)

    def review(self) -> None:
        """The layout has changed: some debts may be to others now."""
        self._review_due = True

    def _review(self) -> Steps:
        """Looks through all hints; again if the layout changes meanwhile."""
        while self._review_due:
            self._review_due = False
            before, self._layout = self._layout, self._state.layout
            is_done = False
            try:
                yield from self._review_since(before)
                is_done = True
            finally:
                if not is_done:  # what was not looked through is still to be compared with the layout before
                    self._layout, self._review_due = before, True
            behind = self._state.hints.dropped_hints
            for owner in [owner for owner in behind if owner not in self._state.members]:
                del behind[owner]
        self._reviewing = False
        return None

    def _review_since(self, before: Layout | None) -> Generator[Step, Any, None]:
        for owner in self._state.hints.owners():
            for batch in _batches(self._state.hints.keys(owner), _REVIEWED_KEYS):
                for storage_key in batch:
                    self._check_hands(owner, storage_key, before)
                yield self._background.pause(1)

    def _check_hands(self, owner: str, storage_key: bytes, before: Layout | None) -> None:
        """One debt, by the present layout; `before` is the one by which it was looked at last."""
        state, layout = self._state, self._state.layout
        if layout is None or not state.hints.is_open(owner, storage_key):
            return
        keepers, owned = state.owners_of(storage_key), state.owns(storage_key)
        others = [keeper for keeper in keepers if keeper != state.id]
        partition = layout.partition_of(int.from_bytes(storage_key[:2], "big"))
        if owner not in keepers:
            state.hints.reassign(owner, storage_key, others, state.now_ms, not owned)
        elif not owned and before is not None and before.keepers(partition) != keepers:
            for keeper in others:
                state.hints.keep(keeper, [storage_key], state.time_ms, state.now_ms, True)

    def _give_up_old(self, now_ms: int) -> None:
        """Leaves to Merkle repair what this node owns itself and has owed for too long: by cluster time, which may have
        been set, and by the monotonic clock of this process, which has run for as long."""
        state = self._state
        if self._began_ms is None or now_ms - self._began_ms < state.config.hint_age_ms_max:
            return
        limit_ms = state.time_ms - state.config.hint_age_ms_max
        for owner in state.hints.owners():
            if state.hints.oldest_ms(owner) < limit_ms:
                for storage_key in state.hints.older_than(owner, limit_ms, BATCH_KEYS):
                    if state.owns(storage_key):
                        state.hints.expire(owner, storage_key, now_ms)

    def _replay(self, owner: str) -> Steps:
        state = self._state
        try:
            while state.is_usable(owner) and state.hints.count(owner) and state.room != FOR_NOTHING:
                delivered = state.statistics.hints_delivered
                for batch in _batches(state.hints.keys(owner)):
                    yield from self._background.spend(len(batch))
                    confirmed = yield from self._deliver(owner, batch)
                    if not confirmed:
                        for storage_key in batch:  # perhaps it does not keep them any more
                            self._check_hands(owner, storage_key, None)
                        return None
                if state.statistics.hints_delivered == delivered:
                    return None  # what is left waits until it is mended here
        finally:
            del self._running[owner]
            self._retry_ms[owner] = state.now_ms + RETRY_MS
        return None

    def _deliver(self, owner: str, batch: list[bytes]) -> Generator[Step, Any, bool]:
        """Brings `owner` what is held under the keys of `batch`; answers whether it confirmed what it was brought."""
        state = self._state
        sent: dict[bytes, bytes] = {}
        size = 0
        for storage_key in batch:
            if not state.hints.is_open(owner, storage_key):
                continue
            try:
                record = state.records.get(storage_key)
            except DamagedRecord:
                continue  # it is not passed on, and its hint waits until it is mended
            if record is None:
                self._confirmed(owner, storage_key)  # nothing is held, so nothing is owed
            elif not sent or size + len(record) <= BATCH_BYTES_MAX:
                sent[storage_key] = record
                size += len(record)
        if not sent:
            return True
        answers = yield self._questions.ask([owner], b"ABSORB", *[item for pair in sent.items() for item in pair])
        if not answers.get(owner):
            return False
        for storage_key, record in sent.items():
            if state.hints.is_open(owner, storage_key) and self._is_held(storage_key, record):
                self._confirmed(owner, storage_key)
        return True

    def _is_held(self, storage_key: bytes, record: bytes) -> bool:
        try:
            return self._state.records.get(storage_key) == record
        except DamagedRecord:
            return False

    def _confirmed(self, owner: str, storage_key: bytes) -> None:
        state = self._state
        state.hints.confirm(owner, storage_key, state.now_ms)
        if not state.owns(storage_key) and not state.hints.holds(storage_key):
            self._let_go()

    # The operator

    def asked(self, replay: bool) -> list[bytes]:
        """What this node tells of its hints; asked to `replay` it tries the owners that it has left alone, too."""
        state = self._state
        if replay:
            self._retry_ms.clear()
            self.tick(state.now_ms)
        rows = [
            {"owner": owner, "count": count, "bytes": size, "oldest_s": oldest_s}
            for owner, count, size, oldest_s in state.hints.summary(state.time_ms)
        ]
        document = {"hints": rows, "behind": state.hints.dropped_hints, "delivered": state.statistics.hints_delivered}
        return [json.dumps(document).encode()]


def _batches(keys: list[bytes], size: int = BATCH_KEYS) -> list[list[bytes]]:
    return [keys[first : first + size] for first in range(0, len(keys), size)]
