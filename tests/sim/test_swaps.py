"""Swaps of databases in storms (swaps.py): no key is lost, none is in two databases. Each plant is seen."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from protocol.databases import UNSWAPPED
from server.core.commands import swapdb
from server.core.commands.transactions import commands
from server.core.messages.numberings import Swap
from server.core.services.numbering import DatabaseNumbering
from server.core.shared.numberings import Numberings
from tests.sim.seeds import seeds
from tests.sim.swaps import run
from tests.sim.typed import HARMLESS


def _faults_of(seed: int) -> tuple[str, ...]:
    rng = random.Random(f"faults of swaps {seed}")
    return tuple(sorted(rng.sample(HARMLESS, rng.randint(1, 3))))


@pytest.mark.parametrize("seed", seeds(2, 20))
def test_in_calm_a_swap_that_was_answered_is_seen_by_all(seed: int) -> None:
    assert run(seed, (), swappers=1) == []


@pytest.mark.parametrize("seed", seeds(2, 20))
def test_in_calm_of_swaps_at_once_none_is_lost(seed: int) -> None:
    assert run(seed, ()) == []


@pytest.mark.parametrize("seed", seeds(6, 120))
def test_in_a_storm_no_key_is_lost_or_in_two_databases(seed: int) -> None:
    assert run(seed, _faults_of(seed)) == []


def _wait_for_nobody(patch: Any) -> None:
    """OK is said before the other members have adopted the swap."""

    def unconfirmed(services: Any, swap_id: str, deadline_ms: int) -> Iterator[Any]:
        yield services.timers.sleep_until(services.state.now_ms)
        return []

    patch(swapdb, "_unconfirmed", unconfirmed)


def _ignore_swaps_in_transactions(patch: Any) -> None:
    """Transactions go by the numbering of before the first swap."""
    run_queued = commands.run_queued
    patch(commands, "run_queued", lambda services, client, _, queued: run_queued(services, client, UNSWAPPED, queued))


def _swap_again_and_again(patch: Any) -> None:
    """A swap that is asked for again is done again."""
    has_swap = DatabaseNumbering.has_swap
    patch(DatabaseNumbering, "has_swap", lambda self, swap: has_swap(self, swap) and self._state.rng.random() < 0.5)


def _order_everywhere(patch: Any) -> None:
    """Each node orders the swaps of its own clients, and does not look whether they prevail."""

    def ordered(services: Any, swap_id: str, first: int, second: int, deadline_ms: int) -> Iterator[Any]:
        yield services.timers.sleep_until(services.state.now_ms)
        services.numbering._order(Swap(swap_id, first, second, services.numbering.sharing.document))
        return ""

    patch(swapdb, "_ordered", ordered)
    patch(Numberings, "has_swap", lambda self, cluster, swap: bool(self.entries))


@pytest.mark.interpreted
@pytest.mark.parametrize(
    ("plant", "swappers", "told"),
    [
        (_wait_for_nobody, 1, "is old"),
        (_ignore_swaps_in_transactions, 1, "is old"),
        (_order_everywhere, 3, "swaps were done"),
        (_swap_again_and_again, 3, "swaps were done"),
    ],
)
def test_a_planted_bug_is_found(plant: Any, swappers: int, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(lambda owner, name, replacement: monkeypatch.setattr(owner, name, replacement, raising=False))
    assert any(told in wrong for seed in range(20) for wrong in run(seed, (), swappers))
