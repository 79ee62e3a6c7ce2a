"""The hybrid clock: readings are unique, rise, and are greater than all received ones, whatever wall clocks do."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.bounds import COUNTER_MAX
from server.core.base.clock import SEQUENCE_BITS, HybridClock

DRIFT_MS_MAX = 50
WALL_MS = st.integers(0, 200)  # narrow, so that clocks meet, overtake and refuse each other
CALL = st.one_of(
    st.tuples(st.just("advance"), WALL_MS),
    st.tuples(st.just("observe"), st.integers(0, 300 << SEQUENCE_BITS)),
    st.tuples(st.just("next"), st.just(0)),
)


@given(WALL_MS, st.lists(CALL, min_size=15, max_size=40))
def test_readings_rise_under_any_sequence_of_calls(wall_ms: int, calls: list[tuple[str, int]]) -> None:
    clock = HybridClock(wall_ms, DRIFT_MS_MAX)
    issued, refused = [clock.last], 0
    for call, argument in calls:
        before = clock.last
        if call == "advance":
            clock.advance(argument)
            wall_ms = argument
            assert clock.last == max(before, argument << SEQUENCE_BITS)
        elif call == "observe":
            believed = clock.observe(argument)
            ahead_ms = (argument >> SEQUENCE_BITS) - wall_ms
            assert believed == (argument <= before or ahead_ms <= DRIFT_MS_MAX)
            assert clock.last == (max(before, argument) if believed else before)
            refused += not believed
        else:
            issued.append(clock.next())
            assert issued[-1] == clock.last
        assert clock.refused == refused
    assert all(earlier < later for earlier, later in itertools.pairwise(issued))


@given(
    st.lists(WALL_MS, min_size=3, max_size=3),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), WALL_MS), min_size=15, max_size=40),
)
@settings(max_examples=50)
def test_a_write_that_follows_another_anywhere_gets_the_greater_counter(
    walls_ms: list[int], steps: list[tuple[int, int, int]]
) -> None:
    """Three nodes with different, jumping wall clocks. Each message carries a reading of its sender's clock."""
    clocks = [HybridClock(wall_ms, drift_ms_max=1000) for wall_ms in walls_ms]
    newest_known = [0, 0, 0]  # the greatest dot among a node's own and those that it heard of, directly or not
    for sender, receiver, wall_ms in steps:
        clocks[sender].advance(wall_ms)
        counter = clocks[sender].next()
        assert counter > newest_known[sender]
        newest_known[sender] = counter
        assert clocks[receiver].observe(clocks[sender].last)
        newest_known[receiver] = max(newest_known[receiver], counter)


def test_the_drift_is_measured_from_the_wall_clock_to_the_millisecond() -> None:
    clock = HybridClock(1000, DRIFT_MS_MAX)
    first_too_far = (1000 + DRIFT_MS_MAX + 1) << SEQUENCE_BITS
    assert not clock.observe(first_too_far)
    assert (clock.last, clock.refused) == (1000 << SEQUENCE_BITS, 1)
    assert clock.observe(first_too_far - 1)
    assert (clock.last, clock.refused) == (first_too_far - 1, 1)
    assert not clock.observe(first_too_far)  # what was believed does not push the limit further
    clock.advance(1001)
    assert clock.observe(first_too_far)


def test_what_is_past_is_never_refused_even_when_the_wall_clock_was_set_back() -> None:
    clock = HybridClock(10_000, DRIFT_MS_MAX)
    clock.advance(0)
    assert clock.observe(10_000 << SEQUENCE_BITS)
    assert not clock.observe((10_000 << SEQUENCE_BITS) + 1)
    assert clock.next() == (10_000 << SEQUENCE_BITS) + 1


def test_more_writes_in_a_millisecond_than_the_sequence_counts_borrow_from_the_next() -> None:
    clock = HybridClock(7, DRIFT_MS_MAX)
    clock.observe((8 << SEQUENCE_BITS) - 1)
    assert clock.next() == 8 << SEQUENCE_BITS
    clock.advance(8)
    assert clock.next() == (8 << SEQUENCE_BITS) + 1


@pytest.mark.parametrize("year", [1970, 2026, 4000])
def test_counters_fit_their_bytes_for_any_sane_year(year: int) -> None:
    clock = HybridClock((year - 1970) * 366 * 86_400_000, DRIFT_MS_MAX)
    assert 0 < clock.next() < COUNTER_MAX < 1 << 64
