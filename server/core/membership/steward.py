"""The steward: takes a change through its phases, as soon as every member is ready for the next one.

Theory. No phase needs a decision, only somebody who looks whether its condition holds: the first member by id that can be
reached. There is no election. Two nodes that hold themselves for the steward make the same document; and whoever takes over
from one that has died asks anew, for the answers are facts that stand with those who give them.

    TRANSFER   each new owner is whole, and nobody keeps a hint for one          -> HANDOVER
    HANDOVER   all members act by it: nobody reads from the former owners       -> SETTLED
    SETTLED    who was leaving holds nothing any more                           -> it is no member from now on

Who is leaving lets nobody go, itself least of all. Members that are down are not waited for: they find the present layout
when they are back, before they serve anybody. But a new owner that is down is not whole.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

from server.core.base.state import State
from server.core.membership.membership import NO, YES, Membership
from server.core.membership.transfers import comers_of
from server.core.messages.kinds import View
from server.core.ring.layout import HANDOVER, SETTLED, TRANSFER, Layout
from server.core.ring.succession import hand_over, release, settle
from server.core.work.background import Background
from server.core.work.procedures import Step, Steps
from server.core.work.questions import Answers, Questions

LOOK_MS = 250


class Steward:
    """Looks after the change under way, if there is one and nobody before this node does."""

    def __init__(self, state: State, questions: Questions, background: Background, membership: Membership) -> None:
        self._state = state
        self._questions = questions
        self._background = background
        self._membership = membership
        background.run_forever("steward", self._steps)

    def _steps(self) -> Steps:
        """Runs for ever."""
        while True:
            yield self._background.pause(LOOK_MS)
            layout = self._state.layout
            if layout is None or not self._is_mine(layout):
                continue
            following = yield from self._following(layout)
            if following is not None:
                yield from self._membership.prepare(following)
                if self._state.layout is layout:
                    self._membership.publish(following)

    def _is_mine(self, layout: Layout) -> bool:
        """Whether there is something to be done, and nobody before us in the list can do it."""
        if layout.phase == SETTLED and not layout.leaving:
            return False
        state = self._state
        # Who goes forgets the layout: it must not be the only one that has ever heard that it was let go.
        able = layout.staying if layout.phase == SETTLED else layout.members
        reached = (member.id for member in able if member.id == state.id or state.is_usable(member.id))
        return state.id == next(reached, "")

    def _following(self, layout: Layout) -> Generator[Step, Any, Layout | None]:
        """The next document; None if it is not time yet."""
        if layout.phase == TRANSFER:
            return hand_over(layout) if (yield from self._is_moved(layout)) else None
        if layout.phase == HANDOVER:
            answers = yield self._ask(self._membership.expected(), b"ADOPTED")
            return settle(layout) if self._all_say(self._membership.expected(), answers) else None
        answers = yield self._ask(layout.leaving, b"EMPTY")
        gone = [node for node in layout.leaving if answers.get(node) == [YES]]
        return release(layout, gone) if gone else None

    def _is_moved(self, layout: Layout) -> Generator[Step, Any, bool]:
        members = list(dict.fromkeys([*comers_of(layout), *self._membership.expected()]))
        answers = yield self._ask(members, b"MOVED")
        return self._all_say(members, answers)

    def _ask(self, nodes: Sequence[str], kind: bytes) -> Step:
        return self._questions.ask(nodes, kind, *self._membership.view())

    def _all_say(self, nodes: Sequence[str], answers: Answers) -> bool:
        return all(answers.get(node, [])[:1] == [YES] for node in nodes)


def is_empty(
    state: State, membership: Membership, busy: Callable[[], bool], rested: Callable[[], bool], view: View | None
) -> list[bytes]:
    """EMPTY: whether this node, which is leaving, has nothing any more that others may need, and its clients have
    their answers. `busy` tells whether it has writes in flight; `rested` ends its service, and tells whether it has."""
    if not membership.is_present(view):
        return []
    empty = not state.records.keys and not state.hints.total and not busy() and not membership.in_flight()
    return [YES if empty and rested() else NO]
