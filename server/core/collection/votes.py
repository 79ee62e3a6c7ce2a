"""A member's part in a collection: it votes, draws its line, raises its fences, and removes the records that all agreed on.

Theory. collection.py has the protocol, and why it is safe. This is what each answer of a member promises:

    VOTE, yes for a key    The only thing I know of this key is exactly this record (an owner), or nothing (other members).
                           I keep no hint for it. No write of it that I have sent is unconfirmed.
    LINE                   The state in which I voted is on my disk, so not even a power loss takes me back behind it.
                           All that I say later carries a later reading of my clock. I send and store no record that I
                           have had in memory since before (`State.fence`).
    VOTE to fold, yes      In addition my actors are among those of the ballot, and I have no other open vote to fold this
                           key (records/folds.py).
    FENCE, yes for a key   I refuse every record that a member sent before it drew its line. My vote has held until now.

Messages from earlier runs of this node may still be on their way. They must lie before its line, even if clocks were
set back in between. So the node stores a bound that its readings have never passed, some seconds ahead. After a restart
it does not vote before its clock has passed the bound that it found. (If the disk has room for nothing, the bound is
not renewed and the node does not vote; it is renewed before the next vote.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from protocol.bounds import COUNTER_MAX
from server.core.base.clock import SEQUENCE_BITS
from server.core.base.room import FOR_NOTHING
from server.core.base.state import State
from server.core.messages.record_questions import DROPPED, FOLDED, PRUNED, WAIT, Ballot, Fence, Line
from server.core.messages.stored import stored
from server.core.records import versions
from server.core.records.folds import folded
from server.core.records.versions import DamagedRecord
from server.core.ring.layout import SETTLED

VOTES_MAX = 1024  # with so many open votes a member gives no more
VOTE_MS_MAX = 120_000  # a vote that is older and has not been asked for at a fence is dropped
BOUND_AHEAD = 20_000 << SEQUENCE_BITS
BOUND_MARGIN = 5000 << SEQUENCE_BITS  # time enough for a sync
_CLOCK = b"clock"


def _bound_in(document: bytes) -> int:
    """Decodes a stored bound. Raises ValueError if it is no reading of a clock."""
    if not document.isdigit() or int(document) > COUNTER_MAX:
        raise ValueError("not a reading of a clock")
    return int(document)


class _Vote:
    __slots__ = ("agreed", "answer", "mode", "turn", "voted_ms")

    def __init__(self, ballot: Ballot, agreed: dict[bytes, bytes], answer: bytes, turn: int, voted_ms: int) -> None:
        self.mode = ballot.mode
        self.agreed = agreed  # storage key -> checksum, for the keys with a yes
        self.answer = answer
        self.turn = turn
        self.voted_ms = voted_ms


class Votes:
    """The votes that this node has given.

    `unconfirmed` returns those of some keys that have unconfirmed writes. `overdue` returns whether a request waits
    past its deadline (this node was suspended).
    """

    def __init__(
        self, state: State, unconfirmed: Callable[[Sequence[bytes]], dict[bytes, None]], overdue: Callable[[], bool]
    ) -> None:
        self._state = state
        self._unconfirmed = unconfirmed
        self._overdue = overdue
        self._rows: dict[bytes, _Vote] = {}  # by the name of the ballot
        # If the bound cannot be read, this run of the node gives no vote, and stores a new bound for the next run.
        self._silent_until = stored(state.records, _CLOCK, _bound_in, 0, COUNTER_MAX)
        self._bound = 0 if self._silent_until == COUNTER_MAX else self._silent_until

    def keep_bound(self) -> None:
        """HOT. At the end of a turn: raises the stored bound if the readings in this turn's messages come near it."""
        last = self._state.clock.last
        if self._state.room == FOR_NOTHING:
            return
        if last + BOUND_MARGIN > self._bound and self._state.has_time and self._state.links:
            self._bound = last + BOUND_AHEAD
            self._state.records.put_document(_CLOCK, b"%d" % self._bound)

    def vote(self, ballot: Ballot) -> bytes | None:
        """Answers VOTE: one byte for each key (1: yes), or None if the whole ballot is refused.

        A ballot that comes twice gets the same answer.
        """
        sums, mode = ballot.sums, ballot.mode
        state = self._state
        self._forget_old()
        known = self._rows.get(ballot.name)
        if known is not None:
            return known.answer
        if not self._is_present(ballot.epoch) or len(self._rows) >= VOTES_MAX or state.clock.last <= self._silent_until:
            return None
        if state.room == FOR_NOTHING:
            return None
        busy = self._unconfirmed([*sums])
        if mode == FOLDED:
            busy |= self._unfoldable(ballot)
        answer = bytes(key not in busy and self._knows_only(key, checksum, mode) for key, checksum in sums.items())
        agreed = {key: checksum for (key, checksum), yes in zip(sums.items(), answer, strict=True) if yes}
        self._rows[ballot.name] = _Vote(ballot, agreed, answer, state.turn, state.now_ms)
        state.sync_wanted = True
        return answer

    def line(self, asked: Line) -> int | None:
        """Answers LINE: draws our line and returns its reading of the clock, or WAIT while our vote is not on disk."""
        vote = self._found(asked.name, asked.epoch)
        if vote is None:
            return None
        state = self._state
        if state.synced_turn < vote.turn or self._overdue():
            state.sync_wanted = True
            return WAIT
        return state.draw_line()

    def fence(self, asked: Fence) -> list[bytes] | None:
        """Answers FENCE, which comes after all have drawn their lines: the keys for which our vote still holds.

        From now on this node refuses records that a member sent before it drew its line.
        """
        vote = self._found(asked.name, asked.epoch)
        if vote is None:
            return None
        state = self._state
        for member, reading in asked.lines.items():
            state.fences[member] = max(reading, state.fences.get(member, -1))
        busy = self._unconfirmed([*vote.agreed])
        answer = []
        for key, checksum in vote.agreed.items():
            holds = self._knows_only(key, checksum, vote.mode) and not state.hints.changed_since(key, vote.voted_ms)
            if holds and key not in busy:
                answer.append(key)
        return answer

    def drop(self, ballot: Ballot) -> int | None:
        """Answers DROP: removes or prunes each record that is still the one agreed upon, and returns how many.

        The ballot has no keys if nothing was agreed upon. Our vote in the ballot ends with this.
        """
        mode = ballot.mode
        vote = self._rows.pop(ballot.name, None)
        records = self._state.records
        if not self._is_present(ballot.epoch):
            return None
        count = 0
        for key, checksum in ballot.sums.items():
            try:
                record = records.get(key)
            except DamagedRecord:
                continue
            if record is None or record[:8] != checksum:
                continue
            if mode == FOLDED and (vote is None or key not in vote.agreed):
                continue  # another fold may have been agreed upon since this node voted
            if mode == DROPPED and not self._state.owns(key):
                self._state.forget_guest(key, record)
            elif mode == DROPPED:
                records.remove(key)
            else:
                changed = versions.pruned(record) if mode == PRUNED else folded(record, ballot.writers)
                records.put(key, changed, record)
            count += 1
        return count

    def _unfoldable(self, ballot: Ballot) -> dict[bytes, None]:
        """Returns those of a ballot's keys that this node does not let be folded now."""
        if self._state.actor not in ballot.writers or self._state.guest_actor not in ballot.writers:
            return dict.fromkeys(ballot.sums)  # this node has started again since it was asked for its actors
        open_folds = [vote for vote in self._rows.values() if vote.mode == FOLDED]
        return dict.fromkeys([key for key in ballot.sums if any(key in vote.agreed for vote in open_folds)])

    def _found(self, ballot: bytes, epoch: int) -> _Vote | None:
        """Returns our vote in a ballot if the layout is still the same, else None."""
        return self._rows.get(ballot) if self._is_present(epoch) else None

    def _knows_only(self, key: bytes, checksum: bytes, mode: bytes) -> bool:
        """Whether this node knows exactly that record of the key (an owner) or nothing (others), keeps no hint for it, and
        the record is dead by cluster time (for DROP)."""
        state = self._state
        try:
            record = state.records.get(key)
        except DamagedRecord:
            return False
        if record is None:
            return not state.owns(key) and not state.hints.holds(key)
        if record[:8] != checksum or (mode == DROPPED and not versions.is_dead(record, state.time_ms)):
            return False
        return not state.hints.holds(key)

    def _is_present(self, epoch: int) -> bool:
        layout = self._state.layout
        return layout is not None and layout.epoch == epoch and layout.phase == SETTLED

    def _forget_old(self) -> None:
        oldest_ms = self._state.now_ms - VOTE_MS_MAX
        for ballot, vote in list(self._rows.items()):
            if vote.voted_ms > oldest_ms:
                break
            del self._rows[ballot]
