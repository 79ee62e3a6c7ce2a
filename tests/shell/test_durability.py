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
    durability = Durability(
        engine, node.services.latencies, "everysec", loop, pytest.fail, delivered.append, pytest.fail
    )
    for took_ms[0] in (99, 100):
        node.command(client.session, [b"SET", b"k", b"v"], client.now_ms)
        durability.commit(node.end_turn())
    samples = node.services.latencies.monitor.events["commit"].samples
    assert [sample.took_ms for sample in samples] == [100] and len(delivered) == 2
