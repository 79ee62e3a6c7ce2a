"""Documents as plain aligned text: what `dyn` prints in a pipe, for grep, awk and mail.

Each line is about one thing and begins with its name. Two or more blanks separate columns, and numbers are right-aligned.
Nothing depends on the width of a terminal, so the same document always gives the same text.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from dynamo_cli.output import counted

Document = dict[str, Any]
Row = Sequence[str]

STATUS_HEADINGS = ("NODE", "ADDRESS", "ZONE", "STATE", "ROLE", "OWNED", "SHARE", "KEYS", "HINTS")
RING_HEADINGS = ("NODE", "ZONE", "WEIGHT", "OWNED", "SHARE")
HINT_HEADINGS = ("HOLDER", "OWNER", "COUNT", "BYTES", "OLDEST")
TASK_HEADINGS = (
    "TASK", "STATE", "NODE", "DONE", "OF", "COMPARED", "REPAIRED", "BYTES", "LEFT", "BEGAN", "ENDED", "ERROR",
)  # fmt: skip
NUMERIC_HEADINGS = frozenset(
    {"WEIGHT", "OWNED", "SHARE", "KEYS", "HINTS", "COUNT", "BYTES", "OLDEST", "DONE", "OF", "COMPARED", "REPAIRED"}
    | {"LEFT", "PARTITIONS", "SIZE", "VALUES", "DELETIONS"}
)


def status_text(document: Document) -> str:
    """`dyn cluster status`: the verdict and its summary, the layout, a line for each node."""
    head = (
        f"{document['verdict']}: {document['summary']}",
        f"epoch {document['epoch']}, {document['partitions']} partitions, "
        f"N={document['n']} R={document['r']} W={document['w']}" + clock_text(document, ", "),
    )
    change = [change_text(document["change"])] if document.get("change") else []
    return "\n".join((*head, *change, "", *aligned(STATUS_HEADINGS, status_rows(document))))


def clock_text(document: Document, separator: str) -> str:
    """How exactly the node that answers knows cluster time, by which keys expire; empty for nodes of earlier versions."""
    if "clock_bound_ms" not in document:
        return ""
    bound_ms = document["clock_bound_ms"]
    return separator + ("cluster time not known by a majority" if bound_ms is None else f"cluster time ±{bound_ms} ms")


def status_rows(document: Document) -> list[Row]:
    """The cells of the nodes under STATUS_HEADINGS."""
    return [
        (
            node["name"],
            node["address"],
            node["zone"],
            node["state"],
            node["role"],
            str(node["owned"]),
            percent(node["share"]),
            "-" if node["keys"] is None else str(node["keys"]),
            "-" if node["keys"] is None else str(node["hints_held"]),
        )
        for node in document["nodes"]
    ]


def ring_text(document: Document) -> str:
    """`dyn ring show`: a line for each node, then a line for each partition with its owners in order."""
    nodes = [
        (node["name"], node["zone"], str(node["weight"]), str(node["owned"]), percent(node["share"]))
        for node in document["nodes"]
    ]
    owners = [(str(partition), " ".join(names)) for partition, names in enumerate(document["owners"])]
    return "\n".join(
        (
            f"epoch {document['epoch']}, {document['partitions']} partitions, N={document['n']}, "
            f"balance {document['balance']:.4f}",
            "",
            *aligned(RING_HEADINGS, nodes),
            "",
            *aligned(("PARTITION", "OWNERS"), owners),
        )
    )


def location_text(document: Document, key: str) -> str:
    """`dyn ring locate`. `key` is in its printable form."""
    facts = (
        ("key", key),
        ("slot", str(document["slot"])),
        ("partition", str(document["partition"])),
        ("owners", " ".join(document["owners"])),
        ("fallbacks", " ".join(document["fallbacks"]) or "none"),
    )
    return "\n".join(f"{name:9}  {value}" for name, value in facts)


def hint_rows(document: Document) -> list[Row]:
    """The cells of `dyn hints list`, under HINT_HEADINGS."""
    return [
        (hints["holder"], hints["owner"], str(hints["count"]), str(hints["bytes"]), f"{hints['oldest_s']:.0f}s")
        for hints in document["hints"]
    ]


def counts_by_owner(document: Document) -> dict[str, int]:
    """The number of hints by the name of their owner, in order of the names."""
    counts: dict[str, int] = {}
    for hints in document["hints"]:
        counts[hints["owner"]] = counts.get(hints["owner"], 0) + hints["count"]
    return {owner: counts[owner] for owner in sorted(counts) if counts[owner]}


def task_rows(document: Document) -> list[Row]:
    """The cells of `dyn task list`, under TASK_HEADINGS."""
    return [
        (
            task["task"],
            task_state(task),
            task.get("node") or "",
            str(task["partitions_done"]),
            str(task["partitions"]),
            str(task["keys_compared"]),
            str(task["keys_repaired"]),
            str(task["bytes_sent"]),
            seconds_left(task),
            utc(task.get("started_ms")),
            utc(task.get("ended_ms")),
            task.get("error") or "",
        )
        for task in document["tasks"]
    ]


def task_state(task: Document) -> str:
    """The state of a task, or that it is paused."""
    return "paused" if task.get("paused") else str(task["state"])


def utc(time_ms: int | None) -> str:
    """A time for people: `2026-11-30T09:16:51Z`; empty if it is not known."""
    if not time_ms:
        return ""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time_ms / 1000))


def task_text(document: Document) -> str:
    """`dyn task show`: one fact a line."""
    facts = (
        ("task", document["task"]),
        ("state", task_state(document)),
        ("node", document.get("node") or "unknown"),
        *[
            (word, at)
            for word, name in (("began", "started_ms"), ("ended", "ended_ms"))
            if (at := utc(document.get(name)))
        ],
        ("partitions", f"{document['partitions_done']} of {document['partitions']}"),
        ("compared", counted(document["keys_compared"], "key")),
        ("repaired", counted(document["keys_repaired"], "key")),
        ("sent", size(document["bytes_sent"])),
        *[(kind, nodes) for kind in ("mended", "lost") if (nodes := by_node(document, kind))],
        *([("left", f"about {seconds_left(document)}")] if seconds_left(document) else []),
        ("error", document.get("error") or "none"),
    )
    return "\n".join(f"{name:10}  {value}" for name, value in facts)


def task_line(document: Document) -> str:
    """A task in one line."""
    return (
        f"task {document['task']}: {task_state(document)}, {document['partitions_done']} of {document['partitions']} "
        f"partitions, {task_counts(document)}"
    )


def task_counts(document: Document) -> str:
    """The counts of a task so far."""
    return (
        f"{counted(document['keys_compared'], 'key')} compared, {document['keys_repaired']} repaired, "
        f"{size(document['bytes_sent'])} sent"
        + "".join(
            f", damaged and {kind}: {by_node(document, kind)}" for kind in ("mended", "lost") if document.get(kind)
        )
        + (f", about {left} left" if (left := seconds_left(document)) else "")
    )


def by_node(document: Document, kind: str) -> str:
    """How many damaged records were mended or lost (`kind`), by node."""
    return ", ".join(f"{count} on {name}" for name, count in document.get(kind, {}).items())


def seconds_left(task: Document) -> str:
    """The remaining time of a task; empty if it is not known. Only transfers and fillings tell it."""
    eta_s = task.get("eta_s")
    return duration(eta_s) if isinstance(eta_s, int) and task["state"] == "running" else ""


def progress_words(change: Document) -> str:
    """The progress of a change of members, without the count of keys."""
    partitions = f"{change['partitions_moved']} of {change['partitions_moving']} partitions"
    if change.get("phase") != "transfer":
        return f"{partitions}, reads move to the new owners"
    if change.get("paused"):
        return f"{partitions}, paused on {' '.join(change['paused'])}"
    if change.get("waits_for"):
        return f"{partitions}, waits for {' '.join(change['waits_for'])}"
    return f"{partitions}, about {duration(change['eta_s'])} left" if change.get("eta_s") else partitions


def change_text(change: Document) -> str:
    """The progress of a change of members, as a line of `dyn cluster status`."""
    keys = f"{change['keys_done']} of {change['keys']} keys, " if change["keys"] else ""
    return f"moving: {keys}{progress_words(change)}"


def duration(seconds: int) -> str:
    """Seconds for people: `40 s`, `3 min`, `2 h 5 min`."""
    if seconds < 120:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    return f"{minutes} min" if minutes < 120 else f"{hours} h {rest} min" if rest else f"{hours} h"


def size(count_bytes: int) -> str:
    """Bytes for people: `17 B`, `3.4 KiB`, `1.2 GiB`."""
    if count_bytes < 1024:
        return f"{count_bytes} B"
    power = min(4, (count_bytes.bit_length() - 1) // 10)
    return f"{count_bytes / 1024**power:.1f} {'KMGT'[power - 1]}iB"


def percent(share: float) -> str:
    """A share from 0 to 1 as a percentage."""
    return f"{share * 100:.1f}%"


def aligned(headings: Row, rows: Sequence[Row]) -> list[str]:
    """The headings and rows as lines with aligned columns, without trailing blanks."""
    table = [headings, *([cell or "-" for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(headings))]
    return [
        "  ".join(
            cell.rjust(width) if heading in NUMERIC_HEADINGS else cell.ljust(width)
            for cell, width, heading in zip(row, widths, headings, strict=True)
        ).rstrip()
        for row in table
    ]
