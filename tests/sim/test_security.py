"""Users and the secret of the nodes, in storms: nothing is lost, nobody deleted stays, and no intruder is believed."""

from __future__ import annotations

import pytest

from tests.sim.security import Profile, run
from tests.sim.security_plants import SECURITY_PLANTS, SecurityPlant
from tests.sim.seeds import seeds, untried

SEEDS = 60


@pytest.mark.parametrize("seed", seeds(5, 300))
def test_storms(seed: int) -> None:
    assert run(seed).faults == []


def test_storms_that_nobody_has_tried() -> None:
    for number in range(4):
        seed = untried("security", number)
        assert run(seed).faults == [], f"seed {seed}"


def test_commands_behind_a_late_login_run_though_time_was_not_known_when_it_ended() -> None:
    """Here the node had lost cluster time by then, and left the commands waiting for ever."""
    assert run(3935674377).faults == []


def test_a_change_that_a_clock_ahead_overtakes_in_the_turn_that_takes_it_counts_as_stored() -> None:
    """Here the other node's entry, under the later version, came with the same turn: one batch stored it alone."""
    assert run(3144449035).faults == []


def test_the_storms_bind_deletions_and_have_intruders() -> None:
    """Else the runs above would prove nothing."""
    verdicts = [run(seed) for seed in range(8)]
    assert sum(verdict.deletions_bound for verdict in verdicts) > 5
    assert sum(verdict.intrusions for verdict in verdicts) > 5


def test_a_secret_that_rotates_alone_disturbs_no_user() -> None:
    verdict = run(3, Profile(intrudes=False))
    assert verdict.faults == []
    assert verdict.deletions_bound > 0


@pytest.mark.parametrize("plant", SECURITY_PLANTS, ids=lambda plant: plant.name)
def test_a_planted_bug_is_found(plant: SecurityPlant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant.patch(lambda owner, name, replacement: monkeypatch.setattr(owner, name, replacement))
    found = next((seed for seed in range(SEEDS) if _finds(plant, seed)), None)
    assert found is not None, f"{SEEDS} seeds and no checker says {plant.found_by!r}"
    monkeypatch.undo()
    assert run(found, plant.profile).faults == [], f"seed {found} fails without the bug"


def _finds(plant: SecurityPlant, seed: int) -> bool:
    try:
        faults = run(seed, plant.profile).faults
    except Exception:  # noqa: BLE001 - some bugs crash a node at times; here a checker has to find them
        return False
    return any(plant.found_by in fault for fault in faults)
