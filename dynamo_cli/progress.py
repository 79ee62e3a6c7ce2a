"""The progress of long work: a bar on a terminal, a line now and then in a pipe, nothing beside a JSON document.

A person looks at a bar for seconds. The reader of a log wants few lines, each complete. Both get the same three things:
how much is done, of how much, and a few words. The lines go to stdout, because without --json they are part of the
answer. If the answer is a table, which another program may read, they go to stderr (`aside`). The bar disappears when the
work has ended, and the last line of the command remains.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from dynamo_cli.output import is_terminal, note, write_line

LINE_INTERVAL_S = 2.0


class Progress(Protocol):
    """Shows the progress of some work."""

    def show(self, done: int, total: int, words: str) -> None:
        """Shows `done` of `total`, and `words` behind that."""


class Lines:
    """Prints a line if the text has changed, at most once in `LINE_INTERVAL_S`."""

    def __init__(self, title: str, unit: str, write: Callable[[str], None]) -> None:
        self._title = title
        self._unit = unit
        self._write = write
        self._last = ""
        self._next_s = 0.0

    def show(self, done: int, total: int, words: str) -> None:
        """As Progress."""
        count = f"{done} of {total} {self._unit}, " if total else ""  # a total of 0 may mean that it is not known yet
        line = f"{self._title}: {count}{words}"
        if line != self._last and time.monotonic() >= self._next_s:
            self._write(line)
            self._last = line
            self._next_s = time.monotonic() + LINE_INTERVAL_S


class Silence:
    """Shows nothing, for callers that print only a document."""

    def show(self, done: int, total: int, words: str) -> None:
        """As Progress."""


@contextmanager
def progress(title: str, unit: str, as_document: bool, aside: bool = False) -> Iterator[Progress]:
    """The kind of progress for the reader of stdout. `unit` is the plural of what is counted."""
    if as_document:
        yield Silence()
    elif is_terminal():
        from dynamo_cli import pictures

        with pictures.bar(title, pictures.console()) as bar:
            yield bar
    else:
        yield Lines(title, unit, note if aside else write_line)
