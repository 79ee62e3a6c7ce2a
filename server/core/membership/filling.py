"""Filling: a node that has lost its disk fetches what it owns from the other owners, and is not healthy until it has it.

Theory. A layout says that a node owns partitions, and not that it has them. A directory that was wiped, put aside
(`--rebuild`) or lost with its disk begins without a layout, gets one from a peer, and finds itself a *reader* in it, a node
that is asked for what it does not have. (A node that joins is no reader until it has fetched everything, see transfers.py.)
While it is being filled every key has one copy less than the operator believes, and who goes on to the next disk may lose
data. So the node marks itself with the batch that stores the layout, the mark outlives restarts, and the status is degraded
until the node is whole.

It exchanges each of its partitions with one of the other owners, in turns, so that these share the load, and then compares
with the others. It is whole when all that are not down agree, and n - w + 1 of them at least: one of so many has each
acknowledged write. As soon as it knows that others have more, what it does not hold is no vote in a read (comparison.py).

The members of a new cluster begin without a layout, too. They find at the first comparison that nobody has anything.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from functools import partial
from typing import Any

from server.core.base.state import State
from server.core.membership.membership import Membership
from server.core.membership.pace import Pace
from server.core.messages import shapes
from server.core.messages.stored import stored
from server.core.repair.exchange import Exchange, Outcome, PeerLost
from server.core.repair.tasks import DONE, RUNNING
from server.core.ring.layout import Layout
from server.core.work.background import Background
from server.core.work.procedures import Step, Steps
from server.core.work.questions import Answers, Questions

LOOK_MS = 100
RETRY_MS = 1000  # after an attempt that has brought nothing
SAMPLE_MS = 1000
_CHUNK_PARTITIONS = 16  # compared at a time, so that what is done stays done
_DOCUMENT = b"filling"

Document = dict[str, Any]


class Filling:
    """What this node fetches of what it should have, and how far that is."""

    def __init__(self, state: State, questions: Questions, background: Background, membership: Membership) -> None:
        self._state = state
        self._questions = questions
        self._background = background
        self._membership = membership
        self._layout: Layout | None = None  # the one that the rest is about
        self._compared: dict[
            int, dict[str, None]
        ] = {}  # by partition that is owned: the owners that it was compared with
        self._expected: dict[int, int] = {}  # by partition: the keys that another owner holds
        self._outcome = Outcome()
        self._pace = Pace()
        unknown = {"state": RUNNING, "task": "fill", "started_ms": 0, "node": state.member.name, "error": ""}
        parse = partial(shapes.parse, shape=shapes.FILLING, what="the filling of this node")
        self._row: Document = stored(
            state.records,
            _DOCUMENT,
            parse,
            {},
            unknown,
        )
        self._outcome.keys_taken = self._row.get("keys_repaired", 0)
        self._outcome.bytes_sent = self._row.get("bytes_sent", 0)
        state.is_filling = state.lacks_records = self._row.get("state") == RUNNING
        self._has_entered = state.records.document(b"layout") is not None
        background.run_forever("filling", self._steps)
        background.run_forever("filling samples", self._watch)

    # --- what is told

    def document(self) -> Document | None:
        """How far it is, for an operator; None when nothing is to be filled."""
        layout = self._layout
        if not self._state.is_filling or layout is None:
            return None
        done = [partition for partition in self._compared if self._is_done(layout, partition)]
        here = {partition: self._keys_here(layout, partition) for partition in self._compared}
        keys_done = sum(here.values())
        left = sum(
            max(0, self._expected.get(partition, 0) - count)
            for partition, count in here.items()
            if partition not in done
        )
        keys = keys_done + left
        is_known = len(self._expected) == len(self._compared)
        return {
            "partitions": len(self._compared),
            "partitions_done": len(done),
            "keys": keys,
            "keys_done": keys_done,
            "percent": (99 * keys_done // keys if keys else 0) if is_known else 0,
            "bytes_sent": self._outcome.bytes_sent,
            "eta_s": self._pace.eta_s(left) if left and is_known else None,
        }

    def tasks(self) -> list[Document]:
        """The latest filling, as `dyn task` shows it."""
        return [self._row] if self._row else []

    def _keys_here(self, layout: Layout, partition: int) -> int:
        trees = self._state.records.trees
        return trees.keys_in(trees.span_of(layout.partitions, partition))

    # --- what is to be filled

    def review(self) -> None:
        """There is a layout, or another one."""
        layout = self._state.layout
        if layout is None:
            self._has_entered = False
            return
        has_entered, self._has_entered = self._has_entered, True
        if layout is self._layout:
            return
        self._layout = layout
        owned = [partition for partition in range(layout.partitions) if self._others(layout, partition)]
        if not has_entered and owned:
            self._begin()
        self._compared = {partition: {} for partition in owned} if self._state.is_filling else {}
        self._expected.clear()
        if self._state.is_filling:
            self._keep(RUNNING)

    def _begin(self) -> None:
        state = self._state
        state.is_filling = True
        self._outcome = Outcome()
        name = f"fill-{state.member.name}-{state.rng.getrandbits(32):08x}"
        self._row = {"task": name, "started_ms": state.time_ms, "node": state.member.name, "error": ""}

    def _others(self, layout: Layout, partition: int) -> list[str]:
        """The other owners of a partition that this node is asked for; none if it is not asked."""
        readers = layout.readers(partition)
        return [node for node in readers if node != self._state.id] if self._state.id in readers else []

    def _is_done(self, layout: Layout, partition: int) -> bool:
        others, compared = self._others(layout, partition), self._compared[partition]
        if len(compared) < min(len(others), layout.n - layout.w + 1):
            return False
        return all(node in compared or self._membership.is_down(node) for node in others)

    # --- the work

    def _steps(self) -> Steps:
        """Runs for ever."""
        yield self._background.pause(0)
        while True:
            layout = self._layout
            if self._state.is_filling and layout is not None and layout is self._state.layout:
                compared = sum(map(len, self._compared.values()))
                yield from self._run(layout)
                if sum(map(len, self._compared.values())) == compared and self._outcome.unsettled:
                    yield self._background.pause(RETRY_MS)
                if layout is self._state.layout and all(
                    self._is_done(layout, partition) for partition in self._compared
                ):
                    self._end()
            yield self._background.pause(LOOK_MS)

    def _run(self, layout: Layout) -> Generator[Step, Any, None]:
        """As much as can be done at present."""
        yield from self._count(layout)
        for number, partition in enumerate(list(self._compared)):
            if layout is not self._state.layout:
                return
            if not self._compared[partition]:
                others = self._others(layout, partition)
                turn = number % len(others)
                for node in others[turn:] + others[:turn]:
                    if self._state.is_usable(node) and (yield from self._exchange(layout, node, [partition])):
                        break
        yield from self._compare(layout)

    def _count(self, layout: Layout) -> Generator[Step, Any, None]:
        """Asks for what is to come, by partition."""
        by_node: dict[str, list[int]] = {}
        for partition in self._compared:
            usable = [node for node in self._others(layout, partition) if self._state.is_usable(node)]
            if usable and partition not in self._expected:
                by_node.setdefault(usable[partition % len(usable)], []).append(partition)
        for node, partitions in by_node.items():
            answers: Answers = yield self._questions.ask([node], b"COUNTS", layout.epoch, *partitions)
            told = answers.get(node, [])
            if self._state.layout is layout and len(told) == len(partitions):
                self._expected |= {partition: int(count) for partition, count in zip(partitions, told, strict=True)}
        for partition, keys in self._expected.items():
            if keys > self._keys_here(layout, partition):
                self._state.lacks_records = True

    def _compare(self, layout: Layout) -> Generator[Step, Any, None]:
        """What the owners hold that each partition was not compared with yet."""
        by_node: dict[str, list[int]] = {}
        for partition, compared in self._compared.items():
            for node in self._others(layout, partition):
                if node not in compared:
                    by_node.setdefault(node, []).append(partition)
        for node, partitions in by_node.items():
            for first in range(0, len(partitions), _CHUNK_PARTITIONS):
                if self._state.layout is not layout or not self._state.is_usable(node):
                    break
                yield from self._exchange(layout, node, partitions[first : first + _CHUNK_PARTITIONS])

    def _exchange(self, layout: Layout, peer: str, partitions: list[int]) -> Generator[Step, Any, bool]:
        """Makes some partitions equal here and there; answers whether they are."""
        outcome = self._outcome
        unsettled = outcome.unsettled
        spans = [self._state.records.trees.span_of(layout.partitions, partition) for partition in sorted(partitions)]
        try:
            yield from Exchange(self._state, self._questions, self._background, peer, outcome, must_give=False).repair(
                spans
            )
        except PeerLost:
            return False
        if outcome.unsettled > unsettled or self._state.layout is not layout:
            return False
        for partition in partitions:
            self._compared[partition][peer] = None
        return True

    def _end(self) -> None:
        """This node has all that it should have."""
        if self._outcome.keys_taken or self._state.lacks_records:
            self._keep(DONE)
        else:  # a member of a new cluster, where nobody has anything
            self._row = {}
            self._state.records.put_document(_DOCUMENT, None)
        self._state.is_filling = self._state.lacks_records = False
        self._pace = Pace()

    # --- how far it is

    def _watch(self) -> Steps:
        """Takes a sample of the pace each second, and keeps what has been counted."""
        while True:
            yield self._background.pause(SAMPLE_MS)
            document = self.document()
            if document is not None:
                self._pace.note(self._state.now_ms, document["keys_done"])
                self._keep(RUNNING)

    def _keep(self, task_state: str) -> None:
        """Writes down the row of the task, which is also the mark that this node is being filled."""
        document = self.document() or {"partitions": 0, "partitions_done": 0, "keys_done": 0, "eta_s": None}
        self._row |= {
            "state": task_state,
            "partitions": document["partitions"],
            "partitions_done": document["partitions_done"],
            "keys_compared": document["keys_done"],
            "keys_repaired": self._outcome.keys_taken,
            "bytes_sent": self._outcome.bytes_sent,
            "eta_s": document["eta_s"] if task_state == RUNNING else 0,
        }
        encoded = json.dumps(self._row, separators=(",", ":")).encode()
        self._state.records.put_document(_DOCUMENT, encoded)
