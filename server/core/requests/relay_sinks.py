"""The sinks of relayed commands: at the coordinator (RelayedBatch), and for a retry (SecondAttempt). See relays.py."""

from __future__ import annotations

from collections.abc import Sequence

from protocol.resp import LargeReply, Reply
from server.core.base.errors import Failure
from server.core.base.origins import Origin
from server.core.base.sinks import Sink
from server.core.base.state import State
from server.core.messages.publications import KeyChange, encode_made


class RelayedBatch(Sink):
    """The sink of commands that another node has relayed to us. Collects their replies, for one RELAYED message a turn."""

    def __init__(
        self,
        peer: str,
        number: int,
        options: Sequence[bytes],
        commands: list[list[bytes]],
        outgoing: list[RelayedBatch],
        stale_after_ms: int,
        now_ms: int,
    ) -> None:
        super().__init__()
        self.is_outgoing = False  # it is in `outgoing`: the end of the turn sends a RELAYED for it
        self.told_ms = now_ms  # when it came, or when its sender was told last that its commands still run
        self.relayed = True
        self._commands = commands
        self.peer = peer
        self.stale_after_ms = stale_after_ms  # after this time (monotonic) nothing may be written for the batch
        self.number = number
        self.resp3 = options[0] == b"1"
        self.read_quorum = int(options[1])
        self.write_quorum = int(options[2])
        self.indexes: list[int] = []
        self.replies: list[bytes] = []
        self._outgoing = outgoing

    def answer(self, number: int, reply: Reply) -> None:
        """HOT. Adds the reply of the batch's command `number`."""
        if not self.is_outgoing:
            self.is_outgoing = True
            self._outgoing.append(self)
        self.indexes.append(number)
        self.replies.append(reply.joined() if isinstance(reply, LargeReply) else reply)

    def command(self, number: int) -> list[bytes] | None:
        """Returns the arguments of the batch's command `number`."""
        return self._commands[number]


class RelayOrigin(Origin):
    """The origin of relayed commands. Only the node that has relayed them knows which client has sent them."""

    def __init__(self, state: State, peer: str, number: int) -> None:
        self._state = state
        self._peer = peer
        self._number = number  # of the relay

    def made(self, change: KeyChange) -> None:
        """Tells the relaying node of the change. The message leaves before the reply does."""
        if self._peer in self._state.links:
            self._state.send(self._peer, encode_made(self._state.clock_reading(), self._number, change))


class SecondAttempt(Sink):
    """The sink of a retried write that the lost coordinator may have run.

    If the retry fails, its error must not say that nothing was written.
    """

    def __init__(self, sink: Sink) -> None:
        super().__init__(sink)
        self.relayed = False
        self._sink = sink

    def answer(self, number: int, reply: Reply) -> None:
        """Forwards the reply of the retry. If it is an error, its outcome becomes maybe-written."""
        if isinstance(reply, bytes) and reply[:1] == b"-":
            reply = Failure.read(reply).after_lost_attempt().reply()
        self._sink.answer(number, reply)

    def command(self, number: int) -> list[bytes] | None:
        """Returns the arguments of the command that is retried."""
        return self._sink.command(number)

    def repeats(self, args: list[bytes]) -> bool:
        """As the first attempt: the second coordinator may be lost, too."""
        return self._sink.repeats(args)


class LocalAttempt(Sink):
    """The sink of a retry that this node runs as an owner, though it believes that another owner is the first live one.

    `relayed` makes it run here (routing.py).
    """

    def __init__(self, sink: Sink) -> None:
        super().__init__(sink)
        self.relayed = True
        self._sink = sink

    def answer(self, number: int, reply: Reply) -> None:
        """Forwards the reply."""
        self._sink.answer(number, reply)

    def command(self, number: int) -> list[bytes] | None:
        """Returns the arguments of the command that is retried."""
        return self._sink.command(number)

    def repeats(self, args: list[bytes]) -> bool:
        """As the first attempt."""
        return self._sink.repeats(args)
