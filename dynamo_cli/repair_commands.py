"""`dyn repair`: makes the owners of the data equal now.

The nodes compare and repair each other all the time. The command starts the same exchange at once and waits for its end.
The work is a task of the node that was asked: it goes on without the command, and `dyn task` finds it.
"""

from __future__ import annotations

import typer

from dynamo_cli.options import JSON, Database, NoWait, RepairKey, RepairPartitions
from dynamo_cli.output import note
from dynamo_cli.shapes import ask
from dynamo_cli.target import target_of
from dynamo_cli.task_commands import ENDED, TASK_SHAPE, follow, show_ended


def repair(
    context: typer.Context,
    partitions: RepairPartitions = None,
    key: RepairKey = None,
    no_wait: NoWait = False,
    as_document: JSON = False,
    database: Database = None,
) -> None:
    """Compare the owners of all data with each other, and repair what differs.

    The nodes do so by themselves all the time, slowly; this command does it now. Only records that differ are sent. It
    repairs the whole ring, or with --partition and --key only those.

    First each node reads its part from its disk. Damaged records are fetched again from the other owners. The answer says
    how many were mended on each node since the last repair, by this repair or before it by the nodes themselves.

    The repair is a task inside the cluster. It goes on after Ctrl-C, with --no-wait, and after a restart of the node that
    runs it. dyn task list finds it again, dyn task wait waits for it, dyn task abort ends it.

    The exit status is 1 if the repair was aborted, or failed because an owner is down; the others are repaired then.

    With --json, at the end: {"task", "state", "partitions", "partitions_done", "keys_compared", "keys_repaired",
    "bytes_sent", "node", "error", "keys_verified", "mended", "lost", "unreadable"}. The last three are counts by node:
    damaged records that were mended, damaged records without any sound copy, and slots that cannot be read as a whole.
    """
    command: list[bytes | str | int] = ["DYN.REPAIR", "START"]
    for partition in partitions or ():
        command += ["PARTITION", partition]
    if key is not None:
        command += ["KEY", key]
    target = target_of(context).of_database(database)
    client = target.connect()
    started = ask(client, TASK_SHAPE, *command, writes=True)
    if not no_wait:
        follow(target, client, started, as_document)
        return
    client.close()
    show_ended(started, as_document)
    if started["state"] not in ENDED:
        note(f"dyn task wait {started['task']} waits for it")
