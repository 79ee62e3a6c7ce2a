"""Questions: what one node asks of others outside the hot path (a page of keys, its status, …).

Theory. A question goes to some nodes, which may include this node. It is over when each of them has answered, or was
lost, or the deadline has passed; or once one node has an answer, if one is enough. Then the asking procedure gets the
answers that have come, and decides whether they are enough.

Whom a client waits for. A frozen node keeps its links and answers nothing. Until it is believed suspect, some two seconds
later, nobody can tell it from a slow one. So a question on behalf of a client says how long it can spare a node
(`patience_ms`):

    node                                                              is its answer waited for?
    believed live, asked for less than `patience_ms`                  yes
    believed live, silent for longer, to this question or an          no, if the answers of the others are enough
    earlier one
    believed suspect or down when it is asked, or from a moment on    no, if the answers of the others are enough
    while it is waited for

An answer that nobody waits for counts if it comes before the last one. So only the first commands after a freeze wait for
their patience. What is enough the question says, too: a page of keys needs the answers of R owners of its range, while the
status of the cluster makes do with those nodes that there are, and names the others. Work that needs the answers of all
nodes (collection, transfers, repair) has no patience to say, and waits for the deadline.

Small messages may overtake large ones (protocol/pieces.py), except for questions and answers that are declared to be
`in_order`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from server.core.base.state import State
from server.core.messages.asking import Question, read_answer, write_answer
from server.core.messages.questions import ANSWER, QUESTIONS, encode_answer, encode_ask
from server.core.messages.reader import Malformed, Reader
from server.core.work.procedures import Procedure, Step

Q = TypeVar("Q")
A = TypeVar("A")
READ_PATIENCE_MS: Final = 150  # for what clients read: longer than a healthy node takes for an answer
REPORT_PATIENCE_MS: Final = 1000  # for reports and changes: these should not miss a node that is merely busy
Answers = dict[str, Any]  # node -> its answer, as its question declares it; None if the node has no answer
Enough = Callable[[Answers], bool]  # whether the answers so far will do
Answerer = Callable[[Any], Any]  # content of a question -> the answer, or None


def answered_by(question: Question[Q, A], answerer: Callable[[Q], A | None]) -> tuple[bytes, Answerer]:
    """Returns an entry for the table of answerers: the kind of question, and the function that answers it here."""
    return question.name, answerer


def one_answer(answers: Answers) -> bool:
    """Whether some node has an answer."""
    return any(answer is not None for answer in answers.values())


def _any_number(answers: Answers) -> bool:
    return True


class _Row:
    """A question in flight; `awaited` are the nodes whose answers may still come. It does not wait for late ones from
    `late_ms` on, nor at any time for those that it knows to be late, if it `can_spare` them."""

    __slots__ = (
        "answers", "asked", "asker", "awaited", "can_spare", "deadline_ms", "is_complete", "late_ms", "question",
    )  # fmt: skip

    def __init__(
        self,
        asker: Procedure,
        question: Question[Any, Any],
        asked: list[bytes],
        awaited: list[str],
        deadline_ms: int,
        late_ms: int,
        can_spare: Enough | None,
        is_complete: Enough | None,
    ) -> None:
        self.asker = asker
        self.question = question
        self.asked = asked
        self.awaited = awaited
        self.answers: Answers = {}
        self.deadline_ms = deadline_ms
        self.late_ms = late_ms
        self.can_spare = can_spare
        self.is_complete = is_complete


class Questions:
    """The questions in flight, and the functions that answer other nodes' questions.

    These are `answerers`, by kind; the dict may be filled after this object is made.
    """

    def __init__(self, state: State, answerers: dict[bytes, Answerer]) -> None:
        self._state = state
        self._answerers = answerers
        self._rows: dict[int, _Row] = {}
        self._late: dict[
            str, None
        ] = {}  # nodes that somebody has lost patience with, and that have answered nothing since

    def ask(
        self,
        nodes: Sequence[str],
        question: Question[Q, Any],
        content: Q,
        within_ms: int = 1 << 40,
        patience_ms: int = 0,
        can_spare: Enough = _any_number,
        is_complete: Enough | None = None,
    ) -> Step:
        """Returns a step that asks `nodes`. Its result is {node: answer or None}, without the nodes that did not answer in
        time: within the usual timeout, or `within_ms` if that is less. With a patience it waits for no node that is late
        or not believed live once the answers are so many that it `can_spare` the others. It ends at once when the answers
        are complete."""
        asked = question.write(content)

        def start(procedure: Procedure) -> None:
            state = self._state
            peers = [node for node in nodes if node in state.links]
            deadline_ms = state.now_ms + min(within_ms, state.config.request_timeout_ms)
            late_ms, sparing = state.now_ms + patience_ms, can_spare if patience_ms else None
            row = _Row(procedure, question, asked, peers, deadline_ms, late_ms, sparing, is_complete)
            if state.id in nodes:
                row.answers[state.id] = self._own_answer(question, asked)
            number = state.next_number()
            self._rows[number] = row
            if peers:
                message = encode_ask(state.clock_reading(), number, question, asked)
                for peer in peers:
                    self._send(peer, question, message)
            self._review(number, row)

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
        self._late.pop(peer, None)
        row = self._rows.get(number)
        if row is not None and peer in row.awaited:
            row.awaited.remove(peer)
            row.answers[peer] = answer
            self._review(number, row)

    def peer_lost(self, peer: str) -> None:
        """The connection to `peer` broke."""
        self._late.pop(peer, None)
        for number, row in list(self._rows.items()):
            if peer in row.awaited:
                row.awaited.remove(peer)
                self._review(number, row)

    def expire(self, now_ms: int) -> None:
        """Ends the questions whose deadline has passed, or whose patience; they get the answers that have come."""
        for number, row in list(self._rows.items()):
            if row.deadline_ms <= now_ms:
                row.awaited.clear()
            elif row.can_spare is not None and row.late_ms <= now_ms:
                self._late |= dict.fromkeys(row.awaited)
            self._review(number, row)

    def _is_late(self, peer: str) -> bool:
        """Whether a question with a patience does not wait for `peer`."""
        return peer in self._late or not self._state.liveness.is_live(peer)

    def _review(self, number: int, row: _Row) -> None:
        """Ends a question that has nobody to wait for, or nobody who is worth it."""
        if (
            not row.awaited
            or (row.is_complete is not None and row.is_complete(row.answers))
            or (row.can_spare is not None and all(map(self._is_late, row.awaited)) and row.can_spare(row.answers))
        ):
            del self._rows[number]
            row.asker.resume(row.answers)
