"""Clients that cache (tracking.py): in the end none keeps what it was to drop. Each plant is seen."""

from __future__ import annotations

import random
from typing import Any

import pytest

from server.core.base.origins import OwnChanges
from server.core.pubsub.expiries import Expiries
from server.core.pubsub.tracking import Tracking
from tests.sim.seeds import seeds
from tests.sim.tracking import run
from tests.sim.typed import HARMLESS

PLANT_SEEDS = 12


def _of(seed: int) -> tuple[tuple[str, ...], str, int]:
    """Faults, options, and the number of owners of a key."""
    rng = random.Random(f"faults of tracking {seed}")
    faults = tuple(sorted(rng.sample(HARMLESS, rng.randint(1, 3)))) if seed % 4 else ()
    return faults, rng.choice(("", "BCAST", "NOLOOP", "BCAST NOLOOP")), rng.choice((1, 2, 3))


@pytest.mark.parametrize("seed", seeds(4, 80))
def test_no_cache_keeps_what_has_changed(seed: int) -> None:
    faults, options, owners = _of(seed)
    stale, told = run(seed, faults, options, owners)
    assert stale == [] and told > 50


def _tell_no_peer(patch: Any) -> None:
    patch(Tracking, "watching_received", lambda self, peer, wants: None)


def _expire_in_silence(patch: Any) -> None:
    patch(Expiries, "due", lambda self, now_ms: [])


def _tell_before_the_reply(patch: Any) -> None:
    """News of a key overtakes the reply of a read of it."""
    patch(Tracking, "_note_changed", lambda self, session, tracker, key: tracker.invalid.setdefault(key))


def _own_by_its_key(patch: Any) -> None:
    """All changes of a key that a client has written lately count as its own."""
    patch(OwnChanges, "has_made", lambda self, change: any(key == change.key for key, _ in self._after))


def _never_doubt(patch: Any) -> None:
    patch(Tracking, "invalidate_all", lambda self: None)


@pytest.mark.interpreted
@pytest.mark.parametrize(
    ("plant", "faults", "options", "seed"),
    [
        (_tell_no_peer, (), "", 1),
        (_expire_in_silence, ("outage", "restart"), "BCAST", 1),
        (_tell_before_the_reply, ("slow path",), "", 1),
        (_never_doubt, ("broken connection",), "", 2),
        (_own_by_its_key, (), "NOLOOP", 1),
    ],
)
def test_a_planted_bug_is_found(
    plant: Any, faults: tuple[str, ...], options: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One owner a key: then every lost message counts."""
    with monkeypatch.context() as patch:
        plant(patch.setattr)
        found = next((each for each in range(seed, seed + PLANT_SEEDS) if run(each, faults, options, 1)[0]), None)
    assert found is not None
    assert run(found, faults, options, 1)[0] == []
