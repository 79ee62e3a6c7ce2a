"""Changes of members as plain text: the staged changes, and what they would move.

A plan is read before something big is done, so it ends with the two commands to choose from. Sizes and times are
estimates, rounded for people; the exact numbers are in the JSON document.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dynamo_cli.plain import Row, aligned, duration, size

Document = dict[str, Any]

QUORUMS = {"read_quorum": "R", "write_quorum": "W"}
MOVE_HEADINGS = ("FROM", "TO", "PARTITIONS", "KEYS", "SIZE")


def change_line(change: Document) -> str:
    """A change in one line: `join n4 at 10.0.0.4:7001, zone b, weight 1`."""
    kind, node = str(change.get("change")), str(change.get("node"))
    if kind == "join":
        return f"join {node} at {change.get('address')}, zone {change.get('zone') or 'none'}, weight {change.get('weight')}"
    if kind == "replace":
        where = f" at {change['address']}" if change.get("address") else ""
        gone = "; it is down: the others give its data" if change.get("gone") else ""
        return f"replace {node} by {change.get('by')}{where}{gone}"
    if kind == "replica_count":
        return f"N = {change.get('copies')} for the whole cluster"
    if kind in QUORUMS:
        return f"{QUORUMS[kind]} = {change.get('quorum')} for the whole cluster"
    if kind in ("weight", "zone"):
        return f"{kind} of {node}: {change.get(kind) or 'none'}"
    return f"{kind} {node}"


def move_rows(moves: Sequence[Document]) -> list[Row]:
    """The cells of the moves under MOVE_HEADINGS. If there are several, the last row is their sum."""
    rows: list[Row] = [
        (move["from"], move["to"], str(move["partitions"]), str(move.get("keys", "")), size(move["bytes"]))
        for move in moves
    ]
    if len(moves) > 1:
        partitions, keys, size_bytes = (
            sum(move.get(name, 0) for move in moves) for name in ("partitions", "keys", "bytes")
        )
        rows.append(("all", "", str(partitions), str(keys), size(size_bytes)))
    return rows


def plan_facts(document: Document) -> list[tuple[str, str]]:
    """The further facts of a plan, and the commands to type next, as (name, value)."""
    violations = document["zone_violations"]
    zones = (
        f"{violations} partitions will not be spread over the zones as they could be" if violations else "kept apart"
    )
    moves = "about " + duration(document["eta_s"]) if document["eta_s"] else "at once: no data moves"
    if document.get("n") and not document["eta_s"]:
        moves = "as long as the owners need to compare their data"
    facts = [
        ("balance", f"{document['balance_before']:.4f} now, {document['balance_after']:.4f} then"),
        ("zones", zones),
        ("time", moves),
    ]
    if document.get("quorums"):
        facts.insert(0, ("quorums", str(document["quorums"])))
    for row in reversed(document.get("drops", [])):
        facts.insert(0, ("deletes", f"{row['node']}: {row['partitions']} partitions, {size(row['bytes'])}, at the end"))
    for name in ("w", "r", "n"):
        if document.get(name):
            facts.insert(0, (name.upper(), "{} now, {} then".format(*document[name])))
    if document.get("copies"):
        facts.insert(0, ("copies", str(document["copies"])))
    if document.get("now"):
        facts.insert(0, ("now", str(document["now"])))
    digest = f" --plan {document['digest']}" if document.get("digest") else ""
    return [
        *facts,
        ("to commit", f"dyn cluster commit --epoch {document['epoch']}{digest}"),
        ("to drop it", "dyn cluster abort"),
    ]


def plan_text(document: Document) -> str:
    """`dyn cluster plan`."""
    head = [f"plan for epoch {document['epoch']}:", *(f"  {change_line(change)}" for change in document["changes"]), ""]
    table = [*aligned(MOVE_HEADINGS, move_rows(document["moves"])), ""] if document["moves"] else []
    return "\n".join((*head, *table, *(f"{name:10}  {value}" for name, value in plan_facts(document))))
