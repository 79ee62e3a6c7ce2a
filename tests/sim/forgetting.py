"""P6 and P7: hints, and records that go. Judged from the log of the disks alone.

Theory. A disk's knowledge of a key grows, but for three ways in which a node may *forget*. An owner may forget a record
when there was a moment, since which it has not changed there, at which all owners' disks held just that record and no
disk a hint of the key; and what goes for good with it must be dead: tombstones and expired values. (Pruning a clock is
forgetting, too: of actors, while the siblings stay.) A stand-in forgets when it owes the record to nobody any more and
some owner has had it; an older one that comes late, with a new hint, may then lie there instead. And where damage or a
thief was first, nobody has forgotten anything.

A hint may go when the disk of the owner it was for has held, at some time, all that lay on the holder's disk. Or when
that is no keeper any more by the layout on the holder's disk, and the same is owed to all present owners, or is on their
disks.

Who the owners are each node judges by the layout on its own disk (rings.py). A former owner may forget what all keepers'
disks have held (P8). Who is no member any more may forget all; nothing that is on its disk counts.

What was forgotten rightly was on all owners' disks: so whatever it had superseded must never lie on any disk again. But a
disk rolled back by hand to an older copy may bring back what that copy held: nobody is left who remembers the deletion.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import NamedTuple

from tests.sim.disk import Cause
from tests.sim.evidence import NOTHING, Dot, Evidence, Hinted, Knowledge, Seen
from tests.sim.rings import Ring, Row, View


class Forgetting(NamedTuple):
    """An owner has forgotten `known`, rightly, at `step`."""

    step: int
    known: Knowledge


class Forgotten:
    """All that owners have forgotten rightly, by key; and what was wrong about forgetting."""

    def __init__(self, evidence: Evidence, ring: Ring, wall_ms_at: Callable[[int], int]) -> None:
        """`wall_ms_at`: what the fastest clock reads, at the latest, at a time of the simulation."""
        self.faults: list[str] = []
        self._by_key: dict[bytes, list[Forgetting]] = {}
        self._restored: dict[bytes, dict[Dot, None]] = {}
        for key in evidence.moves:
            replay = _Replay(key, ring, wall_ms_at)
            for (_, node, _), moves in groupby(evidence.moves[key], lambda move: (move.step, move.node, move.cause)):
                replay.take(node, list(moves))
            self.faults += replay.faults
            self._by_key[key] = replay.forgotten
            self._restored[key] = replay.restored

    def had(self, key: bytes, dot: Dot) -> bool:
        """Whether the write was forgotten while it was a sibling: dead, and on all owners' disks."""
        return any(dot in forgetting.known.siblings for forgetting in self._by_key.get(key, ()))

    def restored(self, key: bytes, dot: Dot) -> bool:
        """Whether an older copy of a disk brought the write back."""
        return dot in self._restored.get(key, ())

    def knew(self, key: bytes, dot: Dot, to_step: int) -> bool:
        """Whether what was forgotten up to that step knew of the write."""
        return any(
            forgetting.known.covers(dot) for forgetting in self._by_key.get(key, ()) if forgetting.step <= to_step
        )


class _Replay:
    """One key: what lies on each disk, and who owes it to whom."""

    def __init__(self, key: bytes, ring: Ring, wall_ms_at: Callable[[int], int]) -> None:
        self.faults: list[str] = []
        self.forgotten: list[Forgetting] = []
        self._key = key
        self._ring = ring
        self._wall_ms_at = wall_ms_at
        self._held: dict[str, Seen] = {}
        self._since: dict[str, int] = {}  # from which step on something has lain there
        self._damaged: dict[str, bool] = {}
        self._hints: dict[tuple[str, str], None] = {}  # holder, owner
        self._ever: dict[str, dict[bytes, int]] = {}  # the clock of all that a node's disk has ever held
        self._agreed: dict[str, dict[Row, bytes]] = {}  # by node: what it holds, and all of a row held at one moment
        self.restored: dict[Dot, None] = {}  # siblings that a rolled back disk brought with it

    def take(self, node: str, moves: list[Seen | Hinted]) -> None:
        """A batch, or a fault, has changed the disk of `node`."""
        self._agree(moves[0].step - 1)  # the owners may be others than at the last move
        before = self._held.get(node)
        after = before
        owed = [owner for holder, owner in self._hints if holder == node]
        paid = []
        for move in moves:
            if isinstance(move, Seen):
                after = move
            elif move.is_open:
                self._hints[node, move.owner] = None
            else:
                self._hints.pop((node, move.owner), None)
                paid.append(move)
        if before is not None and not self._damaged.get(node):
            for hinted in paid:
                if hinted.cause is Cause.COMMIT:
                    self._judge_hint(hinted, before)
        step = moves[0].step
        if after is not None and after is not before:
            self._record_changed(node, before, after, owed)
        elif after is None and any(holder == node for holder, _ in self._hints):
            self.faults.append(f"{node} keeps a hint of {self._key!r} without a record at step {step}")
        self._agree(step)

    def _judge_hint(self, hinted: Hinted, before: Seen) -> None:
        if self._has_held(hinted.owner, before.known):
            return
        views = self._ring.views(self._key, hinted.node, hinted.step)
        if not views or any(self._has_changed_hands(hinted, before.known, view) for view in views):
            return
        self.faults.append(
            f"the hint of {self._key!r} for {hinted.owner} went from {hinted.node} at step {hinted.step}, "
            "and the owner has never had what it was about"
        )

    def _has_changed_hands(self, hinted: Hinted, known: Knowledge, view: View) -> bool:
        """Whether the debt is to the present owners, or has been paid to them. Who fetches all is owed nothing."""
        return hinted.owner not in view.keepers and all(
            reader == hinted.node or (hinted.node, reader) in self._hints or self._has_held(reader, known)
            for reader in view.readers
        )

    def _has_held(self, node: str, known: Knowledge) -> bool:
        return Knowledge(self._ever.get(node, {}), {}).includes(known)

    def _record_changed(self, node: str, before: Seen | None, after: Seen, owed: list[str]) -> None:
        if after.cause is Cause.DAMAGE:
            self._damaged[node] = True  # what lies there is what lay there, as far as agreement goes
            return
        damaged = self._damaged.pop(node, False)
        known = before.known if before is not None else NOTHING
        if after.cause is Cause.ROLLBACK:
            self.restored.update(dict.fromkeys(after.known.siblings))
        elif after.cause is Cause.COMMIT:
            self._judge_return(known, after)
            if before is not None and not damaged and not after.known.includes(known):
                self._judge_forgetting(before, after, owed)
        if before is None or before.record != after.record:
            self._agreed.pop(node, None)
        self._held[node] = after
        if before is None or before.record is None:
            self._since[node] = after.step
        ever = self._ever.setdefault(node, {})
        for actor, counter in after.known.clock.items():
            ever[actor] = max(counter, ever.get(actor, -1))

    def _judge_forgetting(self, before: Seen, after: Seen, owed: list[str]) -> None:
        """Who has no layout has left, and nothing of it counts any more; nor of one that is gone and does not know it."""
        if self._ring.is_gone(after.node, after.step):
            return
        where = f"{self._key!r} on {after.node} at step {after.step}"
        views = self._ring.views(self._key, after.node, after.step)
        doubts = {view: self._doubt(view.keepers, before, after, owed) for view in views}
        rightly = [view for view, doubt in doubts.items() if not doubt]
        if doubts and not rightly:
            self.faults.append(f"{where} was forgotten, but {[*doubts.values()][-1]}")
        elif rightly and all(after.node in view.keepers for view in rightly):
            self._forgotten_by_an_owner(before, after, where)

    def _doubt(self, keepers: Row, before: Seen, after: Seen, owed: list[str]) -> str:
        """What speaks against forgetting, where these are the keepers; empty if nothing does."""
        node = after.node
        if node in keepers:
            agreed = self._agreed.get(node, {}).get(tuple(sorted(keepers))) == before.record
            return "" if agreed else "not every owner's disk held just that, or hints were open"
        had = [keeper for keeper in keepers if self._has_held(keeper, before.known)]
        if self._ring.has_kept(self._key, node, self._since.get(node, 0), after.step):
            lacking = [keeper for keeper in keepers if keeper not in had]
            return f"the keepers {lacking} never had what their former owner let go" if lacking else ""
        debts = [keeper for keeper in keepers if (node, keeper) in self._hints]
        # a new debt is about a new record
        unpaid = [keeper for keeper in debts if keeper in owed and keeper not in had]
        lost = not had or unpaid or (debts and after.record is None)
        return "a stand-in let it go before the owners had it" if lost else ""

    def _forgotten_by_an_owner(self, before: Seen, after: Seen, where: str) -> None:
        now_ms = self._wall_ms_at(after.now_ms)
        for dot, version in before.known.siblings.items():
            if dot not in after.known.siblings and not after.known.covers(dot) and not version.is_dead(now_ms):
                self.faults.append(f"{version} of {where} was forgotten alive")
        self.forgotten.append(Forgetting(after.step, before.known))

    def _judge_return(self, known: Knowledge, after: Seen) -> None:
        if self._ring.is_gone(after.node, after.step):
            return
        for dot, version in after.known.siblings.items():
            superseded = any(
                forgetting.known.covers(dot) and dot not in forgetting.known.siblings for forgetting in self.forgotten
            )
            if superseded and dot not in known.siblings and dot not in self.restored:
                self.faults.append(
                    f"{version} of {self._key!r} came back to {after.node} at step {after.step}, after what superseded "
                    "it had been collected"
                )

    def _agree(self, step: int) -> None:
        if any(not self._ring.is_gone(holder, step) for holder, _ in self._hints):
            return
        for row in self._ring.rows(self._key, step, step):
            records = [seen.record if (seen := self._held.get(owner)) is not None else None for owner in row]
            first = records[0]
            if first is not None and all(record == first for record in records):
                for owner in row:
                    self._agreed.setdefault(owner, {})[tuple(sorted(row))] = first
