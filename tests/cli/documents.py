"""Documents as nodes answer them (DESIGN §7)."""

from __future__ import annotations

from typing import Any


def status(verdict: str, *states: str) -> dict[str, Any]:
    """`DYN.CLUSTER STATUS` with a node for each state; the second one has no zone."""
    nodes = [
        {
            "id": f"id{number}",
            "name": f"n{number}",
            "address": f"127.0.0.1:{7000 + number}",
            "zone": "" if number == 2 else f"z{number}",
            "state": state,
            "role": "member",
            "owned": 128,
            "share": 1 / len(states),
            "hints_held": 0,
            "keys": 1000,
        }
        for number, state in enumerate(states, 1)
    ]
    layout = {"epoch": 1, "n": 3, "r": 2, "w": 2, "partitions": 128}
    return {**layout, "verdict": verdict, "summary": "two nodes", "nodes": nodes}


def ring(partitions: int) -> dict[str, Any]:
    """`DYN.RING SHOW` of two nodes, the second of which should own three quarters."""
    nodes = [
        {"name": f"n{number}", "zone": f"z{number}", "weight": weight, "owned": partitions, "share": 0.5}
        for number, weight in ((1, 1), (2, 3))
    ]
    owners = [["n2", "n1"] if partition % 2 else ["n1", "n2"] for partition in range(partitions)]
    return {"epoch": 1, "partitions": partitions, "n": 2, "balance": 0.75, "nodes": nodes, "owners": owners}


def task(state: str, done: int = 0, **fields: Any) -> dict[str, Any]:
    """A task document of four partitions, `done` of which are repaired."""
    counts = {"keys_compared": done * 1000, "keys_repaired": done * 5, "bytes_sent": done * 2048}
    return {"task": "t1", "state": state, "partitions": 4, "partitions_done": done, **counts, "node": "n1", **fields}


def hints(*counts: tuple[str, str, int], behind: tuple[str, ...] = ()) -> dict[str, Any]:
    """`DYN.HINTS LIST` with so many hints for each (holder, owner, count)."""
    rows = [
        {"holder": holder, "owner": owner, "count": count, "bytes": count * 100, "oldest_s": 12.3}
        for holder, owner, count in counts
    ]
    return {"total": sum(count for _, _, count in counts), "hints": rows, "behind": list(behind)}


def change(moved: int, phase: str = "transfer", eta_s: int | None = 40) -> dict[str, Any]:
    """The part of `DYN.CLUSTER STATUS` about a change of 96 partitions."""
    return {"phase": phase, "epoch": 5, "partitions_moving": 96, "partitions_moved": moved, "keys": 9600,
            "keys_done": moved * 100, "eta_s": eta_s}  # fmt: skip


JOINING = {"change": "join", "node": "n4", "address": "127.0.0.1:7004", "zone": "b", "weight": 1}
EMPTY_PLAN = {"epoch": 5, "changes": [], "moves": [], "balance_before": 1.0, "balance_after": 1.0,
              "zone_violations": 0, "eta_s": 0}  # fmt: skip
PLAN = EMPTY_PLAN | {
    "changes": [JOINING, {"change": "weight", "node": "n1", "weight": 2}],
    "moves": [
        {"from": "n1", "to": "n4", "partitions": 32, "keys": 3200, "bytes": 320000},
        {"from": "n2", "to": "n4", "partitions": 64, "keys": 6400, "bytes": 640000},
    ],
    "balance_after": 0.9945,
    "eta_s": 240,
}

QUORUM_PLAN = EMPTY_PLAN | {
    "changes": [{"change": "write_quorum", "node": "", "quorum": 3}], "r": [2, 2], "w": [2, 3],
    "quorums": "older writes may have W=2 copies",
}  # fmt: skip

LOCATION = {"key": "k", "slot": 7629, "partition": 59, "owners": ["n1", "n2", "n3"], "fallbacks": []}
