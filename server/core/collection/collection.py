"""Collection: tombstones, expired values and long clocks go, by agreement of the whole cluster and by no clock (P7).

Theory. A tombstone keeps older copies of its key from coming back. Once it is gone a write starts from nothing and knows
nothing of them, so one old copy, anywhere, would be a value again. So a record whose siblings are all dead (deleted or
expired) may go when every owner holds exactly it and *no older copy is left anywhere nor on its way*. There is no grace
period after which that is merely likely. It takes four rounds of questions to all members of the layout:

 1. VOTE, for up to 256 keys by checksum. A member says yes for a key iff it holds exactly that record (an owner) or no
    other (anybody), has no hint of the key, and no unconfirmed write of it.
 2. LINE, `collect_wait_ms` later. Each member makes sure that the state in which it voted is on its disk, and answers a
    reading of its clock. What it has in memory out of earlier reads it will neither send nor store any more.
 3. FENCE. Each member from now on refuses records that a member sent before that drew its line, which the clock in every
    message tells (late.py), and confirms that its vote has held all the time.
 4. DROP. Each owner removes the record if it still is that one.

Why no older copy O can be stored anywhere after the first drop. All have said yes at the fence. Let X be any member, v its
vote, l its line and f its fence. O could be
 - *stored*, at X: at v it was not, nor was a hint. Until f nothing of the kind came: an owner holds the same record at v
   and at f, and records only grow; elsewhere a record comes with a hint, and no hint was touched. What X held at v is on
   its disk at l, so neither a restart nor a power loss brings O back. (A restart between v and f loses the vote. A wiped
   disk holds nothing, so no O.)
 - *on its way, sent by X before l*: it carries at most X's clock at l, so whoever has raised its fences refuses it, and all
   have before anything is dropped. A member that has restarted since has no fences, but what was sent to its former life
   was lost with its connections. X's own former lives: their clocks were at most X's bound on disk, and X votes past that.
 - *sent by X after l*: out of what? Not from its store or a hint: see above. Not from a write in flight: there was none at
   v nor at f, and one that began and ended in between stood on what X had stored, or left a hint. Not from what was read
   into memory before l: `State.fence` forbids it. Not from what others have answered since: all have voted by then, so
   that is no O. Not from a message that came since: see the first point for before f, the second for after it.
 - *written anew out of an old read* (EXPIRE copies the value it has read): a read that began before the others' votes is
   over at l, for it lives for `request_timeout_ms`, which is less than the wait (a member that has slept, and has requests
   past their deadline, says `wait`). If it led to a write before that, the vote does not hold at f.
A new write at any time makes another record: the checksum differs, and there is no drop. Owners that lose the DROP keep a
tombstone that is harmless, spreads again, and is collected again. A collector that dies leaves votes that are forgotten
and fences that cost nothing. A new layout stops everything: ballots name the epoch, and while partitions move nobody votes.

(One fence for all, say the highest clock at the votes, would not do. A member may send, after its vote, what it has read
before, with a clock beyond all votes; and a node whose clock does not follow the others' would be refused.)

Expired values: each member judges by cluster time as it knows it, when it votes and again at the fence; that runs forward,
so what all have judged dead stays dead. (Unless most clocks are set back by so much that cluster time steps.)

*Long clocks.* A clock gets an entry for each actor that wrote, and restarts make actors. An entry without a sibling only
keeps older copies from coming back, just as a tombstone does, and goes by the same agreement: the owners replace the
record by the one whose clock names the actors of its siblings only. Where one misses the DROP the join is the whole record.

Not covered: a data directory that somebody replaces by an older copy of itself brings old values back, as it would in any
store that forgets deletions; `dyn node start --rebuild` is for such directories. A wiped node whose clock was set back as
well may have messages of its former life on their way that no fence stops.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any, NamedTuple

from server.core.base.state import State
from server.core.collection.candidates import Candidates
from server.core.collection.votes import DROP, PRUNE, WAIT
from server.core.records import versions
from server.core.records.versions import DamagedRecord
from server.core.ring.layout import SETTLED
from server.core.work.background import Background
from server.core.work.procedures import Step, Steps
from server.core.work.questions import Answers, Questions

BALLOT_KEYS_MAX = 256
BALLOT_BYTES_MAX = 256 << 10
BALLOTS_MAX = 16  # voted on together, so that they share one wait
LOOK_MS = 1000  # how often the collector looks for candidates
AWAY_MS = 10_000  # candidates wait so long when some member cannot be asked
_GRACE_MS = 1000  # between the longest request and a line
_LINE_AGAIN_MS = 1000
_LINE_TRIES_MAX = 40  # under fsync `no` a sync comes every 10 s
_FENCE_MS = 500  # from the lines to the fences: what is only on its way arrives and need not come again


class _Ballot(NamedTuple):
    """Keys that are voted on together: storage key, and the record that is to go or to be pruned; `clocks` by member."""

    name: bytes
    epoch: int
    mode: bytes
    members: list[str]
    records: dict[bytes, bytes]
    clocks: dict[str, bytes]


class Collection:
    """Leads the collection of the candidates of this node."""

    def __init__(self, state: State, questions: Questions, background: Background) -> None:
        self._state = state
        self._questions = questions
        self._background = background
        self.candidates = Candidates(state.config.collect_queue_max)

    def start(self) -> None:
        """Begins to look for candidates, for as long as the node runs."""
        self._background.run_forever("collection", self._collect)

    def notice(self, key: bytes, expires_at_ms: int) -> None:
        """A tombstone, a value that expires at that wall time, or a long clock (0 both) was written under `key`."""
        state = self._state
        delay_ms = max(0, expires_at_ms - state.time_ms) if expires_at_ms else 0
        self.candidates.add(key, state.now_ms + delay_ms)

    def _collect(self) -> Steps:
        while True:
            yield self._background.pause(LOOK_MS)
            keys = self.candidates.take(self._state.now_ms, BALLOTS_MAX * BALLOT_KEYS_MAX)
            if keys:
                yield from self._collect_keys(keys)

    def _collect_keys(self, keys: list[bytes]) -> Generator[Step, Any, None]:
        state, config = self._state, self._state.config
        layout = state.layout
        members = [] if layout is None or layout.phase != SETTLED else [member.id for member in layout.members]
        if not members or not all(self._may_vote(member) for member in members):
            for key in keys:
                self.candidates.wait(key, state.now_ms + AWAY_MS)
            return
        ballots = self._ballots(keys, members)
        for ballot in ballots:
            yield from self._background.spend(len(ballot.records))
            yield from self._vote(ballot)
        if any(ballot.records for ballot in ballots):
            yield self._background.pause(max(config.collect_wait_ms, config.request_timeout_ms + _GRACE_MS))
        for ballot in ballots:
            yield from self._draw_lines(ballot)
        if any(ballot.clocks for ballot in ballots):
            yield self._background.pause(_FENCE_MS)
        for ballot in ballots:
            yield from self._fence(ballot)
            yield from self._drop(ballot)

    def _may_vote(self, member: str) -> bool:
        state = self._state
        return (member == state.id or state.is_usable(member)) and state.may_delete(member)

    def _ballots(self, keys: list[bytes], members: list[str]) -> list[_Ballot]:
        """The keys' records by what is to be done with them; keys with nothing to be done are done with."""
        state = self._state
        found: list[_Ballot] = []
        filling: dict[bytes, tuple[_Ballot, int]] = {}
        for key in keys:
            try:
                record = state.records.get(key)
            except DamagedRecord:
                record = None  # the scrub finds it again once it is mended
            if record is None:
                self.candidates.done(key)
                continue
            mode = self._judge(key, record)
            if mode is None:
                continue
            ballot, size_bytes = filling.get(mode, (None, 0))
            if ballot is None or len(ballot.records) == BALLOT_KEYS_MAX or size_bytes > BALLOT_BYTES_MAX:
                assert state.layout is not None
                name = f"{state.id} {state.number()}".encode()
                ballot, size_bytes = _Ballot(name, state.layout.epoch, mode, members, {}, {}), 0
                found.append(ballot)
            ballot.records[key] = record
            filling[mode] = ballot, size_bytes + len(key)
        return found

    def _judge(self, key: bytes, record: bytes) -> bytes | None:
        """What may be done with a candidate's record. Nothing: it is no candidate any more, or not yet."""
        state = self._state
        if state.owns(key):
            if versions.is_dead(record, state.time_ms):
                return DROP
            if versions.clock_entries(record) > state.config.clock_entries_max and versions.pruned(record) != record:
                return PRUNE
        self.candidates.done(key)
        expires_at_ms = max((sibling.expires_at_ms for sibling in versions.siblings_of(record)), default=0)
        if expires_at_ms > state.time_ms:
            self.notice(key, expires_at_ms)
        return None

    def _ask(self, ballot: _Ballot, kind: bytes, *words: bytes) -> Step:
        return self._questions.ask(ballot.members, kind, ballot.name, ballot.epoch, *words)

    def _vote(self, ballot: _Ballot) -> Generator[Step, Any, None]:
        """Leaves in the ballot what all agree to."""
        answers: Answers = yield self._ask(ballot, b"VOTE", ballot.mode, *_pairs(ballot.records))
        words = [answers[member][0] for member in ballot.members if answers.get(member)]
        everybody = len(words) == len(ballot.members)
        no = [key for at, key in enumerate(ballot.records) if not everybody or not all(word[at] for word in words)]
        self._refuse(ballot, no)

    def _draw_lines(self, ballot: _Ballot) -> Generator[Step, Any, None]:
        """Notes the clock of each member's line, if all have drawn one. Who waits for its disk is asked again."""
        answers: Answers = {}
        for attempt in range(_LINE_TRIES_MAX if ballot.records else 0):
            if attempt:
                yield self._background.pause(_LINE_AGAIN_MS)
            answers = yield self._ask(ballot, b"LINE")
            if WAIT not in answers.values():
                break
        if WAIT not in answers.values() and all(answers.get(member) for member in ballot.members):
            ballot.clocks.update({member: answers[member][0] for member in ballot.members})

    def _fence(self, ballot: _Ballot) -> Generator[Step, Any, None]:
        """Leaves in the ballot what all still agree to."""
        answers: Answers = {}
        if ballot.clocks:
            words = [word for member, clock in ballot.clocks.items() for word in (member.encode(), clock)]
            answers = yield self._ask(ballot, b"FENCE", *words)
        for member in ballot.members:
            agreed = dict.fromkeys(answers.get(member, ())[1:])
            self._refuse(ballot, [key for key in ballot.records if key not in agreed])

    def _drop(self, ballot: _Ballot) -> Generator[Step, Any, None]:
        """Tells all members; also where nothing is left, for then the ballot is over."""
        yield self._ask(ballot, b"DROP", ballot.mode, *_pairs(ballot.records))
        statistics = self._state.statistics
        for key, record in ballot.records.items():
            self.candidates.done(key)
            newest = versions.newest(record)
            if ballot.mode == PRUNE:
                statistics.clocks_pruned += 1
            elif newest is not None and newest.kind == versions.VALUE:
                statistics.expired_collected += 1
            else:
                statistics.tombstones_collected += 1

    def _refuse(self, ballot: _Ballot, keys: Iterable[bytes]) -> None:
        for key in keys:
            del ballot.records[key]
            self._state.statistics.collections_refused += 1
            self.candidates.again(key, self._state.now_ms)


def _pairs(records: dict[bytes, bytes]) -> list[bytes]:
    return [word for key, record in records.items() for word in (key, record[:8])]
