"""The output of a turn, to be used in this order: commit, then speak (P1).

Theory. Under fsync `always` what a node says must be on its disk: that it has stored something, what it has read, the
reply to a client. A request says nothing of the kind. It asks another node to store a record, to compare its own, or to run
a command. Whoever counts this node's vote waits for this node's sync all the same, since replies leave in the order of the
turns. So requests are sent right after the commit: then the owners sync while the coordinator does, and not after it.

On their way they overtake answers to other requests, which nobody misses, and nothing else. What is neither a request nor
an answer may have to arrive before what was sent behind it: ESCROW before the STORE that removes the element, WATCHING
before the reads of a client that tracks, a traced RELAY before the next one of its key. So whatever is sent to a peer
behind such a message waits with it for the sync.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from protocol.frames import BODY_BYTES, seal_small
from server.core.base.sinks import Flushed, Session
from server.core.base.state import State

_REQUESTS: Final = (b"STORE", b"KEEP", b"PATCH", b"HINT", b"COMPARE", b"READ", b"RELAY")
_ANSWERS: Final = (b"STORED", b"KEPT", b"SAME", b"DIFFER", b"RECORDS", b"RELAYED", b"REFUSED", b"UNFIT")
_KIND_BYTES: Final = 24  # of a message, with its kind and what is before it


class Outbox:
    """The output of a turn: commit `writes` as one batch, then send `requests` and `messages`, then `replies`, then close.

    `requests` are messages that say nothing of what is on the disk here. Under fsync `always` they stand apart; else
    `messages` has all. `large` are messages, by peer, that travel in pieces, behind `messages` (protocol/pieces.py).
    `pushes` go to sessions behind their replies (pubsub/)."""

    __slots__ = ("closing", "large", "messages", "pushes", "replies", "requests", "turn", "writes")

    def __init__(
        self,
        writes: dict[bytes, bytes | None],
        requests: dict[str, bytes],
        messages: dict[str, bytes],
        replies: list[tuple[Session, Flushed]],
        closing: list[Session],
        turn: int,
        large: dict[str, list[bytes]],
        pushes: list[tuple[Session, bytes]],
    ) -> None:
        self.writes = writes
        self.requests = requests
        self.messages = messages
        self.large = large
        self.replies = replies
        self.closing = closing
        self.turn = turn
        self.pushes = pushes


def drain_requests(state: State) -> dict[str, bytes]:
    """Under fsync `always`: removes the requests that need not wait for a sync from the turn's messages, and returns them
    in frames, by peer. `State.held_back` has, by peer, the last turn behind whose messages requests wait."""
    requests: dict[str, bytes] = {}
    if state.config.fsync != "always":
        return requests
    large_bytes = state.config.large_message_bytes
    for peer, encoded in state.messages.items():
        asking: list[bytes] = []
        telling: list[bytes] = []
        for message in encoded:
            kind = message[:_KIND_BYTES].split(b"\r\n", 3)[2]
            is_behind = state.held_back.get(peer, -1) > state.synced_turn
            (asking if kind in _REQUESTS and not is_behind and len(message) < large_bytes else telling).append(message)
            if kind not in _REQUESTS and kind not in _ANSWERS:
                state.held_back[peer] = state.statistics.turns
        if asking:
            requests[peer] = seal_small(asking, large_bytes, [], min(BODY_BYTES, large_bytes))
            state.messages[peer] = telling
    return requests


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
