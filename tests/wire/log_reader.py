"""A reader who has the logs of all nodes and nothing else, and tells what happened.

Theory. Each sentence of the log that matters is one row of `_SENTENCES`: how it reads, and the fact that it tells. Several
nodes tell of the same thing (a node that is gone, a layout): the first to tell gives the fact its time, and the last that
takes it back ends it. Nothing here knows of the test whose logs are read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import NamedTuple

_LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) (INFO|WARNING|ERROR|CRITICAL) (.*)")


class Line(NamedTuple):
    """A line of a node's log."""

    time: datetime
    node: str
    text: str


class Fact(NamedTuple):
    """Something that happened, and when it was told first."""

    time: datetime
    text: str


def lines_of(logs: dict[str, str]) -> list[Line]:
    """The lines of the logs, by the names of the nodes, in the order of their times."""
    lines = [
        Line(datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S,%f"), node, found[3])
        for node, log in logs.items()
        for found in map(_LINE.fullmatch, log.splitlines())
        if found is not None
    ]
    return sorted(lines, key=lambda line: line.time)


class Reader:
    """Reads lines in the order of their times."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self._once: set[str] = set()
        self._tellers: dict[str, dict[str, None]] = {}  # what lasts -> the nodes that say so
        self._orders: dict[tuple[str, str], int] = {}  # who has ordered what -> the place of the fact

    def read(self, line: Line) -> None:
        """Takes notes of one line."""
        for pattern, note in _SENTENCES:
            found = re.match(pattern, line.text)
            if found is not None:
                note(self, line, found)
                return

    def _add(self, line: Line, text: str) -> None:
        self.facts.append(Fact(line.time, text))

    def _add_once(self, line: Line, text: str) -> None:
        """Every node tells of it."""
        if text not in self._once:
            self._once.add(text)
            self._add(line, text)

    def _begin(self, line: Line, what: str, text: str) -> None:
        tellers = self._tellers.setdefault(what, {})
        if not tellers:
            self._add(line, text)
        tellers[line.node] = None

    def _end(self, line: Line, what: str, text: str) -> None:
        tellers = self._tellers.get(what, {})
        if tellers.pop(line.node, "absent") is None and not tellers:
            self._add(line, text)

    def _starts(self, line: Line, found: re.Match[str]) -> None:
        self._add(line, f"{found[1]} starts")

    def _stops(self, line: Line, found: re.Match[str]) -> None:
        self._add(line, f"{found[1]} stops")

    def _is_gone(self, line: Line, found: re.Match[str]) -> None:
        self._begin(line, f"gone {found[1]}", f"{found[1]} is gone: {found[2]}")

    def _is_back(self, line: Line, found: re.Match[str]) -> None:
        self._end(line, f"gone {found[1]}", f"{found[1]} is back")

    def _keeps_hints(self, line: Line, found: re.Match[str]) -> None:
        self._begin(line, f"hints {found[1]}", f"hints are kept for {found[1]}")

    def _has_no_hints(self, line: Line, found: re.Match[str]) -> None:
        if int(found[2]):
            self._end(line, f"hints {found[1]}", f"{found[1]} has got all its hints")

    def _task_begins(self, line: Line, found: re.Match[str]) -> None:
        self._add(line, f"{found[1]} begins: {found[2]} partitions")

    def _task_ends(self, line: Line, found: re.Match[str]) -> None:
        self._add(line, f"{found[1]} is {found[2]}: {found[3]} keys compared, {found[4]} repaired")

    def _staged(self, line: Line, found: re.Match[str]) -> None:
        self._add_once(line, f"staged: {found[1]}")

    def _ordered(self, line: Line, found: re.Match[str]) -> None:
        self._orders[found[2], found[3]] = len(self.facts)
        words = found[3].partition(" {")[0]  # without the document
        self._add(line, f"{found[1]} at {found[2]} orders at {line.node}: {words}")

    def _refused(self, line: Line, found: re.Match[str]) -> None:
        text = f"{found[1]} at {found[2]} is refused at {line.node}: {found[3]}: {found[4]}"
        place = self._orders.pop((found[2], found[3]), None)  # the order is in a line before
        if place is None:
            self._add(line, text)
        else:
            self.facts[place] = Fact(line.time, text)

    def _layout(self, line: Line, found: re.Match[str]) -> None:
        self._add_once(line, f"layout {found[1]} of {found[3]}: {found[2]}")

    def _is_member(self, line: Line, found: re.Match[str]) -> None:
        self._add_once(line, f"{found[1]} is a member by layout {found[2]}")

    def _is_empty(self, line: Line, _: re.Match[str]) -> None:
        self._add(line, f"{line.node} has lost its data")

    def _is_whole(self, line: Line, found: re.Match[str]) -> None:
        self._add(line, f"{line.node} has its data again: {found[1]} keys")


_SENTENCES: tuple[tuple[str, Callable[[Reader, Line, re.Match[str]], None]], ...] = (
    (r"node (\w+) \(\w+\) serves on ", Reader._starts),
    (r"node (\w+) has stopped$", Reader._stops),
    (r"node (\w+) is (?:suspect|down): (.+?)(?:, after \d+ s \w+)?$", Reader._is_gone),
    (r"node (\w+) is up, after \d+ s (?:suspect|down)$", Reader._is_back),
    (r"this node keeps hints for node (\w+), which has not confirmed its writes$", Reader._keeps_hints),
    (r"no hints for node (\w+) are left after \d+ s; there were up to (\d+)$", Reader._has_no_hints),
    (r"task (\w+)-\S+ has begun: (\d+) partitions$", Reader._task_begins),
    (r"task (\w+)-\S+ is (\w+): (\d+) keys compared, (\d+) repaired", Reader._task_ends),
    (r"staged for the next layout: (.+?)(?: at [\d.]+:\d+)?$", Reader._staged),
    (r"command of (user '\w+') at (\S+): (.+)", Reader._ordered),
    (r"command of (user '\w+') at (\S+) was refused: (.+?): (\w+)", Reader._refused),
    (r"layout of epoch (\d+) \((\w+), revision \d+\) with (\d+ nodes)$", Reader._layout),
    (r"node (\w+) is a member now, by the layout of epoch (\d+)$", Reader._is_member),
    (r"this node has none of the data that it owns", Reader._is_empty),
    (r"this node is whole: (\d+) keys, \d+ fetched from the other owners$", Reader._is_whole),
)
PATTERNS = tuple(pattern for pattern, _ in _SENTENCES)


def facts_of(lines: Iterable[Line]) -> list[Fact]:
    """What the lines tell, in order."""
    reader = Reader()
    for line in lines:
        reader.read(line)
    return reader.facts
