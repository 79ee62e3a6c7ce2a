"""The pace of background work follows what clients wait for."""

from __future__ import annotations

import pytest

from server.core.base.config import Config
from server.core.base.histogram import Histogram
from server.core.work.pace import SAMPLES_MIN, SLACK_US, WINDOW_MS, Pace

FLOOR, CEILING = 100, 4000
CALM_US = 2000
LATE_US = 3 * CALM_US + SLACK_US


class Clock:
    """A pace, and windows of time that pass with answers to clients in them."""

    def __init__(self, floor: int = FLOOR, ceiling: int = CEILING) -> None:
        self.reads, self.writes = Histogram(), Histogram()
        self.config = Config(background_keys_per_s=floor, background_keys_per_s_idle=ceiling)
        self.pace = Pace(self.config, (self.reads, self.writes))
        self.now_ms = 0

    def window(
        self, wait_us: int = CALM_US, answers: int = SAMPLES_MIN, limited: bool = True, served: bool = True
    ) -> int:
        """One window passes. Returns the pace after it."""
        self.pace.tick(self.now_ms + 1, served)
        self.reads.add(wait_us, answers)
        if limited:
            self.pace.limits()
        self.now_ms += WINDOW_MS
        self.pace.tick(self.now_ms, served)
        return self.pace.keys_per_s


def test_a_node_without_clients_works_at_the_idle_pace() -> None:
    clock = Clock()
    assert clock.pace.keys_per_s == CEILING
    assert clock.window(answers=0, served=False) == CEILING


def test_the_first_client_slows_background_work_down_at_once() -> None:
    clock = Clock()
    clock.pace.tick(1, True)
    assert clock.pace.keys_per_s == FLOOR


def test_the_pace_grows_by_half_a_window_up_to_the_idle_one_while_clients_wait_no_longer() -> None:
    clock = Clock()
    paces = [clock.window() for _ in range(12)]
    assert paces[:4] == [151, 227, 341, 512] and paces[-1] == CEILING


def test_a_pace_that_nobody_needs_does_not_grow() -> None:
    clock = Clock()
    assert [clock.window(limited=False) for _ in range(5)] == [FLOOR] * 5


def test_the_pace_is_halved_in_each_window_in_which_clients_wait_longer_and_never_falls_below_the_floor() -> None:
    clock = Clock()
    while clock.window() < CEILING:
        pass
    assert [clock.window(LATE_US) for _ in range(7)] == [2000, 1000, 500, 250, 125, FLOOR, FLOOR]
    assert clock.pace.delays_clients
    assert clock.window() == FLOOR + FLOOR // 16 + 1, "it has delayed clients at this pace"
    assert not clock.pace.delays_clients


def test_one_late_answer_of_two_hundred_is_no_delay() -> None:
    clock = Clock()
    clock.window()
    clock.writes.add(LATE_US, 1)
    assert clock.window(answers=200) > FLOOR and not clock.pace.delays_clients
    clock.writes.add(LATE_US, 3)
    clock.window(answers=200)
    assert clock.pace.delays_clients


@pytest.mark.parametrize("wait_us", [CALM_US, 2 * CALM_US, 2 * CALM_US + SLACK_US - 1500])
def test_what_is_within_twice_the_calm_time_and_a_slack_is_no_delay(wait_us: int) -> None:
    clock = Clock()
    clock.window()
    clock.window(wait_us)
    assert not clock.pace.delays_clients


def test_few_answers_are_joined_to_those_of_the_next_window() -> None:
    clock = Clock()
    clock.window()
    clock.window(LATE_US, SAMPLES_MIN - 1)
    assert not clock.pace.delays_clients
    clock.window(LATE_US, 1)
    assert clock.pace.delays_clients


@pytest.mark.parametrize("answers", [1, 5, 20])
def test_the_pace_grows_only_while_few_clients_are_known_to_wait_no_longer(answers: int) -> None:
    """Clients wait 50 ms as soon as more than 1,000 keys are handled in a second."""
    clock = Clock()
    paces = [FLOOR]
    for _ in range(400):
        paces.append(clock.window(50_000 if paces[-1] > 1000 else CALM_US, answers))
    assert 1000 < max(paces) < 2000, "each step is judged before the next one"
    assert sum(pace > 1000 for pace in paces[100:]) < 300 / 5, "it stays near that for long"


def test_a_node_whose_own_clients_wait_for_nothing_goes_on_growing() -> None:
    clock = Clock()
    assert [clock.window(answers=0) for _ in range(2)] == [151, 227]


def test_a_load_that_stays_heavier_is_the_usual_one_after_ten_minutes() -> None:
    clock = Clock()
    clock.window()
    late = [clock.window(LATE_US) for _ in range(600_000 // WINDOW_MS - 1)]
    assert set(late) == {FLOOR} and clock.pace.delays_clients
    for _ in range(60_000 // WINDOW_MS + 2):
        clock.window(LATE_US)
    assert not clock.pace.delays_clients and clock.pace.keys_per_s > FLOOR


def test_a_node_whose_clients_have_gone_works_at_the_idle_pace_again() -> None:
    clock = Clock()
    clock.window()
    clock.window(LATE_US)
    assert clock.window(answers=0, served=False) == CEILING and not clock.pace.delays_clients


def test_the_clients_of_the_other_node_count_as_well() -> None:
    clock = Clock()
    clock.pace.peer_complains()
    assert clock.pace.keys_per_s == FLOOR, "although nobody is served here"
    while clock.window() < CEILING:
        pass
    clock.pace.peer_complains()
    assert clock.window() == CEILING // 2
    assert clock.window(served=False, answers=0) == CEILING, "it complains no more"


def test_a_floor_above_the_idle_pace_is_the_pace_while_clients_are_served() -> None:
    clock = Clock(floor=500, ceiling=100)
    assert clock.pace.keys_per_s == 100
    assert [clock.window(), clock.window(LATE_US)] == [500, 500]


def test_settings_are_followed_at_once() -> None:
    clock = Clock()
    while clock.window() < CEILING:
        pass
    clock.config.background_keys_per_s_idle = 300
    assert clock.pace.keys_per_s == 300
    assert clock.window(LATE_US) == 150
    clock.config.background_keys_per_s = 200
    assert clock.pace.keys_per_s == 200
