"""Repair tasks: `dyn repair`, which makes the owners of partitions equal now, and tells when it is done.

Theory. The node that was asked runs the task. First each member reads what it has of the partitions from its disk, and what
is damaged is mended (verification.py). Then the task gives the partitions, a few at a time, to their first live owners as
jobs (jobs.py), all owners at work side by side, and adds up what they tell. Owners that are lost on the way, or
down, are tried again in later passes; if some remain the task has failed, and says so: what could be compared has been
compared all the same.

A task lives on disk: it is written down once a second and when its state changes, with what is left to do. After a
restart its node goes on with it. Ended tasks are kept for `dyn task`, the last twenty.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

from server.core.base.errors import CommandError
from server.core.base.state import State
from server.core.messages import shapes
from server.core.messages.questions import TaskQuery
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
FOUND = ("mended", "lost", "unreadable")  # records since the last task, and slots that a node cannot read as a whole
RUNNING_MAX = 4
_KEPT = 20  # ended tasks
_DOCUMENT = b"tasks"
_PASSES_MAX = 3
_RETRY_MS = 2000
_SAVE_MS = 1000
_LOOK_MS = 50
_ASK_MS_MIN, _ASK_MS_MAX = 4, 256
_BUSY_MS = 100
_JOB_PARTITIONS_MIN = 4
_MENDING_LOOK_MS, _MENDING_LOOKS_MAX = 100, 20

Document = dict[str, Any]


class Task:
    """A repair of some partitions: what is left to do, and what has been done."""

    def __init__(self, name: str, node: str, partitions: int, remaining: Sequence[int], started_ms: int) -> None:
        self.name = name
        self.node = node
        self.state = RUNNING
        self.partitions = partitions
        self.remaining = dict.fromkeys(remaining)  # those that are not equal on all owners yet
        self.keys: dict[int, int] = {}  # of these, the ones that some owners have compared, and how many keys
        self.started_ms = started_ms
        self.error = ""
        self.keys_compared = 0  # in the partitions that are done
        self.keys_repaired = 0
        self.bytes_sent = 0
        self.jobs: dict[str, tuple[int, int]] = {}  # owner -> keys repaired and bytes sent by its present job
        self.missed: dict[tuple[int, str], str] = {}  # (partition, owner) -> why, as of the last pass
        self.verified: dict[str, int] = {}  # node -> records that it has read, so far
        self.found: dict[str, dict[str, int]] = {kind: {} for kind in FOUND}  # by the names of nodes

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
        }

    def encode(self) -> Document:
        """The task as it is stored."""
        compared = {"keys_compared": self.keys_compared}
        return self.document() | compared | {"started_ms": self.started_ms, "remaining": list(self.remaining)}

    @staticmethod
    def decode(fields: Document) -> Task:
        """What `encode` made."""
        task = Task(fields["task"], fields["node"], fields["partitions"], fields["remaining"], fields["started_ms"])
        for name in ("state", "error", "keys_compared", "keys_repaired", "bytes_sent"):
            setattr(task, name, fields[name])
        task.verified = {"": fields.get("keys_verified", 0)}
        task.found = {kind: fields.get(kind, {}) for kind in FOUND}
        return task

    def end_job(self, owner: str) -> None:
        """What the owner's job has done, to its end or not, is done."""
        repaired, size = self.jobs.pop(owner, (0, 0))
        self.keys_repaired += repaired
        self.bytes_sent += size


def _decode(document: bytes) -> list[Task]:
    return [Task.decode(fields) for fields in shapes.parse(document, shapes.STORED_TASKS, "tasks")]


class RepairTasks:
    """The tasks of this node."""

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

    # --- what is asked

    def start(self, partitions: Sequence[int]) -> Task:
        """Begins a task. Raises CommandError when there are too many."""
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

    def told(self, query: TaskQuery) -> list[bytes]:
        """TASKS: all tasks of this node, or one, if it is here, perhaps to be ended."""
        name = query.name
        task = self._tasks.get(name)
        others = [row for rows in self._others for row in rows() if name in ("", row["task"])]
        if name and task is None and not others:
            return []
        if task is not None and query.abort and task.state == RUNNING:
            task.state = ABORTED
            self._save()
        tasks = [task for task in self._tasks.values() if name in ("", task.name)]
        return [json.dumps([task.document() | {"started_ms": task.started_ms} for task in tasks] + others).encode()]

    def repair_key(self, layout: Layout, storage_key: bytes) -> Generator[Step, Any, Task]:
        """Makes the owners of one key equal, at once: a task that has ended."""
        partition = layout.partition_of(int.from_bytes(storage_key[:2], "big"))
        task = self._new([partition])
        missed: dict[str, str] = {}
        for attempt in range(_MENDING_LOOKS_MAX):
            if attempt:
                yield self._background.pause(_MENDING_LOOK_MS)
            result = yield from make_equal(self._state, self._questions, layout.keepers(partition), storage_key)
            task.keys_compared, repaired, size, missed = result
            task.keys_repaired += repaired
            task.bytes_sent += size
            if UNSETTLED not in missed.values():
                break  # else a damaged record is mended meanwhile
        yield from self._verify(task, [])
        task.missed = {(partition, owner): why for owner, why in missed.items()}
        if not missed:
            task.remaining.clear()
        self._end(task)
        return task

    # --- the run

    def _run(self, task: Task, again: bool) -> Steps:
        yield self._background.pause(0)
        if again:
            yield self._background.pause(_RETRY_MS)  # until there are links to the other nodes
        yield from self._verify(task, list(task.remaining))
        behind = yield from self._who_is_behind(task, again)
        for number in range(_PASSES_MAX):
            if number:
                yield self._background.pause(_RETRY_MS)
            yield from self._pass(task)
            if task.state != RUNNING or not task.remaining:
                break
        yield from self._verify(task, [])  # what was met meanwhile
        self._end(task)
        if task.state == DONE:
            for node, counts in behind.items():
                yield self._questions.ask([node], b"WHOLE", *[item for pair in counts.items() for item in pair])
        return None

    def _verify(self, task: Task, partitions: list[int]) -> Generator[Step, Any, None]:
        """All members that can be reached read what they have of the partitions."""
        layout = self._state.layout
        nodes = [member.id for member in layout.members if self._is_live(member.id)] if layout is not None else []
        run, before, pause_ms = f"{task.name}/verify/{self._state.number()}", dict(task.verified), _ASK_MS_MIN
        while nodes and task.state == RUNNING and layout is not None and self._state.layout is layout:
            answers = yield self._questions.ask(nodes, b"VERIFY", layout.epoch, run, *partitions)
            nodes = [node for node in nodes if self._goes_on(task, node, answers.get(node), before.get(node, 0))]
            if nodes:
                yield self._background.pause(pause_ms)
                pause_ms = min(2 * pause_ms, _ASK_MS_MAX)
            if self._state.now_ms - self._saved_ms >= _SAVE_MS:
                self._save()

    def _goes_on(self, task: Task, node: str, told: Document | None, before: int) -> bool:
        """Notes what a member has told of its run; whether that goes on. One of an earlier version tells nothing."""
        if not told:
            return False
        task.verified[node] = before + told["keys"]
        if told["state"] == RUNNING:
            return True
        self._note_found(task, self._state.layout_name(node), told)
        return False

    def _note_found(self, task: Task, name: str, told: Document) -> None:
        for kind in FOUND:
            count = told[kind] + (task.found[kind].get(name, 0) if kind != "unreadable" else 0)
            task.found[kind].pop(name, None)
            if count:
                task.found[kind][name] = count

    def _who_is_behind(self, task: Task, again: bool) -> Generator[Step, Any, dict[str, dict[str, int]]]:
        """Node -> owner -> hints that it had no room for: after a repair of everything they are of no matter."""
        layout = self._state.layout
        if again or layout is None or len(task.remaining) < layout.partitions:
            return {}
        answers = yield self._questions.ask([member.id for member in layout.members], b"HINTS")
        told = {node: answer["behind"] for node, answer in answers.items() if answer}
        return {node: counts for node, counts in told.items() if counts}

    def whole(self, counts: dict[str, int]) -> list[bytes]:
        """WHOLE: owners hold everything, unless more hints were refused since that count of each."""
        behind = self._state.hints.dropped_hints
        for owner, count in counts.items():
            if behind.get(owner) == count:
                del behind[owner]
        return [b"1"]

    def _pass(self, task: Task) -> Generator[Step, Any, None]:
        """Every partition that is left goes to its first live owner once."""
        layout = self._state.layout
        task.missed.clear()
        if layout is None:
            return  # this node has left its cluster meanwhile
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
            yield self._background.pause(_LOOK_MS)
            if self._state.now_ms - self._saved_ms >= _SAVE_MS:
                self._save()

    def _is_live(self, node: str) -> bool:
        return node == self._state.id or self._state.is_usable(node)

    def _drive(self, task: Task, layout: Layout, leader: str, partitions: list[int], at_work: dict[str, None]) -> Steps:
        """Has `leader` repair these partitions, a job after the other, and leaves `at_work` then."""
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
        """One job, to its end; False when its leader was lost, or the task is to run no more."""
        name = f"{task.name}/{self._state.number()}"
        pause_ms = _ASK_MS_MIN
        while True:
            action = "go" if task.state == RUNNING else "stop"
            answers = yield self._questions.ask([leader], b"REPAIR", layout.epoch, name, action, *partitions)
            if not answers.get(leader) or action == "stop":
                return False
            told: Document = answers[leader]
            if told["state"] == BUSY:
                yield self._background.pause(_BUSY_MS)
                continue
            task.jobs[leader] = (told["keys_repaired"], told["bytes_sent"])
            if told["state"] == JOB_DONE:
                break
            yield self._background.pause(pause_ms)
            pause_ms = min(2 * pause_ms, _ASK_MS_MAX)
        task.end_job(leader)
        missed = {(partition, owner): why for partition, owner, why in told["missed"]}
        task.missed |= missed
        for partition, keys in told["keys"]:
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
        ended = [other.name for other in self._tasks.values() if other.state != RUNNING]
        for name in ended[:-_KEPT]:
            del self._tasks[name]
        self._save()

    def _explain(self, task: Task) -> str:
        """What has remained, for an operator."""
        reasons = []
        for why, told in ((LOST, "{} could not be reached"), ("", "{} could not read or store all records")):
            counts: dict[str, int] = {}
            for _, owner in [missed for missed, reason in task.missed.items() if (reason == LOST) == (why == LOST)]:
                counts[owner] = counts.get(owner, 0) + 1
            for owner in sorted(counts, key=self._state.layout_name):
                text = told.format(self._state.layout_name(owner))
                reasons.append(f"{text}: {counts[owner]} of {task.partitions} partitions were not made equal there")
        return "; ".join(reasons)

    def _save(self) -> None:
        self._saved_ms = self._state.now_ms
        document = json.dumps([task.encode() for task in self._tasks.values()], separators=(",", ":"))
        self._state.records.put_document(_DOCUMENT, document.encode())
