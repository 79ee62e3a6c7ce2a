"""Filling: a node that lost its disk fetches its partitions again, and counts as degraded until it has them.

The problem. A layout says that a node owns partitions. It does not say that the node has their records. A directory that
was wiped, put aside (`--rebuild`) or lost with its disk begins without a layout. The node then gets a layout from a peer,
and is a *reader* by it: other nodes send it reads of keys that it does not have. (A node that joins is no reader before it
has fetched everything, see transfers.py.) Until it is filled, every key has one copy less than the operator believes. An
operator who then replaces the next disk may lose data.

The idea. The node marks itself as being filled, in the batch that stores the layout. The mark outlives restarts, and the
status of the cluster is degraded until the mark is gone. The node exchanges each of its partitions with one of the other
owners; these take turns, so that they share the load. Then it compares each partition with the other owners
(partition_fetch.py says when a partition is complete). As soon as it knows that other owners hold more keys, a key that it
does not hold is no vote in a read (comparison.py).

The members of a new cluster begin without a layout, too. Their first comparison finds that no owner holds anything.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from functools import partial
from typing import Any

from server.core.base.state import State
from server.core.membership.membership import Membership
from server.core.membership.partition_fetch import PartitionFetch
from server.core.membership.throughput import Throughput
from server.core.messages import shapes
from server.core.messages.stored import stored
from server.core.repair.exchange import Outcome
from server.core.repair.tasks import DONE, RUNNING
from server.core.ring.layout import Layout
from server.core.work.background import Background
from server.core.work.procedures import Step, Steps
from server.core.work.questions import Questions

POLL_MS = 100
RETRY_MS = 1000  # after an attempt that made nothing equal
SAMPLE_MS = 1000
_DOCUMENT = b"filling"

Document = dict[str, Any]


class Filling:
    """Fetches all partitions of a node that lost its disk, and reports the progress."""

    def __init__(self, state: State, questions: Questions, background: Background, membership: Membership) -> None:
        self._state = state
        self._background = background
        self._layout: Layout | None = None  # the layout that `_fetch` works by
        self._fetch = PartitionFetch(state, questions, background, self._others, membership.is_down)
        self._throughput = Throughput()
        unknown = {"state": RUNNING, "task": "fill", "started_ms": 0, "node": state.member.name, "error": ""}
        parse = partial(shapes.parse, shape=shapes.FILLING, what="the filling of this node")
        self._row: Document = stored(
            state.records,
            _DOCUMENT,
            parse,
            {},
            unknown,
        )
        self._fetch.outcome.keys_taken = self._row.get("keys_repaired", 0)
        self._fetch.outcome.bytes_sent = self._row.get("bytes_sent", 0)
        state.is_filling = state.lacks_records = self._row.get("state") == RUNNING
        self._has_entered = state.records.document(b"layout") is not None
        background.run_forever("filling", self._steps)
        background.run_forever("filling samples", self._sample_throughput)

    # --- for operators

    def document(self) -> Document | None:
        """The progress, for the status of the cluster; None if this node is not being filled."""
        layout = self._layout
        if not self._state.is_filling or layout is None:
            return None
        fetch = self._fetch
        progress = fetch.progress(layout)
        keys = progress.keys_here + progress.keys_missing
        is_known = len(fetch.expected_keys) == progress.partitions
        return {
            "partitions": progress.partitions,
            "partitions_done": progress.partitions_done,
            "keys": keys,
            "keys_done": progress.keys_here,
            "percent": (99 * progress.keys_here // keys if keys else 0) if is_known else 0,
            "bytes_sent": fetch.outcome.bytes_sent,
            "eta_s": self._throughput.eta_s(progress.keys_missing) if progress.keys_missing and is_known else None,
        }

    def tasks(self) -> list[Document]:
        """The row of the last filling for `dyn task`, if there was one."""
        return [self._row] if self._row else []

    # --- what to fetch

    def review(self) -> None:
        """The layout has changed. If this is the node's first layout, filling begins; else it goes on by the new layout."""
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
        self._fetch.reset(owned if self._state.is_filling else [])
        if self._state.is_filling:
            self._save_row(RUNNING)

    def _begin(self) -> None:
        """Marks this node as being filled. `_save_row` writes the mark."""
        state = self._state
        state.is_filling = True
        self._fetch.outcome = Outcome()
        name = f"fill-{state.member.name}-{state.rng.getrandbits(32):08x}"
        self._row = {"task": name, "started_ms": state.time_ms, "node": state.member.name, "error": ""}

    def _others(self, layout: Layout, partition: int) -> list[str]:
        """The other readers of a partition; none if this node is not one of its readers."""
        readers = layout.readers(partition)
        return [node for node in readers if node != self._state.id] if self._state.id in readers else []

    # --- the work

    def _steps(self) -> Steps:
        yield self._background.sleep(0)
        while True:
            layout = self._layout
            if self._state.is_filling and layout is not None and layout is self._state.layout:
                fetch = self._fetch
                equal = sum(map(len, fetch.equal.values()))
                yield from self._fetch_all(layout)
                if sum(map(len, fetch.equal.values())) == equal and fetch.outcome.unsettled:
                    yield self._background.sleep(RETRY_MS)
                if layout is self._state.layout and all(fetch.is_complete(layout, part) for part in fetch.equal):
                    self._finish()
            yield self._background.sleep(POLL_MS)

    def _fetch_all(self, layout: Layout) -> Generator[Step, Any, None]:
        """One pass over all partitions, with the owners that can be reached now."""
        places = {partition: place for place, partition in enumerate(self._fetch.equal)}

        def sources(partition: int) -> list[str]:
            others = self._others(layout, partition)
            turn = places[partition] % len(others)  # the other owners take turns, so that they share the load
            return others[turn:] + others[:turn]

        yield from self._fetch.fetch_all(layout, sources, lambda: self._note_counts(layout))

    def _note_counts(self, layout: Layout) -> None:
        """Notes whether other owners hold more keys: then a key that is missing here is no vote in a read."""
        fetch = self._fetch
        if any(keys > fetch.keys_here(layout, partition) for partition, keys in fetch.expected_keys.items()):
            self._state.lacks_records = True

    def _finish(self) -> None:
        """All partitions are complete: removes the mark."""
        if self._fetch.outcome.keys_taken or self._state.lacks_records:
            self._save_row(DONE)
        else:  # a member of a new cluster: no owner holds anything
            self._row = {}
            self._state.records.put_document(_DOCUMENT, None)
        self._state.is_filling = self._state.lacks_records = False
        self._throughput = Throughput()

    # --- progress

    def _sample_throughput(self) -> Steps:
        """Takes a sample of the throughput each second, and stores the counts."""
        while True:
            yield self._background.sleep(SAMPLE_MS)
            document = self.document()
            if document is not None:
                self._throughput.add_sample(self._state.now_ms, document["keys_done"])
                self._save_row(RUNNING)

    def _save_row(self, task_state: str) -> None:
        """Stores the row of the task. A row that is running is the mark that this node is being filled."""
        if task_state == DONE:
            self._row["ended_ms"] = self._state.time_ms
        document = self.document() or {"partitions": 0, "partitions_done": 0, "keys_done": 0, "eta_s": None}
        self._row |= {
            "state": task_state,
            "partitions": document["partitions"],
            "partitions_done": document["partitions_done"],
            "keys_compared": document["keys_done"],
            "keys_repaired": self._fetch.outcome.keys_taken,
            "bytes_sent": self._fetch.outcome.bytes_sent,
            "eta_s": document["eta_s"] if task_state == RUNNING else 0,
        }
        encoded = json.dumps(self._row, separators=(",", ":")).encode()
        self._state.records.put_document(_DOCUMENT, encoded)
