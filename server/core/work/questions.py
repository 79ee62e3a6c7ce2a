"""Questions: what one node asks of others outside the hot path (a page of keys, how it is doing).

Theory. A question goes to some nodes, itself perhaps included, and is over when each has answered, was lost, or has let
the deadline pass; the asker then gets what there is and judges for itself whether it suffices.

Large messages may be passed by small ones (protocol/pieces.py), but not by those questions and answers that stand for all
that was sent before (`IN_ORDER`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from server.core.base.state import Item, State
from server.core.work.procedures import Procedure, Step

IN_ORDER = (b"GOING",)  # see farewell.py
Answers = dict[str, list[bytes]]
Answerer = Callable[[Sequence[bytes]], list[bytes]]


class _Question:
    __slots__ = ("answers", "asker", "deadline_ms", "waiting")

    def __init__(self, asker: Procedure, waiting: list[str], deadline_ms: int) -> None:
        self.asker = asker
        self.waiting = waiting
        self.answers: Answers = {}
        self.deadline_ms = deadline_ms


class Questions:
    """The questions in flight, and how this node answers those of others (`answerers` by kind)."""

    def __init__(self, state: State, answerers: dict[bytes, Answerer]) -> None:
        self._state = state
        self._answerers = answerers
        self._rows: dict[int, _Question] = {}

    def ask(self, nodes: Sequence[str], kind: bytes, *args: Item) -> Step:
        """A step whose result is {node: answer}, without the nodes that did not answer."""

        def start(procedure: Procedure) -> None:
            state = self._state
            peers = [node for node in nodes if node in state.links]
            row = _Question(procedure, peers, state.now_ms + state.config.request_timeout_ms)
            if state.id in nodes:
                row.answers[state.id] = self._answer(kind, [_as_bytes(arg) for arg in args])
            number = state.number()
            self._rows[number] = row
            if peers:
                message = state.message(b"ASK", number, kind, *args)
                for peer in peers:
                    self._send(peer, kind, message)
            self._judge(number, row)

        return start

    def asked(self, peer: str, number: int, kind: bytes, args: Sequence[bytes]) -> None:
        """`peer` asks us. A kind that we do not know (a newer node's) is answered with nothing."""
        answer = self._answer(kind, args) if kind in self._answerers else []
        self._send(peer, kind, self._state.message(b"ANSWER", number, *answer))

    def _answer(self, kind: bytes, args: Sequence[bytes]) -> list[bytes]:
        if self._state.unexpected.planted:
            self._state.unexpected.pass_by(f"question {kind.decode()}")
        return self._answerers[kind](args)

    @property
    def kinds(self) -> list[bytes]:
        """The kinds of questions that this node answers."""
        return list(self._answerers)

    def _send(self, peer: str, kind: bytes, message: bytes) -> None:
        if kind in IN_ORDER:
            self._state.send_behind(peer, message)
        else:
            self._state.send(peer, message)

    def answered(self, peer: str, number: int, items: list[bytes]) -> None:
        """`peer` answers question `number`."""
        row = self._rows.get(number)
        if row is not None and peer in row.waiting:
            row.waiting.remove(peer)
            row.answers[peer] = items
            self._judge(number, row)

    def peer_lost(self, peer: str) -> None:
        """The connection to `peer` broke."""
        for number, row in list(self._rows.items()):
            if peer in row.waiting:
                row.waiting.remove(peer)
                self._judge(number, row)

    def expire(self, now_ms: int) -> None:
        """Ends the questions whose deadline has passed with the answers that there are."""
        for number, row in list(self._rows.items()):
            if row.deadline_ms <= now_ms:
                row.waiting.clear()
                self._judge(number, row)

    def _judge(self, number: int, row: _Question) -> None:
        if not row.waiting:
            del self._rows[number]
            row.asker.resume(row.answers)


def _as_bytes(item: Item) -> bytes:
    if isinstance(item, bytes):
        return item
    return str(item).encode()
