"""The quorum verdict (promise P4): a tally of distinct replicas whose verdict never changes once it is given.

Theory. A request to N replicas has its quorum when `wanted` of them have acknowledged it. It can no longer have its
quorum when the replicas that have not failed are fewer than `wanted`. Both are facts about *sets* of replicas:

    event                                           effect on the tally
    an acknowledgement                              counts once for each replica
    the same acknowledgement again                  none
    a failure after an acknowledgement              none
    an acknowledgement after a failure (the link    counts, in place of the failure; but a verdict that was given
    broke, yet the answer had arrived)              stays

The tally knows nothing about time. The group table keeps the deadline, and reads the tally's state at that moment.

While a partition moves, there are two sets of replicas: the *readers*, which are asked for the partition now, and the
*others*, which will be asked later or were asked before. A write needs its quorum among the readers. It also wants as
many acknowledgements of the others, so that a read at the others finds the write soon after. But an other that has
failed is excused: a hint is kept for it, and reads do not move while hints are open (transfers.py). While N changes, the
two sets have each a W of their own (ring/replica_change.py).
"""

from __future__ import annotations

from enum import Enum


class Verdict(Enum):
    """The state of a request's quorum."""

    PENDING = "pending"
    MET = "met"
    IMPOSSIBLE = "impossible"


class Tally:
    """Counts which replicas have acknowledged or failed one request, which wants `wanted` of `replicas` replicas."""

    __slots__ = ("acked", "failed", "hinted", "replicas", "verdict", "wanted")

    def __init__(self, replicas: int, wanted: int) -> None:
        assert wanted >= 1, "a quorum of nobody is no quorum"
        self.replicas = replicas
        self.wanted = wanted
        self.acked: set[str] = set()
        self.failed: set[str] = set()
        self.hinted = 0  # replicas for which a hint is kept, whether it counts for the quorum or not
        self.verdict = Verdict.PENDING if wanted <= replicas else Verdict.IMPOSSIBLE

    @property
    def got(self) -> int:
        """How many acknowledgements count towards `wanted`."""
        return len(self.acked)

    def copy(self) -> Tally:
        """Returns a copy of this tally."""
        tally = Tally(self.replicas, self.wanted)
        tally.acked |= self.acked
        tally.failed |= self.failed
        tally.hinted = self.hinted
        tally.verdict = self.verdict
        return tally

    def ack(self, replica: str) -> Verdict:
        """Counts an acknowledgement of `replica`. Idempotent."""
        self.acked.add(replica)
        self.failed.discard(replica)
        assert len(self.acked) <= self.replicas, "more acknowledgements than replicas"
        if self.verdict is Verdict.PENDING and len(self.acked) >= self.wanted:
            self.verdict = Verdict.MET
        return self.verdict

    def fail(self, replica: str) -> Verdict:
        """Counts a failure of `replica`. Idempotent; it does not take back an acknowledgement."""
        if replica not in self.acked:
            self.failed.add(replica)
            if self.verdict is Verdict.PENDING and self.replicas - len(self.failed) < self.wanted:
                self.verdict = Verdict.IMPOSSIBLE
        return self.verdict


class DoubleTally(Tally):
    """The tally of a write to a partition that moves: `asked` are its readers, `others` its other owners.

    The verdict is MET when all of this holds:

        of           acknowledgements needed
        `asked`      `wanted`, or all of them if they are fewer
        `others`     `others_wanted`, or all that have not failed if these are fewer
        together     `wanted`: else fewer disks would hold the write than its client has asked for (P1)
    """

    __slots__ = ("asked", "others", "others_wanted")

    def __init__(
        self, asked: tuple[str, ...], others: tuple[str, ...], replicas: int, wanted: int, others_wanted: int = 0
    ) -> None:
        super().__init__(replicas, wanted)
        self.asked = asked
        self.others = others
        self.others_wanted = others_wanted or wanted

    @property
    def got(self) -> int:
        """How many acknowledgements count towards `wanted`: those of `asked`, or of all if `asked` are fewer than that."""
        return len(self.acked) if len(self.asked) < self.wanted else _count(self.asked, self.acked)

    def ack(self, replica: str) -> Verdict:
        """Counts an acknowledgement of `replica`. Idempotent."""
        self.acked.add(replica)
        self.failed.discard(replica)
        return self._update_verdict()

    def fail(self, replica: str) -> Verdict:
        """Counts a failure of `replica`. Idempotent; it does not take back an acknowledgement."""
        if replica not in self.acked:
            self.failed.add(replica)
        return self._update_verdict()

    def _update_verdict(self) -> Verdict:
        if self.verdict is not Verdict.PENDING:
            return self.verdict
        need = min(self.wanted, len(self.asked))
        disks = min(self.wanted, self.replicas)
        if len(self.asked) - _count(self.asked, self.failed) < need or self.replicas - len(self.failed) < disks:
            self.verdict = Verdict.IMPOSSIBLE
        elif _count(self.asked, self.acked) >= need and len(self.acked) >= disks:
            left = len(self.others) - _count(self.others, self.failed)
            if _count(self.others, self.acked) >= min(self.others_wanted, left):
                self.verdict = Verdict.MET
        return self.verdict


def _count(row: tuple[str, ...], replicas: set[str]) -> int:
    return sum(replica in replicas for replica in row)
