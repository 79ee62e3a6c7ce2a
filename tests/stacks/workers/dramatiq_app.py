"""dramatiq, with results."""

from __future__ import annotations

from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from tests.stacks.workers import tasks

broker: Any = RedisBroker(url=tasks.URL)
broker.add_middleware(Results(backend=RedisBackend(url=tasks.URL), store_results=True))
dramatiq.set_broker(broker)
record: Any = dramatiq.actor(tasks.record)
