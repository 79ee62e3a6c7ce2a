"""How far long work has come: a bar on a terminal, a line now and then in a pipe, nothing beside a JSON document.

Theory. A person looks at a bar for seconds; whoever reads a log wants few lines, each whole in itself. Both get the same
three things: how much is done, of how much, and a few words. Lines go to stdout, for without --json they are a part of
the answer; the bar is gone when the work has ended, and what stays is the command's last line.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from dynamo_cli.output import is_terminal, write_line

LINE_INTERVAL_S = 2.0


class Progress(Protocol):
    """Shows how far it is."""

    def show(self, done: int, total: int, words: str) -> None:
        """`done` of `total`, and what else there is to say."""


class Lines:
    """A line when there is something new to say, but not too often."""

    def __init__(self, title: str, unit: str) -> None:
        self._title = title
        self._unit = unit
        self._last = ""
        self._next_s = 0.0

    def show(self, done: int, total: int, words: str) -> None:
        """As Progress."""
        count = f"{done} of {total} {self._unit}, " if total else ""  # of nothing, or not known yet
        line = f"{self._title}: {count}{words}"
        if line != self._last and time.monotonic() >= self._next_s:
            write_line(line)
            self._last = line
            self._next_s = time.monotonic() + LINE_INTERVAL_S


class Silence:
    """For those who only want the document."""

    def show(self, done: int, total: int, words: str) -> None:
        """As Progress."""


@contextmanager
def progress(title: str, unit: str, as_document: bool) -> Iterator[Progress]:
    """What fits the reader of stdout. `unit` is the plural of what is counted."""
    if as_document:
        yield Silence()
    elif is_terminal():
        from dynamo_cli import pictures

        with pictures.bar(title, pictures.console()) as bar:
            yield bar
    else:
        yield Lines(title, unit)
