"""Promises P1 to P5, judged from the clients' history and the disks alone. Each checker answers what is wrong, in words.

Theory. A write is known by its value, which is unique, and the dots under which that value came to disks. It is *covered*
if one of its dots is a sibling in what all disks know together at the end, or was superseded by a write that had seen it
and is itself covered. Who had seen what comes from the history: a plain command has seen whatever its coordinator held,
DYN.SET exactly its context. Where it was first seen on a disk, a write's record tells what it made obsolete.

A plain write that was overwritten within its own turn never comes to a disk; then a write that overlaps it in time has to
stand for it. So it does for the second attempt of a write whose first coordinator was lost, having written it.
"""

from __future__ import annotations

from collections.abc import Callable

from server.core.versions import TOMBSTONE
from tests.sim.clients import Operation
from tests.sim.evidence import Dot, Evidence, Seen
from tests.sim.intents import Fate, Intent


class Writes:
    """The intents by key and value, and what superseded what."""

    def __init__(self, intents: list[Intent], evidence: Evidence) -> None:
        self.intents = intents
        self.evidence = evidence
        self._by_value: dict[tuple[bytes, bytes | None], list[Intent]] = {}
        self._by_key: dict[bytes, list[Intent]] = {}
        self._by_operation: dict[int, Intent] = {}
        self._dots: dict[int, list[Dot]] = {}
        self._superseders: dict[tuple[bytes, Dot], list[Dot]] = {}
        for intent in intents:
            self._by_value.setdefault((intent.key, intent.value), []).append(intent)
            self._by_key.setdefault(intent.key, []).append(intent)
            self._by_operation[id(intent.operation)] = intent

    def of(self, key: bytes, value: bytes | None) -> list[Intent]:
        """The writes of a value: one; or all deletions of a key."""
        return self._by_value.get((key, value), [])

    def of_operation(self, operation: Operation) -> Intent | None:
        """What an operation on one key meant to write, if anything."""
        return self._by_operation.get(id(operation))

    def of_key(self, key: bytes) -> list[Intent]:
        """All writes of a key."""
        return self._by_key.get(key, [])

    def authors(self, key: bytes, dot: Dot) -> list[Intent]:
        """Who may have written it: one, or for a tombstone all deletions of the key."""
        version = self.evidence.version(key, dot)
        return self.of(key, None if version.kind == TOMBSTONE else version.value)

    def superseders(self, key: bytes, dot: Dot) -> list[Dot]:
        """The writes that had seen `dot` and made it obsolete."""
        found = self._superseders.get((key, dot))
        if found is None:
            found = self._superseders[key, dot] = [
                later
                for later, birth in self.evidence.births[key].items()
                if birth.known.covers(dot)
                and dot not in birth.known.siblings
                and any(author.may_supersede(dot) for author in self.authors(key, later))
            ]
        return found

    def covered(self, key: bytes, dot: Dot) -> bool:
        """Whether the write lives at the end, or was superseded rightly, by a write of which the same holds."""
        final = self.evidence.final.get(key)
        passed: list[Dot] = []
        open_dots = [dot]
        while open_dots and final is not None:
            present = open_dots.pop()
            if present in final.siblings:
                return True
            passed.append(present)
            open_dots += [later for later in self.superseders(key, present) if later not in passed]
        return False

    def dots(self, intent: Intent) -> list[Dot]:
        """The dots that may be this write's."""
        dots = self._dots.get(id(intent))
        if dots is None:
            dots = self._dots[id(intent)] = self._find_dots(intent)
        return dots

    def _find_dots(self, intent: Intent) -> list[Dot]:
        dots = self.evidence.dots_of(intent.key, intent.value)
        if intent.value is None:
            births = self.evidence.births.get(intent.key, {})
            end_step = intent.operation.answered_step if intent.operation.answered else 1 << 60
            dots = [dot for dot in dots if intent.operation.invoked_step <= births[dot].step <= end_step]
        return dots

    def stand_ins(self, intent: Intent) -> list[Dot]:
        """Writes that overlap this one and may have superseded it within its turn, before it came to a disk.

        If it did come to one, then at one coordinator, and only another one's writes can hide a second attempt.
        """
        known = [] if intent.value is None else [actor for actor, _ in self.dots(intent)]
        begin, end = intent.operation.invoked_step, intent.operation.answered_step
        births = self.evidence.births.get(intent.key, {})
        return [
            dot
            for dot, birth in births.items()
            if birth.step >= begin
            and dot[0] not in known
            and any(
                other.context is None and other.operation.invoked_step <= end and other is not intent
                for other in self.authors(intent.key, dot)
            )
        ]


def check_dots(evidence: Evidence, writes: Writes) -> list[str]:
    """P2: no dot names two writes; and no value comes from nowhere."""
    faults = list(evidence.contradictions)
    for key, births in evidence.births.items():
        faults += [
            f"{births[dot].known.siblings[dot]} of {key!r} on {births[dot].node} was written by nobody"
            for dot in births
            if not writes.authors(key, dot)
        ]
    return faults


def check_disks(
    evidence: Evidence, writes: Writes, losses: list[tuple[int, str]], owners: Callable[[bytes], list[str]]
) -> list[str]:
    """P3: between two losses of an owner's disk its knowledge only grows; what goes was superseded, and stays gone."""
    faults = []
    for key, seen in evidence.seen.items():
        last: dict[str, Seen] = {}
        for now in seen:
            before = last.get(now.node)
            last[now.node] = now
            if (
                before is None
                or now.node not in owners(key)
                or any(before.step <= step <= now.step and node == now.node for step, node in losses)
            ):
                continue
            where = f"{key!r} on {now.node} at step {now.step}"
            if any(counter > now.known.clock.get(actor, -1) for actor, counter in before.known.clock.items()):
                faults.append(f"the clock of {where} went back")
            for dot in before.known.siblings:
                rightly = dot in now.known.siblings or any(
                    now.known.covers(later) for later in writes.superseders(key, dot)
                )
                if not rightly:
                    faults.append(f"{before.known.siblings[dot]} of {where} went without being superseded")
            for dot, version in now.known.siblings.items():
                if dot not in before.known.siblings and before.known.covers(dot):
                    faults.append(f"{version} of {where} came back")
    return faults


def check_acknowledged(writes: Writes, forgetful: list[str]) -> list[str]:
    """P1 and P4: at its acknowledgement a write is on W distinct disks, and at the end it is covered.

    `forgetful` nodes have lost commits: a write that was acknowledged by them alone is not promised to survive.
    """
    faults = []
    evidence = writes.evidence
    for intent in writes.intents:
        operation, key = intent.operation, intent.key
        if intent.fate is not Fate.ACKED:
            continue
        dots = writes.dots(intent)
        holders = evidence.holders(key, dots, operation.answered_step)
        if len(holders) < intent.wanted or not any(writes.covered(key, dot) for dot in dots):
            dots = dots + writes.stand_ins(intent)
            holders = evidence.holders(key, dots, operation.answered_step)
        if len(holders) < intent.wanted:
            faults.append(f"acknowledged at W={intent.wanted} but on the disks of {holders} only: {operation}")
        elif any(node not in forgetful for node in holders) and not any(writes.covered(key, dot) for dot in dots):
            faults.append(f"acknowledged and lost: {operation}")
    return faults


def check_refused(writes: Writes) -> list[str]:
    """P5: what an error says was not written is on no disk."""
    return [
        f"refused, yet written: {intent.operation}"
        for intent in writes.intents
        if intent.fate is Fate.REFUSED and intent.value is not None and writes.dots(intent)
    ]
