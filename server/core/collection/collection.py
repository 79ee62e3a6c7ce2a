"""Collection: removes tombstones, expired values and long clocks, by agreement of the whole cluster, not by a clock (P7).

Theory. A tombstone keeps older copies of its key from coming back. After it is gone, a new write of the key knows
nothing of older copies. So a single old copy, on any node, would become a value again. A record whose siblings are all
dead (deleted or expired) may be removed only if every owner holds exactly this record, and *no older copy is left
anywhere or on its way*. A grace period (as in Cassandra) makes that only likely. Here all members of the layout answer
four rounds of questions:

1. VOTE, for up to 256 keys by checksum. An owner says yes for a key if it holds exactly that record; another member
   says yes if it holds that record or none. In addition it must have no hint for the key and no unconfirmed write of
   it.
2. LINE, `collect_wait_ms` later. Each member makes sure that the state in which it voted is on its disk, and answers
   with a reading of its clock. From now on it neither sends nor stores a record that it read into memory before.
3. FENCE. From now on each member refuses records that a member sent before drawing its line; every message carries a
   reading of its sender's clock, which tells that (late.py). Each member confirms that its vote has held all the time.
4. DROP. Each owner removes the record if it still is the one agreed on.

Why no older copy O can be stored anywhere after the first drop. All have said yes at the fence. Let X be any member, v
the moment of its vote, l that of its line, f that of its fence. O might be

- *stored at X*. It was not stored at v, and there was no hint at v. Nothing of the kind came until f: an owner holds
  the same record at v and at f, and records only grow; on other members a record comes with a hint, and no hint has
  changed. What X held at v is on its disk at l. So neither a restart nor a power loss brings O back. (A restart between
  v and f loses the vote. A wiped disk holds nothing, so it does not hold O.)
- *on its way, sent by X before l*. Then it carries at most the clock of X at l, and every member that has raised its
  fences refuses it. All have raised them before anything is dropped. A member that has restarted since then has no
  fences; but the messages to its earlier run were lost with its connections. The earlier runs of X: their clocks were
  at most the bound on X's disk, and X does not vote before its clock is past that bound (votes.py).
- *sent by X after l*. X could not have read O from its store or have it as a hint (see above). O was not in a write in
  flight: there was none at v and none at f; a write that began and ended in between was based on what X had stored, or
  it left a hint. X had not read O into memory before l: `State.fence` prevents its use. X did not get O in an answer
  after l: all had voted by then, so an answer cannot contain O. X did not get O in another message: before f see the
  first point, after f the second.
- *written again from an old read* (EXPIRE copies the value that it has read). A read that began before the others voted
  has ended at l, because it lives for `request_timeout_ms`, which is less than the wait. (A member that was suspended,
  and has requests past their deadline, answers `wait`.) If the read led to a write before l, the vote does not hold at
  f.

A new write of the key makes another record at any time. Then the checksum differs, and nothing is dropped. If an owner
misses the DROP, it keeps a tombstone; that is harmless, spreads again, and is collected again. If a collector dies, the
votes are dropped after some time, and the fences cost nothing. A new layout stops everything: ballots carry the epoch,
and while partitions move no member votes.

(Rejected: one fence for all, like the highest clock at the votes. After its vote a member may send what it has read
before, with a clock later than all votes. And a node whose clock does not follow the others would be refused.)

Expired values: each member judges by cluster time as it knows it, when it votes and again at the fence. Cluster time
runs forward, so what all have judged dead stays dead. (An exception: cluster time steps if most clocks are set back by
very much.)

Long clocks: a clock gets an entry for each actor that wrote the key, and restarts make new actors. An entry without a
sibling only keeps older copies from coming back, as a tombstone does. So it is removed by the same agreement: the
owners replace the record by one whose clock has only the entries of its siblings' actors. If an owner misses the DROP,
the next merge restores the whole record.

Sums of actors that are gone: they are folded into one by the same agreement; records/folds.py says what is added to it.

If somebody replaces a data directory by an older copy of itself, the other members notice it, and the copy is set aside
before it can bring deleted values back (membership/rollback.py).

Not covered: if a node was wiped and its clock was set back as well, messages of its earlier run may still be on their way,
and no fence stops them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any, NamedTuple

from server.core.base.state import State
from server.core.collection.candidates import Candidates
from server.core.messages.record_questions import (
    DROP,
    DROPPED,
    FENCE,
    FOLDED,
    LINE,
    PRUNED,
    VOTE,
    WAIT,
    WRITERS,
    Ballot,
    Fence,
    Line,
)
from server.core.records import versions
from server.core.records.folds import folded, has_sums
from server.core.records.versions import DamagedRecord
from server.core.ring.layout import SETTLED
from server.core.work.background import Background
from server.core.work.procedures import Step, Steps
from server.core.work.questions import Answers, Questions

BALLOT_KEYS_MAX = 256
BALLOT_BYTES_MAX = 256 << 10
BALLOTS_MAX = 16  # ballots that share one wait
POLL_MS = 1000  # how often the collector looks for candidates
MEMBER_AWAY_MS = 10_000  # if a member cannot be asked, candidates wait for this time
_GRACE_MS = 1000  # between the end of the longest request and a line
_LINE_RETRY_MS = 1000
_LINE_TRIES_MAX = 40  # under fsync `no` there is a sync every 10 s
_FENCE_MS = 500  # pause between lines and fences, so that most messages on their way arrive and are not refused


class _Ballot(NamedTuple):
    """Keys that are voted on together. `records` are those to remove, prune or fold, by storage key; `writers` are all
    members' actors, for a fold; `clocks` are the members' readings at their lines."""

    name: bytes
    epoch: int
    mode: bytes
    members: list[str]
    writers: tuple[bytes, ...]
    records: dict[bytes, bytes]
    clocks: dict[str, int]


class Collection:
    """Leads the collection of this node's candidates."""

    def __init__(self, state: State, questions: Questions, background: Background) -> None:
        self._state = state
        self._questions = questions
        self._background = background
        self.candidates = Candidates(state.config.collect_queue_max)

    def start(self) -> None:
        """Begins the background procedure, which runs as long as the node."""
        self._background.run_forever("collection", self._collect)

    def add_candidate(self, key: bytes, expires_at_ms: int) -> None:
        """Queues a key under which a tombstone or a long clock was written (0), or a value that expires at that time."""
        state = self._state
        delay_ms = max(0, expires_at_ms - state.time_ms) if expires_at_ms else 0
        self.candidates.add(key, state.now_ms + delay_ms)

    def _collect(self) -> Steps:
        while True:
            yield self._background.sleep(POLL_MS)
            keys = self.candidates.pop_due(self._state.now_ms, BALLOTS_MAX * BALLOT_KEYS_MAX)
            if keys:
                yield from self._collect_keys(keys)

    def _collect_keys(self, keys: list[bytes]) -> Generator[Step, Any, None]:
        state, config = self._state, self._state.config
        layout = state.layout
        members = [] if layout is None or layout.phase != SETTLED else [member.id for member in layout.members]
        if not members or not all(self._may_vote(member) for member in members):
            for key in keys:
                self.candidates.put_back(key, state.now_ms + MEMBER_AWAY_MS)
            return
        writers: tuple[bytes, ...] = ()
        if any(self._may_be_folded(key) for key in keys):
            writers = yield from self._all_writers(members)
        ballots = self._ballots(keys, members, writers)
        for ballot in ballots:
            yield from self._background.spend(len(ballot.records))
            yield from self._hold_vote(ballot)
        if any(ballot.records for ballot in ballots):
            yield self._background.sleep(max(config.collect_wait_ms, config.request_timeout_ms + _GRACE_MS))
        for ballot in ballots:
            yield from self._draw_lines(ballot)
        if any(ballot.clocks for ballot in ballots):
            yield self._background.sleep(_FENCE_MS)
        for ballot in ballots:
            yield from self._fence(ballot)
            yield from self._drop(ballot)

    def _may_vote(self, member: str) -> bool:
        state = self._state
        return (member == state.id or state.is_usable(member)) and state.may_delete(member)

    def _may_be_folded(self, key: bytes) -> bool:
        try:
            record = self._state.records.get(key)
        except DamagedRecord:
            return False
        return record is not None and self._has_long_clock(record) and has_sums(record)

    def _has_long_clock(self, record: bytes) -> bool:
        return versions.clock_entries(record) > self._state.config.clock_entries_max

    def _all_writers(self, members: list[str]) -> Generator[Step, Any, tuple[bytes, ...]]:
        """The actors of all members; none if one does not answer, perhaps because it is of an earlier version."""
        answers: Answers = yield self._questions.ask(members, WRITERS, None)
        if not all(answers.get(member) for member in members):
            return ()
        return tuple(sorted({actor for member in members for actor in answers[member]}))

    def _ballots(self, keys: list[bytes], members: list[str], writers: tuple[bytes, ...] = ()) -> list[_Ballot]:
        """Makes ballots of the keys' records, by mode. Removes the keys that need nothing from the candidates."""
        state = self._state
        found: list[_Ballot] = []
        filling: dict[bytes, tuple[_Ballot, int]] = {}
        for key in keys:
            try:
                record = state.records.get(key)
            except DamagedRecord:
                record = None  # the scrub queues the key again after the record has been mended
            if record is None:
                self.candidates.remove(key)
                continue
            mode = self._mode_for(key, record, writers)
            if mode is None:
                continue
            ballot, size_bytes = filling.get(mode, (None, 0))
            if ballot is None or len(ballot.records) == BALLOT_KEYS_MAX or size_bytes > BALLOT_BYTES_MAX:
                assert state.layout is not None
                name = f"{state.id} {state.next_number()}".encode()
                ballot, size_bytes = _Ballot(name, state.layout.epoch, mode, members, writers, {}, {}), 0
                found.append(ballot)
            ballot.records[key] = record
            filling[mode] = ballot, size_bytes + len(key)
        return found

    def _mode_for(self, key: bytes, record: bytes, writers: tuple[bytes, ...]) -> bytes | None:
        """Returns DROPPED, FOLDED or PRUNED for a candidate's record, or None if nothing can be done now.

        Then its key is removed, or queued for its expiry.
        """
        state = self._state
        if state.owns(key):
            if versions.is_dead(record, state.time_ms):
                return DROPPED
            if self._has_long_clock(record):
                if writers and folded(record, writers) != record:
                    return FOLDED
                if versions.pruned(record) != record:
                    return PRUNED
        self.candidates.remove(key)
        expires_at_ms = versions.last_expiry(record)
        if expires_at_ms > state.time_ms:
            self.add_candidate(key, expires_at_ms)
        return None

    def _hold_vote(self, ballot: _Ballot) -> Generator[Step, Any, None]:
        """Round 1. Keeps in the ballot the keys for which all members say yes."""
        answers: Answers = yield self._questions.ask(ballot.members, VOTE, _question(ballot))
        votes = [answers[member] for member in ballot.members if answers.get(member) is not None]
        everybody = len(votes) == len(ballot.members)
        no = [
            key for index, key in enumerate(ballot.records) if not everybody or not all(vote[index] for vote in votes)
        ]
        self._refuse(ballot, no)

    def _draw_lines(self, ballot: _Ballot) -> Generator[Step, Any, None]:
        """Round 2. Stores the clock of each member's line, if all draw one. Asks again while one waits for its disk."""
        answers: Answers = {}
        for attempt in range(_LINE_TRIES_MAX if ballot.records else 0):
            if attempt:
                yield self._background.sleep(_LINE_RETRY_MS)
            answers = yield self._questions.ask(ballot.members, LINE, Line(ballot.name, ballot.epoch))
            if WAIT not in answers.values():
                break
        if WAIT not in answers.values() and all(answers.get(member) is not None for member in ballot.members):
            ballot.clocks.update({member: answers[member] for member in ballot.members})

    def _fence(self, ballot: _Ballot) -> Generator[Step, Any, None]:
        """Round 3. Keeps in the ballot the keys for which all votes still hold."""
        answers: Answers = {}
        if ballot.clocks:
            fence = Fence(ballot.name, ballot.epoch, ballot.clocks)
            answers = yield self._questions.ask(ballot.members, FENCE, fence)
        for member in ballot.members:
            agreed = dict.fromkeys(answers.get(member) or ())
            self._refuse(ballot, [key for key in ballot.records if key not in agreed])

    def _drop(self, ballot: _Ballot) -> Generator[Step, Any, None]:
        """Round 4. Tells all members, even if no key is left, because this ends the ballot."""
        yield self._questions.ask(ballot.members, DROP, _question(ballot))
        statistics = self._state.statistics
        for key, record in ballot.records.items():
            self.candidates.remove(key)
            if ballot.mode == PRUNED:
                statistics.clocks_pruned += 1
            elif ballot.mode == FOLDED:
                statistics.sums_folded += 1
                self.add_candidate(key, 0)  # the clock is as long as before
            elif versions.expiry_class(record) != versions.DEAD:
                statistics.expired_collected += 1
            else:
                statistics.tombstones_collected += 1

    def _refuse(self, ballot: _Ballot, keys: Iterable[bytes]) -> None:
        for key in keys:
            del ballot.records[key]
            self._state.statistics.collections_refused += 1
            self.candidates.retry_later(key, self._state.now_ms)


def _question(ballot: _Ballot) -> Ballot:
    """Returns the content of VOTE and DROP."""
    sums = {key: record[:8] for key, record in ballot.records.items()}
    return Ballot(ballot.name, ballot.epoch, ballot.mode, sums, ballot.writers)
