"""Transfers: a new owner fetches what it is to own, from the former owners, while these go on serving it.

Theory. In the phase TRANSFER each new owner does the same, for as long as it takes:

 1. It waits until every member that is not down acts by this layout, and has nothing under way that it began before. From
    then on each write is sent to the new owner, too, so what it lacks is what was written up to then.
 2. It exchanges each of its partitions with one former owner: the one that it takes over from, if there is one, so that the
    load is spread. This is where the data moves (exchange.py): partition by partition, whose sources take turns.
 3. It compares with the other former owners, for one alone may lack writes that were acknowledged. All that are not down
    must agree, and n - w + 1 at least: one of so many has each write.

Then the node is *whole*, says so when it is asked (MOVED), and the steward goes on to the next phase (steward.py). A member
that comes back meanwhile may have served writes by an older layout, so all is compared again, which is cheap: equal trees
cost some bytes. For the same reason nothing is lost by a crash of either side, or a new revision: what has arrived is equal
and is not fetched again. The pace is that of all background work.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from typing import Any

from server.core.base.state import State
from server.core.membership.membership import NO, YES, Membership
from server.core.membership.pace import Pace
from server.core.membership.partition_fetch import PartitionFetch
from server.core.messages import shapes
from server.core.messages.kinds import View
from server.core.messages.questions import Partitions
from server.core.messages.stored import stored
from server.core.repair.exchange import Outcome
from server.core.repair.tasks import ABORTED, DONE, RUNNING
from server.core.ring.layout import TRANSFER, Layout
from server.core.work.background import Background
from server.core.work.procedures import Step, Steps
from server.core.work.questions import Answers, Questions

LOOK_MS = 250
SAMPLE_MS = 1000
_DOCUMENT = b"transfer"

Document = dict[str, Any]


def incoming(layout: Layout, node: str) -> list[int]:
    """The partitions that `node` has to fetch under this layout."""
    if layout.phase != TRANSFER:
        return []
    return [partition for partition, former in layout.former if node in layout.owners[partition] and node not in former]


def comers_of(layout: Layout) -> list[str]:
    """The nodes that have to fetch something under this layout."""
    rows = layout.former if layout.phase == TRANSFER else ()
    return list(
        dict.fromkeys(node for partition, former in rows for node in layout.owners[partition] if node not in former)
    )


def sources(layout: Layout, partition: int, node: str) -> list[str]:
    """The former owners of a partition in the order in which `node` asks them: first who leaves it for `node`'s sake."""
    former, owners = layout.former_owners(partition), layout.owners[partition]
    index = [owner for owner in owners if owner not in former].index(node)
    leaving = [owner for owner in former if owner not in owners]
    staying = [owner for owner in former if owner in owners]
    turn = (partition + index) % len(staying) if staying else 0
    staying = staying[turn:] + staying[:turn]
    return (
        leaving[index : index + 1] + staying + [owner for owner in leaving if owner not in leaving[index : index + 1]]
    )


def in_turns(partitions: Sequence[int], layout: Layout, node: str) -> list[int]:
    """The partitions in an order in which their first sources take turns."""
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


def _former_owners(layout: Layout, partition: int) -> Sequence[str]:
    return layout.former_owners(partition)


class Transfers:
    """What this node fetches under the present layout, and how far that is."""

    def __init__(self, state: State, questions: Questions, background: Background, membership: Membership) -> None:
        self._state = state
        self._questions = questions
        self._background = background
        self._membership = membership
        self._layout: Layout | None = None  # the one that the rest is about
        self._wanted: list[int] = []
        self._confirmed: dict[str, None] = {}  # members that sent each write here before that comparison
        self._fetch = PartitionFetch(
            state, questions, background, _former_owners, membership.is_down, exchanged=self._bank
        )
        self._pace = Pace()
        self._row: Document = {}
        self._saved = b""
        self._load()
        background.run_forever("transfers", self._steps)
        background.run_forever("transfer samples", self._watch)

    def _load(self) -> None:
        """What an earlier life of this node has counted."""
        self._row = stored(self._state.records, _DOCUMENT, _decode, {}, {})
        if self._row:
            self._fetch.outcome.bytes_sent = self._row["bytes_sent"]
            self._fetch.outcome.keys_taken = self._row["keys_repaired"]

    # --- what is told

    def moved(self, view: View | None) -> list[bytes]:
        """MOVED: whether this node holds all that it owns under that layout, and owes nothing to those who are to be
        owners; nothing where another one rules."""
        if not self._membership.is_present(view):
            return []
        return [YES if self._is_whole() and not self._owes() else NO]

    def counts(self, asked: Partitions) -> list[bytes]:
        """COUNTS: how many keys are stored here of each partition."""
        layout = self._state.layout
        if layout is None or asked.epoch != layout.epoch or any(p >= layout.partitions for p in asked.partitions):
            return []
        return [b"%d" % self._fetch.keys_here(layout, partition) for partition in asked.partitions]

    def document(self) -> Document | None:
        """How far it is, for an operator; None when nothing is fetched here."""
        layout = self._state.layout
        return None if layout is None or self._layout is not layout or not self._wanted else self._counted(layout)

    def _counted(self, layout: Layout) -> Document:
        progress = self._fetch.progress(layout)
        is_complete = progress.partitions_done == progress.partitions
        return {
            "partitions": progress.partitions,
            "partitions_done": progress.partitions_done,
            "keys": progress.keys_here + progress.keys_missing,
            "keys_done": progress.keys_here,
            "bytes_sent": self._fetch.outcome.bytes_sent,
            "eta_s": 0 if is_complete else self._pace.eta_s(progress.keys_missing),
        }

    def tasks(self) -> list[Document]:
        """The latest transfer, as `dyn task` shows it."""
        return [self._row] if self._row else []

    # --- whole or not

    def _owes(self) -> bool:
        """Whether hints are kept here for nodes that are to be owners, or there was no room for some: they lack writes that
        have been acknowledged."""
        layout, hints = self._state.layout, self._state.hints
        return layout is not None and any(
            hints.count(comer) or comer in hints.dropped_hints for comer in comers_of(layout)
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
        """Runs for ever."""
        yield self._background.pause(0)
        while True:
            layout = self._state.layout
            if layout is not None and layout is not self._layout:
                self._begin(layout)
            if layout is not None and self._wanted and not self._is_whole():
                yield from self._run(layout)
            yield self._background.pause(LOOK_MS)

    def _begin(self, layout: Layout) -> None:
        """There is another layout: what was done under the last one of the same epoch need not be done again."""
        name = f"transfer-{layout.epoch}-{self._state.member.name}"
        if self._row.get("state") == RUNNING:
            if self._layout is not None:
                self._note(self._counted(self._layout))
            # A phase ends when all is done, and another epoch begins whenever an operator wants it.
            self._row |= {"state": DONE if self._row["task"] == name else ABORTED, "eta_s": 0}
        self._layout = layout
        self._wanted = in_turns(incoming(layout, self._state.id), layout, self._state.id)
        self._fetch.reset(self._wanted)
        self._confirmed.clear()
        self._pace = Pace()
        if self._wanted:
            if self._row.get("task") != name:
                self._fetch.outcome = Outcome()
                self._row = {"task": name, "started_ms": self._state.time_ms}
            self._note(self._counted(layout))
        self._keep()

    def _run(self, layout: Layout) -> Generator[Step, Any, None]:
        """As much as can be done at present."""
        adopted = yield from self._who_adopted(layout)
        if adopted is None:
            return
        if any(member not in self._confirmed for member in adopted):
            self._fetch.forget_comparisons(self._wanted)
            self._confirmed = dict.fromkeys(adopted)
        fetch = self._fetch
        yield from fetch.count_keys(layout, lambda partition: self._source_of(layout, partition))
        for partition in self._wanted:
            if not fetch.equal[partition]:
                yield from self._fetch_whole(layout, partition)
            if self._state.layout is not layout:
                return
        yield from fetch.compare(layout, [partition for partition in self._wanted if fetch.equal[partition]])

    def _who_adopted(self, layout: Layout) -> Generator[Step, Any, list[str] | None]:
        """The members that are not down, if all of them act by this layout; else None."""
        members = self._membership.expected()
        answers: Answers = yield self._questions.ask(members, b"ADOPTED", *self._membership.view())
        if self._state.layout is not layout or any(answers.get(member) != [YES] for member in members):
            return None
        return members

    def _source_of(self, layout: Layout, partition: int) -> str | None:
        """The owner that is asked how many keys a partition has: the first source that can be reached."""
        return next((peer for peer in sources(layout, partition, self._state.id) if self._state.is_usable(peer)), None)

    def _fetch_whole(self, layout: Layout, partition: int) -> Generator[Step, Any, None]:
        """Fetches the whole partition from the first source that gives it."""
        for source in sources(layout, partition, self._state.id):
            if self._state.is_usable(source) and (yield from self._fetch.exchange(layout, source, [partition])):
                return

    # --- how far it is

    def _watch(self) -> Steps:
        """Takes a sample of the pace each second, and keeps what has been counted."""
        while True:
            yield self._background.pause(SAMPLE_MS)
            document = self.document()
            if document is not None:
                self._pace.note(self._state.now_ms, document["keys_done"])
                self._note(document)
                self._keep()

    def _note(self, counted: Document) -> None:
        """The row of the latest transfer, as of now."""
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

    def _bank(self) -> None:
        """After each exchange: what it has moved is counted, also if this process is killed before the next sample."""
        outcome = self._fetch.outcome
        self._row |= {"keys_repaired": outcome.keys_taken, "bytes_sent": outcome.bytes_sent}
        self._keep()

    def _keep(self) -> None:
        """Writes the row down, if it has changed."""
        encoded = json.dumps(self._row, separators=(",", ":")).encode()
        if self._row and encoded != self._saved:
            self._saved = encoded
            self._state.records.put_document(_DOCUMENT, encoded)
