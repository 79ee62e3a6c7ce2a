"""The relays that the commands of an atomic run find: there are none, as all its keys are coordinated here."""

from __future__ import annotations

from typing import Final

from server.core.base.errors import ErrorReply
from server.core.base.sinks import Sink
from server.core.requests.relays import Relays

NOT_HERE: Final = "TRYAGAIN the node that coordinates this key has changed: nothing was written"


class NoRelays(Relays):
    """No command on a snapshot is relayed."""

    is_asked = False

    def forward(
        self, sink: Sink, number: int, args: list[bytes], peer: str, begun_ms: int = -1, in_order: bool = False
    ) -> None:
        """Notes that the coordinator has changed."""
        self.is_asked = True
        sink.answer(number, ErrorReply.of(NOT_HERE))
