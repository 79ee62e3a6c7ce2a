"""Long replies to waiting clients: they are encoded in slices, so that other clients are served meanwhile.

Theory. The elements are on their way (deliveries.py) while their reply is made. If that fails, or takes so long that the
coordinator may soon put them back by itself, they are put back, and the client gets an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from protocol.resp import Reply
from server.core.base.errors import ErrorReply
from server.core.base.sinks import Sink
from server.core.base.state import State
from server.core.formats.pausing import Slices
from server.core.work.procedures import Procedure, Steps
from server.core.work.timers import Timers

PAUSE_MS: Final = 1  # between two slices
_TOO_LATE: Final = ErrorReply.of(
    "TIMEOUT the reply was not made in time, because this node is busy: what was popped is put back; try again"
)


class LongReply(Sink):
    """The reply to a client for which an attempt has popped something, while it is made."""

    def __init__(self, client: Sink, made: Callable[[bytes], None]) -> None:
        """`made` takes the reply, or an error."""
        super().__init__(client)
        self._client = client
        self._made = made

    def begin(self, slices: Slices[bytes], state: State, timers: Timers) -> None:
        """Makes the reply, from now on."""
        Procedure(state, "reply of a pop", self._encode(slices, state, timers), self, 0).start()

    def _encode(self, slices: Slices[bytes], state: State, timers: Timers) -> Steps:
        late_ms = state.now_ms + state.config.request_timeout_ms
        while True:
            try:
                next(slices)
            except StopIteration as stop:
                reply: bytes = stop.value
                return reply if state.now_ms <= late_ms else _TOO_LATE
            yield timers.pause_for_turn(state.now_ms + PAUSE_MS)

    def answer(self, number: int, reply: Reply) -> None:
        """The reply is made, or is an error."""
        assert isinstance(reply, bytes), "a reply of a pop is encoded whole"
        self._made(reply)

    def command(self, number: int) -> list[bytes] | None:
        """The arguments of the client's command."""
        return self._client.command(number)
