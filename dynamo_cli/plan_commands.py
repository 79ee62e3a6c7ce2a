"""`dyn cluster plan`, `commit`, `abort`: what the staged changes mean, and making them, or not.

Theory. A commit names the epoch that the plan was for. If the layout has risen since then, the plan is worth nothing any
more, and the cluster refuses it. The data moves inside the cluster, with or without this command: `--wait` looks at it
until everybody has what it is to own, and until those who leave hold nothing any more.
"""

from __future__ import annotations

from typing import Any

import typer

from dynamo_cli import plain, plan_text
from dynamo_cli.client import Client
from dynamo_cli.following import Follower, last_words
from dynamo_cli.layout_commands import ask_status
from dynamo_cli.options import JSON, Epoch, UntilMoved
from dynamo_cli.output import is_terminal, write_json, write_line
from dynamo_cli.progress import progress
from dynamo_cli.shapes import Shape, ask, require
from dynamo_cli.target import Target, target_of

Document = dict[str, Any]

_PLAN: Shape = {
    "epoch": int,
    "changes": list,
    "moves": list,
    "balance_before": (int, float),
    "balance_after": (int, float),
    "zone_violations": int,
    "eta_s": int,
}
_MOVE: Shape = {"from": str, "to": str, "partitions": int, "bytes": int}
_COMMITTED: Shape = {"epoch": int, "changes": int}


def cluster_plan(context: typer.Context, as_document: JSON = False) -> None:
    """Show what the staged changes would move, from whom to whom, and how long it would take.

    Sizes are estimated by samples, and the time by the pace of background work: it is shorter while no clients are
    served. A balance of 1 is perfect; 0.5 has a node with twice its share. The last lines say what to type to commit the
    plan or to drop it.

    With --json: {"epoch", "changes": [{"change", "node", ...}], "moves": [{"from", "to", "partitions", "keys",
    "bytes"}], "balance_before", "balance_after", "zone_violations", "eta_s"}. The epoch is the one to commit. If an
    earlier change is not over yet, "now" says so, and if fewer nodes than N would be left, "copies" does.
    """
    with target_of(context).connect() as client:
        document = ask(client, _PLAN, "DYN.CLUSTER", "PLAN")
        for move in document["moves"]:
            require(client, "DYN.CLUSTER PLAN", move, _MOVE)
        for change in document["changes"]:
            require(client, "DYN.CLUSTER PLAN", change, {"change": str, "node": str})
    if as_document:
        write_json(document)
    elif not document["changes"]:
        write_line("nothing is staged: dyn cluster join, leave, remove, replace, weight and zone do that")
    elif is_terminal():
        from dynamo_cli import pictures

        pictures.show_plan(document, pictures.console())
    else:
        write_line(plan_text.plan_text(document))


def cluster_commit(
    context: typer.Context, epoch: Epoch, until_moved: UntilMoved = False, as_document: JSON = False
) -> None:
    """Make the staged changes, as the plan for the epoch E showed them.

    If the layout has changed since that plan was made, it is refused, and the exit status is 1: look at the plan again.

    The data moves in the background, while all keys are served: dyn cluster status shows how far it is. With --wait the
    command returns when everything has moved and those who leave are gone; Ctrl-C ends the command alone.

    With --json: {"epoch", "changes"}; with --wait it is printed when everything has moved.
    """
    target = target_of(context)
    client = target.connect()
    document = ask(client, _COMMITTED, "DYN.CLUSTER", "COMMIT", epoch, writes=True)
    changes = f"{document['changes']} {'change' if document['changes'] == 1 else 'changes'}"
    if not as_document:
        later = "" if until_moved else "; dyn cluster status shows how far it is"
        write_line(f"committed epoch {document['epoch']}: {changes}{later}")
    if until_moved:
        _follow(target, client, document["epoch"], as_document)
        if not as_document:
            write_line(f"epoch {document['epoch']}: everything is where it belongs")
    else:
        client.close()
    if as_document:
        write_json(document)


def cluster_abort(context: typer.Context, as_document: JSON = False) -> None:
    """Take back all that is staged. What is committed stays.

    With --json: {"aborted"}, the number of changes.
    """
    with target_of(context).connect() as client:
        document = ask(client, {"aborted": int}, "DYN.CLUSTER", "ABORT", writes=True)
    if as_document:
        write_json(document)
    else:
        count = document["aborted"]
        write_line(f"{count} {'change is' if count == 1 else 'changes are'} no longer staged")


def _follow(target: Target, client: Client, epoch: int, as_document: bool) -> None:
    """Looks at the change until it is over; takes the client over."""
    with (
        last_words("the data goes on moving without this command: dyn cluster status shows how far it is"),
        Follower(target, client) as follower,
        progress(f"epoch {epoch}", "keys", as_document) as shown,
    ):
        keys = 0
        while True:
            status = follower.ask(ask_status)
            change = status.get("change")
            leaving = _leaving(status)
            if change is not None:
                keys = change["keys"]
                shown.show(change["keys_done"], keys, plain.progress_words(change))
            elif not leaving:
                return
            else:
                shown.show(keys, keys, f"{' '.join(leaving)} lets go of what has moved")
            follower.pause()


def _leaving(status: Document) -> list[str]:
    """The names of those who are on their way out; one that is down may never come to its end."""
    nodes = [node for node in status["nodes"] if isinstance(node, dict)]
    return [str(node.get("name")) for node in nodes if node.get("role") == "leaving" and node.get("state") == "up"]
