"""Repair tasks: `dyn repair` makes the owners of partitions equal now, and says when that is done.

The node that was asked runs the task:

 1. Every member reads its records of the partitions from its disk, and damaged ones are mended (verification.py). It is
    repeated at the end, for damage that was found meanwhile.
 2. The task gives the partitions, a few at a time, to their first live owners as jobs (jobs.py). All owners work side by
    side, and the task adds up their counts.
 3. Partitions whose owners were down or lost are tried again in later passes. If some remain, the task has failed and says
    so. Everything that could be compared has been compared all the same.

A task is stored once a second and when its state changes, with the partitions that remain. After a restart its node goes
on with it. The last twenty tasks that ended are kept for `dyn task`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

from server.core.base.errors import CommandError
from server.core.base.state import State
from server.core.messages import shapes
from server.core.messages.questions import REPAIR, WHOLE, RepairJob, TaskQuery
from server.core.messages.record_questions import HINTS, VERIFY, Verify
from server.core.messages.stored import stored
from server.core.repair.exchange import LOST, UNSETTLED
from server.core.repair.jobs import BUSY
from server.core.repair.jobs import DONE as JOB_DONE
from server.core.repair.one_key import make_equal
from server.core.ring.layout import Layout
from server.core.work.background import Background
from server.core.work.procedures import Step, Steps
from server.core.work.questions import Questions

RUNNING, DONE, FAILED, ABORTED = "running", "done", "failed", "aborted"
FOUND = ("mended", "lost", "unreadable")  # records mended and lost since the last task, and slots that cannot be read
RUNNING_MAX = 4
_KEPT = 20  # tasks that ended
_DOCUMENT = b"tasks"
_PASSES_MAX = 3
_RETRY_MS = 2000
_SAVE_MS = 1000
_POLL_MS = 50
_ASK_MS_MIN, _ASK_MS_MAX = 4, 256
_BUSY_MS = 100
_JOB_PARTITIONS_MIN = 4
_MENDING_POLL_MS, _MENDING_POLLS_MAX = 100, 20

Document = dict[str, Any]


class Task:
    """A repair of some partitions: those that remain, and the counts so far."""

    def __init__(self, name: str, node: str, partitions: int, remaining: Sequence[int], started_ms: int) -> None:
        self.name = name
        self.node = node
        self.state = RUNNING
        self.partitions = partitions
        self.remaining = dict.fromkeys(remaining)  # partitions that are not equal on all owners yet
        self.keys: dict[int, int] = {}  # by remaining partition that some owners have compared: its keys
        self.started_ms = started_ms
        self.ended_ms = 0  # 0: it runs
        self.error = ""
        self.keys_compared = 0  # in partitions that are done
        self.keys_repaired = 0
        self.bytes_sent = 0
        self.jobs: dict[str, tuple[int, int]] = {}  # by owner: keys repaired and bytes sent by its present job
        self.missed: dict[tuple[int, str], str] = {}  # (partition, owner) -> LOST or UNSETTLED, in the last pass
        self.verified: dict[str, int] = {}  # by node id: records that it has read so far
        self.found: dict[str, dict[str, int]] = {kind: {} for kind in FOUND}  # kind -> name of a node -> count

    def document(self) -> Document:
        """The task as operators see it."""
        return {
            "task": self.name,
            "state": self.state,
            "partitions": self.partitions,
            "partitions_done": self.partitions - len(self.remaining) + len(self.keys),
            "keys_compared": self.keys_compared + sum(self.keys.values()),
            "keys_repaired": self.keys_repaired + sum(repaired for repaired, _ in self.jobs.values()),
            "bytes_sent": self.bytes_sent + sum(size for _, size in self.jobs.values()),
            "node": self.node,
            "error": self.error,
            "keys_verified": sum(self.verified.values()),
            **{kind: dict(sorted(counts.items())) for kind, counts in self.found.items()},
        } | ({"ended_ms": self.ended_ms} if self.ended_ms else {})

    def encode(self) -> Document:
        """The task as it is stored."""
        compared = {"keys_compared": self.keys_compared}
        return self.document() | compared | {"started_ms": self.started_ms, "remaining": list(self.remaining)}

    @staticmethod
    def decode(fields: Document) -> Task:
        """Decodes what `encode` made."""
        task = Task(fields["task"], fields["node"], fields["partitions"], fields["remaining"], fields["started_ms"])
        for name in ("state", "error", "keys_compared", "keys_repaired", "bytes_sent"):
            setattr(task, name, fields[name])
        task.verified = {"": fields.get("keys_verified", 0)}
        task.found = {kind: fields.get(kind, {}) for kind in FOUND}
        task.ended_ms = fields.get("ended_ms", 0)
        return task

    def end_job(self, owner: str) -> None:
        """Adds the counts of the owner's present job, whether it ended well or not, to those of the task."""
        repaired, size = self.jobs.pop(owner, (0, 0))
        self.keys_repaired += repaired
        self.bytes_sent += size


def _decode(document: bytes) -> list[Task]:
    return [Task.decode(fields) for fields in shapes.parse(document, shapes.STORED_TASKS, "tasks")]


class RepairTasks:
    """Runs and remembers the repair tasks of this node."""

    def __init__(
        self,
        state: State,
        questions: Questions,
        background: Background,
        others: Sequence[Callable[[], list[Document]]] = (),
    ) -> None:
        """`others` answer the rows of long work that is no repair."""
        self._state = state
        self._questions = questions
        self._background = background
        self._saved_ms = 0
        self._others = others
        tasks: list[Task] = stored(state.records, _DOCUMENT, _decode, [], [])
        self._tasks = {task.name: task for task in tasks}
        for task in tasks:
            if task.state == RUNNING:
                self._resume(task)

    # --- for operators

    def start(self, partitions: Sequence[int]) -> Task:
        """Begins a task. Raises CommandError if `RUNNING_MAX` tasks run here."""
        state = self._state
        running = sum(task.state == RUNNING for task in self._tasks.values())
        if running >= RUNNING_MAX:
            raise CommandError(f"BUSY {running} tasks run on node {state.member.name}: wait for them or abort them")
        task = self._new(partitions)
        self._background.run("repair task", self._run(task, False), lambda: self._resume(task))
        return task

    def _resume(self, task: Task) -> None:
        self._background.run_to_end("repair task", lambda: self._run(task, True))

    def _new(self, partitions: Sequence[int]) -> Task:
        state = self._state
        name = f"repair-{state.rng.getrandbits(40):010x}"
        task = self._tasks[name] = Task(name, state.member.name, len(partitions), partitions, state.time_ms)
        self._save()
        return task

    def answer_tasks(self, query: TaskQuery) -> list[Document] | None:
        """Answers TASKS: the rows of all tasks of this node, or of one, which may also be aborted; None without it."""
        name = query.name
        task = self._tasks.get(name)
        others = [row for rows in self._others for row in rows() if name in ("", row["task"])]
        if name and task is None and not others:
            return None
        if task is not None and query.abort and task.state == RUNNING:
            task.state, task.ended_ms = ABORTED, self._state.time_ms
            self._save()
        tasks = [task for task in self._tasks.values() if name in ("", task.name)]
        return [task.document() | {"started_ms": task.started_ms} for task in tasks] + others

    def repair_key(self, layout: Layout, storage_key: bytes) -> Generator[Step, Any, Task]:
        """Makes the owners of one key equal at once. Returns a task that has ended."""
        partition = layout.partition_of(int.from_bytes(storage_key[:2], "big"))
        task = self._new([partition])
        missed: dict[str, str] = {}
        for attempt in range(_MENDING_POLLS_MAX):
            if attempt:
                yield self._background.sleep(_MENDING_POLL_MS)
            result = yield from make_equal(self._state, self._questions, layout.keepers(partition), storage_key)
            task.keys_compared, repaired, size, missed = result
            task.keys_repaired += repaired
            task.bytes_sent += size
            if UNSETTLED not in missed.values():
                break  # else a damaged record is being mended: try again
        yield from self._verify(task, [])
        task.missed = {(partition, owner): why for owner, why in missed.items()}
        if not missed:
            task.remaining.clear()
        self._end(task)
        return task

    # --- the run

    def _run(self, task: Task, again: bool) -> Steps:
        yield self._background.sleep(0)
        if again:
            yield self._background.sleep(_RETRY_MS)  # by then there are links to the other nodes
        yield from self._verify(task, list(task.remaining))
        behind = yield from self._dropped_hints(task, again)
        for number in range(_PASSES_MAX):
            if number:
                yield self._background.sleep(_RETRY_MS)
            yield from self._pass(task)
            if task.state != RUNNING or not task.remaining:
                break
        yield from self._verify(task, [])  # damage that was found meanwhile
        self._end(task)
        if task.state == DONE:
            for node, counts in behind.items():
                yield self._questions.ask([node], WHOLE, counts)
        return None

    def _verify(self, task: Task, partitions: list[int]) -> Generator[Step, Any, None]:
        """Makes all members that can be reached verify their records of the partitions; without any, report only."""
        layout = self._state.layout
        nodes = [member.id for member in layout.members if self._is_live(member.id)] if layout is not None else []
        run, before, pause_ms = f"{task.name}/verify/{self._state.next_number()}", dict(task.verified), _ASK_MS_MIN
        while nodes and task.state == RUNNING and layout is not None and self._state.layout is layout:
            answers = yield self._questions.ask(nodes, VERIFY, Verify(layout.epoch, run, partitions))
            nodes = [node for node in nodes if self._goes_on(task, node, answers.get(node), before.get(node, 0))]
            if nodes:
                yield self._background.sleep(pause_ms)
                pause_ms = min(2 * pause_ms, _ASK_MS_MAX)
            if self._state.now_ms - self._saved_ms >= _SAVE_MS:
                self._save()

    def _goes_on(self, task: Task, node: str, progress: Document | None, before: int) -> bool:
        """Notes a member's progress; True if its run goes on. A member of an earlier version answers with nothing."""
        if not progress:
            return False
        task.verified[node] = before + progress["keys"]
        if progress["state"] == RUNNING:
            return True
        self._note_found(task, self._state.layout_name(node), progress)
        return False

    def _note_found(self, task: Task, name: str, progress: Document) -> None:
        for kind in FOUND:
            count = progress[kind] + (task.found[kind].get(name, 0) if kind != "unreadable" else 0)
            task.found[kind].pop(name, None)
            if count:
                task.found[kind][name] = count

    def _dropped_hints(self, task: Task, again: bool) -> Generator[Step, Any, dict[str, dict[str, int]]]:
        """The hints that nodes have dropped: node -> owner -> count. A repair of all partitions makes up for them."""
        layout = self._state.layout
        if again or layout is None or len(task.remaining) < layout.partitions:
            return {}
        answers = yield self._questions.ask([member.id for member in layout.members], HINTS, False)
        dropped = {node: answer["behind"] for node, answer in answers.items() if answer}
        return {node: counts for node, counts in dropped.items() if counts}

    def whole(self, counts: dict[str, int]) -> bool:
        """Answers WHOLE: forgets the dropped hints of owners, unless more were dropped since they were counted."""
        dropped = self._state.hints.dropped_hints
        for owner, count in counts.items():
            if dropped.get(owner) == count:
                del dropped[owner]
        return True

    def _pass(self, task: Task) -> Generator[Step, Any, None]:
        """Gives every remaining partition to its first live owner once, and waits for all these jobs."""
        layout = self._state.layout
        task.missed.clear()
        if layout is None:
            return  # this node has left the cluster meanwhile
        by_leader: dict[str, list[int]] = {}
        for partition in task.remaining:
            owners = layout.readers(partition)
            leader = next((owner for owner in owners if self._is_live(owner)), None)
            if leader is None:
                task.missed |= {(partition, owner): LOST for owner in owners}
            else:
                by_leader.setdefault(leader, []).append(partition)
        at_work = dict.fromkeys(by_leader)
        for leader, partitions in by_leader.items():
            missed = {(partition, leader): UNSETTLED for partition in partitions}
            drive = self._drive(task, layout, leader, partitions, at_work)
            self._background.run("repair drive", drive, partial(task.missed.update, missed))
        while at_work:
            yield self._background.sleep(_POLL_MS)
            if self._state.now_ms - self._saved_ms >= _SAVE_MS:
                self._save()

    def _is_live(self, node: str) -> bool:
        return node == self._state.id or self._state.is_usable(node)

    def _drive(self, task: Task, layout: Layout, leader: str, partitions: list[int], at_work: dict[str, None]) -> Steps:
        """Makes `leader` repair these partitions, one job after the other, then removes it from `at_work`."""
        size = max(_JOB_PARTITIONS_MIN, layout.partitions // 64)
        try:
            for first in range(0, len(partitions), size):
                done = yield from self._job(task, layout, leader, partitions[first : first + size])
                if not done:
                    rest = partitions[first:]
                    task.missed |= {(partition, leader): LOST for partition in rest}
                    break
        finally:
            task.end_job(leader)
            at_work.pop(leader)
        return None

    def _job(self, task: Task, layout: Layout, leader: str, partitions: list[int]) -> Generator[Step, Any, bool]:
        """Runs one job to its end; False if its leader was lost or the task was aborted."""
        name = f"{task.name}/{self._state.next_number()}"
        pause_ms = _ASK_MS_MIN
        while True:
            action = b"go" if task.state == RUNNING else b"stop"
            answers = yield self._questions.ask([leader], REPAIR, RepairJob(layout.epoch, name, action, partitions))
            if not answers.get(leader) or action == b"stop":
                return False
            job: Document = answers[leader]
            if job["state"] == BUSY:
                yield self._background.sleep(_BUSY_MS)
                continue
            task.jobs[leader] = (job["keys_repaired"], job["bytes_sent"])
            if job["state"] == JOB_DONE:
                break
            yield self._background.sleep(pause_ms)
            pause_ms = min(2 * pause_ms, _ASK_MS_MAX)
        task.end_job(leader)
        missed = {(partition, owner): why for partition, owner, why in job["missed"]}
        task.missed |= missed
        for partition, keys in job["keys"]:
            if partition not in task.remaining:
                continue
            task.keys[partition] = keys
            if all(partition != other for other, _ in missed):
                task.remaining.pop(partition, None)
                task.keys_compared += task.keys.pop(partition)
        return True

    def _end(self, task: Task) -> None:
        if task.state == RUNNING:
            task.error = self._explain(task)
            task.state = FAILED if task.remaining else DONE
            task.ended_ms = self._state.time_ms
        ended = [other.name for other in self._tasks.values() if other.state != RUNNING]
        for name in ended[:-_KEPT]:
            del self._tasks[name]
        self._save()

    def _explain(self, task: Task) -> str:
        """The error for operators: which owners missed how many partitions, and why. Empty if none did."""
        reasons = []
        for why, sentence in ((LOST, "{} could not be reached"), ("", "{} could not read or store all records")):
            counts: dict[str, int] = {}
            for _, owner in [missed for missed, reason in task.missed.items() if (reason == LOST) == (why == LOST)]:
                counts[owner] = counts.get(owner, 0) + 1
            for owner in sorted(counts, key=self._state.layout_name):
                text = sentence.format(self._state.layout_name(owner))
                reasons.append(f"{text}: {counts[owner]} of {task.partitions} partitions were not made equal there")
        return "; ".join(reasons)

    def _save(self) -> None:
        self._saved_ms = self._state.now_ms
        document = json.dumps([task.encode() for task in self._tasks.values()], separators=(",", ":"))
        self._state.records.put_document(_DOCUMENT, document.encode())
