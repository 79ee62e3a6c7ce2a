"""arq: the worker's settings; and, run as a program, a client that adds the jobs whose numbers it reads."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings

from tests.stacks.workers import tasks


async def record(context: dict[str, Any], number: int) -> int:
    """The job."""
    return tasks.record(number)


class WorkerSettings:
    """As `arq` reads it."""

    functions = [record]
    redis_settings = RedisSettings.from_dsn(tasks.URL)


async def _serve() -> None:
    pool = await create_pool(WorkerSettings.redis_settings)
    jobs: dict[str, Any] = {}
    while line := await asyncio.to_thread(sys.stdin.readline):
        word, number = line.split()
        try:
            if word == "enqueue":
                jobs[number] = await pool.enqueue_job("record", int(number))
                print("ok", flush=True)
            else:
                print("ok", await jobs[number].result(timeout=60), flush=True)
        except Exception as error:  # noqa: BLE001
            print(type(error).__name__, " ".join(str(error).split()), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve())
