"""Facts of the process: what the event loop stood still for."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from server.shell.facts import Collections

MS = 1_000_000


@pytest.fixture
def clock_ns() -> list[int]:
    """Each reading of the clock, the next one first."""
    return [0, 3 * MS, 10 * MS, 17 * MS, 20 * MS, 22 * MS]


@pytest.fixture
def collections(clock_ns: list[int]) -> Iterator[Collections]:
    """They are timed, and only those that the test asks for happen."""
    gc.disable()
    timed = Collections(lambda: clock_ns.pop(0))
    timed.begin()
    yield timed
    timed.stop()
    gc.enable()


def test_the_longest_collection_of_garbage_is_a_fact(collections: Collections) -> None:
    assert collections.facts() == {"gc_collections": "0", "gc_ms_max": "0.0"}
    for _ in range(3):
        gc.collect(0)
    assert collections.facts() == {"gc_collections": "3", "gc_ms_max": "7.0"}


def test_no_collection_is_timed_after_the_end(clock_ns: list[int]) -> None:
    timed = Collections(lambda: clock_ns.pop(0))
    timed.begin()
    timed.stop()
    gc.collect(0)
    assert timed.facts()["gc_collections"] == "0"
