"""Assembles a trace: joins the spans that all nodes have noted of one request into the document of DYN.TRACE.

Theory. Each node has noted its span by its own monotonic clock, and two such clocks cannot be compared. But durations can.
The parent knows how long it has waited for an answer, and the other node knows how long it has worked on it. The difference
is the time of the network, there and back. Half of it counts as the time of the request's message, as in NTP. So the start
of a span is right to within the other half."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Document = dict[str, Any]
_ROLES = (("RELAY", "coordinator"), ("HINT", "stand-in"), ("ASK", "asked"))


def assemble(spans: Mapping[str, Document], name_of: Callable[[str], str]) -> Document:
    """Returns {"took_us", "nodes", "without_trace"}: the spans by node id, in the order in which the nodes got the request,
    and the nodes that got a message of the request and have noted nothing."""
    rows: list[Document] = []
    placed: dict[str, str] = {}  # span -> node
    waiting = [(node, span) for node, span in spans.items() if not span["parent"]]
    while waiting:
        node, span = waiting.pop(0)
        placed[span["id"]] = node
        parent = placed.get(span["parent"])
        above = next((row for row in rows if row["id"] == parent), None)
        offset_us, network_us = (
            (0, None) if above is None else _place(spans[above["id"]], spans[node], above["id"], node)
        )
        rows.append({
            "id": node, "node": name_of(node), "role": _role(span), "parent": None if parent is None else name_of(parent),
            "offset_us": offset_us + (above["offset_us"] if above is not None else 0), "network_us": network_us,
            "took_us": max([_left_us(turn) for turn in span["turns"]], default=0),
            "turns": [_turn(turn, name_of) for turn in span["turns"]],
        })  # fmt: skip
        waiting += [(other, each) for other, each in spans.items() if each["parent"] == span["id"]]
    rows.sort(key=lambda row: row["offset_us"])
    without = _without_trace(spans, {row["id"] for row in rows}, name_of)
    for row in rows:
        del row["id"]
    return {"took_us": _took_us(spans), "nodes": rows, "without_trace": without}


def is_complete(spans: Mapping[str, Document]) -> bool:
    """Whether every node that traces has answered, and has sent what it had to."""
    sent_to = {
        node for span in spans.values() for turn in span["turns"] for _, node, is_traced in turn["sent"] if is_traced
    }
    return (
        bool(spans)
        and sent_to <= spans.keys()
        and all(turn["sent_us"] is not None for span in spans.values() for turn in span["turns"])
    )


def _place(above: Document, span: Document, above_node: str, node: str) -> tuple[int, int | None]:
    """When a span began after the one above it, and how long its messages were under way; None: it has not answered."""
    turns = above["turns"]
    asked = next((place for place, turn in enumerate(turns) if _has(turn["sent"], node)), None)
    if asked is None:
        return 0, None
    sent_us = _left_us(turns[asked])
    answers = [answer for turn in turns[asked + 1 :] for answer in turn["received"] if answer[1] == node]
    back_us = answers[0][2] if answers else None
    had_us = next((_left_us(turn) for turn in span["turns"] if _has(turn["sent"], above_node)), None)
    if back_us is None or had_us is None:
        return sent_us, None
    network_us = max(0, back_us - sent_us - had_us)
    return sent_us + network_us // 2, network_us


def _has(messages: list[Any], node: str) -> bool:
    return any(message[1] == node for message in messages)


def _left_us(turn: Document) -> int:
    """When the messages of a turn have left, or the last that is known of it."""
    times: list[int | None] = [turn["sent_us"], turn["committed_us"], turn["ended_us"]]
    return next((time_us for time_us in times if time_us is not None), int(turn["begun_us"]))


def _role(span: Document) -> str:
    received = [kind for turn in span["turns"] for kind, *_ in turn["received"]]
    if span["parent"]:
        return next((role for kind, role in _ROLES if kind in received), "replica")
    return "relay" if any(kind == "RELAY" for turn in span["turns"] for kind, *_ in turn["sent"]) else "coordinator"


def _took_us(spans: Mapping[str, Document]) -> int | None:
    """How long the node of the client has had the request."""
    turns = [turn for span in spans.values() if not span["parent"] for turn in span["turns"]]
    return next((_left_us(turn) for turn in turns if turn["answered_us"] is not None), None)


def _turn(turn: Document, name_of: Callable[[str], str]) -> Document:
    return {
        **turn,
        "received": [
            {"message": kind, "from": name_of(node), "at_us": at_us} for kind, node, at_us in turn["received"]
        ],
        "sent": [{"message": kind, "to": name_of(node)} for kind, node, _ in turn["sent"]],
    }


def _without_trace(spans: Mapping[str, Document], known: set[str], name_of: Callable[[str], str]) -> list[Document]:
    why: dict[str, str] = {}
    for span in spans.values():
        for turn in span["turns"]:
            for _, node, is_traced in turn["sent"]:
                if node not in known:
                    why[node] = "no answer" if is_traced else "its version does not trace"
    return [{"node": name_of(node), "why": reason} for node, reason in why.items()]
