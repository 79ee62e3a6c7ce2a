"""Documents as plain aligned text: what `dyn` prints in a pipe, fit for grep, awk and mail.

Theory. A line is one thing and begins with its name; columns are parted by two blanks or more, numbers stand at the
right. Nothing depends on the width of a terminal, so the same document always gives the same text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Document = dict[str, Any]
Row = Sequence[str]

STATUS_HEADINGS = ("NODE", "ADDRESS", "ZONE", "STATE", "ROLE", "OWNED", "SHARE", "KEYS", "HINTS")
RING_HEADINGS = ("NODE", "ZONE", "WEIGHT", "OWNED", "SHARE")
NUMERIC_HEADINGS = frozenset({"WEIGHT", "OWNED", "SHARE", "KEYS", "HINTS"})


def status_text(document: Document) -> str:
    """`dyn cluster status`: verdict and summary, the layout, a line a node."""
    head = (
        f"{document['verdict']}: {document['summary']}",
        f"epoch {document['epoch']}, {document['partitions']} partitions, "
        f"N={document['n']} R={document['r']} W={document['w']}",
    )
    return "\n".join((*head, "", *aligned(STATUS_HEADINGS, status_rows(document))))


def status_rows(document: Document) -> list[Row]:
    """The cells of the nodes, under STATUS_HEADINGS."""
    return [
        (
            node["name"],
            node["address"],
            node["zone"],
            node["state"],
            node["role"],
            str(node["owned"]),
            percent(node["share"]),
            str(node["keys"]),
            str(node["hints_held"]),
        )
        for node in document["nodes"]
    ]


def ring_text(document: Document) -> str:
    """`dyn ring show`: a line a node, then a line a partition with its owners in order."""
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
    """`dyn ring locate`; `key` as it is to be shown."""
    facts = (
        ("key", key),
        ("slot", str(document["slot"])),
        ("partition", str(document["partition"])),
        ("owners", " ".join(document["owners"])),
        ("fallbacks", " ".join(document["fallbacks"]) or "none"),
    )
    return "\n".join(f"{name:9}  {value}" for name, value in facts)


def percent(share: float) -> str:
    """A share of 1 as per cent."""
    return f"{share * 100:.1f}%"


def aligned(headings: Row, rows: Sequence[Row]) -> list[str]:
    """The headings and rows as lines with aligned columns, without blanks at their ends."""
    table = [headings, *([cell or "-" for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(headings))]
    return [
        "  ".join(
            cell.rjust(width) if heading in NUMERIC_HEADINGS else cell.ljust(width)
            for cell, width, heading in zip(row, widths, headings, strict=True)
        ).rstrip()
        for row in table
    ]
