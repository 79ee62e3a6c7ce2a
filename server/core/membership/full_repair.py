"""The full repair after W was raised: each owner makes its partitions equal to every other owner's.

The problem. Writes that were acknowledged with the former, smaller W may have only so many copies. While `written_w` is in
the layout, reads by a small R could miss them, and R and W may not change as if they were safe (ring/quorum_change.py).

The idea. Every node does three steps under one layout, while no partition moves:

 1. It waits until every member has said that it has adopted this layout, has no request in flight from before, and holds no
    hint. From then on, each write has W copies, and each older write is at one of its owners.
 2. It compares each partition that it owns with every other owner, and fetches what it lacks (partition_fetch.py).
 3. Once its partitions are equal to those of all other owners, it says so when the coordinator of changes asks (REPAIRED).

If all members say so, all owners of a partition hold every older write, and the coordinator ends `written_w` with a
revision of the layout (change_coordinator.py).

A member that is down may hold the only copy of a write, and its answer is needed. So the repair waits for it, unlike a
transfer. What a node knows holds for its present layout and process: after either has changed, it begins again, which is
cheap, because equal trees cost some bytes. The pace is that of all background work.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from server.core.base.state import State
from server.core.membership.membership import Membership
from server.core.membership.partition_fetch import PartitionFetch
from server.core.messages.announcements import LayoutView
from server.core.messages.questions import CONFIRMED
from server.core.ring.layout import SETTLED, Layout
from server.core.work.background import Background
from server.core.work.procedures import Step, Steps
from server.core.work.questions import Answers, Questions

POLL_MS = 250


class FullRepair:
    """Makes this node's partitions equal to those of all other owners, while the layout asks for it."""

    def __init__(self, state: State, questions: Questions, background: Background, membership: Membership) -> None:
        self._state = state
        self._questions = questions
        self._background = background
        self._membership = membership
        self._layout: Layout | None = None  # the layout that the fields below belong to
        self._confirmed: dict[str, None] = {}  # members that have taken step 1
        self._fetch = PartitionFetch(state, questions, background, self._others, lambda member: False)
        background.run_forever("full repair", self._steps)

    # --- answers to other nodes

    def confirmed(self, view: LayoutView | None) -> bool | None:
        """Answers CONFIRMED: whether no write from before this layout is in flight or kept as a hint here; None under
        another layout."""
        adopted = self._membership.adopted(view)
        return adopted and not self._state.hints.total

    def repaired(self, view: LayoutView | None) -> bool | None:
        """Answers REPAIRED: whether this node's partitions are equal to those of all other owners; None under another
        layout."""
        if not self._membership.is_present(view):
            return None
        layout = self._state.layout
        return layout is not None and layout is self._layout and self._is_done(layout)

    # --- the work

    def _others(self, layout: Layout, partition: int) -> list[str]:
        """The other owners of a partition; none if this node does not own it."""
        owners = layout.owners[partition]
        return [node for node in owners if node != self._state.id] if self._state.id in owners else []

    def _is_done(self, layout: Layout) -> bool:
        if any(member.id not in self._confirmed for member in layout.members):
            return False
        return all(
            owner in equal
            for partition, equal in self._fetch.equal.items()
            for owner in self._others(layout, partition)
        )

    def _steps(self) -> Steps:
        while True:
            yield self._background.sleep(POLL_MS)
            layout = self._state.layout
            if layout is None or layout.phase != SETTLED or not layout.written_w:
                continue
            if layout is not self._layout:
                self._layout = layout
                self._confirmed = {}
                self._fetch.reset(
                    [partition for partition in range(layout.partitions) if self._others(layout, partition)]
                )
            if not self._is_done(layout):
                yield from self._repair(layout)

    def _repair(self, layout: Layout) -> Generator[Step, Any, None]:
        """One pass of the first two steps, with the nodes that can be reached now."""
        waiting = [member.id for member in layout.members if member.id not in self._confirmed]
        if waiting:
            answers: Answers = yield self._questions.ask(waiting, CONFIRMED, self._membership.view())
            if self._state.layout is not layout:
                return
            self._confirmed |= dict.fromkeys(node for node in waiting if answers.get(node))
        if all(member.id in self._confirmed for member in layout.members):
            yield from self._fetch.fetch_all(layout)
