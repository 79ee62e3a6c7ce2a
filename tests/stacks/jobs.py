"""A queue of jobs at work, in calm and while nodes fail: this process adds jobs, and the library's own worker does them.

Theory. A job that was added without an error must be done, at least once; its result must come back. In calm each is done
once. Workers and this process are clients of one node that stays well. A worker that ends is started again, as a service
manager does, and there may be few of these ends. A job whose adding was answered TIMEOUT may be done or not. A job that was
done may have failed for its library: a command by which the worker notes that was answered so (HINCRBY, for rq's counts).
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from tests.stacks.stack import is_unknown
from tests.wire.cluster import WireCluster, wait_for

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent
RESTARTS_MAX = 3
DONE_S = 120.0


class Queue(Protocol):
    """One library that has queues of jobs, through the node at `port`. A job leaves its number, and returns its double."""

    packages: tuple[str, ...] = ()  # as their registry names them
    jobs = 40  # in each phase
    again_s = 0.0  # after which a job begins again whose worker has ended in the middle
    environment: dict[str, str] = {}  # of its worker, beside the usual

    def __init__(self, port: int) -> None: ...

    def worker(self) -> Sequence[str]:
        """The command of a worker."""

    def add(self, number: int) -> Any:
        """Adds a job. Returns its handle."""

    def result(self, handle: Any) -> int:
        """The result of a job that is done, at the latest some seconds later."""


class Program:
    """A program of another runtime: a line in, a line out, which begins with `ok` if all went well."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, line: str) -> str:
        """What stands behind `ok` in the answer. RuntimeError with the answer if it is an error."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        status, _, rest = answer.strip().partition(" ")
        if status != "ok":
            raise RuntimeError(answer)
        return rest


class ProgramQueue(Queue):
    """A queue whose jobs are added by a program."""

    def __init__(self, port: int, command: Sequence[str], environment: dict[str, str]) -> None:
        self.environment = environment
        self._client = Program(command, environment | {"STACK_URL": f"redis://127.0.0.1:{port}"})

    def add(self, number: int) -> Any:
        """The program adds the job."""
        self._client.ask(f"enqueue {number}")
        return number

    def result(self, handle: Any) -> int:
        """The program waits for the result."""
        return int(self._client.ask(f"result {handle}"))


class Worker:
    """A worker process, started again when it ends."""

    def __init__(self, queue: Queue, port: int, folder: Path) -> None:
        self.done = folder / "done"
        self.log = folder / "worker.log"
        self.restarts = -1
        self._command = queue.worker()
        url = f"redis://127.0.0.1:{port}"
        own = {"STACK_URL": url, "STACK_DONE": str(self.done), "PYTHONPATH": str(ROOT)}
        self._environment = {**os.environ, **own, **queue.environment}
        self._over = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()

    def _keep(self) -> None:
        while not self._over.is_set():
            self.restarts += 1
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    self._command, env=self._environment, stdout=log, stderr=log, cwd=self.done.parent
                )
            self._process.wait()

    def numbers(self) -> Counter[int]:
        """The jobs that are done, and how often."""
        return Counter(map(int, self.done.read_text().split())) if self.done.exists() else Counter()

    def close(self) -> None:
        """Ends it."""
        self._over.set()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._keeper.join()
        print(
            f"--- the worker, started again {self.restarts} times:", *self.log.read_text().splitlines()[-30:], sep="\n"
        )


class _Run:
    """The jobs of one test."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._handles: dict[int, Any] = {}
        self._next = 0
        self.unknown = 0

    def add(self, count: int) -> None:
        """Adds so many jobs."""
        for number in range(self._next, self._next + count):
            try:
                self._handles[number] = self._queue.add(number)
            except Exception as error:
                if not is_unknown(error):
                    raise
                self.unknown += 1
        self._next += count

    def judge(self, worker: Worker) -> Counter[int]:
        """All jobs are done, and have their results. Returns how often each was done."""
        wait_s = DONE_S + self._queue.again_s + self._next / 20
        wait_for(lambda: not self._handles.keys() - worker.numbers().keys(), "all jobs are done", wait_s)
        for number, handle in self._handles.items():
            try:
                assert self._queue.result(handle) == 2 * number
            except Exception as error:
                if not is_unknown(error):
                    raise
                self.unknown += 1
        return worker.numbers()


def work_in_calm(queue: Queue, port: int, folder: Path, jobs: int = 0) -> None:
    """All jobs are done, each of them once."""
    worker, run = Worker(queue, port, folder), _Run(queue)
    try:
        run.add(jobs or queue.jobs)
        assert set(run.judge(worker).values()) == {1}
    finally:
        worker.close()
    assert not run.unknown and not worker.restarts


def work_under_faults(cluster: WireCluster, make: Callable[[int], Queue], folder: Path, jobs: int = 0) -> None:
    """All jobs are done that are added in calm, while a node is dead, while another is frozen, and when all are back."""
    first, victim, sleeper = cluster.nodes
    queue = make(first.port)
    count = jobs // 4 or queue.jobs
    worker, run = Worker(queue, first.port, folder), _Run(queue)
    try:
        run.add(count)
        victim.kill()
        run.add(count)
        victim.start()
        wait_for(lambda: first.states()[victim.name] == "up", f"{victim.name} is back")
        with sleeper.frozen():
            run.add(count)
        run.add(count)
        run.judge(worker)
    finally:
        worker.close()
    assert run.unknown <= 4, run.unknown
    assert worker.restarts <= RESTARTS_MAX, worker.restarts
