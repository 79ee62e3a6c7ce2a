"""Questions: what one node asks of others outside the hot path (a page of keys, its status, …).

Theory. A question goes to some nodes, which may include this node. It is over when each of them has answered, or was
lost, or the deadline has passed; or once one node has an answer, if one is enough. Then the asking procedure gets the
answers that have come, and decides whether they are enough.

Small messages may overtake large ones (protocol/pieces.py), except for questions and answers that are declared to be
`in_order`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from server.core.base.state import State
from server.core.messages.asking import Question, read_answer, write_answer
from server.core.messages.questions import ANSWER, QUESTIONS, encode_answer, encode_ask
from server.core.messages.reader import Malformed, Reader
from server.core.work.procedures import Procedure, Step

Q = TypeVar("Q")
A = TypeVar("A")
Answers = dict[str, Any]  # node -> its answer, as its question declares it; None if the node has no answer
Answerer = Callable[[Any], Any]  # content of a question -> the answer, or None


def answered_by(question: Question[Q, A], answerer: Callable[[Q], A | None]) -> tuple[bytes, Answerer]:
    """Returns an entry for the table of answerers: the kind of question, and the function that answers it here."""
    return question.name, answerer


class _Row:
    """A question in flight; `awaited` are the nodes whose answers may still come."""

    __slots__ = ("answers", "asked", "asker", "awaited", "deadline_ms", "one_is_enough", "question")

    def __init__(
        self,
        asker: Procedure,
        question: Question[Any, Any],
        asked: list[bytes],
        awaited: list[str],
        deadline_ms: int,
        one_is_enough: bool,
    ) -> None:
        self.asker = asker
        self.question = question
        self.asked = asked
        self.awaited = awaited
        self.answers: Answers = {}
        self.deadline_ms = deadline_ms
        self.one_is_enough = one_is_enough


class Questions:
    """The questions in flight, and the functions that answer other nodes' questions.

    These are `answerers`, by kind; the dict may be filled after this object is made.
    """

    def __init__(self, state: State, answerers: dict[bytes, Answerer]) -> None:
        self._state = state
        self._answerers = answerers
        self._rows: dict[int, _Row] = {}

    def ask(
        self,
        nodes: Sequence[str],
        question: Question[Q, Any],
        content: Q,
        within_ms: int = 1 << 40,
        one_is_enough: bool = False,
    ) -> Step:
        """Returns a step that asks `nodes`. Its result is {node: answer or None}, without the nodes that did not answer in
        time: within the usual timeout, or `within_ms` if that is less. With `one_is_enough` it does not wait for others
        once a node has an answer."""
        asked = question.write(content)

        def start(procedure: Procedure) -> None:
            state = self._state
            peers = [node for node in nodes if node in state.links]
            deadline_ms = state.now_ms + min(within_ms, state.config.request_timeout_ms)
            row = _Row(procedure, question, asked, peers, deadline_ms, one_is_enough)
            if state.id in nodes:
                row.answers[state.id] = self._own_answer(question, asked)
            number = state.next_number()
            self._rows[number] = row
            if peers:
                message = encode_ask(state.clock_reading(), number, question, asked)
                for peer in peers:
                    self._send(peer, question, message)
            self._resume_if_complete(number, row)

        return start

    def _own_answer(self, question: Question[Any, A], asked: list[bytes]) -> A | None:
        """Answers the question for this node, and reads the answer as if another node had sent it."""
        try:
            answer: A | None = self._answer(question.name, question.read(Reader(asked, 0, 0)))
            items: list[Any] = list(write_answer(question, answer))
            return read_answer(question, Reader(items, 0, 0), asked)
        except Malformed as error:
            raise RuntimeError(f"this node's own {question.name.decode()}: {error}") from error

    def asked(self, peer: str, number: int, kind: bytes, content: Any) -> None:
        """Answers a question of `peer`. An unknown kind, of a newer node, gets an empty answer."""
        question = QUESTIONS.get(kind)
        is_known = question is not None and kind in self._answerers
        items = write_answer(question, self._answer(kind, content)) if question is not None and is_known else []
        self._send(peer, question, encode_answer(self._state.clock_reading(), number, items))

    def _answer(self, kind: bytes, content: Any) -> Any:
        if self._state.unexpected.planted:
            self._state.unexpected.pass_by(f"question {kind.decode()}")
        return self._answerers[kind](content)

    @property
    def kinds(self) -> list[bytes]:
        """The kinds of questions that this node can answer."""
        return list(self._answerers)

    def _send(self, peer: str, question: Question[Any, Any] | None, message: bytes) -> None:
        if question is not None and question.in_order:
            self._state.send_behind(peer, message)
        else:
            self._state.send(peer, message)

    def read_answer(self, items: Reader) -> Any:
        """Reads the content of an ANSWER as its question requires. Raises Malformed."""
        row = self._rows.get(items.number)
        return ANSWER.read(items) if row is None else read_answer(row.question, items, row.asked)

    def answered(self, peer: str, number: int, answer: Any) -> None:
        """`peer` has answered question `number`."""
        row = self._rows.get(number)
        if row is not None and peer in row.awaited:
            row.awaited.remove(peer)
            row.answers[peer] = answer
            if row.one_is_enough and answer is not None:
                row.awaited.clear()
            self._resume_if_complete(number, row)

    def peer_lost(self, peer: str) -> None:
        """The connection to `peer` broke."""
        for number, row in list(self._rows.items()):
            if peer in row.awaited:
                row.awaited.remove(peer)
                self._resume_if_complete(number, row)

    def expire(self, now_ms: int) -> None:
        """Ends the questions whose deadline has passed; they get the answers that have come."""
        for number, row in list(self._rows.items()):
            if row.deadline_ms <= now_ms:
                row.awaited.clear()
                self._resume_if_complete(number, row)

    def _resume_if_complete(self, number: int, row: _Row) -> None:
        if not row.awaited:
            del self._rows[number]
            row.asker.resume(row.answers)
