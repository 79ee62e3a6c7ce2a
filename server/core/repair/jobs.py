"""A repair job: an owner makes some partitions equal on all their owners, for a repair task of this or another node.

The idea. The node that runs a task (tasks.py) gives each partition to one of its live owners, a few partitions at a time,
because an owner can compare its own tree. It asks the same question until the job is done. The question starts the job,
reads its progress and keeps it alive: a job ends by itself if no task asks about it, and begins anew if its node
restarted.

The owner exchanges with each of the other owners in turn. A record that it got from one of them is new to those that it
visited before, so it visits these again. Then every owner holds what any of them held.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from server.core.base.state import State
from server.core.messages.questions import RepairJob
from server.core.repair.exchange import LOST, UNSETTLED, Exchange, NothingTaken, Outcome, PeerLost
from server.core.work.background import Background
from server.core.work.procedures import Step, Steps
from server.core.work.questions import Questions

JOBS_MAX = 4
SILENCE_MS = 10_000  # a job ends if no task has asked about it for so long
_ROUNDS_MAX = 3
_POLL_MS = 1000

RUNNING, DONE, BUSY = "running", "done", "busy"


class _Job:
    """One job: its partitions and its counts so far."""

    def __init__(self, partitions: list[int], asked_ms: int) -> None:
        self.partitions = partitions
        self.asked_ms = asked_ms
        self.state = RUNNING
        self.outcome = Outcome()
        self.keys: dict[int, int] = {}  # by partition: its keys, once the job is done
        self.missed: dict[tuple[int, str], str] = {}  # (partition, owner) -> LOST or UNSETTLED

    def document(self) -> dict[str, Any]:
        """The answer to the task."""
        return {
            "state": self.state,
            "keys_repaired": self.outcome.keys_repaired,
            "bytes_sent": self.outcome.bytes_sent,
            "keys": list(self.keys.items()),
            "missed": [[partition, owner, why] for (partition, owner), why in self.missed.items()],
        }


class RepairJobs:
    """Runs the jobs of this node."""

    def __init__(self, state: State, questions: Questions, background: Background) -> None:
        self._state = state
        self._questions = questions
        self._background = background
        self._jobs: dict[str, _Job] = {}

    def asked(self, asked: RepairJob) -> dict[str, Any] | None:
        """Answers REPAIR: starts the job unless it runs already, and returns its progress; the action `stop` ends it."""
        state, layout = self._state, self._state.layout
        if layout is None or asked.epoch != layout.epoch or any(p >= layout.partitions for p in asked.partitions):
            return None
        name = asked.name
        job = self._jobs.get(name)
        if asked.action == b"stop":
            if job is not None:
                job.outcome.stopped = True
            return {"state": DONE}
        if job is None:
            if len(self._jobs) >= JOBS_MAX:
                return {"state": BUSY}
            job = self._jobs[name] = _Job(asked.partitions, state.now_ms)
            self._background.run("repair job", self._work(name, job), lambda: self._give_up(name, job))
            self._background.run_to_end("repair job watch", lambda: self._watch(name, job))
        job.asked_ms = state.now_ms
        if job.state == DONE:
            self._jobs.pop(name, None)
        return job.document()

    def _watch(self, name: str, job: _Job) -> Steps:
        """Ends a job once no task has asked about it for `SILENCE_MS`."""
        while self._jobs.get(name) is job:
            yield self._background.sleep(_POLL_MS)
            if self._state.now_ms - job.asked_ms > SILENCE_MS:
                job.outcome.stopped = True
                if job.state == DONE:
                    self._jobs.pop(name, None)
        return None

    def _give_up(self, name: str, job: _Job) -> None:
        """Ends a job that met an expected error. Its task tries the partitions once more."""
        job.missed |= {(partition, self._state.id): UNSETTLED for partition in job.partitions}
        job.state = DONE
        if job.outcome.stopped:
            self._jobs.pop(name, None)

    def _work(self, name: str, job: _Job) -> Steps:
        state, layout = self._state, self._state.layout
        assert layout is not None
        others: dict[str, list[int]] = {}
        for partition in job.partitions:
            for owner in layout.readers(partition):
                if owner != state.id:
                    others.setdefault(owner, []).append(partition)
        waiting = list(others.items())
        for _ in range(_ROUNDS_MAX):
            behind = 0  # the first so many peers lack records that a later one has sent
            for index, (peer, partitions) in enumerate(waiting):
                taken = job.outcome.keys_taken
                yield from self._exchange(job, peer, partitions)
                if job.outcome.keys_taken > taken:
                    behind = index
            waiting = waiting[:behind]
        for partition in job.partitions:
            span = state.records.trees.span_of(layout.partitions, partition)
            job.keys[partition] = state.records.trees.keys_in(span)
        job.state = DONE
        if job.outcome.stopped:
            self._jobs.pop(name, None)
        return None

    def _exchange(self, job: _Job, peer: str, partitions: list[int]) -> Generator[Step, Any, None]:
        """Makes partitions equal here and at `peer`, or notes in `job.missed` why they may not be."""
        state, layout = self._state, self._state.layout
        why, who = "", peer
        unsettled = job.outcome.unsettled
        try:
            if layout is None or not state.is_usable(peer):
                raise PeerLost
            spans = [state.records.trees.span_of(layout.partitions, partition) for partition in partitions]
            yield from Exchange(state, self._questions, self._background, peer, job.outcome).repair(spans)
        except NothingTaken:
            why = UNSETTLED
            if state.disk_full:
                who = state.id
        except PeerLost:
            why = LOST
        if not why and job.outcome.unsettled > unsettled:
            why = UNSETTLED
        for partition in partitions if why else ():
            job.missed[partition, who] = why
