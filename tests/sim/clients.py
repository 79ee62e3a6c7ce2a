"""Virtual clients, and the history they write: who asked what of which node, when, and what came back.

An operation without an answer is unknown: it may have happened, or may yet. Whether an answer was the right one is for
the checkers; here only what no client could miss is noted: an answer to no question.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import hiredis

from server.core.base.sinks import Session
from tests.sim.host import Host


@dataclass(slots=True)
class Operation:
    """One command of one client."""

    client: str
    connection: int
    host: str
    life: int  # of the host's process
    args: list[bytes]
    invoked_ms: int
    invoked_step: int
    write_quorum: int = 0  # of the connection; 0: the layout's
    read_quorum: int = 0
    answered_ms: int = -1
    answered_step: int = -1  # when the node spoke
    reply: Any = None

    @property
    def answered(self) -> bool:
        """Whether the client got its answer."""
        return self.answered_step >= 0

    @property
    def name(self) -> str:
        """The command's name."""
        return self.args[0].decode()

    @property
    def error(self) -> str:
        """The error that came back, else an empty string."""
        return str(self.reply) if isinstance(self.reply, hiredis.ReplyError) else ""


class History:
    """All operations in the order in which they were invoked."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.stray_replies: list[str] = []


class Connection:
    """A client's connection to a node: ordered both ways, gone with the process."""

    def __init__(self, host: Host, received: Callable[[int, bytes], None], lost: Callable[[], None]) -> None:
        self._host = host
        self.life = host.life
        self._received = received
        self._lost = lost
        self._session: Session | None = None
        self._flight: deque[tuple[int, int, bytes]] = deque()  # when it arrives, when the node spoke, what
        self._last_ms = 0
        self._last_sent_ms = 0
        self.open = True
        host.callers.append(self)
        self._travel(self._accept)

    def send(self, commands: Sequence[list[bytes]]) -> None:
        """Pipelines `commands`."""
        self._travel(lambda: self._take(commands))

    def _travel(self, action: Callable[[], None]) -> None:
        events = self._host.events
        self._last_sent_ms = max(self._last_sent_ms, events.now_ms + self._host.rng.randint(0, 2))
        events.after(self._last_sent_ms - events.now_ms, lambda: self._deliver(action))

    def _deliver(self, action: Callable[[], None]) -> None:
        if self.open and self._host.life == self.life:
            self._host.deliver(self, action)

    def _accept(self) -> None:
        self._session = self._host.running.open_session("127.0.0.1:1", self._host.member.address, self._host.now_ms())
        self._host.connections[self._session.id] = self

    def _take(self, commands: Sequence[list[bytes]]) -> None:
        assert self._session is not None
        for args in commands:
            if not self._host.staging.stage(self._host.running.values_of_commands([list(args)]), self._host):
                return
            if not self._session.closing:
                self._host.running.command(self._session, list(args), self._host.now_ms())

    def write(self, data: bytes) -> None:
        """The node speaks."""
        events = self._host.events
        self._last_ms = max(self._last_ms, events.now_ms + self._host.rng.randint(0, 2))
        self._flight.append((self._last_ms, events.step, data))
        events.after(self._last_ms - events.now_ms, self._land)

    def _land(self) -> None:
        while self._flight and self._flight[0][0] <= self._host.events.now_ms:
            _, step, data = self._flight.popleft()
            self._received(step, data)

    def broken(self) -> None:
        """The node's end is gone; some of what it said may still arrive."""
        if self.open:
            self.open = False
            for _ in range(self._host.rng.randint(0, len(self._flight))):
                self._flight.pop()
            self._host.events.after(5, self._lost)

    def close(self) -> None:
        """The client hangs up."""
        if self.open:
            self._travel(self._hung_up)

    def _hung_up(self) -> None:
        self.open = False
        self._host.callers.remove(self)
        if self._session is not None:
            self._host.connections.pop(self._session.id, None)
            self._host.running.close_session(self._session)


class Client:
    """Talks to one node at a time. `on_idle` is called when everything sent is answered, or the connection is lost."""

    def __init__(self, name: str, history: History, on_idle: Callable[[], None] | None = None) -> None:
        self.name = name
        self.host: Host | None = None
        self.write_quorum = 0
        self.read_quorum = 0
        self._history = history
        self._on_idle = on_idle
        self._connection: Connection | None = None
        self._connections = 0
        self._reader = hiredis.Reader()
        self._waiting: deque[Operation] = deque()

    @property
    def connected(self) -> bool:
        """Whether the connection still stands, as far as the client knows."""
        return self._connection is not None

    @property
    def idle(self) -> bool:
        """Whether nothing is awaited."""
        return not self._waiting

    def connect(self, host: Host) -> None:
        """Hangs up, and calls `host`, whose process must be running. What was awaited stays unknown."""
        self.hang_up()
        self.host = host
        self.write_quorum = self.read_quorum = 0
        self._connections += 1
        self._reader = hiredis.Reader()
        number = self._connections
        self._connection = Connection(
            host, lambda step, data: self._received(number, step, data), lambda: self._lost(number)
        )

    def hang_up(self) -> None:
        """Ends the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._waiting.clear()

    def send(self, *commands: list[bytes]) -> list[Operation]:
        """Pipelines commands; their operations fill in as answers come."""
        assert self.host is not None and self._connection is not None
        events = self.host.events
        operations = [
            Operation(self.name, self._connections, self.host.id, self._connection.life, list(args), events.now_ms,
                      events.step, self.write_quorum, self.read_quorum)
            for args in commands
        ]  # fmt: skip
        for operation in operations:
            self.host.trace(f"{self.name} asks {self.host.member.name}: {operation.args}")
        self._history.operations += operations
        self._waiting += operations
        self._connection.send(commands)
        return operations

    def _received(self, number: int, step: int, data: bytes) -> None:
        if number != self._connections or self._connection is None or self.host is None:
            return
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            if not self._waiting:
                self._history.stray_replies.append(f"client {self.name} of node {self.host.id} got {reply!r}")
                continue
            operation = self._waiting.popleft()
            operation.reply = reply
            operation.answered_ms = self.host.events.now_ms
            operation.answered_step = step
            self.host.trace(f"{self.name} is answered {reply!r}, to {operation.args}")
            self._note(operation)
        if not self._waiting and self._on_idle is not None:
            self._on_idle()

    def _note(self, operation: Operation) -> None:
        if operation.args[0] == b"DYN.QUORUM" and not operation.error:
            _, self.read_quorum, self.write_quorum = operation.reply
            for later in self._waiting:
                later.read_quorum, later.write_quorum = self.read_quorum, self.write_quorum

    def _lost(self, number: int) -> None:
        if number == self._connections and self._connection is not None:
            self._connection = None
            self._waiting.clear()
            if self._on_idle is not None:
                self._on_idle()
