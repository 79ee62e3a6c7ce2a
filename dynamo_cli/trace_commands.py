"""`dyn trace`: runs one command and shows its way through the nodes, with times (DYN.TRACE)."""

from __future__ import annotations

import json
import os
from typing import Annotated

import typer

from dynamo_cli.failures import WrongUsage, status_of
from dynamo_cli.options import JSON, Database
from dynamo_cli.output import is_terminal, note, write_json, write_line
from dynamo_cli.shapes import Shape, ask, require
from dynamo_cli.target import target_of
from dynamo_cli.trace_text import trace_lines

_SHAPE: Shape = {"trace": str, "command": str, "took_us": (int, type(None)), "nodes": list, "without_trace": list}
_NODE_SHAPE: Shape = {
    "node": str, "role": str, "parent": (str, type(None)), "offset_us": int, "network_us": (int, type(None)),
    "took_us": int, "turns": list,
}  # fmt: skip
TRACE = """Run a command such as GET KEY or SET KEY VALUE, and show its way through the nodes, with times.

The command runs as usual: a SET writes. The picture shows the node that was asked (the relay, if another node
coordinates the key), the coordinator and the replicas; what each has received and sent; and when its turn ended and was
committed. A node that runs an earlier version takes part and shows as "no trace".

RELAY: the command, for the node that coordinates its key.

RELAYED: the coordinator's replies to relayed commands.

COMPARE: a read, with checksums of the coordinator's records.

SAME: the replica has the same records.

DIFFER: which of the replica's records differ, and these records.

STORE: records that the replica stores, and confirms at once.

KEEP: records that the replica stores, and confirms later.

PATCH: a STORE with only what has changed in large records.

STORED: the confirmation of a STORE, PATCH or HINT.

HINT: a STORE at a stand-in: records that it keeps for an owner that cannot be reached.

COVERED: the STORE that comes next answers relayed commands, too.

Each node measures with its own clock. Where the part of another node begins is therefore an estimate: the time on the
network is taken to be the same there and back.

With --json: {"trace", "command", "reply", "took_us", "nodes": [{"node", "role", "parent", "offset_us", "network_us",
"took_us", "turns": [{"begun_us", "received", "answered_us", "ended_us", "committed_us", "sent_us", "sent"}]}],
"without_trace": [{"node", "why"}]}. The times of turns count from the begin of their node's part, which is offset_us.

Arguments that begin with a dash need -- before the command: dyn trace -- SET KEY -5.
"""
Words = Annotated[
    list[bytes],
    typer.Argument(
        metavar="COMMAND KEY [ARGS...]",
        parser=os.fsencode,
        help="The command to run, such as GET KEY.",
        show_default=False,
    ),
]


def trace(context: typer.Context, words: Words, as_document: JSON = False, database: Database = None) -> None:
    """`dyn trace`: its help is TRACE."""
    if len(words) < 2:
        raise WrongUsage("dyn trace wants a command and its key, such as GET KEY")
    with target_of(context).of_database(database).connect() as client:
        document = ask(client, _SHAPE, "DYN.TRACE", *words, writes=True)
        for row in document["nodes"]:
            require(client, "DYN.TRACE", row, _NODE_SHAPE)
    reply = document.get("reply")
    error = reply.get("error") if isinstance(reply, dict) else None
    if as_document:
        write_json(document)
    elif is_terminal():
        from dynamo_cli import trace_picture

        trace_picture.show(document)
    else:
        write_line("\n".join(trace_lines(document)))
    if not as_document:
        note(f"reply: {error or json.dumps(reply, ensure_ascii=False)}")
    if error is not None:
        raise typer.Exit(status_of(error))
