"""The questions about nodes and layouts (which layout a node uses, its status, its tasks), and the table of all kinds.

Theory. Answers that are JSON documents have the shapes of shapes.py. What each question is for is described where it is
answered: membership.py, transfers.py, change_coordinator.py, shutdown.py, tasks.py, jobs.py, sizes.py, staging.py,
status.py, wait_command.py, waitaof_command.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from protocol.bounds import COUNT_MAX, TIME_MS_MAX
from protocol.frames import encode_message
from protocol.slots import SLOTS
from server.core.messages import numberings, shapes
from server.core.messages import record_questions as records
from server.core.messages import script_questions as scripts
from server.core.messages.announcements import (
    ANNOUNCEMENTS,
    LayoutView,
    Staged,
    staged,
    staged_document,
    view_in,
    view_items,
)
from server.core.messages.asking import (
    NAME_BYTES_MAX,
    Items,
    Question,
    as_item,
    document,
    json_answer,
    partitions_in,
    read_done,
    read_numbers,
    read_yes,
    write_document,
    write_done,
    write_numbers,
    write_yes,
)
from server.core.messages.exchange_questions import EXCHANGE_QUESTIONS
from server.core.messages.kinds import REQUEST_KINDS, Kind
from server.core.messages.libraries import LIBKNOWN, LIBRARY
from server.core.messages.queues import QUEUE_KINDS
from server.core.messages.reader import Malformed, Reader
from server.core.messages.traces import TRACE, TRACED


class Partitions(NamedTuple):
    """Some partitions of the layout with that epoch."""

    epoch: int
    partitions: list[int]


class RepairJob(NamedTuple):
    """A job of a repair task (jobs.py), and whether to continue or to stop it."""

    epoch: int
    name: str
    action: bytes
    partitions: list[int]


class TaskQuery(NamedTuple):
    """Asks for one task, or for all if the name is empty. `abort` ends the task."""

    name: str
    abort: bool


class Pause(NamedTuple):
    """Pauses the transfer with that name, or all if it is empty; or lets it go on."""

    name: str
    is_paused: bool


class Period(NamedTuple):
    """From when until when writes are asked about, as times before now, and how many replicas count at most."""

    since_ago_ms: int
    until_ago_ms: int
    most: int


class Synced(NamedTuple):
    """What a node has synced: its incarnation, its present turn (0: all that it has acknowledged is on its disk), the last
    turn that is on its disk, and the members that it has not heard from since the time that was asked about."""

    incarnation: int
    turn: int
    synced_turn: int
    unheard: list[str]


_SUBSCRIPTION_KIND_MAX: Final = 2  # base/subscriber.py


class Subscribed(NamedTuple):
    """Asks what a node's clients have subscribed to, of one kind (base/subscriber.py): how many have subscribed to each of
    these names, or, without names, for all names."""

    kind: int
    names: list[bytes]


def _subscribed(items: Reader) -> Subscribed:
    return Subscribed(items.integer(_SUBSCRIPTION_KIND_MAX), [items.data() for _ in range(items.count())])


def _subscribed_items(asked: Subscribed) -> list[bytes]:
    return [as_item(asked.kind), as_item(len(asked.names)), *asked.names]


def _subscriptions_answer(items: Reader, asked: Items) -> list[bytes]:
    return [b"%d" % items.count() for _ in asked[2:]] if len(asked) > 2 else items.blobs()


def _period(items: Reader) -> Period:
    return Period(items.integer(TIME_MS_MAX), items.integer(TIME_MS_MAX), items.integer(COUNT_MAX))


def _copies_answer(items: Reader, asked: Items) -> tuple[int, bool]:
    return items.integer(COUNT_MAX), items.flag()


def _synced_items(told: Synced) -> list[bytes]:
    return [as_item(told.incarnation), as_item(told.turn), as_item(told.synced_turn), *map(str.encode, told.unheard)]


def _synced(items: Reader, asked: Items) -> Synced:
    numbers = items.time_ms(), items.count(), items.count()
    return Synced(*numbers, [items.node_id() for _ in range(items.left())])


def _partitions(items: Reader) -> list[int]:
    return [items.integer(SLOTS - 1) for _ in range(items.left())]


def _job(items: Reader) -> RepairJob:
    return RepairJob(items.epoch(), items.text(NAME_BYTES_MAX), items.word((b"go", b"stop")), _partitions(items))


def _job_items(job: RepairJob) -> list[bytes]:
    return [as_item(job.epoch), job.name.encode(), job.action, *map(as_item, job.partitions)]


def _task_query(items: Reader) -> TaskQuery:
    name = items.text(NAME_BYTES_MAX) if items.left() else ""
    return TaskQuery(name, items.left() > 0 and items.word((b"ABORT",)) == b"ABORT")


def _task_query_items(query: TaskQuery) -> list[bytes]:
    if query.abort:
        return [query.name.encode(), b"ABORT"]
    return [query.name.encode()] if query.name else []


def _pause(items: Reader) -> Pause:
    is_paused = items.word((b"PAUSE", b"RESUME")) == b"PAUSE"
    return Pause(items.text(NAME_BYTES_MAX) if items.left() else "", is_paused)


def _pause_items(asked: Pause) -> list[bytes]:
    word = b"PAUSE" if asked.is_paused else b"RESUME"
    return [word, asked.name.encode()] if asked.name else [word]


def _view(items: Reader) -> LayoutView | None:
    """Reads which layout the asker uses; None if the asker has left its cluster."""
    return view_in(items) if items.left() else None


def _view_items(view: LayoutView | None) -> list[bytes]:
    return [] if view is None else view_items(view)


def _whole(items: Reader) -> dict[str, int]:
    return {items.node_id(): items.count() for _ in range((items.left() + 1) // 2)}


def _whole_items(counts: dict[str, int]) -> list[bytes]:
    return [item for owner, count in counts.items() for item in (owner.encode(), as_item(count))]


def _job_answer(items: Reader, asked: Items) -> Any:
    return document(items, shapes.STOPPED_JOB if asked[2] == b"stop" else shapes.job)


def _sizes_answer(items: Reader, asked: Items) -> Any:
    return document(items, shapes.sizes(int(asked[0])))


Document = dict[str, Any]

STATUS: Final[Question[None, Document]] = Question(
    b"STATUS", lambda _: [], lambda items: None, write_document, json_answer(shapes.STATUS)
)
REPAIR: Final[Question[RepairJob, Document]] = Question(b"REPAIR", _job_items, _job, write_document, _job_answer)
TASKS: Final[Question[TaskQuery, list[Document]]] = Question(
    b"TASKS", _task_query_items, _task_query, write_document, json_answer(shapes.TASKS)
)
PAUSE: Final[Question[Pause, list[Document]]] = Question(
    b"PAUSE", _pause_items, _pause, write_document, json_answer(shapes.TASKS)
)
GOING: Final[Question[str, bool]] = Question(  # in order: see membership/shutdown.py
    b"GOING",
    lambda node: [node.encode()],
    lambda items: items.node_id(),
    write_done,
    read_done,
    in_order=True,
)
ADOPTED: Final = Question(b"ADOPTED", _view_items, _view, write_yes, read_yes)
MOVED: Final = Question(b"MOVED", _view_items, _view, write_yes, read_yes)
EMPTY: Final = Question(b"EMPTY", _view_items, _view, write_yes, read_yes)
CONFIRMED: Final = Question(b"CONFIRMED", _view_items, _view, write_yes, read_yes)
REPAIRED: Final = Question(b"REPAIRED", _view_items, _view, write_yes, read_yes)
COUNTS: Final[Question[Partitions, list[int]]] = Question(
    b"COUNTS",
    lambda asked: [as_item(asked.epoch), *map(as_item, asked.partitions)],
    lambda items: Partitions(items.epoch(), _partitions(items)),
    write_numbers,
    read_numbers,
)
WHOLE: Final = Question(b"WHOLE", _whole_items, _whole, write_done, read_done)
SIZES: Final[Question[int, Document]] = Question(
    b"SIZES", lambda partitions: [as_item(partitions)], partitions_in, write_document, _sizes_answer
)
STAGED: Final[Question[Staged, bool]] = Question(
    b"STAGED", lambda content: [staged_document(content)], staged, write_done, read_done
)
WRITTEN: Final[Question[Period, tuple[int, bool]]] = Question(
    b"WRITTEN", lambda period: [*map(as_item, period)], _period, lambda told: [*map(as_item, told)], _copies_answer
)
SYNCED: Final[Question[int, Synced]] = Question(
    b"SYNCED", lambda ago_ms: [as_item(ago_ms)], lambda items: items.integer(TIME_MS_MAX), _synced_items, _synced
)
SUBSCRIPTIONS: Final[Question[Subscribed, list[bytes]]] = Question(
    b"SUBSCRIPTIONS", _subscribed_items, _subscribed, lambda found: found, _subscriptions_answer
)

_ALL: Sequence[Question[Any, Any]] = (
    *records.ALL, *EXCHANGE_QUESTIONS, TRACE, STATUS, REPAIR, TASKS, PAUSE, GOING, ADOPTED, MOVED, EMPTY, COUNTS, WHOLE,
    SIZES, STAGED, WRITTEN, SYNCED, SUBSCRIPTIONS, *scripts.ALL, *numberings.ALL, LIBRARY, LIBKNOWN, CONFIRMED, REPAIRED,
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
_KINDS: Sequence[Kind[Any]] = (*REQUEST_KINDS, *ANNOUNCEMENTS, *QUEUE_KINDS, ASK, ANSWER, TRACED)
KINDS: Final[dict[bytes, Kind[Any]]] = {kind.name: kind for kind in _KINDS}


def encode_ask(reading: int, number: int, question: Question[Any, Any], items: list[bytes]) -> bytes:
    """Encodes ASK: the items are what `Question.write` has returned."""
    return encode_message((b"ASK", reading, number, question.name, *items))


def encode_answer(reading: int, number: int, items: Sequence[bytes]) -> bytes:
    """Encodes ANSWER, the answer to the ASK with that number; without items: there is none."""
    return encode_message((b"ANSWER", reading, number, *items))
