"""Percentiles, tables, and their places in a Markdown file.

The place of a table lies between two lines, `<!-- NAME: COMMAND -->` and `<!-- end of NAME -->`: whoever runs a program
with `--markdown FILE` replaces what is between them, and nothing else.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


@dataclass
class Table:
    """A table with a name, which is that of its place; `sizes` says how much was measured."""

    name: str
    columns: Sequence[str]
    sizes: str
    rows: list[Sequence[str]] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        """Adds a row, and shows it as progress."""
        say("  ".join(cells))
        self.rows.append(cells)

    def markdown(self, origin: str) -> str:
        """The table, and below it where its figures come from."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return (
            "\n".join(["| " + " | ".join(line) + " |" for line in lines]) + f"\n\nMeasured: {self.sizes}; {origin}.\n"
        )


def say(text: str) -> None:
    """Prints a line about the progress to stderr."""
    print(text, file=sys.stderr, flush=True)


def percentile(sorted_values: Sequence[float], percent: float) -> float:
    """The value that `percent` of the values do not exceed; NaN if there are none."""
    if not sorted_values:
        return float("nan")
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * percent / 100))]


def shown(value: float, digits: int = 1) -> str:
    """A number for a cell; nothing for NaN."""
    return "" if value != value else f"{value:,.{digits}f}"


def in_ms(sorted_ms: Sequence[float], *percents: float) -> list[str]:
    """Cells with these percentiles; 100 is the worst."""
    return [shown(percentile(sorted_ms, percent)) for percent in percents]


def origin(build: str) -> str:
    """Where the figures come from: the commit, the day, the machine, and what the nodes ran."""
    words = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=7"]
    commit = subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip() or "no commit"
    day = datetime.now(tz=UTC).strftime("%Y-%m-%d")
    return f"commit {commit}, {day}, {os.cpu_count()} cores, Python {platform.python_version()}, nodes run {build} code"


def publish(tables: Sequence[Table], build: str, markdown: Path | None) -> None:
    """Prints the tables, and puts them into their places in a file."""
    where = origin(build)
    for table in tables:
        print(f"\n{table.name}\n\n{table.markdown(where)}", flush=True)
        if markdown is not None:
            markdown.write_text(replaced(markdown.read_text(), table.name, table.markdown(where)))


def replaced(text: str, name: str, content: str) -> str:
    """The text with other content in the place of that name. Raises SystemExit if there is none."""
    place = re.compile(rf"(<!-- {re.escape(name)}: .*? -->\n).*?(<!-- end of {re.escape(name)} -->)", re.DOTALL)
    if not place.search(text):
        raise SystemExit(
            f"there is no place for the table {name!r}: <!-- {name}: COMMAND --> to <!-- end of {name} -->"
        )
    return place.sub(lambda found: f"{found[1]}\n{content}\n{found[2]}", text)
