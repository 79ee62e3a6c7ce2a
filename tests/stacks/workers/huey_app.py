"""huey."""

from __future__ import annotations

from typing import Any

from huey import RedisHuey

from tests.stacks.workers import tasks

huey: Any = RedisHuey("stacks", url=tasks.URL)
record = huey.task()(tasks.record)
