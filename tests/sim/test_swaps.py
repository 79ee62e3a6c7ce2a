"""Swaps of databases in storms (swaps.py): no key and no swap is lost, or there twice. Each plant is seen."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from protocol.databases import UNSWAPPED
from server.core.commands import swapdb
from server.core.commands.transactions import commands
from server.core.messages.numberings import Swap
from server.core.shared.document import SharedDocument
from server.core.shared.numberings import Numberings
from tests.sim.seeds import seeds
from tests.sim.swaps import run
from tests.sim.typed import HARMLESS


def _faults_of(seed: int) -> tuple[str, ...]:
    rng = random.Random(f"faults of swaps {seed}")
    return tuple(sorted(rng.sample(HARMLESS, rng.randint(1, 3))))


@pytest.mark.parametrize("seed", seeds(2, 40))
def test_in_calm_a_swap_that_was_answered_is_seen_by_all(seed: int) -> None:
    assert run(seed, ()) == []


@pytest.mark.parametrize("seed", seeds(3, 120))
def test_in_a_storm_no_key_and_no_swap_is_lost_or_there_twice(seed: int) -> None:
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


def _ask_anew(patch: Any) -> None:
    """A swap that is asked for again is another swap."""

    numbers = count()

    def renamed(swap: str, first: int, second: int, document: Numberings) -> Swap:
        return Swap(f"{swap[:-6]}{next(numbers):06x}", first, second, document)

    patch(swapdb, "Swap", renamed)


def _order_everywhere(patch: Any) -> None:
    """Each node orders the swaps of its own clients."""

    def ordered(services: Any, swap_id: str, first: int, second: int, deadline_ms: int) -> Iterator[Any]:
        yield services.timers.sleep_until(services.state.now_ms)
        if not services.numbering.has_swap(swap_id):
            services.numbering._order(Swap(swap_id, first, second, services.numbering.sharing.document))
        return ""

    patch(swapdb, "_ordered", ordered)


def _take_the_later_document(patch: Any) -> None:
    """Of two documents one counts, and not the swaps of both."""
    patch(Numberings, "merged_entry", SharedDocument.merged_entry)


@pytest.mark.interpreted
@pytest.mark.parametrize(
    ("plant", "faults", "told"),
    [
        (_wait_for_nobody, (), "is old"),
        (_ignore_swaps_in_transactions, (), "is old"),
        (_order_everywhere, (), "and then"),
        (_ask_anew, (), "are known"),
        (_take_the_later_document, ("very slow path",), "are known"),
    ],
)
def test_a_planted_bug_is_found(
    plant: Any, faults: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(lambda owner, name, replacement: monkeypatch.setattr(owner, name, replacement, raising=False))
    assert any(told in wrong for seed in range(20) for wrong in run(seed, faults, 300))
