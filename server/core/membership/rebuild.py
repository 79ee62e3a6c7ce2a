"""Rebuild: a node whose store has a block that cannot be read begins an empty store, which the other owners fill.

Theory. Mending stores a sound copy of every record of a damaged block (mending.py), but the block stays in its file. When
a compaction reads that file, it fails, and RocksDB refuses all writes. (Then the process begins another run on the same
store, without compactions: server/shell/node_run.py.) Only a new store is free of the block. An operator would run
`dyn repair` and then `dyn node start --rebuild`. The node does the same by itself if no record can be lost by that. It
begins the repair once all conditions but the last have been true for `HOLD_MS`:

    condition                                                why
    all other members are up; none is being filled, has      for a while theirs are the only copies
      damaged records, or refuses a member whose store
      was set back (rollback.py)
    no member with a smaller id has such a block, too        one node at a time
    this node holds no hints                                 a hint may be the second copy of a write
    this node is not being filled, and mends nothing         that must end first
    its disk has room for writes                             the new store must take all records
    the layout is settled                                    a change of members relies on this node's copies
    W is 2 or more                                           else a write may be on this node alone
    no store of this node was set aside within a day         a disk that fails again and again needs an operator
    all that has been true for `HOLD_MS`                     by then a node that failed is known to be down
    then a repair of all that this node owns has succeeded   the others hold all that can be read here
    no write that is over here is on this node alone: not    a client may have asked for W=1 by itself, whatever the
      one answered at W=1 or with an error, and none that     layout's W is; a write that was answered with an error
      another node answers (a covered write, writes.py);      may survive; and another owner answers a covered write
      and no hint was kept meanwhile                          without this node

Then the process sets the store aside and begins an empty one, under a new actor, as it does for a directory that was set
back (rollback.py), and the node fetches everything (filling.py). The status shows the first condition that is not true.
The last condition is checked in the turn in which the store is given up, again and again until it holds. A write with W=1
that begins later in that turn leaves for the other owners before the process sets the store aside.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from server.core.base.errors import CommandError
from server.core.base.room import FOR_WRITES
from server.core.base.state import DAMAGED, State
from server.core.membership.rollback import HOLD_MS, RollbackDetector
from server.core.messages.questions import STATUS
from server.core.repair.mending import Mending
from server.core.repair.tasks import DONE, RUNNING, RepairTasks, Task
from server.core.ring.layout import SETTLED, Layout
from server.core.work.background import Background
from server.core.work.procedures import Step, Steps
from server.core.work.questions import Answers, Questions

POLL_MS = 1000  # from one check of the conditions to the next
CONFIRMED_POLL_MS, CONFIRMED_POLLS = 5, 200  # how often, and how many times, it checks the last condition
RETRY_MS = 60_000  # at least, from the start of a repair to the start of the next


class Rebuild:
    """Watches for a store that cannot be read as a whole, and has it set aside when that is safe."""

    def __init__(
        self,
        state: State,
        questions: Questions,
        background: Background,
        mending: Mending,
        tasks: RepairTasks,
        rollback: RollbackDetector,
        holds_only_copy: Callable[[], bool],
    ) -> None:
        """`holds_only_copy` says whether a write that is over here (see the table) is on this node alone, as far as it
        knows."""
        self._state = state
        self._questions = questions
        self._background = background
        self._mending = mending
        self._tasks = tasks
        self._rollback = rollback
        self._holds_only_copy = holds_only_copy
        self.waits_for = ""  # the first condition that is not true; empty if the store is sound or all are true
        background.run_forever("rebuild", self._watch)

    def _watch(self) -> Steps:
        """Runs for ever."""
        since_ms: int | None = None  # since when all conditions have been true
        task: Task | None = None
        tried_ms = -RETRY_MS
        while True:
            yield self._background.sleep(POLL_MS)
            state = self._state
            if not (state.records.unreadable or state.store_is_damaged):
                self.waits_for, since_ms, task = "", None, None
                continue
            self.waits_for = yield from self._obstacle()
            if self.waits_for:
                since_ms, task = None, None
                continue
            if since_ms is None:
                since_ms = state.now_ms
            if state.now_ms - since_ms < HOLD_MS:
                continue
            if task is not None and task.state == DONE:
                yield from self._give_up_store()
            elif (task is None or task.state != RUNNING) and state.now_ms - tried_ms >= RETRY_MS:
                tried_ms = state.now_ms
                task = self._start_repair()

    def _give_up_store(self) -> Steps:
        """Has the store set aside, in a turn in which each write that is over here is on another node, too.

        Under load some writes are always on their way. So it looks often, before all conditions are checked anew.
        """
        for _ in range(CONFIRMED_POLLS):
            if not self._holds_only_copy() and not self._state.hints.total:
                self._state.rebuild_reason = DAMAGED
                return None
            self.waits_for = "another owner to confirm writes that are on this node alone so far"
            yield self._background.sleep(CONFIRMED_POLL_MS)
        return None

    def _start_repair(self) -> Task | None:
        """Begins a repair of all that this node owns; None while too many repairs run here."""
        layout = self._state.layout
        assert layout is not None, "the conditions hold"
        owned = [partition for partition in range(layout.partitions) if self._state.id in layout.keepers(partition)]
        try:
            return self._tasks.start(owned)
        except CommandError as error:
            self.waits_for = f"a repair, which cannot begin: {error}"
            return None

    def _obstacle(self) -> Generator[Step, Any, str]:
        """Returns the first condition that is not true, in words; empty if all are true."""
        layout = self._state.layout
        if layout is None:
            return "a layout"
        obstacle = self._obstacle_here(layout)
        if obstacle:
            return obstacle
        others = [member.id for member in layout.members if member.id != self._state.id]
        answers: Answers = yield self._questions.ask(others, STATUS, None)
        for node in others:
            obstacle = self._obstacle_there(node, answers.get(node))
            if obstacle:
                return f"{self._state.layout_name(node)}, which {obstacle}"
        return ""

    def _obstacle_here(self, layout: Layout) -> str:
        state = self._state
        conditions = (
            (layout.phase == SETTLED, "the end of a change of members"),
            (
                min(layout.least_w, layout.effective_w) > 1,
                "an operator, as with W=1 it may hold the only copy of a write",
            ),
            (not self._rollback.aside(), "an operator, as it has begun an empty store within a day already"),
            (state.room == FOR_WRITES, "room on its disk"),
            (not state.is_filling, "the end of its filling"),
            (not len(self._mending), "the mending of its damaged records"),
            (not state.hints.total, "the delivery of its hints"),
        )
        return next((words for holds, words in conditions if not holds), "")

    def _obstacle_there(self, node: str, status: Any) -> str:
        if not status or not self._state.is_usable(node):
            return "is not up"
        conditions = (
            (status.get("filling") is None, "is being filled"),
            (not status.get("damaged"), "has damaged records"),
            (not status.get("gone_back"), "refuses a member"),
            (
                not status.get("unreadable") or node > self._state.id,
                "cannot read all of its store either, and comes first",
            ),
        )
        return next((words for holds, words in conditions if not holds), "")
