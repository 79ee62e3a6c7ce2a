"""What a slow commit leaves behind: a sample of LATENCY HISTORY."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from server.shell.durability import Durability
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
    engine: Any = SimpleNamespace(commit=lambda writes: None, sync=lambda: None)
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


def test_under_always_a_turn_is_told_of_its_sync_and_said_once_after_it() -> None:
    """Also a turn that is committed while others are said."""
    calls: list[Any] = []
    told: list[Any] = []
    loop: Any = SimpleNamespace(
        call_later=lambda *_: None,
        call_soon=lambda call, *given: calls.append((call, given)),
        call_soon_threadsafe=lambda call, *given: calls.append((call, given)),
    )
    engine: Any = SimpleNamespace(commit=lambda writes: None, sync=lambda: told.append("sync"))
    outboxes: list[Any] = [SimpleNamespace(writes={b"k": b"v"}, turn=turn) for turn in (1, 2)]

    def deliver(outbox: Any) -> None:
        told.append(outbox.turn)
        if outbox.turn == 1:
            durability.commit(outboxes[1])

    latencies = make_node().services.latencies
    durability = Durability(
        engine, latencies, "always", loop, deliver, pytest.fail, holds=lambda is_syncing: told.append(is_syncing)
    )
    durability.commit(outboxes[0])
    while calls:
        call, given = calls.pop(0)
        call(*given)
        durability._sync_thread.submit(int).result()  # a sync that has begun has ended
    assert told == [True, "sync", 1, False, True, "sync", 2, False]
