"""Hint replay: delivers hints to their owners as soon as these can be reached.

The idea (Dynamo, section 4.6). For each live owner with hints one procedure runs. It sends the owner the hinted records
in batches, oldest first, at the pace of all background work. The owner answers a batch after it has merged and committed
it. Then a hint is removed if the record stored here is still the one that was sent. If a newer write came meanwhile, the
next pass delivers that one.

No idle timer stands between an owner's return and its first hint: every tick checks, and so does `dyn hints replay`.
After an owner did not confirm a batch, the next attempt is `RETRY_MS` later.

After a change of the layout all hints are reviewed:
- Hints for a node that is no owner of their key any more are handed to the present owners (P6).
- A record that this node does not own any more is hinted for all its owners, the new ones included. The record is not
  deleted with its last hint, because a node that was restarted meanwhile does not know what it once owned. cleanup.py
  deletes it, like all such records, once all owners have confirmed it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from server.core.base.room import FOR_NOTHING
from server.core.base.state import State
from server.core.messages.asking import flattened
from server.core.messages.exchange_questions import ABSORB
from server.core.records.versions import DamagedRecord
from server.core.ring.layout import Layout
from server.core.work.background import BATCH_KEYS, Background
from server.core.work.procedures import Step, Steps
from server.core.work.questions import Questions

RETRY_MS = 1000
BATCH_BYTES_MAX = 256 << 10
_REVIEWED_KEYS = 200  # hints reviewed in a turn
TOUCHES_KEPT_MS = 60_000  # longer than a collection takes from its vote to its end (see collection.py)


class HintReplay:
    """The procedures that deliver hints."""

    def __init__(self, state: State, background: Background, questions: Questions) -> None:
        self._state = state
        self._background = background
        self._questions = questions
        self._running: dict[str, None] = {}  # owners that a procedure runs for
        self._retry_ms: dict[str, int] = {}  # by owner: the time before which it is not tried again
        self._checked_ms = 0
        self._began_ms: int | None = None  # of this process, by the monotonic clock
        self._review_due = True
        self._reviewing = False
        self._layout: Layout | None = None  # by which the hints were reviewed last

    def tick(self, now_ms: int) -> None:
        """Begins the replay for each live owner that has hints, and the review if one is due."""
        if self._began_ms is None:
            self._began_ms = now_ms
        if self._state.room == FOR_NOTHING:
            return  # removing a hint is a write, too
        for owner in self._state.hints.owners():
            if owner not in self._running and now_ms >= self._retry_ms.get(owner, 0) and self._state.is_usable(owner):
                self._running[owner] = None
                self._background.run("hint replay", self._replay(owner))
        if now_ms - self._checked_ms > RETRY_MS:
            self._checked_ms = now_ms
            self._give_up_old(now_ms)
            self._review_due = self._review_due or any(
                owner not in self._state.members for owner in self._state.hints.owners()
            )
            self._state.hints.forget_changes(now_ms - TOUCHES_KEPT_MS)

        if self._review_due and not self._reviewing and self._state.layout is not None:
            self._reviewing = True
            self._background.run_to_end("hint review", self._review)

    def review(self) -> None:
        """Asks for a review of all hints, after a change of the layout."""
        self._review_due = True

    def _review(self) -> Steps:
        """Reviews all hints; again if the layout changes meanwhile."""
        while self._review_due:
            self._review_due = False
            before, self._layout = self._layout, self._state.layout
            is_done = False
            try:
                yield from self._review_since(before)
                is_done = True
            finally:
                if not is_done:  # the hints that were not reviewed are still to be compared with the layout before
                    self._layout, self._review_due = before, True
            dropped = self._state.hints.dropped_hints
            for owner in [owner for owner in dropped if owner not in self._state.members]:
                del dropped[owner]
        self._reviewing = False
        return None

    def _review_since(self, before: Layout | None) -> Generator[Step, Any, None]:
        for owner in self._state.hints.owners():
            for batch in _batches(self._state.hints.keys(owner), _REVIEWED_KEYS):
                for storage_key in batch:
                    self._reassign(owner, storage_key, before)
                yield self._background.sleep(1)

    def _reassign(self, owner: str, storage_key: bytes, before: Layout | None) -> None:
        """Reviews one hint by the present layout; `before` is the layout of its last review.

        `owner` still owns the key   this node owns the key   the owners changed   then
        no                           -                        -                    the hint is handed to the other owners
        yes                          no                       yes                  every other owner gets a hint
        else                                                                       nothing
        """
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
        """Drops hints older than `hint_age_ms_max` for keys that this node owns; anti-entropy repairs those.

        The age counts by cluster time. Because that may have been set, the process must have run for as long, too.
        """
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
        """Delivers the hints of one owner until there are none, it confirms nothing, or the rest is damaged here."""
        state = self._state
        try:
            while state.is_usable(owner) and state.hints.count(owner) and state.room != FOR_NOTHING:
                delivered = state.statistics.hints_delivered
                for batch in _batches(state.hints.keys(owner)):
                    yield from self._background.spend(len(batch))
                    confirmed = yield from self._deliver(owner, batch)
                    if not confirmed:
                        for storage_key in batch:  # perhaps it does not own these keys any more
                            self._reassign(owner, storage_key, None)
                        return None
                if state.statistics.hints_delivered == delivered:
                    return None  # the remaining records are damaged: their hints wait until mending.py has fetched them
        finally:
            del self._running[owner]
            self._retry_ms[owner] = state.now_ms + RETRY_MS
        return None

    def _deliver(self, owner: str, batch: list[bytes]) -> Generator[Step, Any, bool]:
        """Sends `owner` the records of `batch`, at most `BATCH_BYTES_MAX`; False if it did not confirm them."""
        state = self._state
        sent: dict[bytes, bytes] = {}
        size = 0
        for storage_key in batch:
            if not state.hints.is_open(owner, storage_key):
                continue
            try:
                record = state.records.get(storage_key)
            except DamagedRecord:
                continue  # it is not sent, and its hint waits until it is mended
            if record is None:
                self._remove_hint(owner, storage_key)  # no record is stored, so there is nothing to deliver
            elif not sent or size + len(record) <= BATCH_BYTES_MAX:
                sent[storage_key] = record
                size += len(record)
        if not sent:
            return True
        answers = yield self._questions.ask([owner], ABSORB, flattened(sent.items()))
        if not answers.get(owner):
            return False
        for storage_key, record in sent.items():
            if state.hints.is_open(owner, storage_key) and self._is_stored(storage_key, record):
                self._remove_hint(owner, storage_key)
        return True

    def _is_stored(self, storage_key: bytes, record: bytes) -> bool:
        try:
            return self._state.records.get(storage_key) == record
        except DamagedRecord:
            return False

    def _remove_hint(self, owner: str, storage_key: bytes) -> None:
        state = self._state
        state.hints.confirm(owner, storage_key, state.now_ms)
        if not state.owns(storage_key) and not state.hints.holds(storage_key):
            self._state.cleanup_due = True

    # --- for operators

    def asked(self, replay: bool) -> dict[str, Any]:
        """Answers HINTS: this node's hints by owner. With `replay`, owners that wait for a retry are tried now."""
        state = self._state
        if replay:
            self._retry_ms.clear()
            self.tick(state.now_ms)
        rows = [
            {"owner": owner, "count": count, "bytes": size, "oldest_s": oldest_s}
            for owner, count, size, oldest_s in state.hints.summary(state.time_ms)
        ]
        return {"hints": rows, "behind": state.hints.dropped_hints, "delivered": state.statistics.hints_delivered}


def _batches(keys: list[bytes], size: int = BATCH_KEYS) -> list[list[bytes]]:
    return [keys[first : first + size] for first in range(0, len(keys), size)]
