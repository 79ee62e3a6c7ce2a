"""DYN.REPAIR, DYN.TASK: make the owners of data equal now, and show the progress.

Theory. A task belongs to the node that was asked for it (server/core/repair/tasks.py); DYN.TASK asks all nodes, so
any of them tells about any task. A document is {"task", "state", "partitions", "partitions_done", "keys_compared",
"keys_repaired", "bytes_sent", "node", "error", "started_ms"}, and "ended_ms" once it has ended. A transfer can be paused.
A list has "unanswered", the names of the members that did not answer, if there are any.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from protocol import resp
from protocol.databases import inner_key
from server.core.base.errors import SYNTAX, CommandError
from server.core.base.sinks import Sink
from server.core.commands.arguments import check_sizes, integer
from server.core.commands.containers import container
from server.core.commands.operator import layout_of
from server.core.commands.shapes import show
from server.core.commands.spec import IMMEDIATE, CommandSpec
from server.core.messages.asking import is_text
from server.core.messages.questions import PAUSE, TASKS, Pause, TaskQuery
from server.core.operators import documents
from server.core.records.records import storage_key_of
from server.core.repair.tasks import RUNNING
from server.core.ring.layout import Layout
from server.core.services.services import Services
from server.core.work.procedures import Step, Steps
from server.core.work.questions import REPORT_PATIENCE_MS


def _start(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes | None:
    """DYN.REPAIR START [PARTITION n]… | [KEY key]: starts a task. For a key, which is one of the connection's database, the
    answer comes when the task has ended."""
    layout = layout_of(services)
    words = [word.upper() for word in args[2::2]]
    if len(args) % 2 or (any(word != b"PARTITION" for word in words) and words != [b"KEY"]):
        raise CommandError(SYNTAX)
    if words == [b"KEY"]:
        check_sizes(args[3], b"", services.state.config)
        services.run_steps(_repair_key(services, layout, inner_key(sink.space, args[3])), sink, number)
        return None
    partitions = sorted({_partition(layout, word) for word in args[3::2]}) or range(layout.partitions)
    return resp.bulk(documents.encode(services.tasks.start(partitions).document()))


def _partition(layout: Layout, text: bytes) -> int:
    partition = integer(text)
    if not 0 <= partition < layout.partitions:
        raise CommandError(f"ERR there is no partition {partition}: they are numbered 0 to {layout.partitions - 1}")
    return partition


def _repair_key(services: Services, layout: Layout, key: bytes) -> Steps:
    task = yield from services.tasks.repair_key(layout, storage_key_of(key))
    return resp.bulk(documents.encode(task.document()))


def _list(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    def steps() -> Steps:
        tasks, unanswered = yield from _task_rows(services, TaskQuery("", False))
        return resp.bulk(documents.encode({"tasks": tasks} | unanswered))

    services.run_steps(steps(), sink, number)


def _show(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    services.run_steps(_one(services, args[2]), sink, number)


def _abort(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    services.run_steps(_one(services, args[2], True), sink, number)


def _one(services: Services, name: bytes, abort: bool = False) -> Steps:
    if not is_text(name):
        raise CommandError(_no_task(name, {}))
    tasks, unanswered = yield from _task_rows(services, TaskQuery(name.decode(), abort))
    if not tasks:
        raise CommandError(_no_task(name, unanswered))
    if abort and tasks[0]["state"] == RUNNING:
        raise CommandError(
            f"ERR task {show(name)} cannot be aborted, only repairs can: it moves data that a node is to own; `dyn task "
            "pause` pauses a transfer"
        )
    return resp.bulk(documents.encode(tasks[0]))


def _no_task(name: bytes, unanswered: documents.Document) -> str:
    silent = f" ({', '.join(unanswered['unanswered'])} did not answer)" if unanswered else ""
    return f"ERR no such task on any node that answers: {show(name)}{silent}"


def _pause(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    services.run_steps(_paused(services, args[2:], True), sink, number)


def _resume(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    services.run_steps(_paused(services, args[2:], False), sink, number)


def _paused(services: Services, names: list[bytes], is_paused: bool) -> Steps:
    """Pauses one transfer, or all that run, or lets them go on. Nodes of earlier versions do not take part."""
    if len(names) > 1 or not all(is_text(name) for name in names):
        raise CommandError(SYNTAX)
    name = names[0].decode() if names else ""
    layout = layout_of(services)
    members = [member.id for member in layout.members]
    answers = yield services.questions.ask(members, PAUSE, Pause(name, is_paused), patience_ms=REPORT_PATIENCE_MS)
    rows = [row for answer in answers.values() if answer for row in answer]
    if not rows:
        raise CommandError(f"ERR no reachable node runs a transfer{f' named {name}' if name else ''}")
    tasks = sorted(rows, key=lambda row: str(row["task"]))
    return resp.bulk(documents.encode({"tasks": tasks} | documents.unanswered(layout, answers)))


def _task_rows(
    services: Services, query: TaskQuery
) -> Generator[Step, Any, tuple[list[documents.Document], documents.Document]]:
    """Returns the tasks in the nodes' answers, oldest first, and which nodes did not answer."""
    layout = layout_of(services)
    members = [member.id for member in layout.members]
    answers = yield services.questions.ask(members, TASKS, query, patience_ms=REPORT_PATIENCE_MS)
    tasks = [task for answer in answers.values() if answer for task in answer]
    return sorted(tasks, key=lambda task: (task["started_ms"], task["task"])), documents.unanswered(layout, answers)


_REPAIR = (
    CommandSpec(
        "dyn.repair|start",
        -2,
        IMMEDIATE,
        _start,
        "Makes the owners of all partitions equal, or of some, or of one key.",
        "dyn",
        "write",
        arguments="[PARTITION n [PARTITION n ...]|KEY name]",
    ),
)
_TASK = (
    CommandSpec("dyn.task|list", 2, IMMEDIATE, _list, "Lists the tasks of all nodes.", "dyn", "readonly"),
    CommandSpec("dyn.task|show", 3, IMMEDIATE, _show, "How far a task is.", "dyn", "readonly", arguments="task"),
    CommandSpec(
        "dyn.task|abort", 3, IMMEDIATE, _abort, "Ends a repair where it stands.", "dyn", "write", arguments="task"
    ),
    CommandSpec(
        "dyn.task|pause", -2, IMMEDIATE, _pause, "Pauses a transfer, or all.", "dyn", "write", arguments="[task]"
    ),
    CommandSpec(
        "dyn.task|resume", -2, IMMEDIATE, _resume, "Lets paused transfers go on.", "dyn", "write", arguments="[task]"
    ),
)

COMMANDS: tuple[CommandSpec, ...] = (
    container("dyn.repair", "Repairs that an operator asks for.", "dyn", _REPAIR),
    container("dyn.task", "Long work, and how far it is.", "dyn", _TASK),
)
