"""`dyn hints list`, `dyn hints replay`: the records that nodes keep for owners that could not be reached.

The nodes deliver hints by themselves when an owner is back. `replay` makes every holder try at once. It has no end of its
own, so the command polls until no hints are left, or until none was delivered for `STALL_S`. In the second case some
owner does not accept its hints: the last line names it, and the exit status is 4.
"""

from __future__ import annotations

import time
from typing import Any

import typer

from dynamo_cli import plain
from dynamo_cli.client import Client
from dynamo_cli.failures import ExitStatus
from dynamo_cli.following import Follower, last_words
from dynamo_cli.options import JSON
from dynamo_cli.output import counted, is_terminal, note, note_unanswered, write_json, write_line
from dynamo_cli.progress import progress
from dynamo_cli.shapes import Shape, ask, require
from dynamo_cli.target import Target, target_of

Document = dict[str, Any]

STALL_S = 10.0  # if no hint was delivered for so long, the missing owners are not expected any more
_LIST_SHAPE: Shape = {"total": int, "hints": list}
_HINTS_SHAPE: Shape = {"holder": str, "owner": str, "count": int, "bytes": int, "oldest_s": (int, float)}


def hints_list(context: typer.Context, as_document: JSON = False) -> None:
    """List the hints: records that a node keeps for an owner that could not be reached.

    Each line has the holder and the owner, the number of records, their size, and the age of the oldest. They are delivered
    when the owner is back.

    With --json: {"total", "hints": [{"holder", "owner", "count", "bytes", "oldest_s"}], "behind": [...]}. The nodes in
    behind missed writes for which no hint could be kept: dyn repair brings these to them. The hints of nodes that did not
    answer are not listed: "unanswered" names these nodes, if there are any.
    """
    with target_of(context).connect() as client:
        document = _list(client)
    if as_document:
        write_json(document)
    elif not document["hints"]:
        write_line("no hints")
    elif is_terminal():
        from dynamo_cli import pictures

        pictures.show_table(plain.HINT_HEADINGS, plain.hint_rows(document), pictures.console())
    else:
        write_line("\n".join(plain.aligned(plain.HINT_HEADINGS, plain.hint_rows(document))))
    _note_behind(document)
    note_unanswered(document)


def hints_replay(context: typer.Context, as_document: JSON = False) -> None:
    """Deliver the hints now, to all owners that are up, and show the progress.

    The nodes do so by themselves soon after an owner's return. If an owner does not accept its hints, the last line names
    it and the exit status is 4.

    With --json: {"delivered", "remaining"}.
    """
    target = target_of(context)
    client = target.connect()
    first = _list(client)
    with (
        last_words("the nodes go on delivering: dyn hints list shows what is left"),
        target.connect() as starter,  # the answer to REPLAY takes a while; meanwhile another connection polls
        Follower(target, client) as follower,
    ):
        starter.send("DYN.HINTS", "REPLAY")
        last = _follow(follower, first, as_document)
    remaining = last["total"]
    delivered = max(0, first["total"] - remaining)
    if as_document:
        write_json({"delivered": delivered, "remaining": remaining})
    else:
        write_line(f"delivered {counted(delivered, 'hint')}, {remaining} remain")
    _note_behind(last)
    note_unanswered(last)
    if remaining:
        note(f"dyn: {_describe_left(target, last)}")
        raise typer.Exit(ExitStatus.DEGRADED)


def _follow(follower: Follower, first: Document, as_document: bool) -> Document:
    """Polls the hints until there are none, or until they do not get fewer; returns the last document."""
    document, fewest, moved_s = first, first["total"], time.monotonic()
    with progress("hints", "delivered", as_document) as shown:
        while document["total"] and time.monotonic() < moved_s + STALL_S:
            counts = plain.counts_by_owner(document)
            words = "left for " + ", ".join(f"{owner} {count}" for owner, count in counts.items())
            shown.show(max(0, first["total"] - document["total"]), first["total"], words)
            follower.pause()
            document = follower.ask(_list)
            if document["total"] < fewest:
                fewest, moved_s = document["total"], time.monotonic()
    return document


def _list(client: Client) -> Document:
    document = ask(client, _LIST_SHAPE, "DYN.HINTS", "LIST")
    for hints in document["hints"]:
        require(client, "DYN.HINTS LIST", hints, _HINTS_SHAPE)
    return document


def _describe_left(target: Target, document: Document) -> str:
    """The line that names the owners whose hints are left, with their states."""
    with target.connect() as client:
        nodes = ask(client, {"nodes": list}, "DYN.CLUSTER", "STATUS")["nodes"]
    states = {str(node.get("name")): str(node.get("state")) for node in nodes if isinstance(node, dict)}
    counts = plain.counts_by_owner(document)
    left = ", ".join(f"{owner} ({states.get(owner, 'unknown')}) {count}" for owner, count in counts.items())
    return f"hints are left for {left}; they are delivered when their owner accepts them"


def _note_behind(document: Document) -> None:
    behind = document.get("behind")
    if isinstance(behind, list) and behind:
        names = " ".join(str(name) for name in behind)
        note(f"note: {names} missed writes for which no hint could be kept; dyn repair brings them these writes")
