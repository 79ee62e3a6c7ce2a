"""Mending: a damaged record is replaced by the merge of what the other nodes hold (P11).

The problem. Every read of a record verifies it. A damaged record is never served: in a read this node gives no vote for
the key, it refuses to store into the record, and a client's write of the key waits.

The idea. The node asks every member for its copy of the key. Once all other owners have answered, it stores the merge of
their copies in place of the damaged bytes. All other owners have to answer, because the damaged record may have been one
of the W votes of a write: with a record that lacks that write this node must not vote again.

The damaged bytes may have been the only place that knew some of this node's own dots, for a write that the others do not
have yet. So the node takes a new actor when it finds the damage, before it issues another dot (P2).

If no node has a sound copy, and the bytes are known to have been there, the record is lost. That is counted and makes the
cluster's status degraded. A lost record is never silently treated as a key that did not exist. If the record is still in
the cache, nothing is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from server.core.base.room import FOR_NOTHING
from server.core.base.state import State
from server.core.messages.asking import UNREADABLE
from server.core.messages.record_questions import COPIES
from server.core.records import versions
from server.core.records.live_slots import rescan_uncounted
from server.core.records.versions import DamagedRecord
from server.core.repair.exchange_answers import PAGE_BYTES
from server.core.work.background import BATCH_KEYS, Background
from server.core.work.procedures import Step, Steps
from server.core.work.questions import Answers, Questions

AGAIN_MS = 1000  # from one attempt to the next, if not all other owners answered


class _Waiter(NamedTuple):
    """A client's write that waits for a damaged record."""

    deadline_ms: int
    run: Callable[[], None]
    fail: Callable[[], None]


class Mending:
    """Replaces the damaged records of this node, and holds the writes that wait for them."""

    def __init__(self, state: State, questions: Questions, background: Background) -> None:
        self._state = state
        self._questions = questions
        self._background = background
        self._waiting: dict[bytes, list[_Waiter]] = {}  # by storage key of a damaged record, in the order of discovery
        self._parked = 0  # writes that wait
        self._running = False
        self._counts = [0, 0]  # records mended and lost since `drain_counts`
        self._renewed_turn = -1
        state.records.listeners.damaged.append(self.note)

    def __len__(self) -> int:
        return len(self._waiting)

    def note(self, key: bytes) -> None:
        """Queues the record under `key`, which was found damaged, and takes a new actor."""
        state = self._state
        if self._renewed_turn != state.turn:  # within a turn nothing has been written under the newest actor and lost
            self._renewed_turn = state.turn
            state.renew_actor()
        if key not in self._waiting and len(self._waiting) < state.config.damaged_records_max:
            self._waiting[key] = []
        if not self._running:
            self._running = True
            self._background.run_to_end("mending", self._mend_all)

    def drain_counts(self) -> tuple[int, int]:
        """How many records were mended here, and how many were lost, since the last call."""
        mended, lost = self._counts
        self._counts = [0, 0]
        return mended, lost

    def park(self, key: bytes | None, run: Callable[[], None], fail: Callable[[], None]) -> bool:
        """Holds a write that met the damaged record of `key`: calls `run` when it is mended, or `fail` at the deadline.

        Returns False, and holds nothing, if no other owner can be reached.
        """
        state = self._state
        waiters = None if key is None else self._waiting.get(key)
        if key is None or waiters is None or not any(state.is_usable(owner) for owner in self._owners(key)):
            return False
        waiters.append(_Waiter(state.now_ms + state.config.request_timeout_ms, run, fail))
        self._parked += 1
        return True

    def expire(self, now_ms: int) -> None:
        """Fails the writes whose deadline has passed."""
        for key, waiters in list(self._waiting.items()) if self._parked else ():
            late = [waiter for waiter in waiters if waiter.deadline_ms <= now_ms]
            if late:
                self._waiting[key] = waiters[len(late) :]
                self._parked -= len(late)
                for waiter in late:
                    waiter.fail()

    def copies(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Answers COPIES: what this node stores under some keys, as an owner or as hints.

        For each key, in order: the record, None for none, or UNREADABLE for a damaged one. If that is more than a page,
        only the first keys are answered, at least one.
        """
        copies: list[bytes | None] = []
        size = 0
        for key in keys:
            copy = self._copy(key)
            copies.append(copy)
            size += len(copy or b"")
            if size >= PAGE_BYTES:
                break
        return copies

    def _copy(self, key: bytes) -> bytes | None:
        try:
            return self._state.records.get(key)
        except DamagedRecord:
            return UNREADABLE

    def _owners(self, key: bytes) -> list[str]:
        """The other owners of a key."""
        state = self._state
        owners = state.routes[int.from_bytes(key[:2], "big") >> state.route_shift].owners
        return [owner for owner in owners if owner != state.id]

    def _mend_all(self) -> Steps:
        """Mends until no record is damaged any more."""
        yield self._background.sleep(0)  # the code that found the damage has not returned yet
        while self._waiting:
            progress = False
            keys = list(self._waiting)
            for first in range(0, len(keys) if self._state.room != FOR_NOTHING else 0, BATCH_KEYS):
                batch = keys[first : first + BATCH_KEYS]
                yield from self._background.spend(len(batch))
                if (yield from self._mend(batch)):
                    progress = True
            if not progress:
                yield self._background.sleep(AGAIN_MS)
        self._running = False
        yield self._background.sleep(0)  # what was mended is committed by then
        rescan_uncounted(self._state.records)
        return None

    def _mend(self, keys: list[bytes]) -> Generator[Step, Any, bool]:
        """Asks all members for copies of some records; True if at least one record was mended or given up."""
        state = self._state
        layout = state.layout
        members = [] if layout is None else [member.id for member in layout.members if member.id != state.id]
        stamp = state.clock.last
        answers: Answers = yield self._questions.ask(members, COPIES, keys)
        if state.fence >= stamp:
            return False  # tombstones were collected since, and the answers may hold older values
        done = False
        for index, key in enumerate(keys):
            copies = {member: found[index] for member, found in answers.items() if found and index < len(found)}
            if all(owner in copies for owner in self._owners(key)):
                present = [copies[member] for member in members if member in copies]
                self._settle(key, present, len(copies) == len(members))
                done = done or key not in self._waiting
        return done

    def _settle(self, key: bytes, copies: list[bytes | None], all_answered: bool) -> None:
        """Mends `key`, or gives it up, by the other members' copies; all its other owners have answered.

        a sound copy, here in the cache or there   all members answered   the bytes are known to have existed   then
        yes                                        -                      -                                     mended
        no                                         no                     -                                     tried again
        no                                         yes                    yes                                   lost
        no                                         yes                    no                                    removed
        """
        records, statistics = self._state.records, self._state.statistics
        if not self._state.owns(key) and not self._state.hints.holds(key):
            self._put(key, None)  # it was stored for a hint that has been delivered
            return
        merged: bytes | None = None
        for copy in copies:
            if copy is not None and copy != UNREADABLE:
                with suppress(DamagedRecord):  # a copy that contradicts another one (records/joins.py)
                    merged = versions.merge(merged, copy)
        try:
            # Our own record may be in the cache, or readable at the second attempt.
            merged = versions.merge(records.get(key), merged)
        except DamagedRecord:
            if merged is None and not all_answered:
                return  # a member that did not answer may store it as a hint
            if merged is None and (records.is_stored(key) or UNREADABLE in copies):
                statistics.records_lost += 1
                self._counts[1] += 1
        if merged is not None:
            statistics.records_mended += 1
            self._counts[0] += 1
        self._put(key, merged)

    def _put(self, key: bytes, record: bytes | None) -> None:
        self._state.records.mend(key, record)
        waiters = self._waiting.pop(key)
        self._parked -= len(waiters)
        for waiter in waiters:
            waiter.run()
