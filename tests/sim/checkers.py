"""Promises P1 to P5 and P11, judged from the clients' history and the disks alone: each checker answers what is wrong.

Theory. A write is known by its value, which is unique, and the dots under which that value came to disks. It is *covered*
if one of its dots is a sibling in what all disks know together at the end, or was superseded by a write that had seen it
and is itself covered, or if it was dead and has been forgotten rightly (forgetting.py). Who had seen what comes from the
history: a plain command has seen whatever its coordinator held, DYN.SET exactly its context. Where it was first seen on a
disk, a write's record tells what it made obsolete.

A plain write that was overwritten within its own turn never comes to a disk; then a write that overlaps it in time has to
stand for it. So it does for the second attempt of a write whose first coordinator was lost, having written it.
"""

from __future__ import annotations

from server.core.records.versions import TOMBSTONE
from tests.sim.clients import Operation
from tests.sim.disk import Cause
from tests.sim.evidence import Dot, Evidence, Seen
from tests.sim.forgetting import Forgotten
from tests.sim.intents import Fate, Intent
from tests.sim.rings import Ring

_NEVER = 1 << 60  # a step


class Writes:
    """The intents by key and value, and what superseded what."""

    def __init__(self, intents: list[Intent], evidence: Evidence, forgotten: Forgotten) -> None:
        self.intents = intents
        self.evidence = evidence
        self.forgotten = forgotten
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
        while open_dots:
            present = open_dots.pop()
            if (final is not None and present in final.siblings) or self.forgotten.had(key, present):
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
    """P2: no dot names two writes; and no value comes from nowhere. P11: no damaged record gets to another disk."""
    faults = evidence.damaged + evidence.contradictions
    for key, births in evidence.births.items():
        faults += [
            f"{births[dot].known.siblings[dot]} of {key!r} on {births[dot].node} was written by nobody"
            for dot in births
            if not writes.authors(key, dot)
        ]
    return faults


def check_disks(evidence: Evidence, writes: Writes) -> list[str]:
    """P3: what goes from a disk was superseded, what is gone stays gone; as long as the disk is not hurt.

    A disk that knows less than before has forgotten: whether that was right is for forgetting.py.
    """
    faults = []
    for key, seen in evidence.seen.items():
        last: dict[str, Seen] = {}
        for now in seen:
            before = last.get(now.node)
            last[now.node] = now
            hurt = now.cause is not Cause.COMMIT or before is None or before.cause is Cause.DAMAGE
            if hurt or not now.known.includes(before.known):
                continue
            where = f"{key!r} on {now.node} at step {now.step}"
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


class Losses:
    """Which disks have lost what they had acknowledged, and when; and when the owners were equal again. A node that an
    operator removes is lost with its disk: what it acknowledges from then on, perhaps unaware of that, too.

    A write that was acknowledged before a convergence is on all owners' disks from then on: what happens to one disk after
    that can do it no harm. But where there are two owners an operator may remove both, and whoever had it from them.
    """

    def __init__(self) -> None:
        self.of_disks: list[tuple[int, str]] = []  # at which step whose
        self.of_nodes: list[tuple[int, str]] = []  # who was removed, perhaps alive: from which step on
        self.convergences: list[tuple[int, list[str]]] = []  # at which steps, of which members

    def spare(self, operation: Operation, evidence: Evidence, key: bytes, dots: list[Dot]) -> bool:
        """Whether one of the holders of an acknowledged write kept its disk until all owners had that write, and one of
        those was not removed until all owners had it again."""
        later = [convergence for convergence in self.convergences if convergence[0] >= operation.answered_step]
        ends = [step for step, _ in later] + [_NEVER]
        lost = [node for step, node in self.of_disks if operation.invoked_step <= step <= ends[0]]
        lost += [node for step, node in self.of_nodes if step <= ends[0]]
        if all(node in lost for node in evidence.holders(key, dots, operation.answered_step)):
            return False
        for (step, members), end_step in zip(later, ends[1:], strict=True):
            had = evidence.holders(key, dots, step)
            came = [node for node in evidence.holders(key, dots, end_step) if node not in had]
            holders = [node for node in had if node in members] + came
            removed = [node for at_step, node in self.of_nodes if step < at_step <= end_step]
            if holders and all(node in removed for node in holders):
                return False
        return True

    def between(self, from_step: int, to_step: int) -> bool:
        """Whether a disk has lost anything in that time."""
        return any(from_step <= step <= to_step for step, _ in [*self.of_disks, *self.of_nodes])


def check_acknowledged(writes: Writes, losses: Losses, ring: Ring) -> list[str]:
    """P1 and P4: at its acknowledgement a write is on W distinct disks, and at the end it is covered.

    While the key moves they are so many of its old owners, and of its new ones. A stand-in's disk counts: it holds the
    record for the sake of its hint. What was acknowledged only by nodes that have lost their disks since is not promised to
    survive.
    """
    faults = []
    evidence = writes.evidence
    for intent in writes.intents:
        operation, key = intent.operation, intent.key
        if intent.fate is not Fate.ACKED:
            continue
        dots = writes.dots(intent)
        holders = evidence.holders(key, dots, operation.answered_step)
        enough = len(holders) >= intent.wanted and _is_quorum(intent, holders, writes, ring)
        if not enough or not any(writes.covered(key, dot) for dot in dots):
            dots = dots + writes.stand_ins(intent)
            holders = evidence.holders(key, dots, operation.answered_step)
        if len(holders) < intent.wanted:
            faults.append(f"acknowledged at W={intent.wanted} but on the disks of {holders} only: {operation}")
        elif not _is_quorum(intent, holders, writes, ring):
            faults.append(f"acknowledged at W={intent.wanted} but {holders} are no quorum of both rows: {operation}")
        elif losses.spare(operation, evidence, key, dots) and not any(writes.covered(key, dot) for dot in dots):
            faults.append(f"acknowledged and lost: {operation}")
    return faults


def _is_quorum(intent: Intent, holders: list[str], writes: Writes, ring: Ring) -> bool:
    """Whether they are enough of those who are asked, and of those who will be or were, but for the ones that a hint was
    ever kept for: by some layout of the time. Who is in neither row may be a stand-in."""
    operation, wanted = intent.operation, intent.wanted
    if wanted == 1:
        return True  # one alone is enough of them all
    owed = writes.evidence.owed(intent.key, operation.answered_step)
    for asked, others in ring.quorum_rows(intent.key, operation.invoked_step, operation.answered_step):
        strangers = sum(node not in asked and node not in others for node in holders)
        excused = [node for node in others if node in owed or node in holders]
        enough = sum(node in asked for node in holders) + strangers >= min(wanted, len(asked))
        if enough and len(excused) + strangers >= min(wanted, len(others)):
            return True
    return False


def check_gone(writes: Writes, losses: Losses) -> list[str]:
    """P7: what an acknowledged write or deletion has superseded is not there at the end, however often it was copied."""
    faults = []
    for intent in writes.intents:
        operation, key = intent.operation, intent.key
        final = writes.evidence.final.get(key)
        if intent.fate is not Fate.ACKED or final is None:
            continue
        births = writes.evidence.births.get(key, {})
        for dot in writes.dots(intent):
            if losses.spare(operation, writes.evidence, key, [dot]):
                known = births[dot].known
                faults += [
                    f"{version} is back, which was superseded by {operation}"
                    for gone, version in final.siblings.items()
                    if known.covers(gone) and gone not in known.siblings and not writes.forgotten.restored(key, gone)
                ]
    return faults


def check_refused(writes: Writes) -> list[str]:
    """P5: what an error says was not written is on no disk."""
    return [
        f"refused, yet written: {intent.operation}"
        for intent in writes.intents
        if intent.fate is Fate.REFUSED and intent.value is not None and writes.dots(intent)
    ]
