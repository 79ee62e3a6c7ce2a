"""What has been on the disks: every record ever committed, by key and by dot, and what all disks know together at the end.

Theory. This is the checkers' own understanding of records, apart from the core's: a record is knowledge (a clock) and
siblings by dot, and two of them join by the rule of promise P3. Only the byte format is shared with the core.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from server.core import versions
from server.core.records import PREFIX_BYTES, RECORDS_END
from tests.sim.disk import Commit, Disk

Dot = tuple[bytes, int]


class Version(NamedTuple):
    """What a dot stands for."""

    kind: int
    value: bytes


class Knowledge(NamedTuple):
    """A record, decoded."""

    clock: dict[bytes, int]
    siblings: dict[Dot, Version]

    def covers(self, dot: Dot) -> bool:
        """Whether the write is known here, be it superseded or not."""
        return self.clock.get(dot[0], -1) >= dot[1]


class Seen(NamedTuple):
    """A record as it came to a disk."""

    step: int
    node: str
    known: Knowledge


NOTHING = Knowledge({}, {})


def join(one: Knowledge, other: Knowledge) -> Knowledge:
    """What both know together: a sibling goes only where the other knows it and has it no more."""
    siblings = {
        dot: version
        for mine, theirs in ((one, other), (other, one))
        for dot, version in mine.siblings.items()
        if dot in theirs.siblings or not theirs.covers(dot)
    }
    clock = dict(one.clock)
    for actor, counter in other.clock.items():
        clock[actor] = max(counter, clock.get(actor, -1))
    return Knowledge(clock, siblings)


class Evidence:
    """All keys' histories. Keys are the users', not the storage's."""

    def __init__(self, log: Iterable[Commit], disks: Iterable[Disk]) -> None:
        self._decoded: dict[bytes, Knowledge] = {}
        self.seen: dict[bytes, list[Seen]] = {}
        self.births: dict[bytes, dict[Dot, Seen]] = {}  # where a dot was first seen as a sibling
        self.final: dict[bytes, Knowledge] = {}
        self.contradictions: list[str] = []  # dots that have named two different things
        for commit in log:
            self._add(commit.key[PREFIX_BYTES:], Seen(commit.step, commit.node, self._knowledge(commit.record)))
        for disk in disks:
            for stored_at, record in disk.data.items():
                if stored_at < RECORDS_END:
                    key = stored_at[PREFIX_BYTES:]
                    self.final[key] = join(self.final.get(key, NOTHING), self._knowledge(record))

    def _knowledge(self, record: bytes) -> Knowledge:
        known = self._decoded.get(record)
        if known is None:
            clock, siblings = versions.decode(record)
            by_dot = {(s.actor, s.counter): Version(s.kind, s.value) for s in siblings}
            known = self._decoded[record] = Knowledge(clock, by_dot)
        return known

    def _add(self, key: bytes, seen: Seen) -> None:
        self.seen.setdefault(key, []).append(seen)
        births = self.births.setdefault(key, {})
        for dot, version in seen.known.siblings.items():
            birth = births.setdefault(dot, seen)
            if birth.known.siblings[dot] != version:
                self.contradictions.append(
                    f"dot {dot} of {key!r} names {birth.known.siblings[dot]} on {birth.node} and {version} on {seen.node}"
                )

    def version(self, key: bytes, dot: Dot) -> Version:
        """What the dot stands for."""
        return self.births[key][dot].known.siblings[dot]

    def dots_of(self, key: bytes, value: bytes | None) -> list[Dot]:
        """The dots under which `value` (None: a tombstone) was ever written; more than one if a relay was retried."""
        kind = versions.TOMBSTONE if value is None else versions.VALUE
        wanted = Version(kind, value or b"")
        return [dot for dot, birth in self.births.get(key, {}).items() if birth.known.siblings[dot] == wanted]

    def holders(self, key: bytes, dots: list[Dot], to_step: int) -> list[str]:
        """The nodes to whose disks knowledge of one of the dots had come by that step."""
        nodes: dict[str, None] = {}
        for step, node, known in self.seen.get(key, ()):
            if step <= to_step and node not in nodes and any(known.covers(dot) for dot in dots):
                nodes[node] = None
        return list(nodes)
