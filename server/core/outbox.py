"""What a turn leaves behind, to be used in this order: commit, then speak (P1)."""

from __future__ import annotations

from server.core.base.sinks import Flushed, Session


class Outbox:
    """What a turn leaves behind: commit `writes` as one batch, then send `messages`, then `replies`, then close.

    `large` are messages, by peer, that are to travel in pieces, behind `messages` (protocol/pieces.py)."""

    __slots__ = ("closing", "large", "messages", "replies", "turn", "writes")

    def __init__(
        self,
        writes: dict[bytes, bytes | None],
        messages: dict[str, bytes],
        replies: list[tuple[Session, Flushed]],
        closing: list[Session],
        turn: int,
        large: dict[str, list[bytes]],
    ) -> None:
        self.writes = writes
        self.messages = messages
        self.large = large
        self.replies = replies
        self.closing = closing
        self.turn = turn
