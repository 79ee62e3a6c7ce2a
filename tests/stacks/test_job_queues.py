"""Queues of jobs, from their own packages: Celery, rq, arq, huey, dramatiq, BullMQ."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.stacks.jobs import BIN, ROOT, ProgramQueue, Queue, work_in_calm, work_under_faults
from tests.stacks.node import node_program
from tests.wire.cluster import WireCluster, wait_for

RESULT_S = 60


class CeleryTasks(Queue):
    """Celery: the cluster is its broker and its result backend."""

    packages = ("celery",)

    def __init__(self, port: int) -> None:
        pytest.importorskip("celery")
        from celery import Celery

        url = f"redis://127.0.0.1:{port}"
        self._app: Any = Celery("stacks", broker=url, backend=url)

    def worker(self) -> Sequence[str]:
        """Two processes, as on a machine with two cores."""
        return str(BIN / "celery"), "-A", "tests.stacks.workers.celery_app", "worker", "--loglevel=WARNING", "-c", "2"

    def add(self, number: int) -> Any:
        """Sends the task by its name."""
        return self._app.send_task("record", (number,))

    def result(self, handle: Any) -> int:
        """The result, which the worker publishes and stores."""
        return int(handle.get(timeout=RESULT_S))


class Rq(Queue):
    """rq, whose worker forks a process for each job."""

    packages = ("rq",)

    jobs = 15

    def __init__(self, port: int) -> None:
        rq = pytest.importorskip("rq")
        redis = pytest.importorskip("redis")
        self._url = f"redis://127.0.0.1:{port}"
        self._queue: Any = rq.Queue(connection=redis.Redis.from_url(self._url))

    def worker(self) -> Sequence[str]:
        """Its own program."""
        return str(BIN / "rq"), "worker", "--url", self._url

    def add(self, number: int) -> Any:
        """By the name of the function."""
        return self._queue.enqueue("tests.stacks.workers.tasks.record", number)

    def result(self, handle: Any) -> int:
        """The result that is stored with the job; RuntimeError if it has failed."""
        stored = wait_for(handle.latest_result, "the result is stored", RESULT_S)
        if stored.type is not stored.Type.SUCCESSFUL:
            raise RuntimeError(stored.exc_string)
        return int(stored.return_value)


class Huey(Queue):
    """huey with its usual storage, a list and a hash."""

    packages = ("huey",)

    environment = {"PYTHONUNBUFFERED": "1"}

    def __init__(self, port: int) -> None:
        huey = pytest.importorskip("huey")
        self._huey: Any = huey.RedisHuey("stacks", url=f"redis://127.0.0.1:{port}")
        from tests.stacks.workers import tasks

        self._record = self._huey.task(name="record")(tasks.record)

    def worker(self) -> Sequence[str]:
        """Two threads."""
        return str(BIN / "huey_consumer"), "tests.stacks.workers.huey_app.huey", "-w", "2", "-q"

    def add(self, number: int) -> Any:
        """Calls the task."""
        return self._record(number)

    def result(self, handle: Any) -> int:
        """Reading a result removes it."""
        return int(handle.get(blocking=True, timeout=RESULT_S))


class Dramatiq(Queue):
    """dramatiq, whose broker is made of scripts, with its result backend."""

    packages = ("dramatiq",)

    def __init__(self, port: int) -> None:
        dramatiq = pytest.importorskip("dramatiq")
        from dramatiq.brokers.redis import RedisBroker
        from dramatiq.results import Results
        from dramatiq.results.backends import RedisBackend

        url = f"redis://127.0.0.1:{port}"
        broker = RedisBroker(url=url)
        broker.add_middleware(Results(backend=RedisBackend(url=url), store_results=True))
        dramatiq.set_broker(broker)
        from tests.stacks.workers import tasks

        self._record: Any = dramatiq.actor(tasks.record, broker=broker)

    def worker(self) -> Sequence[str]:
        """One process with two threads."""
        return str(BIN / "dramatiq"), "tests.stacks.workers.dramatiq_app", "-p", "1", "-t", "2"

    def add(self, number: int) -> Any:
        """Sends a message."""
        return self._record.send(number)

    def result(self, handle: Any) -> int:
        """Waits for the result."""
        return int(handle.get_result(block=True, timeout=RESULT_S * 1000))


class Arq(ProgramQueue):
    """arq. It wants a redis-py below 6, so it is in a directory of its own, and this process talks to a program."""

    packages = ("arq",)
    again_s = 310.0  # its job_timeout and ten seconds: so long arq:in-progress:… stands
    folder = Path(sys.prefix) / "arq"

    def __init__(self, port: int) -> None:
        if not self.folder.exists():
            pytest.skip("arq is not installed: make stacks does it")
        paths = {"PYTHONPATH": f"{self.folder}{os.pathsep}{ROOT}"}
        super().__init__(port, [sys.executable, "-m", "tests.stacks.workers.arq_app"], paths)

    def worker(self) -> Sequence[str]:
        """Its own program."""
        return sys.executable, "-m", "arq", "tests.stacks.workers.arq_app.WorkerSettings"


class BullMq(ProgramQueue):
    """BullMQ, with delayed jobs and jobs that fail at first; its events are a stream, which its client reads."""

    packages = ("bullmq",)

    def __init__(self, port: int) -> None:
        super().__init__(port, node_program("bullmq.js", "client"), {})

    def worker(self) -> Sequence[str]:
        """A worker as its documentation has it."""
        return node_program("bullmq.js", "worker")


KINDS = [CeleryTasks, Rq, Huey, Dramatiq, Arq, BullMq]


@pytest.mark.parametrize("kind", KINDS)
def test_it_works(make_cluster: Callable[..., WireCluster], kind: type[Queue], tmp_path: Path) -> None:
    port = make_cluster().ports[0]
    work_in_calm(kind(port), port, tmp_path)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", KINDS)
def test_no_job_is_lost_while_nodes_fail(
    make_cluster: Callable[..., WireCluster], kind: type[Queue], tmp_path: Path
) -> None:
    work_under_faults(make_cluster(), kind, tmp_path)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("kind", "jobs"), [(CeleryTasks, 10_000), (BullMq, 1_000)])
def test_many_jobs_none_lost(
    make_cluster: Callable[..., WireCluster], kind: type[Queue], jobs: int, tmp_path: Path
) -> None:
    work_under_faults(make_cluster(), kind, tmp_path, jobs)
