"""The JSON documents of the operator's commands: dictionaries made from the services of a node.

The documents of `cluster status` and `cluster plan` are in status.py and planning.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from protocol.databases import inner_key
from protocol.peer_versions import CAPABILITIES
from protocol.slots import key_slot
from server.core.operators.self_report import facts
from server.core.ring.layout import Layout, Member
from server.core.services.services import Services
from server.core.work.questions import Answers

Document = dict[str, Any]


def encode(document: Document) -> bytes:
    """Encodes a document as one line of JSON."""
    return json.dumps(document, separators=(",", ":")).encode()


def by_name(layout: Layout) -> list[Member]:
    """The members by name, in natural order."""
    return sorted(layout.members, key=lambda member: natural(member.name))


def natural(name: str) -> list[str | int]:
    """The sort key for natural order: n2 before n10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def behind_of(layout: Layout, reports: Iterable[Document]) -> list[str]:
    """The names of the owners for which some node has dropped hints, in natural order."""
    behind = [owner for report in reports for owner in report.get("behind", {})]
    return [member.name for member in by_name(layout) if member.id in behind]


def myself(services: Services) -> Document:
    """The identity of this node, for `dyn cluster init` and `dyn cluster join`, and for other nodes that look for it
    (addresses.py). `left` is the epoch at which it left its cluster, if it has. `capabilities` are those of
    protocol/peer_versions.py; earlier versions do not tell them. `secrets` are the fingerprints of its secrets,
    `tls_peers` is that setting."""
    state = services.state
    member = state.member
    left = services.membership.left
    document: Document = {
        "id": member.id,
        "name": member.name,
        "address": member.address,
        "zone": member.zone,
        "weight": member.weight,
        "epoch": state.layout.epoch if state.layout is not None else 0,
        "cluster": state.layout.cluster if state.layout is not None else "",
        "keys": state.records.keys,
        "incarnation": state.incarnation,
        "moved_ms": services.addresses.moved_ms,
        "secrets": services.authentication.fingerprints,
        "tls_peers": state.config.tls_peers,
        "capabilities": [word.decode() for word in CAPABILITIES],
    }
    return document | ({"left": left[1]} if left is not None else {})


def unanswered(layout: Layout, answers: Answers) -> Document:
    """For a document that lacks what some members know, since they did not answer: their names, in natural order."""
    names = [member.name for member in by_name(layout) if member.id not in answers]
    return {"unanswered": names} if names else {}


def hints(services: Services, answers: Answers) -> Document:
    """`hints list`: what each holder keeps for which owner, and which members did not answer."""
    layout = services.state.layout
    assert layout is not None
    reports = {holder: answer for holder, answer in answers.items() if answer}
    rows = [
        {"holder": member.name, **row, "owner": services.state.layout_name(row["owner"])}
        for member in by_name(layout)
        for row in reports.get(member.id, {}).get("hints", ())
    ]
    document = {
        "total": sum(row["count"] for row in rows),
        "hints": rows,
        "behind": behind_of(layout, reports.values()),
    }
    return document | unanswered(layout, answers)


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
    slot = key_slot(inner_key(0, key))
    partition = layout.partition_of(slot)
    readers, keepers = layout.readers(partition), layout.keepers(partition)
    document: Document = {
        "key": key.decode("utf-8", "replace"),
        "slot": slot,
        "partition": partition,
        "owners": [names[node] for node in readers],
        "fallbacks": [names[node] for node in layout.fallbacks.order(partition, keepers)],
    }
    if keepers != readers:  # these take writes, too, until the change has ended
        document["beside"] = [names[node] for node in keepers[len(readers) :]]
    return document


def statistics(services: Services) -> Document:
    """`DYN.STATS`: this node's counters, and its facts for `dyn doctor`."""
    state = services.state
    return {
        "node": state.member.name,
        "counters": state.statistics.shown(),
        "in_flight": state.in_flight,
        "sessions": len(services.clients.sessions),
        "records": state.records.keys,
        "keys": state.records.live,
        "tombstones": state.records.keys - state.records.live,
        "damaged_records": state.records.damaged,
        "clock_refused": state.clock.refused,
        "hints_held": state.hints.total,
        "facts": facts(services),
    }
