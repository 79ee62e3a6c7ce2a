"""Lateness: which ages make a node too late to coordinate, and when it is not any more."""

from __future__ import annotations

from server.core.liveness.lateness import CALM_MS, LATE_MS, RELATIVE, SAMPLE_MS, VALID_MS, Lateness

PEERS = ("n1", "n2")


class Clocked:
    """A `Lateness`, and a clock that the ages of messages of two peers push on."""

    def __init__(self) -> None:
        self.lateness = Lateness()
        self.now_ms = 1000

    def hear(self, count: int, *ages_ms: int, told_ms: int | None = 1) -> bool:
        """So many messages of each peer come, with these ages. Returns the verdict."""
        for _ in range(count):
            self.now_ms += SAMPLE_MS
            for peer, age_ms in zip(PEERS, ages_ms, strict=False):
                self.lateness.note(peer, age_ms, self.now_ms)
                if told_ms is not None:
                    self.lateness.told(peer, told_ms, self.now_ms)
            self.lateness.judge(self.now_ms)
        return self.lateness.is_late


def test_a_node_that_everything_reaches_late_is_late_soon() -> None:
    clocked = Clocked()
    assert not clocked.hear(100, 1, 1)
    assert clocked.hear(10, 100, 100), "after 200 ms"
    assert clocked.lateness.own_ms(clocked.now_ms) >= LATE_MS


def test_one_bad_path_is_not_its_own_lateness() -> None:
    assert not Clocked().hear(1000, 100, 1)


def test_of_two_nodes_each_has_one_path() -> None:
    assert Clocked().hear(100, 100)


def test_a_pause_of_a_second_is_none() -> None:
    """What has gathered in the sockets meanwhile is read within a moment."""
    clocked = Clocked()
    clocked.hear(100, 1, 1)
    for age_ms in range(1000, 0, -1):
        for peer in PEERS:
            clocked.lateness.note(peer, age_ms, clocked.now_ms)
    assert not clocked.hear(1, 1000, 1000)


def test_where_all_are_late_nobody_steps_back() -> None:
    assert not Clocked().hear(1000, 100, 100, told_ms=100 // RELATIVE + 1)


def test_without_a_word_of_the_others_it_goes_on() -> None:
    """They are of an earlier version, and would send it everything all the same."""
    assert not Clocked().hear(1000, 100, 100, told_ms=None)


def test_it_comes_back_when_it_has_been_in_time_for_a_while() -> None:
    clocked = Clocked()
    assert clocked.hear(100, 100, 100)
    assert clocked.hear(50, 1, 1), "its mean is small again by now"
    assert clocked.lateness.own_ms(clocked.now_ms) < LATE_MS // 2
    assert not clocked.hear(CALM_MS // SAMPLE_MS, 1, 1)


def test_a_single_late_spell_keeps_it_out() -> None:
    clocked = Clocked()
    assert clocked.hear(100, 100, 100)
    clocked.hear(50 + CALM_MS // SAMPLE_MS // 2, 1, 1)
    clocked.hear(10, 100, 100)
    assert clocked.hear(50 + CALM_MS // SAMPLE_MS // 2, 1, 1)


def test_what_was_measured_long_ago_does_not_count() -> None:
    clocked = Clocked()
    clocked.hear(4, 100, 100)
    clocked.now_ms += VALID_MS
    assert clocked.lateness.own_ms(clocked.now_ms) == 0


def test_round_trips_keep_a_late_node_late_when_the_ages_have_faded() -> None:
    clocked = Clocked()
    for peer in PEERS:
        clocked.lateness.answered_after(peer, 1, clocked.now_ms)
    assert clocked.hear(100, 100, 100)
    for _ in range(3 * CALM_MS // 500):
        for peer in PEERS:
            clocked.lateness.answered_after(peer, 101, clocked.now_ms)
        assert clocked.hear(500 // SAMPLE_MS, 1, 1)
    for _ in range(2 * CALM_MS // 500):
        for peer in PEERS:
            clocked.lateness.answered_after(peer, 1, clocked.now_ms)
        is_late = clocked.hear(500 // SAMPLE_MS, 1, 1)
    assert not is_late


def test_a_node_that_is_far_away_has_no_excess() -> None:
    clocked = Clocked()
    for peer in PEERS:
        clocked.lateness.answered_after(peer, 150, clocked.now_ms)
    assert clocked.hear(100, 100, 100)
    for peer in PEERS:
        clocked.lateness.answered_after(peer, 150, clocked.now_ms)
    assert not clocked.hear(2 * CALM_MS // SAMPLE_MS, 1, 1)
