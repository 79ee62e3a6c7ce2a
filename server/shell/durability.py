"""Commits turns, and delivers their output when the fsync policy allows it
(https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/).

Theory. Every turn's writes are committed as one batch before any of its messages and replies are sent, so `kill -9` loses
nothing under any policy. The policy is about power loss: with `everysec` this node may lose what it acknowledged in the
last second, with `always` nothing, with `no` the kernel decides. Under `always` the turn's messages and replies are held
until a sync that began after its commit has ended.

A good disk syncs in a tenth of a millisecond. To hand that to a thread and to come back takes the processor longer, and
what the turn says has to wait anyway: so the loop waits, too. If syncs take longer than `QUICK_US` on average, a thread of
their own does them for `THREAD_S`, and for as long as they take longer than `SLOW_US` there. Turns go on beside the thread,
so one sync serves all turns that were committed while the sync before was running (group commit). All other syncs have the
thread, too. What this costs: when a quick disk stalls, the node stands still for one sync, where else only what it says
would wait.

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
from server.storage.engine import Engine, StorageError

log = logging.getLogger("dyn")
SYNC_INTERVAL_S = 1.0
WANTED_INTERVAL_S = 10.0
QUICK_US = 4000
SLOW_US = 8000  # as the thread measures it, which waits for the interpreter, too
THREAD_S = 10.0
_WEIGHT = 8  # the moving average of sync times takes in an eighth of a new one


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
        self._sync_us = 0  # the moving average of what syncs take
        self._is_slow = False  # the thread has the syncs
        self._thread_until_s = 0.0  # the thread has the syncs until then
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

    def _sync_here(self) -> bool:
        """Syncs while the loop waits, and delivers; False if that may take long."""
        if self._thread_has_syncs():
            return False
        begun_ns, covered = time.monotonic_ns(), len(self._held)
        try:
            if not self._engine.sync(waits=False):
                return False
        except StorageError as error:
            self._syncing = False
            self._fail(error)
            return True
        self._note_sync(begun_ns)
        self._dirty = False
        self._deliver_synced(covered, self._turn)
        return True

    def _thread_has_syncs(self) -> bool:
        now_s = self._loop.time()
        if now_s >= self._thread_until_s:
            was_slow, limit_us = self._is_slow, SLOW_US if self._is_slow else QUICK_US
            self._is_slow = self._sync_us > limit_us
            if self._is_slow:
                self._thread_until_s = now_s + THREAD_S
            if self._is_slow or was_slow:
                self._sync_us = 0
        return self._is_slow

    def _note_sync(self, begun_ns: int) -> None:
        """Notes how long a sync took."""
        took_us = (time.monotonic_ns() - begun_ns) // 1000
        self._sync_us += (took_us - self._sync_us) // _WEIGHT
        self._latencies.sync.add(took_us, 1)
        self._latencies.note("sync", took_us)

    def _deliver_synced(self, covered: int, turn: int) -> None:
        """Delivers the first `covered` outboxes that are held, all up to `turn`. What ends meanwhile gets the next sync."""
        self._syncing = False
        self._tell(turn)
        for _ in range(covered):
            self._deliver(self._held.popleft())
        if self._held and not self._syncing:
            self._sync_soon()

    def _sync_soon(self) -> None:
        """Syncs after two more passes of the loop. Under load these end further turns, which the same sync serves, too. An
        idle loop makes its passes at once. Measured at -P 1: a tenth less CPU."""
        self._syncing = True
        self._loop.call_soon(self._loop.call_soon, self._sync_held)

    def _sync_held(self) -> None:
        if not self._closed and not self._sync_here():
            self._sync()

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

    def _synced(self, done: Future[bool], covered: int, turn: int) -> None:
        error = done.exception()
        if self._closed:
            return  # `close` has delivered already, or nothing may be delivered
        if error is not None:
            self._syncing = False
            self._fail(error)
            return
        self._note_sync(self._sync_ns)
        self._deliver_synced(covered, turn)
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
