"""The quorum verdict (promise P4): a tally of distinct replicas whose verdict, once given, never changes back.

Theory. A request to N replicas succeeds when `wanted` of them acknowledge it, and can no longer succeed when so many
have failed that the rest do not suffice. Both are facts about *sets* of replicas: a duplicated acknowledgement counts
once, and one that follows the same replica's failure (its link broke, yet the answer had arrived) still counts as long
as no verdict was given. Nothing here knows of time; whoever keeps the deadline asks for the state at that moment.

While a partition moves, those who are asked for it and those who will be, or were, are two such sets. A write needs its
quorum among the first. Of the others it wants as many, so that whoever reads there a moment later finds it; but one that
has failed is excused, for a hint is kept for it, and reads do not move while hints are open (transfers.py).
"""

from __future__ import annotations

from enum import Enum


class Verdict(Enum):
    """How a request stands."""

    PENDING = "pending"
    MET = "met"
    IMPOSSIBLE = "impossible"


class Tally:
    """Who of `replicas` distinct replicas has acknowledged one request that wants `wanted` of them."""

    __slots__ = ("acked", "failed", "hinted", "replicas", "verdict", "wanted")

    def __init__(self, replicas: int, wanted: int) -> None:
        assert wanted >= 1, "a quorum of nobody is no quorum"
        self.replicas = replicas
        self.wanted = wanted
        self.acked: set[str] = set()
        self.failed: set[str] = set()
        self.hinted = 0  # replicas for which a hint is kept, whether that counts for the quorum or not
        self.verdict = Verdict.PENDING if wanted <= replicas else Verdict.IMPOSSIBLE

    @property
    def got(self) -> int:
        """How many acknowledgements count towards `wanted`."""
        return len(self.acked)

    def copy(self) -> Tally:
        """Another tally that stands as this one does."""
        tally = Tally(self.replicas, self.wanted)
        tally.acked |= self.acked
        tally.failed |= self.failed
        tally.hinted = self.hinted
        tally.verdict = self.verdict
        return tally

    def ack(self, replica: str) -> Verdict:
        """`replica` has done what was asked. Idempotent."""
        self.acked.add(replica)
        self.failed.discard(replica)
        assert len(self.acked) <= self.replicas, "more acknowledgements than replicas"
        if self.verdict is Verdict.PENDING and len(self.acked) >= self.wanted:
            self.verdict = Verdict.MET
        return self.verdict

    def fail(self, replica: str) -> Verdict:
        """`replica` cannot or will not do it. Idempotent; does not take back an acknowledgement."""
        if replica not in self.acked:
            self.failed.add(replica)
            if self.verdict is Verdict.PENDING and self.replicas - len(self.failed) < self.wanted:
                self.verdict = Verdict.IMPOSSIBLE
        return self.verdict


class DoubleTally(Tally):
    """The same for a write to a partition that moves: `wanted` replicas of `asked`, and of `others` that have not failed.

    Of a row with fewer than `wanted` replicas all are wanted; but in all there are `wanted`, or what was acknowledged would
    be lost with fewer disks than its client has asked for (P1).
    """

    __slots__ = ("asked", "others")

    def __init__(self, asked: tuple[str, ...], others: tuple[str, ...], replicas: int, wanted: int) -> None:
        super().__init__(replicas, wanted)
        self.asked = asked
        self.others = others

    @property
    def got(self) -> int:
        """How many acknowledgements count towards `wanted`: of those asked, or of all where these are too few."""
        return len(self.acked) if len(self.asked) < self.wanted else _count(self.asked, self.acked)

    def ack(self, replica: str) -> Verdict:
        """`replica` has done what was asked. Idempotent."""
        self.acked.add(replica)
        self.failed.discard(replica)
        return self._judge()

    def fail(self, replica: str) -> Verdict:
        """`replica` cannot or will not do it. Idempotent; does not take back an acknowledgement."""
        if replica not in self.acked:
            self.failed.add(replica)
        return self._judge()

    def _judge(self) -> Verdict:
        if self.verdict is not Verdict.PENDING:
            return self.verdict
        need = min(self.wanted, len(self.asked))
        disks = min(self.wanted, self.replicas)
        if len(self.asked) - _count(self.asked, self.failed) < need or self.replicas - len(self.failed) < disks:
            self.verdict = Verdict.IMPOSSIBLE
        elif _count(self.asked, self.acked) >= need and len(self.acked) >= disks:
            left = len(self.others) - _count(self.others, self.failed)
            if _count(self.others, self.acked) >= min(self.wanted, left):
                self.verdict = Verdict.MET
        return self.verdict


def _count(row: tuple[str, ...], replicas: set[str]) -> int:
    return sum(replica in replicas for replica in row)
