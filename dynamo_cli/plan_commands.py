"""`dyn cluster plan`, `commit`, `abort`: shows what the staged changes would do, makes them, or drops them.

A commit names the epoch of the plan, and its digest. If the layout or what is staged has changed since the plan was made,
the plan is no longer right, and the cluster refuses it. The data moves inside the cluster, with or without this command:
`--wait` polls until every new owner has its data, and until nodes that leave store nothing any more.
"""

from __future__ import annotations

from typing import Any

import typer

from dynamo_cli import plain, plan_text
from dynamo_cli.client import Client
from dynamo_cli.following import Follower, last_words
from dynamo_cli.layout_commands import ask_status
from dynamo_cli.options import JSON, Epoch, PlanDigest, UntilMoved
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
    """Show what the staged changes would move, between which nodes, and how long it would take.

    Sizes are estimated from samples, and the time from the pace of background work: it is shorter while no clients are
    served. A balance of 1 is perfect; at 0.5 a node has twice its fair share. The last lines are the commands that commit
    or drop the plan.

    With --json: {"epoch", "changes": [{"change", "node", ...}], "moves": [{"from", "to", "partitions", "keys",
    "bytes"}], "balance_before", "balance_after", "zone_violations", "eta_s", "digest"}. The epoch is the one to commit, and
    the digest says what was staged. If an
    earlier change has not ended, "now" says so. If fewer nodes than N would be left, "copies" says so. If N, R or W
    changes, "r", "w" and, if that changes, "n" are [now, then], and "quorums" is what that means, if anything. With a
    smaller N "drops" is what each node deletes at the end: [{"node", "partitions", "keys", "bytes"}].
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
        write_line(
            "nothing is staged: dyn cluster join, leave, remove, replace, weight, zone and dyn config set n, r or w do that"
        )
    elif is_terminal():
        from dynamo_cli import pictures

        pictures.show_plan(document, pictures.console())
    else:
        write_line(plan_text.plan_text(document))


def cluster_commit(
    context: typer.Context,
    epoch: Epoch,
    digest: PlanDigest = None,
    until_moved: UntilMoved = False,
    as_document: JSON = False,
) -> None:
    """Make the staged changes, as the plan for the epoch E shows them.

    If the layout has changed since that plan was made, the commit is refused and the exit status is 1: look at the new
    plan. With --plan it is also refused if anything else is staged than that plan showed. Without --plan it is refused if
    something was staged after the last plan that anybody was shown.

    The data moves in the background while all keys are served; dyn cluster status shows the progress. With --wait the
    command returns once everything has moved and the leaving nodes are gone; Ctrl-C ends only the command.

    With --json: {"epoch", "changes"}; with --wait it is printed once everything has moved.
    """
    target = target_of(context)
    client = target.connect()
    plan = () if digest is None else ("PLAN", digest)
    document = ask(client, _COMMITTED, "DYN.CLUSTER", "COMMIT", epoch, *plan, writes=True)
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
    """Drop all staged changes. Committed changes stay.

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
    """Polls the change and shows its progress until it has ended; closes the client."""
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
                shown.show(keys, keys, f"{' '.join(leaving)} deletes what has moved")
            follower.pause()


def _leaving(status: Document) -> list[str]:
    """The names of the nodes that are leaving and up. One that is down may never finish."""
    nodes = [node for node in status["nodes"] if isinstance(node, dict)]
    return [str(node.get("name")) for node in nodes if node.get("role") == "leaving" and node.get("state") == "up"]
