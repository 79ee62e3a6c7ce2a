"""Commits turns, and delivers their output when the fsync policy allows it
(https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/).

Theory. Every turn's writes are committed as one batch before any of its messages and replies are sent, so `kill -9` loses
nothing under any policy. The policy is about power loss: with `everysec` this node may lose what it acknowledged in the
last second, with `always` nothing, with `no` the kernel decides. Under `always` the turn's messages and replies are held
until a sync that began after its commit has ended. Turns go on meanwhile, so one sync serves all turns that were committed
while the sync before was running (group commit). Syncs run in a thread of their own, and release the interpreter lock.

Requests to other nodes say nothing of this disk, and yet they are held like all else. If they left before the sync, the
owners could sync at the same time. That was built, and lost what blocked clients were to get: a removal reached an owner,
and the node with the delivery lost its power. What one message says may depend on another one that is held.

`synced` tells the core which turns are on the disk: the agreement that collects tombstones depends on it. The core may ask
for a sync (`is_wanted`). Under `no` it gets at most one in `WANTED_INTERVAL_S`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from server.core.outbox import Outbox
from server.core.services.latencies import Latencies
from server.storage.engine import Engine

log = logging.getLogger("dyn")
SYNC_INTERVAL_S = 1.0
WANTED_INTERVAL_S = 10.0


class Durability:
    """Commits outboxes, and delivers them in order as soon as the policy allows. Calls `fail` if the disk fails."""

    def __init__(
        self,
        engine: Engine,
        latencies: Latencies,
        fsync: str,
        loop: asyncio.AbstractEventLoop,
        deliver: Callable[[Outbox], None],
        fail: Callable[[BaseException], None],
        synced: Callable[[int], None] = lambda turn: None,
        is_wanted: Callable[[], bool] = lambda: False,
        holds: Callable[[bool], None] = lambda holds: None,
    ) -> None:
        self._engine = engine
        self._latencies = latencies
        self._sync_ns = 0  # when the sync that is running began
        self._fsync = fsync
        self._always = fsync == "always"
        self._tell = synced
        self._is_wanted = is_wanted
        self._holds = holds
        self._turn = 0  # the last one committed
        self._written = 0
        self._next_wanted_s = 0.0
        self._loop = loop
        self._deliver = deliver
        self._fail = fail
        self._sync_thread = ThreadPoolExecutor(1, thread_name_prefix="sync")
        self._held: deque[Outbox] = deque()
        self._syncing = False
        self._dirty = False
        self._closed = False
        loop.call_later(SYNC_INTERVAL_S, self._every_second)

    def commit(self, outbox: Outbox) -> None:
        """HOT. Commits the turn, and delivers its output now or after a sync."""
        if outbox.writes:
            begun_ns = time.monotonic_ns()
            self._engine.commit(outbox.writes)
            took_us = (time.monotonic_ns() - begun_ns) // 1000
            self._latencies.commit.add(took_us, 1)
            self._latencies.note("commit", took_us)
            self._dirty = True
            self._written += len(outbox.writes)
        self._turn = outbox.turn
        if not self._always or (not outbox.writes and not self._held):
            self._deliver(outbox)
            return
        self._held.append(outbox)
        if not self._syncing:
            self._sync_soon()

    def keep(self, writes: dict[bytes, bytes | None]) -> None:
        """Commits writes that belong to no turn and have no reply. Raises StorageError."""
        self._engine.commit(writes)
        self._dirty = True

    def written(self) -> int:
        """How many keys were committed so far."""
        return self._written

    def _sync_soon(self) -> None:
        """Syncs after two more passes of the loop. Under load these end further turns, which the same sync then serves: a
        sync takes less time than to wake its thread and to come back. An idle loop makes its passes at once."""
        self._syncing = True
        self._loop.call_soon(self._loop.call_soon, self._sync)

    def _sync(self) -> None:
        if self._closed:
            return
        self._syncing = True
        self._sync_ns = time.monotonic_ns()
        self._dirty = False
        if self._held:
            self._holds(True)
        covered, turn = len(self._held), self._turn
        tell = self._loop.call_soon_threadsafe  # half of what `run_in_executor` costs
        done = self._sync_thread.submit(self._engine.sync)
        done.add_done_callback(lambda done: tell(self._synced, done, covered, turn) and None)

    def _synced(self, done: Future[None], covered: int, turn: int) -> None:
        error = done.exception()
        if self._closed:
            return  # `close` has delivered already, or nothing may be delivered
        self._syncing = False
        if error is not None:
            self._fail(error)
            return
        took_us = (time.monotonic_ns() - self._sync_ns) // 1000
        self._latencies.sync.add(took_us, 1)
        self._latencies.note("sync", took_us)
        self._tell(turn)
        for _ in range(covered):
            self._deliver(self._held.popleft())
        if self._held and not self._syncing:
            self._sync_soon()
        self._holds(False)

    def _every_second(self) -> None:
        if self._closed:
            return
        if not self._syncing:
            if not self._dirty:
                self._tell(self._turn)
            elif self._fsync == "everysec" or self._is_due():
                self._sync()
        self._loop.call_later(SYNC_INTERVAL_S, self._every_second)

    def _is_due(self) -> bool:
        """Under `no`: whether the core waits for a sync and the last one was long ago."""
        now_s = self._loop.time()
        if not self._is_wanted() or now_s < self._next_wanted_s:
            return False
        self._next_wanted_s = now_s + WANTED_INTERVAL_S
        return True

    def abandon(self) -> None:
        """Waits for the sync that is running, and drops what is held: the disk has failed."""
        self._closed = True
        self._sync_thread.shutdown(wait=True)

    def close(self) -> None:
        """Waits for the sync that is running, and syncs what is left."""
        self._closed = True
        self._sync_thread.shutdown(wait=True)
        self._engine.sync()
        while self._held:
            self._deliver(self._held.popleft())
