"""Each planted bug is found by the checker that guards its promise, and the same seeds are clean without it."""

from __future__ import annotations

import pytest

from tests.sim.plants import PLANTS, Plant
from tests.sim.repair_plants import REPAIR_PLANTS
from tests.sim.ring_plants import RING_PLANTS
from tests.sim.runs import run

SEEDS = 200


@pytest.mark.parametrize("plant", [*PLANTS, *REPAIR_PLANTS, *RING_PLANTS], ids=lambda plant: plant.name)
def test_a_planted_bug_is_found(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant.patch(lambda owner, name, replacement: monkeypatch.setattr(owner, name, replacement))
    found = next((seed for seed in range(SEEDS) if _finds(plant, seed)), None)
    assert found is not None, f"{SEEDS} seeds and no checker says {plant.found_by!r}"
    monkeypatch.undo()
    assert run(found, plant.profile()).faults == [], f"seed {found} fails without the bug"


def _finds(plant: Plant, seed: int) -> bool:
    try:
        faults = run(seed, plant.profile()).faults
    except Exception:  # noqa: BLE001 - some bugs crash a node at times; here a checker has to find them
        return False
    return any(plant.found_by in fault for fault in faults)
