"""`dyn task list`, `show`, `wait`, `abort`, `pause`, `resume`: the repairs and transfers in the cluster, and the last ones.

A task belongs to the node that was asked for it, which continues it after a restart. Every node can find it by its id.
`dyn repair` and `dyn task wait` share `follow`: poll until the task has ended, then exit with a status that says how.
"""

from __future__ import annotations

from typing import Any

import typer

from dynamo_cli import plain
from dynamo_cli.client import Client
from dynamo_cli.failures import ExitStatus, Failure, Refused
from dynamo_cli.following import Follower, last_words
from dynamo_cli.options import JSON, OptionalTaskId, TaskId
from dynamo_cli.output import is_terminal, note, note_unanswered, write_json, write_line
from dynamo_cli.progress import progress
from dynamo_cli.shapes import Shape, ask, require
from dynamo_cli.target import Target, target_of

Document = dict[str, Any]

TASK_SHAPE: Shape = {
    "task": str,
    "state": str,
    "partitions": int,
    "partitions_done": int,
    "keys_compared": int,
    "keys_repaired": int,
    "bytes_sent": int,
}
DONE = "done"
ENDED_BADLY = ("failed", "aborted")
ENDED = (DONE, *ENDED_BADLY)


def task_list(context: typer.Context, as_document: JSON = False) -> None:
    """List the repairs and transfers of the whole cluster that run, and the last ones that have ended.

    In a transfer a node fetches the partitions that it is to own after a change of members. If a node has lost its disk, it
    is filled from the other owners; that is a task, too.

    With --json: {"tasks": [{"task", "state", "partitions", "partitions_done", "keys_compared", "keys_repaired",
    "bytes_sent", "node", "error", "started_ms"}]}, "eta_s" for transfers and fillings, and for repairs what dyn repair says
    of damage. The state is running, done, failed or aborted. Times are in ms since 1970, and a task that has ended has
    "ended_ms". A transfer may be "paused". The tasks of nodes that did not answer are not listed: "unanswered" names these
    nodes, if there are any.
    """
    with target_of(context).connect() as client:
        document = ask(client, {"tasks": list}, "DYN.TASK", "LIST")
        for task in document["tasks"]:
            require(client, "DYN.TASK LIST", task, TASK_SHAPE)
    if as_document:
        write_json(document)
    elif not document["tasks"]:
        write_line("no tasks")
    elif is_terminal():
        from dynamo_cli import pictures

        pictures.show_table(plain.TASK_HEADINGS, plain.task_rows(document), pictures.console())
    else:
        write_line("\n".join(plain.aligned(plain.TASK_HEADINGS, plain.task_rows(document))))
    note_unanswered(document)


def task_show(context: typer.Context, task: TaskId, as_document: JSON = False) -> None:
    """Show the progress of the task TASK, or how it ended.

    With --json: {"task", "state", "partitions", "partitions_done", "keys_compared", "keys_repaired", "bytes_sent",
    "node", "error"}, and "eta_s" for a transfer.
    """
    with target_of(context).connect() as client:
        document = _known(client, "SHOW", task)
    if as_document:
        write_json(document)
    else:
        write_line(plain.task_text(document))


def task_wait(context: typer.Context, task: TaskId, as_document: JSON = False) -> None:
    """Wait until the task TASK has ended, and show its progress.

    The exit status is 0 if the task is done, and 1 if it failed or was aborted. Ctrl-C leaves the task running. With
    --json the document of dyn task show is printed once the task has ended.
    """
    target = target_of(context)
    client = target.connect()
    follow(target, client, _known(client, "SHOW", task), as_document)


def task_abort(context: typer.Context, task: TaskId, as_document: JSON = False) -> None:
    """Abort the repair TASK. What it has repaired stays repaired.

    The exit status is 1 if the task had already ended in another way, or if it is no repair: dyn task pause pauses a
    transfer. With --json the document of dyn task show is printed.
    """
    with target_of(context).connect() as client:
        document = _known(client, "ABORT", task)
    if as_document:
        write_json(document)
    else:
        write_line(plain.task_line(document))
    if document["state"] in (DONE, "failed"):
        note(f"dyn: task {document['task']} had already ended")
        raise typer.Exit(ExitStatus.FAILED)


def task_pause(context: typer.Context, task: OptionalTaskId = None, as_document: JSON = False) -> None:
    """Pause the transfer TASK, or all transfers of the change that was committed.

    The change goes no further: reads and writes go where they went, and what has moved stays. The transfers stay paused
    over restarts, until dyn task resume, or until another change is committed. A transfer of a node that does not answer is
    not paused.

    With --json: {"tasks": [...]}, as by dyn task list. The exit status is 1 if no such transfer runs.
    """
    _show_paused(context, "PAUSE", task, as_document)


def task_resume(context: typer.Context, task: OptionalTaskId = None, as_document: JSON = False) -> None:
    """Let the paused transfer TASK go on, or all of them.

    With --json: {"tasks": [...]}, as by dyn task list. The exit status is 1 if no such transfer runs.
    """
    _show_paused(context, "RESUME", task, as_document)


def _show_paused(context: typer.Context, subcommand: str, task: str | None, as_document: bool) -> None:
    names = () if task is None else (task,)
    with target_of(context).connect() as client:
        document = ask(client, {"tasks": list}, "DYN.TASK", subcommand, *names, writes=True)
        for row in document["tasks"]:
            require(client, f"DYN.TASK {subcommand}", row, TASK_SHAPE)
    if as_document:
        write_json(document)
    else:
        for row in document["tasks"]:
            write_line(plain.task_line(row))
    note_unanswered(document)


def follow(target: Target, client: Client, document: Document, as_document: bool) -> None:
    """Polls the task and shows its progress until it has ended. Closes the client. Exits with 1 unless it is done."""
    task = str(document["task"])
    found_again = (
        f"task {task} goes on without this command: dyn task wait {task} shows it, dyn task abort {task} ends it"
    )
    with (
        last_words(found_again),
        Follower(target, client) as follower,
        progress(f"task {task}", "partitions", as_document) as shown,
    ):
        while document["state"] not in ENDED:
            shown.show(document["partitions_done"], document["partitions"], plain.task_counts(document))
            follower.pause()
            document = follower.ask(lambda client: _show(client, task))
    show_ended(document, as_document)


def show_ended(document: Document, as_document: bool) -> None:
    """Shows a task. Exits with 1 if it failed or was aborted."""
    if as_document:
        write_json(document)
    else:
        write_line(plain.task_line(document))
    if document["state"] in ENDED_BADLY:
        why = document.get("error")
        note(f"dyn: task {document['task']} {document['state']}" + (f": {why}" if why else ""))
        raise typer.Exit(ExitStatus.FAILED)


def _show(client: Client, task: str) -> Document:
    return ask(client, TASK_SHAPE, "DYN.TASK", "SHOW", task)


def _known(client: Client, subcommand: str, task: str) -> Document:
    """The document of a task. Raises Failure if there is no such task."""
    try:
        return ask(client, TASK_SHAPE, "DYN.TASK", subcommand, task, writes=subcommand == "ABORT")
    except Refused as refused:
        if refused.reply.startswith("ERR no such task"):
            raise Failure(
                f"there is no task {task}", "dyn task list shows the tasks of all nodes that are up"
            ) from None
        raise
