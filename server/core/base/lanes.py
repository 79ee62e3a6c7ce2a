"""The order of one connection's commands, key by key: which commands wait for which.

Theory. A client that pipelines expects its commands to take effect in order. A client can observe that order only
between commands of the same key. So the order is kept for each key: every key that a session's unanswered commands name
has a *lane*. A new command may begin at once if, in each of its lanes, all commands that run are of a kind that it may
run beside:

    in the lane run                                  a read begins    a plain write begins
    nothing                                          at once          at once
    reads only                                       at once          later
    plain writes of the present turn only            later            at once
    plain writes of an earlier turn                  later            later

Plain writes of one turn travel together and are run, refused or lost together, in their order. A plain write of an
earlier turn may still be sent again, to another node. That is why later ones wait for it.

Any other command, and any command behind a parked one, is *parked* in its lanes, in order. It begins when the commands
before it in these lanes have their answers.

A plain SET that would be parked right behind another plain SET of its key takes the place of that one. Both would begin
in the same turn, one behind the other, so nobody could ever read the former value. Only the latter one runs, and its
reply is the reply to both. So a pipeline that writes few keys again and again costs a round trip, a record and a
replication for each wave of SETs, not for each SET.

A command costs one look-up for each of its keys when it comes, and one when it is answered, no matter how many are in
flight. Most sessions never need lanes: they send reads only, or one plain write at a time. So lanes are made when the
first command comes that may have to wait (`chains.lanes_in_flight`), and dropped when the session has nothing in
flight.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final


class Lane:
    """The unanswered commands of one session for one key: those that run, and those that are parked."""

    __slots__ = ("key", "kind", "parked", "running", "turn")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.running = 0  # how many commands have begun and are not answered
        self.kind = 0  # their kind, see commands/spec.py
        self.turn = -1  # the turn in which they began
        self.parked = _NONE_PARKED  # most lanes never have a deque of their own, which takes 600 bytes


class Parked:
    """A command that waits in the lanes of its keys.

    `overwrites`: it is a plain SET that will not be refused for its arguments, so a later one may take its place.
    `fits_chain`: it can be part of a chain (chains.py).
    """

    __slots__ = ("args", "fits_chain", "kind", "lanes", "number", "overwrites", "superseded")

    def __init__(
        self,
        number: int,
        args: list[bytes],
        kind: int,
        lanes: list[Lane],
        overwrites: bool = False,
        fits_chain: bool = False,
    ) -> None:
        self.fits_chain = fits_chain
        self.number = number
        self.args = args
        self.kind = kind
        self.lanes = lanes
        self.overwrites = overwrites
        self.superseded = _NONE_SUPERSEDED  # the numbers of the commands whose place it has taken

    def supersede(self, number: int, args: list[bytes]) -> None:
        """HOT. A later command takes the place of this one; see the theory."""
        if self.superseded is _NONE_SUPERSEDED:
            self.superseded = []
        self.superseded.append(self.number)
        self.number = number
        self.args = args

    def is_first(self) -> bool:
        """Whether in all its lanes nothing runs and nothing is parked before it."""
        lanes = self.lanes
        if len(lanes) == 1:
            return not lanes[0].running and lanes[0].parked[0] is self
        return all(not lane.running and lane.parked[0] is self for lane in lanes)


_NONE_PARKED: Final[deque[Parked]] = deque()  # stays empty
_NONE_SUPERSEDED: Final[list[int]] = []  # stays empty


class Lanes:
    """The lanes of one session."""

    __slots__ = ("_by_key", "_by_number", "_several", "free", "parked")

    def __init__(self) -> None:
        self._by_key: dict[bytes, Lane] = {}
        self._by_number: dict[int, Lane] = {}  # running command of one key -> its lane
        self._several: dict[int, list[Lane]] = {}  # running command of several keys -> its lanes
        self.free: deque[Lane] = deque()  # lanes with parked commands in which nothing runs
        self.parked = 0  # how many commands are parked

    def of_key(self, key: bytes) -> Lane:
        """HOT. Returns the lane of a key."""
        lane = self._by_key.get(key)
        if lane is None:
            lane = self._by_key[key] = Lane(key)
        return lane

    def of_keys(self, keys: Sequence[bytes]) -> list[Lane]:
        """Returns the lanes of a command's keys, each lane once."""
        return [self.of_key(key) for key in (keys if len(keys) < 2 else dict.fromkeys(keys))]

    def enter_one(self, number: int, lane: Lane, kind: int, turn: int) -> None:
        """HOT. Command `number` begins in its only lane."""
        lane.running += 1
        lane.kind = kind
        lane.turn = turn
        self._by_number[number] = lane

    def enter(self, number: int, lanes: list[Lane], kind: int, turn: int) -> None:
        """Command `number` begins in its lanes."""
        for lane in lanes:
            self.enter_one(number, lane, kind, turn)
        if len(lanes) > 1:
            del self._by_number[number]
            self._several[number] = lanes

    def park(self, waiting: Parked) -> None:
        """Parks a command behind the others in its lanes."""
        self.parked += 1
        for lane in waiting.lanes:
            if lane.parked is _NONE_PARKED:
                lane.parked = deque()
            lane.parked.append(waiting)

    def unpark(self, waiting: Parked) -> None:
        """Removes a parked command, which is the first in all its lanes, because it is about to begin."""
        self.parked -= 1
        for lane in waiting.lanes:
            lane.parked.popleft()

    def leave(self, number: int) -> None:
        """HOT. Command `number` is answered and leaves its lanes."""
        lane = self._by_number.get(number)
        if lane is not None:
            del self._by_number[number]
            self._left(lane)
        elif self._several:
            for each in self._several.pop(number, ()):
                self._left(each)

    def _left(self, lane: Lane) -> None:
        """HOT. A command has left this lane."""
        lane.running -= 1
        if not lane.running:
            if lane.parked:
                self.free.append(lane)
            else:
                del self._by_key[lane.key]
