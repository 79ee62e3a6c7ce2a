"""The order of one connection's commands, key by key: which of them have to wait for which.

Theory. A client that pipelines expects its commands to take effect in order. That can be observed for one key only, so
the order is kept by key: each key that a session's unanswered commands name has a *lane*. A command begins at once if
all that its lanes hold are commands that it may run beside: reads beside reads, and plain writes beside plain writes
that were begun in the same turn. (Those travel together and are run, refused or lost together, in their order; one that
was sent in an earlier turn may yet be sent again, to another node.) Any other command is *parked* in its lanes, in order,
and begins when the commands before it in these lanes have their answers, whatever else the session has in flight.

A command costs one look-up for each of its keys when it comes and one when it is answered, however many are in flight.
Most sessions never need lanes: they send reads only, or one plain write at a time. So lanes are made when the first
command comes that could need to wait (`open_lanes`), and are given up when the session has nothing in flight.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


class Lane:
    """The unanswered commands of one session that name one key: how many run, and those that are parked."""

    __slots__ = ("key", "kind", "parked", "running", "turn")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.running = 0  # commands begun and not answered
        self.kind = 0  # of those, see commands/spec.py
        self.turn = -1  # in which they were begun
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
        """Whether nothing runs in any of its lanes, and nothing is parked before it."""
        return all(not lane.running and lane.parked[0] is self for lane in self.lanes)


class Lanes:
    """The lanes of one session."""

    __slots__ = ("_by_key", "_by_number", "free", "parked")

    def __init__(self) -> None:
        self._by_key: dict[bytes, Lane] = {}
        self._by_number: dict[int, list[Lane]] = {}  # of the commands that run
        self.free: deque[Lane] = deque()  # nothing runs there, and commands are parked
        self.parked = 0  # commands

    def of_keys(self, keys: Sequence[bytes]) -> list[Lane]:
        """HOT. The lanes of a command's keys, each once."""
        by_key = self._by_key
        lanes: list[Lane] = []
        for key in keys if len(keys) < 2 else dict.fromkeys(keys):
            lane = by_key.get(key)
            if lane is None:
                lane = by_key[key] = Lane(key)
            lanes.append(lane)
        return lanes

    def enter(self, number: int, lanes: list[Lane], kind: int, turn: int) -> None:
        """HOT. The command `number` begins."""
        for lane in lanes:
            lane.running += 1
            lane.kind = kind
            lane.turn = turn
        if lanes:
            self._by_number[number] = lanes

    def park(self, waiting: Parked) -> None:
        """The command waits for those before it in its lanes."""
        self.parked += 1
        for lane in waiting.lanes:
            lane.parked.append(waiting)

    def unpark(self, waiting: Parked) -> None:
        """The command is the first in all its lanes, and is about to begin."""
        self.parked -= 1
        for lane in waiting.lanes:
            lane.parked.popleft()

    def leave(self, number: int) -> None:
        """HOT. The command `number` is answered."""
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
