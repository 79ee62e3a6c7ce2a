"""Documents on a terminal: tables, bars, and the ring as a strip of colours.

Colour only repeats what the text says (a state is a word, a first owner is a digit). So nothing is lost on a terminal
without colours, or for people who do not see them. rich is imported only here: it takes longer to load than a command
takes to run, and only people at a terminal need it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Column, Table
from rich.text import Text

from dynamo_cli.plain import NUMERIC_HEADINGS, STATUS_HEADINGS, Row, clock_text, percent, progress_words, status_rows
from dynamo_cli.plan_text import MOVE_HEADINGS, change_line, move_rows, plan_facts

Document = dict[str, Any]

VERDICT_STYLES = {"healthy": "bold green", "degraded": "bold yellow", "unavailable": "bold red"}
STATE_STYLES = {
    "up": "green",
    "suspect": "yellow",
    "down": "bold red",
    "running": "cyan",
    "done": "green",
    "failed": "bold red",
    "aborted": "yellow",
}
FOLDED_HEADINGS = ("ADDRESS", "ERROR", "KEY", "DO")
SENTENCES = ("ERROR", "DO")
FOLDED_CELLS_MIN = 16
NODE_COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "red", "bright_cyan", "bright_magenta", "bright_yellow")
NODE_MARKS = "123456789abcdefghijklmnopqrstuvwxyz"
BAR_CELLS_MIN, BAR_CELLS_MAX = 6, 40
PROGRESS_CELLS = 24
STRIP_CELLS_MAX = 64


def console() -> Console:
    """A console on stdout that prints texts unchanged: without markup, and without highlighting of numbers."""
    return Console(highlight=False, markup=False, emoji=False)


def show_status(document: Document, to: Console) -> None:
    """`dyn cluster status`."""
    verdict = str(document["verdict"])
    head = Text.assemble((f"● {verdict}", VERDICT_STYLES.get(verdict, "bold")), "  ", str(document["summary"]))
    to.print(head)
    to.print(
        f"  epoch {document['epoch']} · {document['partitions']} partitions · "
        f"N={document['n']} R={document['r']} W={document['w']}" + clock_text(document, " · "),
        style="dim",
    )
    if document.get("change"):
        change = document["change"]
        done, keys = change["keys_done"], change["keys"]
        to.print(Text.assemble("  ", _filled(done, keys), f" {done}/{keys} keys, {progress_words(change)}"))
    show_table(STATUS_HEADINGS, status_rows(document), to)


def _filled(done: int, total: int) -> Text:
    """A short bar, filled to `done` of `total`."""
    cells = PROGRESS_CELLS * done // total if total else 0
    return Text.assemble(("█" * cells, "cyan"), ("·" * (PROGRESS_CELLS - cells), "dim"))


def show_plan(document: Document, to: Console) -> None:
    """`dyn cluster plan`: the changes, the moves, their effect, and the two commands to choose from."""
    to.print(Text.assemble(("plan", "bold"), f"  for epoch {document['epoch']}"))
    for change in document["changes"]:
        to.print(
            Text.assemble(
                "  ", ("+", "green") if change["change"] == "join" else ("·", "cyan"), f" {change_line(change)}"
            )
        )
    if document["moves"]:
        show_table(MOVE_HEADINGS, move_rows(document["moves"]), to)
    else:
        to.print()
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in plan_facts(document):
        style = "yellow" if name == "now" or (name == "zones" and document["zone_violations"]) else ""
        facts.add_row(name, Text(value, style="bold" if value.startswith("dyn ") else style))
    to.print(facts)


def show_table(headings: Row, rows: Sequence[Row], to: Console) -> None:
    """A table like those in `plain`, with coloured states. If it is too wide for the terminal, each row is a paragraph: so
    nothing is cut off."""
    if _width_min(headings, rows) > to.width:
        for row in rows:
            _show_paragraph(headings, row, to)
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for heading in headings:
        # On a narrow terminal an address or a sentence is continued in the next line; a truncated one would not help.
        justify: JustifyMethod = "right" if heading in NUMERIC_HEADINGS else "left"
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=heading not in FOLDED_HEADINGS)
    for row in rows:
        cells = [Text(cell or "-") for cell in row]
        cells[0].stylize("bold")
        if "STATE" in headings:
            place = list(headings).index("STATE")
            cells[place].stylize(STATE_STYLES.get(row[place], ""))
        table.add_row(*cells)
    to.print(table)


def _width_min(headings: Row, rows: Sequence[Row]) -> int:
    """The cells that a table needs: all of its columns, of the folded ones a part."""
    width = 2 * len(headings)  # between and beside the columns
    for column, heading in enumerate(headings):
        widest = max(cell_len(row[column]) for row in (headings, *rows))
        width += min(widest, FOLDED_CELLS_MIN) if heading in FOLDED_HEADINGS else widest
    return width


def _show_paragraph(headings: Row, row: Row, to: Console) -> None:
    """A row as its first cell, and the other cells with their headings in the lines below. A sentence begins a line."""
    to.print(Text(row[0], style="bold"))
    line = Text()
    for heading, cell in list(zip(headings, row, strict=True))[1:]:
        if not cell or cell == "-":
            continue
        line.append("\n" if heading in SENTENCES and line else "  " if line else "")
        line.append(f"{heading.lower()} ", "dim").append(cell, STATE_STYLES.get(cell, "") if heading == "STATE" else "")
    to.print(Padding(line, (0, 0, 0, 2)))


class Bar:
    """The progress of long work, as one line that changes."""

    def __init__(self, title: str, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=None, words="")

    def show(self, done: int, total: int, words: str) -> None:
        """Shows `done` of `total`, and `words` behind that."""
        self._progress.update(self._task, completed=done, total=total, words=words, refresh=True)


@contextmanager
def bar(title: str, to: Console) -> Iterator[Bar]:
    """A bar that disappears when the work has ended. It is drawn only when `show` is called, without a thread."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[words]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
    )
    with Progress(*columns, console=to, transient=True, auto_refresh=False, expand=True) as progress:
        yield Bar(title, progress)


def show_ring(document: Document, to: Console) -> None:
    """`dyn ring show`: how much each node owns against its fair share, and the first owner of every partition."""
    nodes = document["nodes"]
    styles = {node["name"]: NODE_COLOURS[index % len(NODE_COLOURS)] for index, node in enumerate(nodes)}
    marks = {node["name"]: (NODE_MARKS[index] if index < len(NODE_MARKS) else "+") for index, node in enumerate(nodes)}
    to.print(
        Text.assemble(
            ("ring", "bold"),
            f"  epoch {document['epoch']} · {document['partitions']} partitions · N={document['n']} · "
            f"balance {document['balance']:.4f}",
        )
    )
    to.print()
    to.print(_shares(document, styles, marks, to.width))
    to.print()
    to.print("first owner of each partition", style="bold")
    _strip([str(owners[0]) if owners else "" for owners in document["owners"]], styles, marks, to)


def _shares(document: Document, styles: dict[str, str], marks: dict[str, str], width: int) -> Table:
    """A row for each node: mark, name, zone, a bar of its share with a notch at its fair share by weight, numbers."""
    nodes = document["nodes"]
    weights = sum(node["weight"] for node in nodes) or 1
    fair = {node["name"]: node["weight"] / weights for node in nodes}
    longest = max((max(node["share"], fair[node["name"]]) for node in nodes), default=1) or 1
    words = sum(max((cell_len(str(node[name])) for node in nodes), default=0) for name in ("name", "zone"))
    cells = max(BAR_CELLS_MIN, min(BAR_CELLS_MAX, width - words - 24))
    table = Table(box=None, pad_edge=False, header_style="bold")
    title = "OWNED, AND │ ITS FAIR SHARE" if cells > 28 else "│ FAIR" if cells < 14 else "OWNED, │ FAIR"
    for heading in ("", "NODE", "ZONE", title, "", "SHARE"):
        table.add_column(heading, justify="right" if heading in ("", "SHARE") else "left", no_wrap=True)
    for node in nodes:
        name = str(node["name"])
        filled = round(node["share"] / longest * cells)
        notch = min(cells - 1, round(fair[name] / longest * cells))
        bar = Text("█" * filled + "·" * (cells - filled), style=styles[name])
        bar = bar[:notch] + Text("│", style="bold") + bar[notch + 1 :] if notch < cells - 1 else bar + Text("│", "bold")
        mark = Text(marks[name], style=f"reverse {styles[name]}")
        table.add_row(mark, Text(name), Text(str(node["zone"]) or "-"), bar, str(node["owned"]), percent(node["share"]))
    return table


def _strip(first_owners: list[str], styles: dict[str, str], marks: dict[str, str], to: Console) -> None:
    cells = STRIP_CELLS_MAX
    while cells > 8 and cells + 8 > to.width:
        cells //= 2
    for start in range(0, len(first_owners), cells):
        line = Text.assemble((f"{start:5}  ", "dim"))
        for name in first_owners[start : start + cells]:
            line.append(marks.get(name, "?"), style=f"reverse {styles.get(name, 'default')}")
        to.print(line)
