"""The way of a traced request as lines: what each node has received, done and sent, and when.

Every line begins with the time since the node of `dyn trace` got the command. The times of another node are measured by its
own clock; where its part begins is known to within half of the time that the network took there and back.
"""

from __future__ import annotations

from typing import Any, NamedTuple

Document = dict[str, Any]


class Step(NamedTuple):
    """A line: when, what, and whether it is the first of its node (then `text` is the node)."""

    at_us: int
    text: str


def title(row: Document) -> str:
    """A node and its role."""
    asked_by = f", asked by {row['parent']}" if row.get("parent") else ""
    return f"{row['node']}  {row['role']}{asked_by}"


def facts(row: Document) -> str:
    """How long the node has had the request, and how long its messages were under way."""
    network_us = row.get("network_us")
    network = f", network {duration(network_us)} there and back" if network_us else ""
    return f"{duration(row['took_us'])}{network}"


def steps(row: Document) -> list[Step]:
    """What a node has done, in order."""
    found: list[Step] = []
    offset_us = row["offset_us"]
    for turn in row["turns"]:
        received = [Step(each["at_us"], f"received {each['message']} from {each['from']}") for each in turn["received"]]
        found += received or [Step(turn["begun_us"], "received the command" if not found else "went on")]
        sent = ", ".join(f"{each['message']} to {each['to']}" for each in turn["sent"])
        done = [
            (turn["answered_us"], "has the reply"),
            (turn["ended_us"], "turn ended"),
            (turn["committed_us"], "committed"),
        ]
        if sent or turn["answered_us"] is not None:
            done.append((turn["sent_us"], f"sent {sent}" if sent else "sent the reply"))
        found += [Step(at_us, text) for at_us, text in done if at_us is not None]
    return [Step(offset_us + step.at_us, step.text) for step in found]


def duration(time_us: int) -> str:
    """Microseconds as people read them."""
    return f"{time_us} us" if time_us < 10_000 else f"{time_us / 1000:.1f} ms"


def head(document: Document) -> str:
    """The first line: the command, how long it took, the trace."""
    return f"{document['command']}  {duration(document['took_us'] or 0)}  trace {document['trace']}"


def trace_lines(document: Document) -> list[str]:
    """The whole picture for a pipe: one line for each step, and the node in each line."""
    lines = [head(document)]
    for row in document["nodes"]:
        lines.append(f"{row['offset_us']:>9} us  {title(row)}  {facts(row)}")
        lines += [f"{step.at_us:>9} us  {row['node']}  {step.text}" for step in steps(row)]
    return [*lines, *without_trace(document)]


def without_trace(document: Document) -> list[str]:
    """The nodes that got a message of the request and have noted nothing."""
    return [f"{each['node']}: no trace, {each['why']}" for each in document["without_trace"]]
