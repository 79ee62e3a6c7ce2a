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

A command costs one look-up for each of its keys when it comes, and one when it is answered, no matter how many are in
flight. Most sessions never need lanes: they send reads only, or one plain write at a time. So lanes are made when the
first command comes that may have to wait (`Dispatcher._open_lanes`), and dropped when the session has nothing in
flight.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


class Lane:
    """The unanswered commands of one session for one key: those that run, and those that are parked."""

    __slots__ = ("key", "kind", "parked", "running", "turn")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.running = 0  # how many commands have begun and are not answered
        self.kind = 0  # their kind, see commands/spec.py
        self.turn = -1  # the turn in which they began
        self.parked: deque[Parked] = deque()


class Parked:
    """A command that waits in the lanes of its keys."""

    __slots__ = ("args", "kind", "lanes", "number")

    def __init__(self, number: int, args: list[bytes], kind: int, lanes: list[Lane]) -> None:
        self.number = number
        self.args = args
        self.kind = kind
        self.lanes = lanes

    def is_first(self) -> bool:
        """Whether in all its lanes nothing runs and nothing is parked before it."""
        return all(not lane.running and lane.parked[0] is self for lane in self.lanes)


class Lanes:
    """The lanes of one session."""

    __slots__ = ("_by_key", "_by_number", "free", "parked")

    def __init__(self) -> None:
        self._by_key: dict[bytes, Lane] = {}
        self._by_number: dict[int, list[Lane]] = {}  # running command -> its lanes
        self.free: deque[Lane] = deque()  # lanes with parked commands in which nothing runs
        self.parked = 0  # how many commands are parked

    def of_keys(self, keys: Sequence[bytes]) -> list[Lane]:
        """HOT. Returns the lanes of a command's keys, each lane once."""
        by_key = self._by_key
        lanes: list[Lane] = []
        for key in keys if len(keys) < 2 else dict.fromkeys(keys):
            lane = by_key.get(key)
            if lane is None:
                lane = by_key[key] = Lane(key)
            lanes.append(lane)
        return lanes

    def enter(self, number: int, lanes: list[Lane], kind: int, turn: int) -> None:
        """HOT. Command `number` begins in its lanes."""
        for lane in lanes:
            lane.running += 1
            lane.kind = kind
            lane.turn = turn
        if lanes:
            self._by_number[number] = lanes

    def park(self, waiting: Parked) -> None:
        """Parks a command behind the others in its lanes."""
        self.parked += 1
        for lane in waiting.lanes:
            lane.parked.append(waiting)

    def unpark(self, waiting: Parked) -> None:
        """Removes a parked command, which is the first in all its lanes, because it is about to begin."""
        self.parked -= 1
        for lane in waiting.lanes:
            lane.parked.popleft()

    def leave(self, number: int) -> None:
        """HOT. Command `number` is answered and leaves its lanes."""
        lanes = self._by_number.pop(number, None)
        if lanes is None:
            return
        for lane in lanes:
            lane.running -= 1
            if not lane.running:
                if lane.parked:
                    self.free.append(lane)
                else:
                    del self._by_key[lane.key]
