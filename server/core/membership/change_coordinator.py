"""The coordinator of a change: takes the layout through its phases, as soon as every member is ready for the next one.

The idea. A phase ends when its condition holds. So no decision is needed, only a node that checks the condition: the first
member by id that can be reached. There is no election. If two nodes consider themselves the coordinator, they make the same
document. If a coordinator dies, the next one asks anew: the answers are facts that the answering nodes keep.

    phase      it ends when                                                                     then
    TRANSFER   every new owner is whole, and no node holds a hint for one                       HANDOVER
    HANDOVER   every member has adopted it, so no node reads from the former owners             SETTLED
    SETTLED    a leaving node stores nothing that others may need, and its clients are done     its removal
    SETTLED    every member has ended the full repair after W was raised (full_repair.py)        the end of `written_w`

A node that is leaving removes no node, least of all itself. Members that are down are not waited for: they get the present
layout when they come back, before they serve anything. But a new owner that is down is not whole. And while N changes,
every member is waited for (ring/replica_change.py).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

from server.core.base.state import State
from server.core.membership.membership import Membership
from server.core.membership.transfers import pending_owners
from server.core.messages.announcements import LayoutView
from server.core.messages.asking import Question
from server.core.messages.questions import ADOPTED, EMPTY, MOVED, REPAIRED
from server.core.ring.layout import HANDOVER, SETTLED, TRANSFER, Layout
from server.core.ring.succession import end_full_repair, hand_over, release, settle
from server.core.work.background import Background
from server.core.work.procedures import Step, Steps
from server.core.work.questions import Answers, Questions

POLL_MS = 250


class ChangeCoordinator:
    """Coordinates the change of the layout while one is under way and no member before this one in the list can."""

    def __init__(self, state: State, questions: Questions, background: Background, membership: Membership) -> None:
        self._state = state
        self._questions = questions
        self._background = background
        self._membership = membership
        background.run_forever("change coordinator", self._steps)

    def _steps(self) -> Steps:
        while True:
            yield self._background.sleep(POLL_MS)
            layout = self._state.layout
            if layout is None or not self._is_mine(layout):
                continue
            following = yield from self._following(layout)
            if following is not None:
                yield from self._membership.prepare(following)
                if self._state.layout is layout:
                    self._membership.publish(following)

    def _is_mine(self, layout: Layout) -> bool:
        """Whether a change is under way, and this node is the first member that can coordinate it."""
        if layout.phase == SETTLED and not layout.leaving and not layout.written_w:
            return False
        state = self._state
        # A node that leaves forgets the layout, so it must not be the only one that knows of its removal.
        able = layout.staying if layout.phase == SETTLED else layout.members
        reached = (member.id for member in able if member.id == state.id or state.is_usable(member.id))
        return state.id == next(reached, "")

    def _following(self, layout: Layout) -> Generator[Step, Any, Layout | None]:
        """The layout of the next phase; None if the present phase has not ended."""
        if layout.phase == TRANSFER:
            return hand_over(layout) if (yield from self._is_transferred(layout)) else None
        if layout.phase == HANDOVER:
            answers = yield self._ask(self._membership.expected(), ADOPTED)
            return settle(layout) if self._all_say(self._membership.expected(), answers) else None
        if not layout.leaving:
            members = [member.id for member in layout.members]
            answers = yield self._ask(members, REPAIRED)
            return end_full_repair(layout) if self._all_say(members, answers) else None
        answers = yield self._ask(layout.leaving, EMPTY)
        gone = [node for node in layout.leaving if answers.get(node)]
        return release(layout, gone) if gone else None

    def _is_transferred(self, layout: Layout) -> Generator[Step, Any, bool]:
        members = list(dict.fromkeys([*pending_owners(layout), *self._membership.expected()]))
        answers = yield self._ask(members, MOVED)
        return self._all_say(members, answers)

    def _ask(self, nodes: Sequence[str], question: Question[LayoutView | None, bool]) -> Step:
        return self._questions.ask(nodes, question, self._membership.view())

    def _all_say(self, nodes: Sequence[str], answers: Answers) -> bool:
        return all(answers.get(node) for node in nodes)


def is_empty(
    state: State,
    membership: Membership,
    busy: Callable[[], bool],
    is_drained: Callable[[], bool],
    view: LayoutView | None,
) -> bool | None:
    """Answers EMPTY: whether this leaving node stores nothing that others may need and has answered all its clients.

    `busy` says whether it has writes in flight. `is_drained` refuses new commands of clients, and says whether the earlier
    ones have their replies.
    """
    if not membership.is_present(view):
        return None
    empty = not state.records.keys and not state.hints.total and not busy() and not membership.in_flight()
    return empty and is_drained()
