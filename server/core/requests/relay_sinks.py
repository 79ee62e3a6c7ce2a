"""The sinks of relayed commands: at the coordinator (RelayedBatch), and for a retry (SecondAttempt). See relays.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from protocol.resp import LargeReply, Reply, null_array
from server.core.base.errors import Failure
from server.core.base.origins import Origin
from server.core.base.sinks import Sink
from server.core.base.state import State
from server.core.messages.publications import KeyChange, encode_made

_NULLS: Final = (null_array(False), null_array(True))


class RelayedBatch(Sink):
    """The sink of commands that another node has relayed to us. Collects their replies until the turn ends."""

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
        self.is_outgoing = False  # this batch is in `outgoing`: the end of the turn sends its replies
        self.came_ms = now_ms
        self.told_ms = now_ms  # when the relay came, or when the sender was last told that the commands still run
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

    If the retry fails, its error must not say that nothing was written. The null of EXEC says that, too, so the client gets
    `instead_of_null` in its place.
    """

    def __init__(self, sink: Sink, instead_of_null: Reply | None = None) -> None:
        super().__init__(sink)
        self.relayed = False
        self._sink = sink
        self._instead_of_null = instead_of_null

    def answer(self, number: int, reply: Reply) -> None:
        """Forwards the reply of the retry. An error then tells the client that the write may have been stored."""
        if isinstance(reply, bytes) and reply[:1] == b"-":
            reply = Failure.read(reply).after_lost_attempt().reply()
        elif self._instead_of_null is not None and reply in _NULLS:
            reply = self._instead_of_null
        self._sink.answer(number, reply)

    def command(self, number: int) -> list[bytes] | None:
        """Returns the arguments of the command that is retried."""
        return self._sink.command(number)

    def repeats(self, args: list[bytes]) -> bool:
        """Whether the command is run once more if the retry is lost, too. The sink of the first attempt decides."""
        return self._sink.repeats(args)
