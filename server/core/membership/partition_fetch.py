"""Fetches partitions under one layout, and records for each which owners it has been made equal to.

Three procedures fetch partitions: a new owner (transfers.py), a node that lost its disk (filling.py), and every owner after
W was raised (full_repair.py). They differ in which partitions they fetch, from which owners, and in what they wait for
before they begin. The rest is the same, and is in this module: each pass over the partitions is one call of `fetch_all`.

This table says when a partition is complete here. `owners` are the nodes that it is fetched from, n is their N, and w the
smallest W that a stored write may have been acknowledged with (ring/quorum_change.py). A node that serves reads of the
partition, and has not lost its disk, is one of the n itself:

    equal to n - w + 1 owners at least,    equal to every owner    complete
    or to all of them if there are fewer   that is not down
    yes                                    yes                     yes
    yes                                    no                      no: that owner may hold a write that the others lack
    no                                     yes                     no: a write may be only on owners that are down

A write has w acknowledgements, so any n - w + 1 of the n owners include one that acknowledged it. Where a stand-in
acknowledged for an owner, the write reaches that owner with its hint.

That a partition is equal to an owner stays recorded as long as the layout is the same. So if an exchange fails, only the
partitions of its batch are exchanged again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

from server.core.base.state import State
from server.core.messages.questions import COUNTS, Partitions
from server.core.repair.exchange import Exchange, Outcome, PeerLost
from server.core.ring.layout import Layout
from server.core.work.background import Background
from server.core.work.procedures import Step
from server.core.work.questions import Answers, Questions

_BATCH_PARTITIONS = 16  # partitions of one exchange; if its peer is lost, the batches before it stay recorded


class FetchProgress(NamedTuple):
    """The progress of a fetch. `keys_missing` counts only partitions that are not complete."""

    partitions: int
    partitions_done: int
    keys_here: int
    keys_missing: int


class PartitionFetch:
    """Fetches partitions from their other owners, and records which copies are equal."""

    def __init__(
        self,
        state: State,
        questions: Questions,
        background: Background,
        owners: Callable[[Layout, int], Sequence[str]],
        is_down: Callable[[str], bool],
        exchanged: Callable[[], None] = lambda: None,
    ) -> None:
        """`owners` returns the nodes that a partition is fetched from, without this node.

        `is_down` tells whether a member is down. `exchanged` is called after each exchange, whether it succeeded or not.
        """
        self._state = state
        self._questions = questions
        self._background = background
        self._owners = owners
        self._is_down = is_down
        self._exchanged = exchanged
        self.equal: dict[int, dict[str, None]] = {}  # by partition: the owners that this node's copy is equal to
        self.expected_keys: dict[int, int] = {}  # by partition: how many keys an owner said it holds
        self.outcome = Outcome()

    def reset(self, partitions: Sequence[int]) -> None:
        """Begins again with these partitions: forgets all comparisons and key counts."""
        self.forget_comparisons(partitions)
        self.expected_keys.clear()

    def forget_comparisons(self, partitions: Sequence[int]) -> None:
        """Forgets which owners these partitions equal: owners may have accepted writes under an older layout since."""
        self.equal = {partition: {} for partition in partitions}

    # --- how far it is

    def is_complete(self, layout: Layout, partition: int) -> bool:
        """Whether this node holds every acknowledged write of a partition, by the table above."""
        owners, equal = self._owners(layout, partition), self.equal.get(partition, {})
        is_one = self._state.id in layout.readers(partition) and not self._state.is_filling
        if len(equal) < min(len(owners), layout.fetch_quorum - is_one):
            return False
        return all(owner in equal or self._is_down(owner) for owner in owners)

    def keys_here(self, layout: Layout, partition: int) -> int:
        """Returns how many keys of a partition this node stores."""
        trees = self._state.records.trees
        return trees.keys_in(trees.span_of(layout.partitions, partition))

    def progress(self, layout: Layout) -> FetchProgress:
        """Counts partitions and keys, for operators."""
        done = keys = missing = 0
        for partition in self.equal:
            here = self.keys_here(layout, partition)
            keys += here
            if self.is_complete(layout, partition):
                done += 1
            else:
                missing += max(0, self.expected_keys.get(partition, 0) - here)
        return FetchProgress(len(self.equal), done, keys, missing)

    # --- the work

    def fetch_all(
        self,
        layout: Layout,
        sources: Callable[[int], Sequence[str]] | None = None,
        counted: Callable[[], None] = lambda: None,
    ) -> Generator[Step, Any, None]:
        """One pass over all partitions, with the owners that can be reached now.

        First each partition that equals no owner is fetched from one of its `sources`, the first that gives it. Then all
        partitions are compared with their other owners. `counted` is called once it is known how many keys the owners have.
        Without `sources` this node holds most keys already: then all partitions are compared at once.
        """
        if sources is not None:
            yield from self.count_keys(layout, lambda partition: self._first_usable(sources(partition)))
            counted()
            for partition in list(self.equal):
                if self._state.layout is not layout or self.outcome.stopped:
                    return
                if not self.equal[partition]:
                    yield from self._fetch_whole(layout, partition, sources(partition))
        fetched = [partition for partition, equal in self.equal.items() if equal or sources is None]
        yield from self.compare(layout, fetched)

    def _first_usable(self, nodes: Sequence[str]) -> str | None:
        return next((node for node in nodes if self._state.is_usable(node)), None)

    def _fetch_whole(self, layout: Layout, partition: int, sources: Sequence[str]) -> Generator[Step, Any, None]:
        """Fetches a whole partition from the first source that gives it."""
        for source in sources:
            if self._state.is_usable(source) and (yield from self.exchange(layout, source, [partition])):
                return

    def count_keys(self, layout: Layout, source_of: Callable[[int], str | None]) -> Generator[Step, Any, None]:
        """Asks one owner of each partition how many keys it holds, unless that is known.

        `source_of` returns the owner to ask for a partition, or None if none can be reached."""
        by_source: dict[str, list[int]] = {}
        for partition in self.equal:
            source = source_of(partition) if partition not in self.expected_keys else None
            if source is not None:
                by_source.setdefault(source, []).append(partition)
        for source, partitions in by_source.items():
            answers: Answers = yield self._questions.ask([source], COUNTS, Partitions(layout.epoch, partitions))
            counts: list[int] | None = answers.get(source)
            if self._state.layout is layout and counts is not None:
                self.expected_keys |= dict(zip(partitions, counts, strict=True))

    def compare(self, layout: Layout, partitions: Sequence[int]) -> Generator[Step, Any, None]:
        """Exchanges partitions, in batches, with each of their owners that they are not recorded as equal to."""
        by_owner: dict[str, list[int]] = {}
        for partition in partitions:
            for owner in self._owners(layout, partition):
                if owner not in self.equal[partition]:
                    by_owner.setdefault(owner, []).append(partition)
        for owner, missing in by_owner.items():
            for first in range(0, len(missing), _BATCH_PARTITIONS):
                if self._state.layout is not layout or not self._state.is_usable(owner):
                    break
                yield from self.exchange(layout, owner, missing[first : first + _BATCH_PARTITIONS])

    def exchange(self, layout: Layout, peer: str, partitions: Sequence[int]) -> Generator[Step, Any, bool]:
        """Fetches all that `peer` holds of these partitions, and sends it what it lacks. Returns whether all was fetched.

        Then the partitions are recorded as equal to those of `peer`.
        """
        outcome = self.outcome
        unsettled = outcome.unsettled
        spans = [self._state.records.trees.span_of(layout.partitions, partition) for partition in sorted(partitions)]
        # must_give=False: this node can fetch from a peer whose full disk stores nothing. Such clusters add nodes.
        exchange = Exchange(self._state, self._questions, self._background, peer, outcome, must_give=False)
        try:
            yield from exchange.repair(spans)
        except PeerLost:
            return False
        finally:
            self._exchanged()
        if outcome.unsettled > unsettled or self._state.layout is not layout:
            return False
        for partition in partitions:
            self.equal[partition][peer] = None
        return True
