"""Cluster time: while most clocks are right, it is right within its bound and runs forward, whatever the others do."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.core.base.cluster_time import MANY, READING_MS, SLEW, WAIT_MS_MAX, ClusterTime

STEP_MS_MAX = 600_000
HOUR_MS = 3_600_000
EPOCH_MS = 1_700_000_000_000  # the right wall clock reads this at our monotonic 0


@dataclass
class Watch:
    """Member a's cluster time, among members whose wall clocks are off by `errors_ms`. Its monotonic clock is true."""

    errors_ms: dict[str, int]
    now_ms: int = 5_000_000
    time: ClusterTime = field(default_factory=lambda: ClusterTime("a", STEP_MS_MAX, 0))
    read_ms: int = 0

    def __post_init__(self) -> None:
        self.time.begin(EPOCH_MS + self.errors_ms["a"])
        self.time.set_members(list(self.errors_ms))

    def wall_ms(self, member: str) -> int:
        """Returns the reading of the member's wall clock."""
        return EPOCH_MS + self.now_ms + self.errors_ms[member]

    def ask(self, *members: str, there_ms: int = 2, back_ms: int = 2) -> None:
        """Asks each member, and gets its answer."""
        for member in members:
            asked_ms = self.now_ms
            self.now_ms += there_ms
            wall_ms = self.wall_ms(member)
            self.now_ms += back_ms
            self.time.sample(member, asked_ms, wall_ms, self.now_ms)

    def tick(self, passed_ms: int = 100) -> bool:
        """Lets time pass. Returns whether the offset has stepped."""
        self.now_ms += passed_ms
        self.time.read_own(EPOCH_MS + self.errors_ms["a"])
        return self.time.follow(self.now_ms)

    @property
    def error_ms(self) -> int:
        """Returns how far cluster time is ahead of true time."""
        return self.time.offset_ms - EPOCH_MS

    def run(self, duration_ms: int, *members: str) -> None:
        """Lets this node tick, and the members answer every second."""
        for _ in range(duration_ms // 1000):
            self.ask(*members)
            self.tick(1000)


def watch(*errors_ms: int) -> Watch:
    """Returns members a, b, c, … whose clocks are off by these amounts."""
    return Watch({chr(ord("a") + place): error_ms for place, error_ms in enumerate(errors_ms)})


@given(
    st.integers(1, 4),  # the wrong ones of twice as many, and one
    st.integers(0, 300),
    st.lists(st.tuples(st.integers(0, 8), st.sampled_from((0, 0, 1, 30, 500)), st.sampled_from((0, 1, 30, 500)),
                       st.integers(-2 * HOUR_MS, 2 * HOUR_MS)), min_size=20, max_size=60),
    st.randoms(use_true_random=False),
)  # fmt: skip
@settings(max_examples=60)
def test_a_minority_of_wrong_clocks_moves_nothing(
    wrong: int, spread_ms: int, steps: list[tuple[int, int, int, int]], rng: random.Random
) -> None:
    """Clocks of a majority are right to within `spread_ms`; the others jump between any two questions."""
    names = [chr(ord("a") + place) for place in range(2 * wrong + 1)]
    liars = rng.sample(names, wrong)
    clocks = Watch({name: rng.randint(-spread_ms, spread_ms) for name in names})
    for name in liars:
        clocks.errors_ms[name] = rng.randint(-HOUR_MS, HOUR_MS)
    clocks.ask(*names[1:])
    clocks.tick()
    assert clocks.time.is_sure
    before_ms = clocks.now_ms + clocks.time.offset_ms
    for place, there_ms, back_ms, jump_ms in steps:
        name = names[place % len(names)]
        if name in liars:
            clocks.errors_ms[name] = jump_ms
        if name != "a":
            clocks.ask(name, there_ms=there_ms, back_ms=back_ms)
        assert not clocks.tick(rng.choice((1, 100, 5000)))
        time_ms = clocks.now_ms + clocks.time.offset_ms
        assert time_ms >= before_ms
        before_ms = time_ms
        bound_ms = clocks.time.bound_ms(clocks.now_ms)
        assert bound_ms is not None
        assert abs(clocks.error_ms) <= bound_ms + spread_ms
        assert abs(clocks.error_ms) <= spread_ms + 2 * READING_MS


@pytest.mark.parametrize(
    ("errors_ms", "right_ms"),
    [
        ((0, HOUR_MS, -HOUR_MS, 0, 0), 0),
        ((HOUR_MS, HOUR_MS, 0, 0, 0), 0),
        ((-HOUR_MS, -HOUR_MS, 0, 0, 0), 0),
        ((HOUR_MS, 0, 0), 0),
        ((-HOUR_MS, 0, 0, 0), 0),
        ((HOUR_MS, 0, 0, 0), 0),
        ((HOUR_MS, 0), 0),  # of two the slower one: keys live too long rather than die too soon
        ((0, HOUR_MS), 0),
        ((0, -HOUR_MS), -HOUR_MS),
        ((HOUR_MS,), HOUR_MS),
    ],
)
def test_the_middle_clock_counts(errors_ms: tuple[int, ...], right_ms: int) -> None:
    clocks = watch(*errors_ms)
    clocks.ask(*[name for name in clocks.errors_ms if name != "a"])
    clocks.tick()
    assert clocks.time.is_sure
    assert abs(clocks.error_ms - right_ms) <= 2 * READING_MS
    assert clocks.time.own_error_ms(clocks.now_ms) == pytest.approx(errors_ms[0] - right_ms, abs=2 * READING_MS)


@pytest.mark.parametrize("jump_ms", [HOUR_MS, -HOUR_MS, 20_000, -20_000])
@pytest.mark.parametrize("others", [1, 3])
def test_half_of_an_even_number_moves_nothing_either(others: int, jump_ms: int) -> None:
    """Of two different clocks the node cannot know the right one, but it knows how much time has passed."""
    clocks = watch(*[0] * (others + 1))
    names = [name for name in clocks.errors_ms if name != "a"]
    clocks.run(2000, *names)
    for name in names[: (others + 1) // 2]:
        clocks.errors_ms[name] = jump_ms
    clocks.run(20_000, *names)
    assert abs(clocks.error_ms) <= 2 * READING_MS
    assert abs(clocks.time.own_error_ms(clocks.now_ms)) <= 2 * READING_MS
    bound_ms = clocks.time.bound_ms(clocks.now_ms)
    assert bound_ms is not None
    assert bound_ms >= abs(jump_ms), "it is not known any better"


def test_a_node_that_starts_with_a_wrong_clock_waits_for_a_majority() -> None:
    clocks = watch(HOUR_MS, 0, 0)
    clocks.tick()
    assert not clocks.time.is_set
    clocks.ask("b")
    clocks.tick()
    assert not clocks.time.is_set, "one against one"
    clocks.ask("c")
    clocks.tick()
    assert clocks.time.is_sure
    assert abs(clocks.error_ms) <= 2 * READING_MS


def test_it_takes_the_word_of_one_that_is_sure() -> None:
    clocks = watch(HOUR_MS, -HOUR_MS, 0)
    asked_ms = clocks.now_ms
    clocks.ask("b")
    clocks.time.learn(asked_ms, EPOCH_MS + asked_ms + 2, clocks.now_ms)
    clocks.tick()
    assert clocks.time.is_sure
    assert abs(clocks.error_ms) <= 2


def test_alone_it_goes_by_its_own_clock_and_gives_way_to_a_majority() -> None:
    clocks = watch(HOUR_MS, 0, 0)
    clocks.time.cannot_reach("b")
    clocks.tick()
    assert not clocks.time.is_set
    clocks.time.cannot_reach("c")
    clocks.tick()
    assert clocks.time.is_set
    assert not clocks.time.is_sure
    assert clocks.time.bound_ms(clocks.now_ms) is None
    assert clocks.error_ms == HOUR_MS
    clocks.ask("b", "c")
    assert clocks.tick(), "it steps"
    assert clocks.time.is_sure
    assert abs(clocks.error_ms) <= 2 * READING_MS


def test_nobody_waits_for_ever() -> None:
    clocks = watch(0, 0, 0)
    clocks.tick()
    clocks.tick(WAIT_MS_MAX - 1)
    assert not clocks.time.is_set
    clocks.tick(1)
    assert clocks.time.is_set


@pytest.mark.parametrize("jump_ms", [-40_000, 40_000, -STEP_MS_MAX + 100, 500_000])
def test_where_most_clocks_are_set_it_follows_slowly_so_that_ttls_stay_right(jump_ms: int) -> None:
    clocks = watch(0, 0, 0, HOUR_MS, 0)
    clocks.run(3000, "b", "c", "d", "e")
    begun_ms = clocks.now_ms
    for name in "abce":
        clocks.errors_ms[name] += jump_ms
    for _ in range(600):
        before_ms = clocks.now_ms + clocks.time.offset_ms
        clocks.ask("b", "c", "d", "e")
        assert not clocks.tick(1000)
        assert clocks.now_ms + clocks.time.offset_ms > before_ms
        assert abs(clocks.error_ms) <= (clocks.now_ms - begun_ms) // SLEW + 2 * READING_MS
    gap_ms = clocks.time.gap_ms(clocks.now_ms)
    assert gap_ms == pytest.approx(clocks.error_ms - jump_ms, abs=2 * READING_MS)
    bound_ms = clocks.time.bound_ms(clocks.now_ms)
    assert bound_ms is not None
    assert bound_ms >= abs(gap_ms)
    clocks.run(abs(jump_ms) * (SLEW + 5), "b", "c", "d", "e")
    assert clocks.error_ms == pytest.approx(jump_ms, abs=2 * READING_MS)


@pytest.mark.parametrize("jump_ms", [-24 * HOUR_MS, 24 * HOUR_MS])
def test_what_would_take_a_day_is_stepped_over(jump_ms: int) -> None:
    clocks = watch(0, 0, 0)
    clocks.run(2000, "b", "c")
    clocks.errors_ms = dict.fromkeys("abc", jump_ms)
    clocks.ask("b", "c")
    assert clocks.tick()
    assert clocks.time.steps == 1
    assert clocks.error_ms == pytest.approx(jump_ms, abs=2 * READING_MS)


def test_members_that_are_down_keep_their_word_for_a_long_time() -> None:
    clocks = watch(0, 0, HOUR_MS)
    clocks.run(2000, "b", "c")
    for _ in range(600):  # b is down; c alone would outweigh us
        clocks.ask("c")
        clocks.tick(1000)
    assert abs(clocks.error_ms) <= 2 * READING_MS


def test_a_clock_that_runs_fast_is_followed_as_one_of_many() -> None:
    clocks = watch(0, 0, 0)
    for second in range(4000):
        clocks.errors_ms["b"] = second // 2  # 500 ppm
        clocks.ask("b", "c")
        clocks.tick(1000)
        assert abs(clocks.error_ms) <= 2 * READING_MS
    low_ms, high_ms, _ = clocks.time._samples["b"]
    assert low_ms <= EPOCH_MS + clocks.errors_ms["b"] <= high_ms


def test_what_the_machine_has_slept_has_passed() -> None:
    clocks = watch(0, 0, 0)
    clocks.run(2000, "b", "c")
    clocks.errors_ms = dict.fromkeys("abc", 8 * HOUR_MS)  # their walls went on, our monotonic clock did not
    clocks.time.slept(8 * HOUR_MS)
    clocks.tick()
    assert clocks.error_ms == pytest.approx(8 * HOUR_MS, abs=2 * READING_MS)
    assert clocks.time.steps == 0


def test_new_members_are_heard_and_former_ones_forgotten() -> None:
    clocks = watch(0, 0, 0)
    clocks.run(2000, "b", "c")
    clocks.errors_ms |= {"d": HOUR_MS, "e": HOUR_MS}
    clocks.time.set_members(list("abcde"))
    clocks.run(5000, "b", "c", "d", "e")
    assert abs(clocks.error_ms) <= 2 * READING_MS
    clocks.time.set_members(list("ade"))  # by two of three clocks it is an hour later now
    clocks.run(2000, "d", "e")
    assert clocks.error_ms == pytest.approx(HOUR_MS, abs=2 * READING_MS)


@pytest.mark.parametrize("member", ["a", "z"])
def test_an_answer_of_no_other_member_counts_for_nothing(member: str) -> None:
    clocks = watch(0, 0, 0)
    clocks.time.sample(member, clocks.now_ms, 0, clocks.now_ms)
    assert clocks.time._samples == {}


def test_an_answer_to_a_question_of_another_life_counts_for_nothing() -> None:
    clocks = watch(0, 0, 0)
    clocks.time.sample("b", clocks.now_ms + 1, EPOCH_MS, clocks.now_ms)
    assert clocks.time._samples == {}


@pytest.mark.interpreted  # a compiled class takes no method of another
@pytest.mark.parametrize(("members", "looks"), [(MANY, 10), (MANY + 1, 2)])
def test_the_clocks_of_many_members_are_compared_once_a_second(
    members: int, looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A comparison sorts all of them, and each tick would do it."""
    watch = Watch({"a": 0} | {f"m{index:02}": 50 for index in range(members - 1)})
    watch.run(5000, *list(watch.errors_ms)[1:])
    assert watch.time.is_sure
    watch.errors_ms = {"a": 0} | {node: 500 for node in watch.errors_ms if node != "a"}
    watch.ask(*list(watch.errors_ms)[1:])
    before_ms, looked_ms, compare = watch.error_ms, [], ClusterTime.middle
    monkeypatch.setattr(ClusterTime, "middle", lambda time, now_ms: looked_ms.append(now_ms) or compare(time, now_ms))
    for _ in range(10):
        watch.tick(200)
    assert len(looked_ms) == looks
    assert watch.error_ms > before_ms, "the offset still moves by what has passed between two looks"
