"""What a slow commit leaves behind: a sample of LATENCY HISTORY."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from server.shell.durability import QUICK_US, THREAD_S, Durability
from server.storage.engine import StorageError
from tests.core.commands.talking import Client, make_node


def test_a_commit_that_takes_as_long_as_the_threshold_is_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    node, took_ms = make_node(), [0]
    client = Client(node)
    client.raw("CONFIG SET latency-monitor-threshold 100")
    now_ns = [0]
    monkeypatch.setattr(time, "monotonic_ns", lambda: now_ns[0])

    def commit(writes: dict[bytes, bytes | None]) -> None:
        now_ns[0] += took_ms[0] * 1_000_000

    engine: Any = SimpleNamespace(commit=commit)
    loop: Any = SimpleNamespace(call_later=lambda *_: None)
    delivered: list[Any] = []
    durability = Durability(engine, node.services.latencies, "everysec", loop, delivered.append, pytest.fail)
    for took_ms[0] in (99, 100):
        node.command(client.session, [b"SET", b"k", b"v"], client.now_ms)
        durability.commit(node.end_turn())
    samples = node.services.latencies.monitor.events["commit"].samples
    assert [sample.took_ms for sample in samples] == [100] and len(delivered) == 2


@pytest.mark.parametrize("is_wanted", [True, False])
def test_under_always_the_timer_syncs_what_belongs_to_no_turn_if_the_core_waits_for_it(is_wanted: bool) -> None:
    """Chunks of a value whose client has gone, say. Without this a collection would wait until the next write."""
    timers: list[Any] = []
    calls: list[Any] = []
    synced: list[int] = []
    loop: Any = SimpleNamespace(
        call_later=lambda _, call: timers.append(call),
        call_soon_threadsafe=lambda *call: calls.append(call),
        time=lambda: 1,
    )
    engine: Any = SimpleNamespace(commit=lambda writes: None, sync=lambda: True)
    durability = Durability(
        engine, make_node().services.latencies, "always", loop, pytest.fail, pytest.fail,
        synced.append, lambda: is_wanted,
    )  # fmt: skip
    durability.keep({b"chunk": b"bytes"})
    timers[-1]()
    durability._sync_thread.shutdown(wait=True)
    for call, *arguments in calls:
        call(*arguments)
    assert synced == ([0] if is_wanted else [])


class Scene:
    """A node's disk and loop. `told` is what happens, in its order; `calls` are those that the loop is to make."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.calls: list[Any] = []
        self.now_s = 0.0
        self.sync_us = 100  # that a sync takes
        self.is_flushing = False  # in another thread
        self.follow: list[Any] = []  # turns that are committed while others are said
        self.clock_us = 0
        call = lambda call, *given: self.calls.append((call, given))  # noqa: E731
        loop: Any = SimpleNamespace(
            call_later=lambda *_: None, call_soon=call, call_soon_threadsafe=call, time=lambda: self.now_s
        )
        engine: Any = SimpleNamespace(commit=lambda writes: None, sync=self.sync)
        self.durability = Durability(
            engine, make_node().services.latencies, "always", loop, self.deliver, lambda error: self.told.append(error),
            holds=self.told.append,
        )  # fmt: skip

    def sync(self, waits: bool = True) -> bool:
        if not waits and self.is_flushing:
            return False
        self.clock_us += self.sync_us
        self.told.append("sync" if waits else "sync here")
        return True

    def deliver(self, outbox: Any) -> None:
        self.told.append(outbox.turn)
        if self.follow:
            self.durability.commit(self.follow.pop())

    def run(self) -> list[Any]:
        """Makes all calls, and returns what has happened since the last time."""
        while self.calls:
            call, given = self.calls.pop(0)
            call(*given)
            self.durability._sync_thread.submit(int).result()  # a sync that has begun has ended
        told, self.told[:] = [*self.told], []
        return told


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    scene = Scene()
    monkeypatch.setattr(time, "monotonic_ns", lambda: scene.clock_us * 1000)
    return scene


def _turn(number: int) -> Any:
    return SimpleNamespace(writes={b"k": b"v"}, turn=number)


def test_under_always_the_loop_waits_for_a_quick_sync(scene: Scene) -> None:
    """It serves all turns of two passes. One that is committed while others are said has a sync of its own."""
    scene.follow = [_turn(3)]
    scene.durability.commit(_turn(1))
    scene.durability.commit(_turn(2))
    assert scene.told == []
    assert scene.run() == ["sync here", 1, 2, "sync here", 3]


def test_under_always_a_thread_syncs_while_another_one_flushes(scene: Scene) -> None:
    """The loop would wait for the whole flush. A turn that is committed while others are said is told of its own sync."""
    scene.is_flushing = True
    scene.follow = [_turn(2)]
    scene.durability.commit(_turn(1))
    assert scene.told == []
    assert scene.run() == [True, "sync", 1, False, True, "sync", 2, False]


def test_under_always_a_thread_has_slow_syncs_for_a_while(scene: Scene) -> None:
    """One slow sync among quick ones does not matter. Then the disk is slow, and is tried again some seconds later, unless
    the thread has found it as slow."""
    scene.sync_us = 7 * QUICK_US
    scene.durability.commit(_turn(1))
    assert scene.run() == ["sync here", 1]
    scene.sync_us = 100
    scene.durability.commit(_turn(2))
    assert scene.run() == ["sync here", 2]
    scene.sync_us = 7 * QUICK_US
    scene.durability.commit(_turn(3))
    assert scene.run() == ["sync here", 3]
    scene.durability.commit(_turn(4))
    assert scene.run() == [True, "sync", 4, False]
    scene.now_s += THREAD_S
    scene.sync_us = 100 * QUICK_US
    scene.durability.commit(_turn(5))
    assert scene.run() == ["sync here", 5]
    for number in range(6, 9):
        scene.durability.commit(_turn(number))
        assert scene.run() == [True, "sync", number, False]
        scene.now_s += THREAD_S
    scene.sync_us = 100
    scene.durability.commit(_turn(9))
    assert scene.run() == [True, "sync", 9, False]
    scene.now_s += THREAD_S
    scene.durability.commit(_turn(10))
    assert scene.run() == ["sync here", 10]


def test_under_always_nothing_is_said_after_a_sync_that_failed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    error = StorageError("the disk is gone")

    def fail(waits: bool = True) -> bool:
        raise error

    monkeypatch.setattr(scene.durability._engine, "sync", fail)
    scene.durability.commit(_turn(1))
    assert scene.run() == [error]
