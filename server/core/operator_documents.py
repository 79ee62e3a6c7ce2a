"""The JSON documents of the operator's commands (DESIGN §7): each a plain dictionary made from the node's state.

Theory. A status is for somebody who was woken at night: one verdict, one sentence that says what is wrong and what to
type, then the nodes. The verdict is about requests, not about machines: unavailable when some partition cannot reach
its quorums, degraded when all can but somebody is missing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from protocol.slots import key_slot
from server.core import clock_report
from server.core.layout import Layout, Member

if TYPE_CHECKING:
    from server.core.node import Node

Document = dict[str, Any]


def encode(document: Document) -> bytes:
    """A document as it goes out: one line of JSON."""
    return json.dumps(document, separators=(",", ":")).encode()


def by_name(layout: Layout) -> list[Member]:
    """The members as people order them: n2 before n10."""

    def parts(member: Member) -> list[str | int]:
        return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", member.name)]

    return sorted(layout.members, key=parts)


def own_status(node: Node) -> bytes:
    """What a node tells of itself to one that makes a status."""
    state = node.state
    return encode({"keys": state.records.keys, "hints_held": state.hints.total, "behind": state.hints.behind,
                   "damaged": len(node.mending), "mended": state.statistics.records_mended,
                   "lost": state.statistics.records_lost, "wall_ms": state.clock.wall_ms})  # fmt: skip


def myself(node: Node) -> Document:
    """Who this node is: what `dyn cluster init` needs to know of it."""
    state = node.state
    member = state.member
    return {
        "id": member.id,
        "name": member.name,
        "address": member.address,
        "zone": member.zone,
        "weight": member.weight,
        "epoch": state.layout.epoch if state.layout is not None else 0,
        "cluster": state.layout.cluster if state.layout is not None else "",
    }


def status(node: Node, answers: dict[str, list[bytes]], asked_ms: int) -> Document:
    """`cluster status`, out of the layout, our view of who is alive, and what each node answered about itself since
    `asked_ms` by our wall clock."""
    layout = node.state.layout
    assert layout is not None
    owned = layout.owned()
    seats = layout.partitions * layout.effective_n
    nodes = []
    told_by = {node_id: json.loads(answer[0]) for node_id, answer in answers.items() if answer}
    for member in by_name(layout):
        told = told_by.get(member.id, {})
        nodes.append(
            {
                "id": member.id,
                "name": member.name,
                "address": member.address,
                "zone": member.zone,
                "state": node.state.liveness.state(member.id).value,
                "role": "member",
                "owned": owned[member.id],
                "share": round(owned[member.id] / seats, 4),
                "hints_held": told.get("hints_held", 0),
                "keys": told.get("keys", 0),
            }
        )
    verdict, summary = judge(layout, {entry["id"]: entry["state"] for entry in nodes})
    remarks = amiss(node, told_by, asked_ms)
    if remarks:
        summary = "; ".join(remarks if verdict == "healthy" else [summary, *remarks])
        verdict = "degraded" if verdict == "healthy" else verdict
    return {
        "epoch": layout.epoch,
        "n": layout.effective_n,
        "r": layout.effective_r,
        "w": layout.effective_w,
        "partitions": layout.partitions,
        "verdict": verdict,
        "summary": summary,
        "nodes": nodes,
    }


def judge(layout: Layout, states: dict[str, str]) -> tuple[str, str]:
    """The verdict and its sentence, from the state (up, suspect, down) of each member."""
    quorum = max(layout.effective_r, layout.effective_w)
    rows = [layout.readers(partition) for partition in range(layout.partitions)]
    short = sum(1 for row in rows if sum(states[owner] == "up" for owner in row) < min(quorum, len(row)))
    missing = [member for member in by_name(layout) if states[member.id] != "up"]
    if not missing:
        count = len(layout.members)
        return "healthy", f"all {count} nodes are up" if count > 1 else "the only node is up"
    names = ", ".join(f"{member.name} ({member.address}) is {states[member.id]}" for member in missing)
    advice = "start it again with `dyn node start --dir DIR` on its machine, or `dyn up --dir DIR` here"
    if short:
        return "unavailable", (
            f"{names}: {short} of {layout.partitions} partitions have fewer than {quorum} owners up and refuse "
            f"requests; {advice}"
        )
    return "degraded", f"{names}: every key is still served; {advice}"


def behind_of(layout: Layout, told: Iterable[Document]) -> list[str]:
    """The names of the owners for whom some node had no room for hints, in the layout's order."""
    behind = [owner for entry in told for owner in entry.get("behind", {})]
    return [member.name for member in by_name(layout) if member.id in behind]


def _missed(behind: list[str]) -> str:
    return (f"{', '.join(behind)} missed writes that no hint was kept of (hints_bytes_max or hint_age_ms_max was reached): "
            "Merkle repair brings them in time, `dyn repair` now")  # fmt: skip


def amiss(node: Node, told_by: dict[str, Document], asked_ms: int) -> list[str]:
    """What an operator should know of though every key may be served."""
    layout, state = node.state.layout, node.state
    assert layout is not None
    behind = behind_of(layout, told_by.values())
    missed = [f"{_missed(behind)}; every key is still served"] if behind else []
    told = [(member.name, told_by.get(member.id, {}).get("wall_ms")) for member in by_name(layout)]
    clocks_ms = {name: int(wall_ms) for name, wall_ms in told if wall_ms is not None}
    off = clock_report.remarks(clocks_ms, asked_ms, state.clock.wall_ms, state.config.clock_warn_ms)
    return missed + damage(layout, told_by) + off


def damage(layout: Layout, told_by: dict[str, Document]) -> list[str]:
    """What the nodes tell of damaged records that could not be mended yet, or not at all."""
    remarks = []
    for member in by_name(layout):
        told = told_by.get(member.id, {})
        if told.get("damaged"):
            remarks.append(f"{member.name} has {told['damaged']} damaged records that wait for copies of other owners")
        if told.get("lost"):
            remarks.append(
                f"{member.name} has lost {told['lost']} records since it started: they were damaged and nobody had a sound "
                "copy; look at its disk, and restore them from a backup"
            )
    return remarks


def hints(node: Node, answers: dict[str, list[bytes]]) -> Document:
    """`hints list`: what each holder keeps for which owner."""
    layout = node.state.layout
    assert layout is not None
    told = {holder: json.loads(answer[0]) for holder, answer in answers.items() if answer}
    rows = [
        {"holder": member.name, **row, "owner": node.state.layout_name(row["owner"])}
        for member in by_name(layout)
        for row in told.get(member.id, {}).get("hints", ())
    ]
    return {"total": sum(row["count"] for row in rows), "hints": rows, "behind": behind_of(layout, told.values())}


def ring(layout: Layout) -> Document:
    """`ring show`."""
    names = {member.id: member.name for member in layout.members}
    owned = layout.owned()
    seats = layout.partitions * layout.effective_n
    return {
        "epoch": layout.epoch,
        "partitions": layout.partitions,
        "n": layout.effective_n,
        "balance": round(layout.balance(), 4),
        "nodes": [
            {
                "name": member.name,
                "zone": member.zone,
                "weight": member.weight,
                "owned": owned[member.id],
                "share": round(owned[member.id] / seats, 4),
            }
            for member in by_name(layout)
        ],
        "owners": [[names[owner] for owner in owners] for owners in layout.owners],
    }


def locate(layout: Layout, key: bytes) -> Document:
    """`ring locate`: where a key lives."""
    names = {member.id: member.name for member in layout.members}
    slot = key_slot(key)
    partition = layout.partition_of(slot)
    order = [names[node] for node in layout.preference_list(partition)]
    owners = [names[node] for node in layout.owners[partition]]
    return {
        "key": key.decode("utf-8", "replace"),
        "slot": slot,
        "partition": partition,
        "owners": owners,
        "fallbacks": [name for name in order if name not in owners],
    }


def statistics(node: Node) -> Document:
    """`DYN.STATS`: this node's counters."""
    state = node.state
    return {
        "node": state.member.name,
        "counters": asdict(state.statistics),
        "in_flight": state.in_flight,
        "sessions": len(node.sessions),
        "records": state.records.keys,
        "damaged_records": state.records.damaged,
        "clock_refused": state.clock.refused,
        "hints_held": state.hints.total,
    }
