"""What has been on the disks: every record ever stored, by key and by dot, and what all disks know together at the end.

Theory. This is the checkers' own understanding of records, apart from the core's: a record is knowledge (a clock) and
siblings by dot, and two of them join by the rule of promise P3. Only the byte format is shared with the core, and the
place where hints lie: under a prefix, the length of the owner's id, that id, and the storage key of what is owed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from xxhash import xxh3_64_digest

from server.core.records import versions
from server.core.records.records import PREFIX_BYTES, RECORDS_END
from tests.sim.disk import Cause, Change, Disk

HINTS = b"\xff\xfe"

Dot = tuple[bytes, int]


class Version(NamedTuple):
    """What a dot stands for."""

    kind: int
    value: bytes
    expires_at_ms: int

    def is_dead(self, now_ms: int) -> bool:
        """Whether nobody gets to read it any more at wall time `now_ms`."""
        return self.kind == versions.TOMBSTONE or 0 < self.expires_at_ms <= now_ms


class Knowledge(NamedTuple):
    """A record, decoded."""

    clock: dict[bytes, int]
    siblings: dict[Dot, Version]

    def covers(self, dot: Dot) -> bool:
        """Whether the write is known here, be it superseded or not."""
        return self.clock.get(dot[0], -1) >= dot[1]

    def includes(self, other: Knowledge) -> bool:
        """Whether all that `other` knows is known here."""
        return all(self.clock.get(actor, -1) >= counter for actor, counter in other.clock.items())


class Seen(NamedTuple):
    """What came to be known of a key on a disk, and why; `record` is None where nothing sound is left."""

    step: int
    now_ms: int
    node: str
    known: Knowledge
    record: bytes | None
    cause: Cause


class Hinted(NamedTuple):
    """A hint came to lie on a disk, or went."""

    step: int
    node: str
    owner: str
    is_open: bool
    cause: Cause


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


def is_sound(record: bytes) -> bool:
    """Whether the record's checksum holds."""
    return record[:8] == xxh3_64_digest(record[8:])


def split_hint(storage_key: bytes) -> tuple[str, bytes]:
    """The owner that a hint is for, and the storage key of what it is owed."""
    begin = len(HINTS) + 1
    end = begin + storage_key[begin - 1]
    return storage_key[begin:end].decode(), storage_key[end:]


class Evidence:
    """All keys' histories. Keys are the users', not the storage's."""

    def __init__(self, log: Iterable[Change], disks: Iterable[Disk]) -> None:
        """`disks` are those of the members at the end."""
        self._decoded: dict[bytes, Knowledge] = {}
        self.seen: dict[bytes, list[Seen]] = {}
        self.moves: dict[bytes, list[Seen | Hinted]] = {}  # of records and hints of a key, in order
        self.births: dict[bytes, dict[Dot, Seen]] = {}  # where a dot was first seen as a sibling
        self.final: dict[bytes, Knowledge] = {}
        self.contradictions: list[str] = []  # dots that have named two different things
        self.damaged: list[str] = []  # records that a node wrote down though their checksum does not hold
        self._arrivals: dict[tuple[bytes, Dot], dict[str, int]] = {}  # as asked for until now
        for change in log:
            if change.key < RECORDS_END:
                self._add(change.key[PREFIX_BYTES:], change)
            else:
                owner, storage_key = split_hint(change.key)
                moves = self.moves.setdefault(storage_key[PREFIX_BYTES:], [])
                moves.append(Hinted(change.step, change.node, owner, change.record is not None, change.cause))
        for disk in disks:
            for storage_key, record in disk.data.items():
                if storage_key < RECORDS_END and is_sound(record):
                    key = storage_key[PREFIX_BYTES:]
                    self.final[key] = join(self.final.get(key, NOTHING), self._knowledge(record))

    def _knowledge(self, record: bytes) -> Knowledge:
        known = self._decoded.get(record)
        if known is None:
            clock, siblings = versions.decode(record)
            by_dot = {(s.actor, s.counter): Version(s.kind, s.value, s.expires_at_ms) for s in siblings}
            known = self._decoded[record] = Knowledge(clock, by_dot)
        return known

    def _add(self, key: bytes, change: Change) -> None:
        step, now_ms, node, _, record, cause = change
        if record is not None and record not in self._decoded and not is_sound(record):
            if cause is Cause.COMMIT:
                self.damaged.append(f"{node} wrote down a damaged record of {key!r} at step {step}")
            record = None
        known = NOTHING if record is None else self._knowledge(record)
        seen = Seen(step, now_ms, node, known, record, cause)
        self.seen.setdefault(key, []).append(seen)
        self.moves.setdefault(key, []).append(seen)
        births = self.births.setdefault(key, {})
        for dot, version in known.siblings.items():
            birth = births.setdefault(dot, seen)
            if birth.known.siblings[dot] != version:
                self.contradictions.append(
                    f"dot {dot} of {key!r} names {birth.known.siblings[dot]} on {birth.node} and {version} on {node}"
                )

    def version(self, key: bytes, dot: Dot) -> Version:
        """What the dot stands for."""
        return self.births[key][dot].known.siblings[dot]

    def dots_of(self, key: bytes, value: bytes | None) -> list[Dot]:
        """The dots under which `value` (None: a tombstone) was ever written; more than one if a relay was retried."""
        wanted = (versions.TOMBSTONE, b"") if value is None else (versions.VALUE, value)
        return [dot for dot, birth in self.births.get(key, {}).items() if birth.known.siblings[dot][:2] == wanted]

    def holders(self, key: bytes, dots: list[Dot], to_step: int) -> list[str]:
        """The nodes to whose disks knowledge of one of the dots had come by that step, the first one first."""
        steps: dict[str, int] = {}
        for dot in dots:
            for node, step in self._arrivals_of(key, dot).items():
                if step <= to_step:
                    steps[node] = min(step, steps.get(node, step))
        return sorted(steps, key=steps.__getitem__)

    def _arrivals_of(self, key: bytes, dot: Dot) -> dict[str, int]:
        """The step at which knowledge of the dot first came to each node's disk. Checkers ask for each dot many times."""
        arrivals = self._arrivals.get((key, dot))
        if arrivals is None:
            arrivals = self._arrivals[key, dot] = {}
            for seen in self.seen.get(key, ()):
                if seen.node not in arrivals and seen.known.covers(dot):
                    arrivals[seen.node] = seen.step
        return arrivals

    def owed(self, key: bytes, to_step: int) -> list[str]:
        """For whom a hint of the key was ever kept up to that step."""
        moves = self.moves.get(key, ())
        return [move.owner for move in moves if isinstance(move, Hinted) and move.is_open and move.step <= to_step]

    def is_held_by_others(self, owners: Sequence[str], key: bytes, from_step: int, to_step: int) -> bool:
        """Whether a node that is none of the owners had a record of the key on its disk at any time between these steps."""
        held: dict[str, bool] = {}
        for seen in self.seen.get(key, ()):
            if seen.node not in owners:
                if seen.step > to_step:
                    break
                if seen.step >= from_step and seen.record is not None:
                    return True
                held[seen.node] = seen.record is not None
        return any(held.values())
