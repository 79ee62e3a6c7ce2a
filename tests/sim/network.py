"""The network between machines: pipes like TCP connections, and the weather on each path.

Theory. Between nodes bytes travel one way on a connection (what the other says comes over its own). TCP gives order and
no loss as long as the connection lives; when it breaks, what was in flight is gone and only the sender's side learns
of it. A cut path is silence, not an error: bytes wait until the path heals or the connection breaks. A machine without
power says nothing at all; the connection breaks when the machine is back and has never heard of it.

In datagram mode whole frames are lost, repeated and reordered, which TCP never does: the handlers have to bear it. Only
relays are not repeated: a command is no idempotent message, and runs at most once because a connection repeats nothing.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from protocol.frames import FrameReader, encode_frame
from protocol.pieces import PIECE_START
from tests.sim.events import Events

CONNECT_TIMEOUT_MS = 2000


@dataclass(slots=True)
class Path:
    """The weather on the way from one machine to another."""

    delay_ms_min: int = 1
    delay_ms_max: int = 4
    cut: bool = False


@dataclass(slots=True)
class Datagrams:
    """How often a frame is lost or repeated, and how late it may come."""

    loss: float = 0.0
    repeat: float = 0.0
    late_ms_max: int = 50


class Network:
    """All paths and all open pipes."""

    def __init__(self, events: Events, rng: random.Random) -> None:
        self.events = events
        self.rng = rng
        self.datagrams: Datagrams | None = None
        self.flip_byte_next = False  # the next bytes sent get one wrong
        self._paths: dict[tuple[str, str], Path] = {}
        self._pipes: list[Pipe] = []

    def path(self, sender: str, receiver: str) -> Path:
        """The path from one machine to another."""
        return self._paths.setdefault((sender, receiver), Path())

    def delay_ms(self, sender: str, receiver: str) -> int:
        """A journey time on that path."""
        path = self.path(sender, receiver)
        return self.rng.randint(path.delay_ms_min, path.delay_ms_max)

    def round_trip_works(self, one: str, other: str) -> bool:
        """Whether a connection can be made."""
        return not self.path(one, other).cut and not self.path(other, one).cut

    def join(self, pipe: Pipe) -> None:
        """A pipe has been opened."""
        self._pipes = [other for other in self._pipes if other.open]
        self._pipes.append(pipe)

    def cut(self, sender: str, receiver: str) -> None:
        """Nothing gets from `sender` to `receiver` any more."""
        self.path(sender, receiver).cut = True

    def mend(self, sender: str, receiver: str) -> None:
        """The path is good again; what has waited goes on."""
        self._paths[sender, receiver] = Path()
        for pipe in self.pipes(sender, receiver):
            pipe.resume()

    def is_quick(self) -> bool:
        """Whether nothing is under way any more that was sent long ago, or that has long to go."""
        return all(pipe.due_ms < self.events.now_ms + 100 for pipe in self.pipes())

    def pipes(self, sender: str | None = None, receiver: str | None = None) -> list[Pipe]:
        """The open pipes from `sender` to `receiver`; None stands for all."""
        return [
            pipe
            for pipe in self._pipes
            if pipe.open and sender in (None, pipe.sender) and receiver in (None, pipe.receiver)
        ]


class Pipe:
    """One connection's bytes from `sender` to `receiver`.

    `arrived` gets them at the far end; `lost` is called at the near end when the connection has broken.
    """

    def __init__(
        self,
        network: Network,
        sender: str,
        receiver: str,
        arrived: Callable[[bytes], None],
        lost: Callable[[], None],
    ) -> None:
        self.sender = sender
        self.receiver = receiver
        self.open = True
        self.dark = False  # the receiver's machine has lost its power
        self.half_open = False  # the sender's has: the receiver is not told
        self.lossy = False  # has lost or reordered frames, in datagram mode
        self._network = network
        self._arrived = arrived
        self._lost = lost
        self._flight: deque[tuple[int, bytes]] = deque()
        self.due_ms = 0  # when the last of what is under way arrives
        network.join(self)

    def write(self, data: bytes) -> None:
        """Sends `data`, torn in two at times."""
        network = self._network
        if not self.open or self.dark:
            return
        if network.flip_byte_next:
            network.flip_byte_next = False
            place = network.rng.randrange(len(data))
            data = data[:place] + bytes((data[place] ^ 1 << network.rng.randrange(8),)) + data[place + 1 :]
        elif network.datagrams is not None:
            self._scatter(data, network.datagrams)
            return
        if network.rng.random() < 0.1:
            place = network.rng.randrange(len(data))
            self._queue(data[:place])
            self._queue(data[place:])
        else:
            self._queue(data)

    def write_whole(self, data: bytes) -> None:
        """Sends `data` whatever the mode: an introduction, without which there is no connection."""
        self._queue(data)

    def _queue(self, data: bytes) -> None:
        network = self._network
        due_ms = network.events.now_ms + network.delay_ms(self.sender, self.receiver)
        self.due_ms = max(due_ms, self.due_ms)
        self._flight.append((self.due_ms, data))
        network.events.after(self.due_ms - network.events.now_ms, self._land)

    def _scatter(self, data: bytes, datagrams: Datagrams) -> None:
        network = self._network
        self.lossy = True
        for frame, message in _parts_of(data):
            copies = 0 if network.rng.random() < datagrams.loss else 1 + (network.rng.random() < datagrams.repeat)
            if message[0] == b"RELAY":
                copies = min(copies, 1)
            for _ in range(copies):
                delay_ms = network.rng.randint(1, datagrams.late_ms_max)
                network.events.after(delay_ms, partial(self._land_alone, frame))

    def _land_alone(self, frame: bytes) -> None:
        if self.open and not self.dark and not self._network.path(self.sender, self.receiver).cut:
            self._arrived(frame)

    def _land(self) -> None:
        network = self._network
        if network.path(self.sender, self.receiver).cut:
            return
        now_ms = network.events.now_ms
        while self._flight and self._flight[0][0] <= now_ms and not self.dark:
            self._arrived(self._flight.popleft()[1])

    def resume(self) -> None:
        """The path has healed."""
        self._network.events.after(self._network.delay_ms(self.sender, self.receiver), self._land)

    def abort(self) -> None:
        """The connection breaks: what is in flight is lost, and the sender learns of it."""
        if self.open:
            self.open = False
            self._flight.clear()
            self._network.events.after(self._network.rng.randint(0, 20), self._lost)

    def leave(self, in_order: bool) -> None:
        """The sender has died: some of what it sent still arrives, then no more; all of it if it has left in order."""
        self.open = False
        self._lost = _nothing
        if in_order:
            return
        for _ in range(self._network.rng.randint(0, len(self._flight))):
            self._flight.pop()


def _parts_of(data: bytes) -> list[tuple[bytes, Sequence[bytes]]]:
    """What is lost, repeated or overtaken by itself: each message, in a frame of its own, or the piece of one."""
    if data.startswith(PIECE_START):
        return [(data, (b"",))]
    frames = FrameReader(len(data))
    frames.feed(data)
    messages = iter(frames.next, None)
    return [(encode_frame(message), message) for message in messages]


def _nothing() -> None:
    pass
