"""The output of a turn, to be used in this order: commit, then speak (P1)."""

from __future__ import annotations

from mypy_extensions import i64

from protocol.frames import BODY_BYTES, seal_small
from server.core.base.sinks import Flushed, Session
from server.core.base.state import State


class Outbox:
    """The output of a turn: commit `writes` as one batch, then send `messages`, then `replies`, then close.

    `large` are messages, by peer, that travel in pieces, behind `messages` (protocol/pieces.py). `pushes` go to sessions
    behind their replies (pubsub/)."""

    __slots__ = ("closing", "large", "messages", "pushes", "replies", "turn", "writes")

    def __init__(
        self,
        writes: dict[bytes, bytes | None],
        messages: dict[str, bytes],
        replies: list[tuple[Session, Flushed]],
        closing: list[Session],
        turn: int,
        large: dict[str, list[bytes]],
        pushes: list[tuple[Session, bytes]],
    ) -> None:
        self.writes = writes
        self.messages = messages
        self.large = large
        self.replies = replies
        self.closing = closing
        self.turn = turn
        self.pushes = pushes


def drain_messages(state: State) -> tuple[dict[str, bytes], dict[str, list[bytes]]]:
    """HOT. The messages of the turn by peer: small ones in frames, and those of `large_message_bytes` and more as a
    list."""
    large_bytes: i64 = state.config.large_message_bytes
    body_bytes = min(BODY_BYTES, large_bytes)
    large: list[bytes] = []
    large_messages: dict[str, list[bytes]] = {}
    messages: dict[str, bytes] = {}
    for peer, encoded in state.messages.items():
        if data := seal_small(encoded, large_bytes, large, body_bytes):
            messages[peer] = data
        if large:
            large_messages[peer], large = large, []
    for peer, encoded in state.trailing.items():
        large_messages.setdefault(peer, []).extend(encoded)
    state.messages.clear()
    state.trailing.clear()
    return messages, large_messages
