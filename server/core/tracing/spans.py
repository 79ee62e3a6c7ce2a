"""Spans: what one node notes of a traced request, turn by turn.

All times are microseconds of the node's own monotonic clock. Those of different nodes are never compared (assembly.py).
"""

from __future__ import annotations

from typing import Any


class SpanTurn:
    """What a node has done for a traced request in one turn."""

    __slots__ = ("answered_us", "begun_us", "committed_us", "ended_us", "number", "received", "sent", "sent_us")

    def __init__(self, begun_us: int) -> None:
        self.begun_us = begun_us  # the request, or a message of it, was received
        self.number = 0  # of the turn, once it has ended
        self.ended_us: int | None = None  # the turn has ended: the core has decided what to write and what to send
        self.committed_us: int | None = None  # its writes are committed, and synced if fsync is `always`
        self.sent_us: int | None = None  # its messages and replies are written to the sockets
        self.answered_us: int | None = None  # the request got its reply here, which `sent_us` sends to the client
        self.received: list[tuple[str, str, int]] = []  # kinds of messages, who has sent each, and when it was read
        self.sent: list[tuple[str, str, bool]] = []  # kinds of messages, to whom, and whether that node traces, too


class Span:
    """A traced request at one node: one span for each node that has a part in the request."""

    __slots__ = ("begun_ms", "begun_us", "id", "name", "parent", "trace", "turns")

    def __init__(self, trace: bytes, span_id: bytes, parent: bytes, name: str, begun_ms: int, begun_us: int) -> None:
        self.trace = trace
        self.id = span_id
        self.parent = parent  # the span of the node that has sent the first message; empty at the node of the client
        self.name = name  # the command, or the kind of the first message
        self.begun_ms = begun_ms
        self.begun_us = begun_us
        self.turns: list[SpanTurn] = []

    def document(self) -> dict[str, Any]:
        """Returns what the question TRACE answers. Times count from the begin of the span."""
        return {"id": self.id.hex(), "parent": self.parent.hex(), "turns": [self._turn(turn) for turn in self.turns]}

    def _turn(self, turn: SpanTurn) -> dict[str, Any]:
        return {
            "begun_us": turn.begun_us - self.begun_us,
            "received": [(kind, peer, at_us - self.begun_us) for kind, peer, at_us in turn.received],
            "ended_us": self._since_begin(turn.ended_us),
            "committed_us": self._since_begin(turn.committed_us),
            "sent_us": self._since_begin(turn.sent_us),
            "sent": turn.sent,
            "answered_us": self._since_begin(turn.answered_us),
        }

    def _since_begin(self, time_us: int | None) -> int | None:
        return None if time_us is None else time_us - self.begun_us
