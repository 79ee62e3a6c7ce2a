"""Transfers: a new owner fetches its partitions from the former owners, while these go on serving them.

In the phase TRANSFER of a layout each new owner does three steps, and repeats them until it is complete:

 1. It waits until every member that is not down has adopted this layout and has no request in flight from before. From
    then on, every write is sent to the new owner too. So the new owner lacks only writes from before that moment.
 2. It exchanges each partition with one former owner. If a former owner loses the partition to this node, it is that one,
    so that the load is spread. This step moves the data (exchange.py), partition by partition, and the sources take turns.
 3. It compares each partition with the other former owners, because one of them alone may lack acknowledged writes.
    partition_fetch.py says how many have to be equal.

While N changes, the owners that stay do the same three steps, and each member counts, down or not (ring/replica_change.py).

The node is then *whole*. It says so when the coordinator of the change asks (MOVED), and that one begins the next phase
(change_coordinator.py).

If a member comes back meanwhile, it may have accepted writes under an older layout. Then every partition is compared again.
That is cheap, because equal trees cost some bytes. For the same reason a crash of either side and a new revision of the
layout lose nothing: what arrived is equal and is not fetched again. The pace is that of all background work.

An operator may pause a transfer: its exchange ends at its next question, and no other one begins until the operator lets it
go on. That stays so over restarts of the node, and ends with the change. Meanwhile the layout stays as it is, so reads and
writes go where they went.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from typing import Any

from server.core.base.state import State
from server.core.membership.membership import Membership
from server.core.membership.partition_fetch import PartitionFetch
from server.core.membership.throughput import Throughput
from server.core.messages import shapes
from server.core.messages.announcements import LayoutView
from server.core.messages.questions import ADOPTED, Partitions, Pause
from server.core.messages.stored import stored
from server.core.repair.exchange import Outcome
from server.core.repair.tasks import ABORTED, DONE, RUNNING
from server.core.ring.layout import Layout
from server.core.work.background import Background
from server.core.work.procedures import Step, Steps
from server.core.work.questions import Answers, Questions

POLL_MS = 250
SAMPLE_MS = 1000
_DOCUMENT = b"transfer"

Document = dict[str, Any]


def incoming(layout: Layout, node: str) -> list[int]:
    """The partitions of which `node` is a pending owner: it has to fetch them."""
    return [partition for partition, _ in layout.former if node in layout.fetching(partition)]


def pending_owners(layout: Layout) -> list[str]:
    """The nodes that have to fetch at least one partition under this layout."""
    return list(dict.fromkeys(node for partition, _ in layout.former for node in layout.fetching(partition)))


def sources(layout: Layout, partition: int, node: str) -> list[str]:
    """The former owners of a partition, in the order in which `node` asks them.

    First comes the former owner that `node` replaces, then those that stay owners (another one first for each partition and
    node), then those that other nodes replace.
    """
    former, owners = other_former_owners(layout, partition, node), layout.owners[partition]
    comers = [owner for owner in owners if owner not in layout.former_owners(partition)]
    index = comers.index(node) if node in comers else len(comers) + owners.index(node)
    leaving = [owner for owner in former if owner not in owners]
    staying = [owner for owner in former if owner in owners]
    turn = (partition + index) % len(staying) if staying else 0
    staying = staying[turn:] + staying[:turn]
    return (
        leaving[index : index + 1] + staying + [owner for owner in leaving if owner not in leaving[index : index + 1]]
    )


def in_turns(partitions: Sequence[int], layout: Layout, node: str) -> list[int]:
    """Sorts partitions so that their first sources take turns."""
    ranks: dict[str, int] = {}
    order = []
    for partition in partitions:
        source = sources(layout, partition, node)[0]
        ranks[source] = ranks.get(source, 0) + 1
        order.append((ranks[source], partition))
    return [partition for _, partition in sorted(order)]


def _decode(document: bytes) -> Document:
    row: Document = shapes.parse(document, shapes.STORED_TRANSFER, "a transfer")
    return row


def other_former_owners(layout: Layout, partition: int, node: str) -> list[str]:
    """The former owners of a partition without `node`."""
    return [owner for owner in layout.former_owners(partition) if owner != node]


class Transfers:
    """Fetches the partitions of which this node is a pending owner, and reports the progress."""

    def __init__(self, state: State, questions: Questions, background: Background, membership: Membership) -> None:
        self._state = state
        self._questions = questions
        self._background = background
        self._membership = membership
        self._layout: Layout | None = None  # the layout that the fields below belong to
        self._wanted: list[int] = []
        self._confirmed: dict[str, None] = {}  # members that had adopted the layout before the comparisons began
        self._fetch = PartitionFetch(
            state, questions, background, self._fetched_from, membership.is_down, exchanged=self._save_counts
        )
        self._throughput = Throughput()
        self._row: Document = {}
        self._saved = b""
        self._load()
        background.run_forever("transfers", self._steps)
        background.run_forever("transfer samples", self._sample_throughput)

    def _fetched_from(self, layout: Layout, partition: int) -> Sequence[str]:
        return other_former_owners(layout, partition, self._state.id)

    def _load(self) -> None:
        """Loads the counts of an earlier process on this store."""
        self._row = stored(self._state.records, _DOCUMENT, _decode, {}, {})
        if self._row:
            self._fetch.outcome.bytes_sent = self._row["bytes_sent"]
            self._fetch.outcome.keys_taken = self._row["keys_repaired"]
            self._fetch.outcome.stopped = self._is_paused()

    # --- answers to other nodes

    def moved(self, view: LayoutView | None) -> bool | None:
        """Answers MOVED: whether this node is whole and holds no hint for a pending owner; None under another layout."""
        if not self._membership.is_present(view):
            return None
        return self._is_whole() and not self._has_hints_for_pending_owners()

    def counts(self, asked: Partitions) -> list[int] | None:
        """Answers COUNTS: how many keys this node stores of each partition; None under another layout."""
        layout = self._state.layout
        if layout is None or asked.epoch != layout.epoch or any(p >= layout.partitions for p in asked.partitions):
            return None
        return [self._fetch.keys_here(layout, partition) for partition in asked.partitions]

    def document(self) -> Document | None:
        """The progress, for the status of the cluster; None if this node has nothing to fetch."""
        layout = self._state.layout
        return None if layout is None or self._layout is not layout or not self._wanted else self._progress(layout)

    def _progress(self, layout: Layout) -> Document:
        progress = self._fetch.progress(layout)
        is_complete = progress.partitions_done == progress.partitions
        return {
            "partitions": progress.partitions,
            "partitions_done": progress.partitions_done,
            "keys": progress.keys_here + progress.keys_missing,
            "keys_done": progress.keys_here,
            "bytes_sent": self._fetch.outcome.bytes_sent,
            "eta_s": 0 if is_complete else self._throughput.eta_s(progress.keys_missing),
        } | ({"paused": True} if self._is_paused() else {})

    def pause(self, asked: Pause) -> list[Document] | None:
        """Answers PAUSE: pauses the transfer that runs here, or lets it go on. Returns its row; None if none runs by that
        name."""
        if self._row.get("state") != RUNNING or asked.name not in ("", self._row["task"]):
            return None
        self._row["paused"] = self._fetch.outcome.stopped = asked.is_paused
        self._throughput = Throughput()
        self._row["eta_s"] = None
        self._save_row()
        return [self._row]

    def _is_paused(self) -> bool:
        return bool(self._row.get("paused"))

    def tasks(self) -> list[Document]:
        """The row of the last transfer for `dyn task`, if there was one."""
        return [self._row] if self._row else []

    # --- whole or not

    def _has_hints_for_pending_owners(self) -> bool:
        """Whether this node holds hints for pending owners, or had to drop some: those owners lack acknowledged writes."""
        layout, hints = self._state.layout, self._state.hints
        return layout is not None and any(
            hints.count(owner) or owner in hints.dropped_hints for owner in pending_owners(layout)
        )

    def _is_whole(self) -> bool:
        layout = self._state.layout
        if layout is None:
            return False
        wanted = incoming(layout, self._state.id)
        if not wanted:
            return True
        return (
            self._layout is layout
            and all(self._fetch.is_complete(layout, partition) for partition in wanted)
            and all(member in self._confirmed for member in self._membership.expected())
        )

    # --- the work

    def _steps(self) -> Steps:
        yield self._background.sleep(0)
        while True:
            layout = self._state.layout
            if layout is not None and layout is not self._layout:
                self._begin(layout)
            if layout is not None and self._wanted and not self._is_paused() and not self._is_whole():
                yield from self._fetch_all(layout)
            yield self._background.sleep(POLL_MS)

    def _begin(self, layout: Layout) -> None:
        """Begins to work by another layout. If its epoch is that of the last one, the task and its counts go on."""
        name = f"transfer-{layout.epoch}-{self._state.member.name}"
        if self._row.get("state") == RUNNING:
            if self._layout is not None:
                self._update_row(self._progress(self._layout))
            # A phase ends when all owners are whole. Another epoch begins whenever an operator commits it.
            state = DONE if self._row["task"] == name else ABORTED
            self._row |= {"state": state, "eta_s": 0, "ended_ms": self._state.time_ms}
        self._layout = layout
        self._wanted = in_turns(incoming(layout, self._state.id), layout, self._state.id)
        self._fetch.reset(self._wanted)
        self._confirmed.clear()
        self._throughput = Throughput()
        if self._wanted:
            if self._row.get("task") != name:
                self._fetch.outcome = Outcome()
                self._row = {"task": name, "started_ms": self._state.time_ms}
            self._row.pop("ended_ms", None)  # it goes on under a new revision of the layout
            self._update_row(self._progress(layout))
        else:
            self._row.pop("paused", None)
        self._save_row()

    def _fetch_all(self, layout: Layout) -> Generator[Step, Any, None]:
        """One pass of the three steps, with the nodes that can be reached now."""
        adopted = yield from self._who_adopted(layout)
        if adopted is None:
            return
        if any(member not in self._confirmed for member in adopted):
            self._fetch.forget_comparisons(self._wanted)
            self._confirmed = dict.fromkeys(adopted)
        yield from self._fetch.fetch_all(layout, lambda partition: sources(layout, partition, self._state.id))

    def _who_adopted(self, layout: Layout) -> Generator[Step, Any, list[str] | None]:
        """The members that the phase waits for, if all of them have adopted this layout; else None."""
        members = self._membership.expected()
        answers: Answers = yield self._questions.ask(members, ADOPTED, self._membership.view())
        if self._state.layout is not layout or not all(answers.get(member) for member in members):
            return None
        return members

    # --- progress

    def _sample_throughput(self) -> Steps:
        """Takes a sample of the throughput each second, and stores the counts."""
        while True:
            yield self._background.sleep(SAMPLE_MS)
            document = self.document()
            if document is not None:
                self._throughput.add_sample(self._state.now_ms, document["keys_done"])
                self._update_row(document)
                self._save_row()

    def _update_row(self, counted: Document) -> None:
        """Updates the row of the task from what `_progress` made."""
        self._row |= {
            "state": RUNNING,
            "partitions": counted["partitions"],
            "partitions_done": counted["partitions_done"],
            "keys_compared": counted["keys_done"],
            "keys_repaired": self._fetch.outcome.keys_taken,
            "bytes_sent": counted["bytes_sent"],
            "node": self._state.member.name,
            "error": "",
            "eta_s": counted["eta_s"],
        }

    def _save_counts(self) -> None:
        """Stores the counts after each exchange, so that a kill before the next sample does not lose them."""
        outcome = self._fetch.outcome
        self._row |= {"keys_repaired": outcome.keys_taken, "bytes_sent": outcome.bytes_sent}
        self._save_row()

    def _save_row(self) -> None:
        """Stores the row of the task if it has changed."""
        encoded = json.dumps(self._row, separators=(",", ":")).encode()
        if self._row and encoded != self._saved:
            self._saved = encoded
            self._state.records.put_document(_DOCUMENT, encoded)
