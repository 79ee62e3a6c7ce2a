"""Whole clusters on seeds: no promise is broken, come what may. A failure names its seed: `python -m tests.sim SEED`.

Each seed is a storm of some kinds of faults, or a calm day. Some seeds are always the same; others are new after each
change of the code.
"""

from __future__ import annotations

import pytest

from tests.sim.faults import FAULTS
from tests.sim.runs import Profile, profile_of, run
from tests.sim.seeds import seeds, untried


@pytest.mark.parametrize("seed", seeds(6, 24))
def test_no_promise_is_broken(seed: int) -> None:
    _assert_clean(seed)


@pytest.mark.parametrize("number", range(8))
def test_nor_by_a_seed_that_nobody_has_tried(number: int) -> None:
    _assert_clean(untried("storm", number))


def _assert_clean(seed: int) -> None:
    verdict = run(seed)
    assert not verdict.faults, f"python -m tests.sim {seed}\n" + "\n".join(verdict.faults[:5])


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_each_fault_alone(fault: str) -> None:
    profile = Profile(nodes=3, customers=3, keys=4, faults=(fault,), pace_ms=400, duration_ms=4000)
    verdict = run(7, profile)
    assert not verdict.faults, "\n".join(verdict.faults[:5])


def test_a_calm_run_answers_everything_without_an_error() -> None:
    profiles = [profile_of(seed) for seed in range(100)]
    seed = next(seed for seed, it in enumerate(profiles) if it.calm and it.nodes >= 5 and not it.ring)
    operations = run(seed).world.history.operations
    assert len(operations) > 50
    assert all(operation.answered and not operation.error for operation in operations)


def test_a_storm_hurts() -> None:
    """The faults do reach the clients: else the runs above would prove nothing."""
    profile = Profile(nodes=3, customers=4, keys=4, faults=("crash", "isolate", "kill"), pace_ms=200, duration_ms=4000)
    operations = run(2, profile).world.history.operations
    assert any(not operation.answered for operation in operations)
    assert any("NOQUORUM" in operation.error for operation in operations)
    assert sum(operation.answered and not operation.error for operation in operations) > 20
