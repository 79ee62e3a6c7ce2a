"""The plan: what staged changes would move, how even they would leave the cluster, and how long it would take.

Theory. An operator decides by this document, so it is made from the layout that the commit would make (succession.py):
the moves between two layouts (preview.py), each with the keys and bytes of its partitions (sizes.py). All nodes fetch
their new partitions in parallel, each at its own pace, so the time is that of the node that gets the most. If a change is
under way, the moves start from the present holders of the data. Pure: layouts in, a document out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from server.core.base.config import Config
from server.core.operators.documents import natural
from server.core.operators.sizes import Sizes
from server.core.ring import replica_change
from server.core.ring.change import (
    JOIN,
    LEAVE,
    READ_QUORUM,
    REMOVE,
    REPLACE,
    REPLICA_COUNT,
    WEIGHT,
    WRITE_QUORUM,
    ZONE,
    Change,
)
from server.core.ring.layout import TRANSFER, Layout
from server.core.ring.preview import PartitionMove, moves, preview, zone_violations
from server.core.ring.quorum_change import remark_on

Document = dict[str, Any]

_SHOWN = {
    JOIN: ("address", "zone", "weight"),
    LEAVE: (),
    REMOVE: (),
    REPLACE: ("gone",),
    WEIGHT: ("weight",),
    ZONE: ("zone",),
    READ_QUORUM: ("quorum",),
    WRITE_QUORUM: ("quorum",),
    REPLICA_COUNT: ("copies",),
}


def names_of(layout: Layout, changes: Sequence[Change]) -> dict[str, str]:
    """The names of the present and the joining members, by id."""
    names = {member.id: member.name for member in layout.members}
    for change in changes:
        if change.kind == JOIN:
            names[change.node] = change.name
        elif change.kind == REPLACE and change.name:
            names[change.other] = change.name
    return names


def change_document(change: Change, names: Mapping[str, str]) -> Document:
    """A change as operators see it: `{"change": "join", "node": "n4", "address": …}`; `by` is a replacement's new node.

    A change of N, R or W is about no node: `{"change": "read_quorum", "node": "", "quorum": 2}`; for N `{"change":
    "replica_count", "node": "", "copies": 5}`.
    """
    document: Document = {"change": change.kind, "node": names.get(change.node, change.node)}
    if change.kind == REPLACE:
        document["by"] = names.get(change.other, change.other)
        if change.address:
            document["address"] = change.address
    return document | {name: getattr(change, name) for name in _SHOWN.get(change.kind, ())}


def gone_by(changes: Sequence[Change]) -> list[str]:
    """The ids of removed or replaced nodes that cannot provide data."""
    return [change.node for change in changes if change.kind == REMOVE or (change.kind == REPLACE and change.gone)]


def empty_plan(present: Layout) -> Document:
    """The plan without changes."""
    balance = round(present.balance(), 4)
    return {
        "epoch": present.epoch + 1,
        "changes": [],
        "moves": [],
        "balance_before": balance,
        "balance_after": balance,
        "zone_violations": len(zone_violations(present.owners, present.staying, present.n)),
        "eta_s": 0,
    } | _now(present)


def plan(present: Layout, following: Layout, changes: Sequence[Change], sizes: Sizes, config: Config) -> Document:
    """The plan for all the changes together, which turn the present layout into `following`."""
    gone = gone_by(changes)
    seen = preview(present, following, gone)
    moved = seen.moves
    if present.phase == TRANSFER:
        moved = moves(tuple([present.readers(p) for p in range(present.partitions)]), following.owners, gone)
    names = names_of(present, changes)
    return {
        "epoch": following.epoch,
        "changes": [change_document(change, names) for change in changes],
        "moves": sorted([_move(move, names, sizes) for move in moved], key=_by_names),
        "balance_before": round(seen.balance_before, 4),
        "balance_after": round(seen.balance_after, 4),
        "zone_violations": len(seen.zone_violations),
        "eta_s": eta_s(moved, sizes, config),
    } | {
        **_numbers(present, following),
        **_drops(present, following, names, sizes),
        **_copies(present, following),
        **_now(present),
    }


def _move(move: PartitionMove, names: Mapping[str, str], sizes: Sizes) -> Document:
    return {
        "from": names.get(move.source, move.source),
        "to": names.get(move.target, move.target),
        "partitions": len(move.partitions),
        "keys": sum(sizes.keys[partition] for partition in move.partitions),
        "bytes": sum(sizes.bytes[partition] for partition in move.partitions),
    }


def _by_names(move: Document) -> tuple[list[str | int], list[str | int]]:
    return natural(move["from"]), natural(move["to"])


def eta_s(moved: Sequence[PartitionMove], sizes: Sizes, config: Config) -> int:
    """The seconds until the node that gets the most has it, at the present pace; 0 if nothing moves."""
    keys: dict[str, int] = {}
    for move in moved:
        keys[move.target] = keys.get(move.target, 0) + sum(sizes.keys[partition] for partition in move.partitions)
    pace = config.background_keys_per_s if sizes.busy else config.background_keys_per_s_idle
    return max([1, *[-(-count // pace) for count in keys.values()]]) if keys else 0


def _numbers(present: Layout, following: Layout) -> Document:
    """N, R and W before and after, if one of them changes, and what an operator should know of that."""
    if (following.n, following.r, following.w) == (present.n, present.r, present.w):
        return {}
    document: Document = {"r": [present.r, following.r], "w": [present.w, following.w]}
    if following.n != present.n:
        document["n"] = [present.n, following.n]
    remark = replica_change.remark_on(following) or remark_on(present, following)
    return document | ({"quorums": remark} if remark else {})


def _drops(present: Layout, following: Layout, names: Mapping[str, str], sizes: Sizes) -> Document:
    """With a smaller N: what each node deletes, once all owners have it."""
    if following.n >= present.n:
        return {}
    dropped: dict[str, list[int]] = {}
    for partition, owners in enumerate(following.owners):
        for node in present.keepers(partition):
            if node not in owners:
                dropped.setdefault(node, []).append(partition)
    rows = [
        {
            "node": names.get(node, node),
            "partitions": len(partitions),
            "keys": sum(sizes.keys[partition] for partition in partitions),
            "bytes": sum(sizes.bytes[partition] for partition in partitions),
        }
        for node, partitions in dropped.items()
    ]
    return {"drops": sorted(rows, key=lambda row: natural(str(row["node"])))}


def _copies(present: Layout, following: Layout) -> Document:
    """The warning about a cluster that becomes too small for N copies."""
    if following.effective_n >= present.effective_n or following.n != present.n:
        return {}
    then, now = following.effective_n, present.effective_n
    text = f"{then} of each key then, {now} now: fewer than N={present.n} nodes would be left"
    if following.changes_n:
        text += "; the owners that stay compare their partitions first, and all nodes must be up until it is done"
    return {"copies": text}


def _now(present: Layout) -> Document:
    """The fields about a change that is under way."""
    if not present.former:
        return {}
    return {
        "now": f"the change to epoch {present.epoch} is not over yet ({present.phase}, {len(present.former)} partitions); "
        "a further one may be committed, and starts from where the data is"
    }
