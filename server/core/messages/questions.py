"""The questions about nodes and layouts (which layout a node uses, its status, its tasks), and the table of all kinds.

Theory. Answers that are JSON documents have the shapes of shapes.py. What each question is for is described where it is
answered: membership.py, transfers.py, steward.py, shutdown.py, tasks.py, jobs.py, sizes.py, staging.py, status.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from protocol.slots import SLOTS
from server.core.messages import record_questions as records
from server.core.messages import shapes
from server.core.messages.asking import (
    NAME_BYTES_MAX,
    Items,
    Question,
    document,
    done,
    json_answer,
    numbers,
    partitions_in,
    yes_or_no,
)
from server.core.messages.kinds import PLAIN_KINDS, Kind, Staged, View, staged, view_in
from server.core.messages.reader import Malformed, Reader


class Partitions(NamedTuple):
    """Some partitions of the layout with that epoch."""

    epoch: int
    partitions: list[int]


class Job(NamedTuple):
    """A job of a repair task (jobs.py), and whether to continue or to stop it."""

    epoch: int
    name: str
    action: bytes
    partitions: list[int]


class TaskQuery(NamedTuple):
    """Asks for one task, or for all if the name is empty. `abort` ends the task."""

    name: str
    abort: bool


def _partitions(items: Reader) -> list[int]:
    return [items.integer(SLOTS - 1) for _ in range(items.left())]


def _job(items: Reader) -> Job:
    return Job(items.epoch(), items.text(NAME_BYTES_MAX), items.word((b"go", b"stop")), _partitions(items))


def _task_query(items: Reader) -> TaskQuery:
    name = items.text(NAME_BYTES_MAX) if items.left() else ""
    return TaskQuery(name, items.left() > 0 and items.word((b"ABORT",)) == b"ABORT")


def _view(items: Reader) -> View | None:
    """Reads which layout the asker uses; None if the asker has left its cluster."""
    return view_in(items) if items.left() else None


def _whole(items: Reader) -> dict[str, int]:
    return {items.node_id(): items.count() for _ in range((items.left() + 1) // 2)}


def _job_answer(items: Reader, asked: Items) -> Any:
    return document(items, shapes.STOPPED_JOB if asked[2] == b"stop" else shapes.job)


def _sizes_answer(items: Reader, asked: Items) -> Any:
    return document(items, shapes.sizes(int(asked[0])))


STATUS: Final = Question(b"STATUS", lambda items: None, json_answer(shapes.STATUS))
REPAIR: Final = Question(b"REPAIR", _job, _job_answer)
TASKS: Final = Question(b"TASKS", _task_query, json_answer(shapes.TASKS))
GOING: Final = Question(b"GOING", lambda items: items.node_id(), done)
ADOPTED: Final = Question(b"ADOPTED", _view, yes_or_no)
MOVED: Final = Question(b"MOVED", _view, yes_or_no)
EMPTY: Final = Question(b"EMPTY", _view, yes_or_no)
COUNTS: Final = Question(b"COUNTS", lambda items: Partitions(items.epoch(), _partitions(items)), numbers)
WHOLE: Final = Question(b"WHOLE", _whole, done)
SIZES: Final = Question(b"SIZES", partitions_in, _sizes_answer)
STAGED: Final[Question[Staged]] = Question(b"STAGED", staged, done)

_ALL: Sequence[Question[Any]] = (
    *records.ALL, STATUS, REPAIR, TASKS, GOING, ADOPTED, MOVED, EMPTY, COUNTS, WHOLE, SIZES, STAGED,
)  # fmt: skip
QUESTIONS: Final = {question.name: question for question in _ALL}


# --- the messages that carry them


class Ask(NamedTuple):
    """A question: its kind, and its content for the answerer. The content of an unknown kind, of a newer node, is None."""

    kind: bytes
    content: Any


def _ask(items: Reader) -> Ask:
    kind = items.data(NAME_BYTES_MAX)
    question = QUESTIONS.get(kind)
    if question is None:
        items.blobs()
        return Ask(kind, None)
    try:
        return Ask(kind, question.read(items))
    except Malformed as error:
        raise Malformed(f"{kind.decode()}: {error}") from None


ASK: Final = Kind(b"ASK", _ask)
ANSWER: Final = Kind(b"ANSWER", lambda items: items.blobs())  # for a question that has ended; others: `read_answer`
KINDS: Final[dict[bytes, Kind[Any]]] = {kind.name: kind for kind in (*PLAIN_KINDS, ASK, ANSWER)}
