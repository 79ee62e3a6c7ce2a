"""The quorum verdict (promise P4): a tally of distinct replicas whose verdict, once given, never changes back.

Theory. A request to N replicas succeeds when `wanted` of them acknowledge it, and can no longer succeed when so many
have failed that the rest do not suffice. Both are facts about *sets* of replicas: a duplicated acknowledgement counts
once, and one that follows the same replica's failure (its link broke, yet the answer had arrived) still counts as long
as no verdict was given. Nothing here knows of time; whoever keeps the deadline asks for the state at that moment.

While a partition moves its former owners and its new ones are two such sets, and a write needs its quorum in each: so a
reader finds it, whichever of the two it asks.
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
    """The same for a write to a partition that moves: `wanted` replicas of each of the `rows`, or all of a shorter one."""

    __slots__ = ("rows",)

    def __init__(self, rows: tuple[tuple[str, ...], ...], replicas: int, wanted: int) -> None:
        super().__init__(replicas, wanted)
        self.rows = rows

    @property
    def got(self) -> int:
        """How many acknowledgements there are in the row that has least."""
        return min(sum(replica in self.acked for replica in row) for row in self.rows)

    def ack(self, replica: str) -> Verdict:
        """`replica` has done what was asked. Idempotent."""
        self.acked.add(replica)
        self.failed.discard(replica)
        if self.verdict is Verdict.PENDING and all(
            self._count(row, self.acked) >= self._need(row) for row in self.rows
        ):
            self.verdict = Verdict.MET
        return self.verdict

    def fail(self, replica: str) -> Verdict:
        """`replica` cannot or will not do it. Idempotent; does not take back an acknowledgement."""
        if replica not in self.acked:
            self.failed.add(replica)
            if self.verdict is Verdict.PENDING and any(
                len(row) - self._count(row, self.failed) < self._need(row) for row in self.rows
            ):
                self.verdict = Verdict.IMPOSSIBLE
        return self.verdict

    def _need(self, row: tuple[str, ...]) -> int:
        return min(self.wanted, len(row))

    @staticmethod
    def _count(row: tuple[str, ...], replicas: set[str]) -> int:
        return sum(replica in replicas for replica in row)
