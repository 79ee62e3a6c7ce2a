"""A member's part in a collection: it votes, draws its line, raises its fences, and drops what all have agreed to drop.

Theory. collection.py has the protocol and why it is safe; what a member's word means stands here. Its *vote* for a key
says: all that I know of this key is exactly this record (an owner) or nothing (the others), I keep no hint of it, and no
write of it that I have sent is unconfirmed. Its *line* is a reading of its clock that says: the state in which I voted is
on my disk, so not even a power loss can take me back behind it; whatever I say later carries a later reading, and no record
that I had in memory before goes anywhere (`State.fence`). Its *yes at the fence* says: I refuse what anybody has sent
before drawing the line, and what I voted for has held to this moment.

Messages of this node's former lives may still be on their way, and must lie behind its line although clocks may have been
set back in between. So a bound is kept on disk that no reading has passed, some seconds ahead; a node that has started
again gives no vote before its clock is past the bound that it found. (On a disk with room for nothing the bound stays
behind, and no vote is given; it is kept again before the next one.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from protocol.bounds import COUNTER_MAX
from server.core.base.clock import SEQUENCE_BITS
from server.core.base.room import FOR_NOTHING
from server.core.base.state import State
from server.core.messages.record_questions import DROPPED, PRUNED, Ballot, Fence, Line
from server.core.messages.stored import stored
from server.core.records import versions
from server.core.records.versions import DamagedRecord
from server.core.ring.layout import SETTLED

DROP, PRUNE = DROPPED, PRUNED
WAIT = [b"wait"]  # no line can be drawn yet: ask again
VOTES_MAX = 1024  # kept at a time; with that many open a member gives no more
VOTE_MS_MAX = 120_000  # a vote that no fence has asked for by then is forgotten
BOUND_AHEAD = 20_000 << SEQUENCE_BITS
BOUND_MARGIN = 5000 << SEQUENCE_BITS  # time enough for a sync
_CLOCK = b"clock"


def _bound_in(document: bytes) -> int:
    """Raises ValueError for what is no reading of a clock."""
    if not document.isdigit() or int(document) > COUNTER_MAX:
        raise ValueError("not a reading of a clock")
    return int(document)


class _Vote:
    __slots__ = ("agreed", "answer", "mode", "turn", "voted_ms")

    def __init__(self, mode: bytes, agreed: dict[bytes, bytes], answer: list[bytes], turn: int, voted_ms: int) -> None:
        self.mode = mode
        self.agreed = agreed  # storage key: checksum
        self.answer = answer
        self.turn = turn
        self.voted_ms = voted_ms


class Votes:
    """The votes that this node has given. `in_flight` tells which of some keys have unconfirmed writes, `overdue`
    whether requests that should have ended by now have not (the node has slept)."""

    def __init__(
        self, state: State, in_flight: Callable[[Sequence[bytes]], dict[bytes, None]], overdue: Callable[[], bool]
    ) -> None:
        self._state = state
        self._in_flight = in_flight
        self._overdue = overdue
        self._rows: dict[bytes, _Vote] = {}
        # Where the bound cannot be read this life gives no vote, and writes down a new one for the next.
        self._silent_until = stored(state.records, _CLOCK, _bound_in, 0, COUNTER_MAX)
        self._bound = 0 if self._silent_until == COUNTER_MAX else self._silent_until

    def keep_bound(self) -> None:
        """HOT. End of turn: sees to it that the bound on disk stays ahead of what this turn may say to anybody."""
        last = self._state.clock.last
        if self._state.room == FOR_NOTHING:
            return
        if last + BOUND_MARGIN > self._bound and self._state.has_time and self._state.links:
            self._bound = last + BOUND_AHEAD
            self._state.records.put_document(_CLOCK, b"%d" % self._bound)

    def vote(self, ballot: Ballot) -> list[bytes]:
        """Answers a byte for each key, 1 for yes.

        Nothing at all is answered where the whole ballot is refused. A ballot that comes twice gets the same answer.
        """
        sums, mode = ballot.sums, ballot.mode
        state = self._state
        self._forget_old()
        known = self._rows.get(ballot.name)
        if known is not None:
            return known.answer
        if not self._is_present(ballot.epoch) or len(self._rows) >= VOTES_MAX or state.clock.last <= self._silent_until:
            return []
        if state.room == FOR_NOTHING:
            return []
        busy = self._in_flight([*sums])
        word = bytes(key not in busy and self._knows_only(key, checksum, mode) for key, checksum in sums.items())
        answer = [word]
        agreed = {key: checksum for (key, checksum), yes in zip(sums.items(), word, strict=True) if yes}
        self._rows[ballot.name] = _Vote(mode, agreed, answer, state.turn, state.now_ms)
        state.sync_wanted = True
        return answer

    def line(self, asked: Line) -> list[bytes]:
        """Draws the line of a ballot and answers our clock; `wait` while our vote is not on disk."""
        vote = self._found(asked.name, asked.epoch)
        if vote is None:
            return []
        state = self._state
        if state.synced_turn < vote.turn or self._overdue():
            state.sync_wanted = True
            return WAIT
        return [b"%d" % state.draw_line()]

    def fence(self, asked: Fence) -> list[bytes]:
        """All have drawn their lines: answers `done` and the keys that our vote still holds for.

        From here on no record is taken that a member sent before it drew its line.
        """
        vote = self._found(asked.name, asked.epoch)
        if vote is None:
            return []
        state = self._state
        for member, reading in asked.lines.items():
            state.fences[member] = max(reading, state.fences.get(member, -1))
        busy = self._in_flight([*vote.agreed])
        answer = [b"done"]
        for key, checksum in vote.agreed.items():
            holds = self._knows_only(key, checksum, vote.mode) and not state.hints.changed_since(key, vote.voted_ms)
            if holds and key not in busy:
                answer.append(key)
        return answer

    def drop(self, ballot: Ballot) -> list[bytes]:
        """Removes (or prunes) each record that is still the one agreed upon.

        The ballot is over with that. None at all are named where nothing was agreed upon.
        """
        mode = ballot.mode
        self._rows.pop(ballot.name, None)
        records = self._state.records
        if not self._is_present(ballot.epoch):
            return []
        count = 0
        for key, checksum in ballot.sums.items():
            try:
                record = records.get(key)
            except DamagedRecord:
                continue
            if record is None or record[:8] != checksum:
                continue
            if mode == DROP and not self._state.owns(key):
                self._state.forget_guest(key, record)
            elif mode == DROP:
                records.remove(key)
            else:
                records.put(key, versions.pruned(record), record)
            count += 1
        return [b"%d" % count]

    def _found(self, ballot: bytes, epoch: int) -> _Vote | None:
        """Our vote in a ballot, under the same layout still."""
        return self._rows.get(ballot) if self._is_present(epoch) else None

    def _knows_only(self, key: bytes, checksum: bytes, mode: bytes) -> bool:
        """Whether that record is all that is known here of the key, and may go by cluster time."""
        state = self._state
        try:
            record = state.records.get(key)
        except DamagedRecord:
            return False
        if record is None:
            return not state.owns(key) and not state.hints.holds(key)
        if record[:8] != checksum or (mode == DROP and not versions.is_dead(record, state.time_ms)):
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
