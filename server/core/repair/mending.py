"""Mending: a damaged record is fetched again from the other nodes (P11).

Theory. Whoever reads a record finds out whether it is sound. One that is not is never served: this node votes for none in
a read, refuses to store into it, and lets a client's write of it wait. Then it asks every member for what it has of the
key and, once all other owners have answered, stores the join in place of the damaged bytes. All of them: the damaged
record may have had one of W votes of a write, and with a record that lacks it this node must not vote again.

The damaged bytes may be the only place where some of our own dots were known (a write that others have not got yet). So
this node takes a new actor as soon as it sees the damage (P2), and before it issues another dot.

If nobody has a sound copy and the bytes are known to have been there, the record is lost: that is counted and makes the
cluster's status degraded; it is never taken for a key that was not there in silence. A copy in the cache saves it all.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

from server.core.base.room import FOR_NOTHING
from server.core.base.state import State
from server.core.records import versions
from server.core.records.versions import DamagedRecord
from server.core.repair.exchange_answers import PAGE_BYTES
from server.core.work.background import BATCH_KEYS, Background
from server.core.work.procedures import Step, Steps
from server.core.work.questions import Answers, Questions

AGAIN_MS = 1000  # between two attempts at records whose other owners did not all answer
_SOUND, _ABSENT, _DAMAGED = b"=", b"-", b"!"


class _Waiter(NamedTuple):
    """A client's write of a damaged record."""

    deadline_ms: int
    run: Callable[[], None]
    fail: Callable[[], None]


class Mending:
    """The damaged records of this node, and the writes that wait for them."""

    def __init__(self, state: State, questions: Questions, background: Background) -> None:
        self._state = state
        self._questions = questions
        self._background = background
        self._waiting: dict[bytes, list[_Waiter]] = {}  # by storage key, in the order in which they were found
        self._parked = 0  # writes that wait
        self._running = False
        self._counts = [0, 0]  # mended and lost since they were last asked for
        self._renewed_turn = -1

    def __len__(self) -> int:
        return len(self._waiting)

    def note(self, key: bytes) -> None:
        """The record under `key` was found damaged."""
        state = self._state
        if self._renewed_turn != state.turn:  # within a turn nothing has been written under the newest actor and lost
            self._renewed_turn = state.turn
            state.renew_actor()
        if key not in self._waiting and len(self._waiting) < state.config.damaged_records_max:
            self._waiting[key] = []
        if not self._running:
            self._running = True
            self._background.run_to_end("mending", self._mend_all)

    def take_counts(self) -> tuple[int, int]:
        """How many records were mended here, and how many are lost, since the last call."""
        mended, lost = self._counts
        self._counts = [0, 0]
        return mended, lost

    def park(self, key: bytes | None, run: Callable[[], None], fail: Callable[[], None]) -> bool:
        """Lets a write that met the damaged record of `key` wait: `run` when it is mended, `fail` at the deadline.

        Answers whether it waits: not where no other owner can be reached.
        """
        state = self._state
        waiters = None if key is None else self._waiting.get(key)
        if key is None or waiters is None or not any(state.is_usable(owner) for owner in self._owners(key)):
            return False
        waiters.append(_Waiter(state.now_ms + state.config.request_timeout_ms, run, fail))
        self._parked += 1
        return True

    def expire(self, now_ms: int) -> None:
        """Fails what has waited too long."""
        for key, waiters in list(self._waiting.items()) if self._parked else ():
            late = [waiter for waiter in waiters if waiter.deadline_ms <= now_ms]
            if late:
                self._waiting[key] = waiters[len(late) :]
                self._parked -= len(late)
                for waiter in late:
                    waiter.fail()

    def copies(self, keys: Sequence[bytes]) -> list[bytes]:
        """Another node asks what we hold under keys, as an owner or for a hint's sake.

        Answers a record behind `=`, or `-` for nothing, `!` for damaged bytes; for the first keys only, one at least, if
        there is more than a page of it.
        """
        words: list[bytes] = []
        size = 0
        for key in keys:
            words.append(self._copy(key))
            size += len(words[-1])
            if size >= PAGE_BYTES:
                break
        return words

    def _copy(self, key: bytes) -> bytes:
        try:
            record = self._state.records.get(key)
        except DamagedRecord:
            return _DAMAGED
        return _ABSENT if record is None else _SOUND + record

    def _owners(self, key: bytes) -> list[str]:
        """The other owners of a key."""
        state = self._state
        owners = state.routes[int.from_bytes(key[:2], "big") >> state.route_shift].owners
        return [owner for owner in owners if owner != state.id]

    def _mend_all(self) -> Steps:
        """Goes on until nothing is damaged any more."""
        yield self._background.pause(0)  # whoever found the damage is still at work
        while self._waiting:
            progress = False
            keys = list(self._waiting)
            for first in range(0, len(keys) if self._state.room != FOR_NOTHING else 0, BATCH_KEYS):
                batch = keys[first : first + BATCH_KEYS]
                yield from self._background.spend(len(batch))
                if (yield from self._mend(batch)):
                    progress = True
            if not progress:
                yield self._background.pause(AGAIN_MS)
        self._running = False
        yield self._background.pause(0)  # what was mended is committed by then
        self._state.records.rescan_uncounted()
        return None

    def _mend(self, keys: list[bytes]) -> Generator[Step, Any, bool]:
        """Asks for copies of some records; answers whether one was dealt with."""
        state = self._state
        layout = state.layout
        members = [] if layout is None else [member.id for member in layout.members if member.id != state.id]
        stamp = state.clock.last
        answers: Answers = yield self._questions.ask(members, b"COPIES", *keys)
        if state.fence >= stamp:
            return False  # what was answered may be older than what all have agreed to forget since
        done = False
        for index, key in enumerate(keys):
            words = {member: answer[index] for member, answer in answers.items() if index < len(answer)}
            if all(owner in words for owner in self._owners(key)):
                self._settle(key, [words[member] for member in members if member in words], len(words) == len(members))
                done = done or key not in self._waiting
        return done

    def _settle(self, key: bytes, words: list[bytes], all_answered: bool) -> None:
        """All other owners of `key` have answered."""
        records, statistics = self._state.records, self._state.statistics
        if not self._state.owns(key) and not self._state.hints.holds(key):
            self._put(key, None)  # it was here for the sake of a hint, which is paid by now
            return
        join: bytes | None = None
        for word in words:
            if word[:1] == _SOUND and versions.verify(word[1:]):
                join = versions.merge(join, word[1:])
        try:
            join = versions.merge(records.get(key), join)  # from the cache, or it was an error of the moment
        except DamagedRecord:
            if join is None and not all_answered:
                return  # somebody who keeps a hint of it may be away
            if join is None and (records.is_stored(key) or _DAMAGED in words):
                statistics.records_lost += 1
                self._counts[1] += 1
        if join is not None:
            statistics.records_mended += 1
            self._counts[0] += 1
        self._put(key, join)

    def _put(self, key: bytes, record: bytes | None) -> None:
        self._state.records.mend(key, record)
        waiters = self._waiting.pop(key)
        self._parked -= len(waiters)
        for waiter in waiters:
            waiter.run()
