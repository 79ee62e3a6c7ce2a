"""The way of a traced request on a terminal: a tree of nodes, each with a bar of when it had the request."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from dynamo_cli.pictures import NODE_COLOURS, console
from dynamo_cli.trace_text import Document, facts, head, steps, title, without_trace

_BAR_CELLS = 40


def show(document: Document, to: Console | None = None) -> None:
    """`dyn trace`."""
    to = to or console()
    rows = document["nodes"]
    end_us = max([row["offset_us"] + row["took_us"] for row in rows], default=0) or 1
    tree = Tree(Text(head(document), style="bold"))
    branches: dict[str, Tree] = {}
    for place, row in enumerate(rows):
        style = NODE_COLOURS[place % len(NODE_COLOURS)]
        above = branches.get(row["parent"] or "", tree)
        bar = _bar(row["offset_us"], row["took_us"], end_us, style)
        branch = above.add(Text.assemble((title(row), f"bold {style}"), "  ", facts(row), "\n", bar))
        for step in steps(row):
            branch.add(Text.assemble((f"{step.at_us:>8} us  ", "dim"), step.text))
        branches.setdefault(row["node"], branch)
    to.print(tree)
    for line in without_trace(document):
        to.print(line, style="yellow")


def _bar(offset_us: int, took_us: int, end_us: int, style: str) -> Text:
    """When the node had the request, of the whole time."""
    start = min(_BAR_CELLS - 1, offset_us * _BAR_CELLS // end_us)
    cells = max(1, min(_BAR_CELLS - start, round(took_us * _BAR_CELLS / end_us)))
    return Text.assemble(
        ("·" * start, "dim"), ("█" * cells, style), ("·" * (_BAR_CELLS - start - cells), "dim"),
    )  # fmt: skip
