"""Background procedures: none ends in silence, an error in one does not stop the others, and all share one budget."""

from __future__ import annotations

import itertools

import pytest

from server.core.base.config import Config
from server.core.base.errors import CommandError
from server.core.base.unexpected import Fatal
from server.core.node import Node
from server.core.records.versions import DamagedRecord
from server.core.work.background import AGAIN_MS, AGAIN_MS_MAX, FAILING_MS, QUIET_MS
from server.core.work.procedures import Steps
from tests.core.commands.talking import make_node

LOOK_MS = 100  # from one look of `pass_ms` at the timers to the next


@pytest.fixture
def node() -> Node:
    node = make_node(config=Config(engine="memory", tree_leaf_bits=14))
    node.state.now_ms = 0
    return node


def pass_ms(node: Node, duration_ms: int) -> None:
    for _ in range(duration_ms // LOOK_MS):
        node.state.now_ms += LOOK_MS
        node.services.timers.expire(node.state.now_ms)


@pytest.mark.parametrize("error", [DamagedRecord("damaged"), CommandError("ERR refused")])
def test_one_that_meets_an_expected_error_begins_again_after_ever_longer_pauses(node: Node, error: Exception) -> None:
    begun_ms: list[int] = []

    def fails() -> Steps:
        begun_ms.append(node.state.now_ms)
        yield node.services.background.sleep(0)
        raise error

    node.services.background.run_forever("it", fails)
    pass_ms(node, 16 * AGAIN_MS)
    pauses = [later - earlier for earlier, later in itertools.pairwise(begun_ms)]
    assert len(pauses) == 4 and all(1.5 * one <= other <= 2.5 * one for one, other in itertools.pairwise(pauses))
    assert node.state.statistics.procedure_errors == len(begun_ms)
    assert node.services.background.failing()["it"]["errors"] == len(begun_ms)


def test_one_that_is_well_again_is_shown_as_failing_no_more(node: Node) -> None:
    errors = [DamagedRecord("damaged")]
    ends: list[int] = []

    def fails_once() -> Steps:
        yield node.services.background.sleep(0)
        if errors:
            raise errors.pop()
        ends.append(node.state.now_ms)
        return None

    node.services.background.run_to_end("it", fails_once)
    pass_ms(node, 2 * AGAIN_MS)
    assert len(ends) == 1 and node.services.background.failing() == {"it": {"errors": 1, "error": "ERR damaged"}}
    pass_ms(node, FAILING_MS)
    assert node.services.background.failing() == {} and len(ends) == 1


def test_one_that_was_to_run_for_ever_and_ends_ends_the_node(node: Node) -> None:
    def ends() -> Steps:
        yield node.services.background.sleep(0)
        return None

    node.services.background.run_forever("it", ends)
    with pytest.raises(Fatal, match="procedure it has"):
        pass_ms(node, 100)


def test_a_step_that_raises_stop_iteration_is_no_end(node: Node) -> None:
    """If it were taken for the procedure's own exception, the procedure would end in silence."""

    def begins_badly() -> Steps:
        yield lambda procedure: next(iter(()))
        return None

    with pytest.raises(Fatal, match="procedure it has failed"):
        node.services.background.run("it", begins_badly())


def test_who_comes_behind_one_that_raises_keeps_its_place(node: Node) -> None:
    resumed: list[str] = []

    def waits(name: str) -> Steps:
        yield node.services.background.sleep(50)
        resumed.append(name)
        if name == "second":
            raise KeyError(name)
        return None

    for name in ("first", "second", "third"):
        node.services.background.run(name, waits(name))
    with pytest.raises(Fatal):
        pass_ms(node, 100)
    assert resumed == ["first", "second"]
    pass_ms(node, 100)
    assert resumed == ["first", "second", "third"]


def test_one_that_is_run_once_is_its_callers_to_begin_again(node: Node) -> None:
    failed: list[str] = []

    def fails() -> Steps:
        yield node.services.background.sleep(0)
        raise CommandError("BUSY wait")

    def ends() -> Steps:
        yield node.services.background.sleep(0)
        return None

    node.services.background.run("it", fails(), lambda: failed.append("it"))
    node.services.background.run("another", ends(), lambda: failed.append("another"))
    pass_ms(node, 4 * AGAIN_MS_MAX)
    assert failed == ["it"] and node.state.statistics.procedure_errors == 1
    assert node.services.background.failing() == {}, "that was long ago"


def test_the_pause_before_a_new_beginning_has_a_bound_and_is_short_again_after_a_time_without_errors(
    node: Node,
) -> None:
    begun_ms: list[int] = []
    patience_ms = [0]

    def fails() -> Steps:
        begun_ms.append(node.state.now_ms)
        yield node.services.background.sleep(patience_ms[0])
        raise CommandError("BUSY wait")

    node.services.background.run_to_end("it", fails)
    pass_ms(node, 10 * AGAIN_MS_MAX)
    assert begun_ms[-1] - begun_ms[-2] == AGAIN_MS_MAX + LOOK_MS
    patience_ms[0] = FAILING_MS
    pass_ms(node, AGAIN_MS_MAX + FAILING_MS + 2 * AGAIN_MS)
    assert begun_ms[-1] - begun_ms[-2] == FAILING_MS + AGAIN_MS


# --- the pace


RATE = Config(engine="memory", tree_leaf_bits=14, background_keys_per_s=100, background_keys_per_s_idle=1000)


def spend(node: Node, keys: int, count: int = 1, peer_busy: bool = False) -> list[int]:
    """Spends so many keys, a number of times; the list gets the time of each beginning."""
    begun_ms: list[int] = []

    def steps() -> Steps:
        for _ in range(count):
            yield from node.services.background.spend(keys, peer_busy)
            begun_ms.append(node.state.now_ms)
        return None

    node.services.background.run("it", steps())
    return begun_ms


def paced_node() -> Node:
    node = make_node(config=RATE)
    node.state.now_ms = 10_000
    return node


def serve(node: Node, count: str = "reads") -> None:
    setattr(node.state.statistics, count, getattr(node.state.statistics, count) + 1)
    node.services.background.tick(node.state.now_ms)


@pytest.mark.parametrize(
    ("is_busy", "peer_busy", "interval_ms"), [(False, False, 100), (True, False, 1000), (False, True, 1000)]
)
def test_work_waits_until_the_work_before_it_is_earned(is_busy: bool, peer_busy: bool, interval_ms: int) -> None:
    """100 keys at 1000 a second, or at 100 while clients are served here or at the peer."""
    node = paced_node()
    if is_busy:
        serve(node)
    begun_ms = spend(node, 100, 3, peer_busy)
    assert begun_ms == [10_000], "the first begins at once"
    while is_busy and node.state.now_ms < 12_000:
        pass_ms(node, 500)
        serve(node)
    pass_ms(node, 3000)
    assert begun_ms == [10_000, 10_000 + interval_ms, 10_000 + 2 * interval_ms]


def test_all_procedures_share_one_budget() -> None:
    node = paced_node()
    one, other = spend(node, 100, 2), spend(node, 100, 2)
    pass_ms(node, 1000)
    assert (one, other) == ([10_000, 10_100], [10_200, 10_300]), "in the order in which they asked"


@pytest.mark.parametrize("pause_ms", [200, 400, 60_000])
def test_a_pause_in_the_work_earns_no_burst(pause_ms: int) -> None:
    node = paced_node()
    spend(node, 100)
    node.state.now_ms += pause_ms
    begun_ms = spend(node, 100, 2)
    pass_ms(node, 1000)
    assert begun_ms == [10_000 + pause_ms, 10_100 + pause_ms]


def test_less_than_a_millisecond_of_work_costs_one() -> None:
    node = paced_node()
    begun_ms = spend(node, 0, 3)
    for _ in range(2):
        node.state.now_ms += 1
        node.services.timers.expire(node.state.now_ms)
    assert begun_ms == [10_000, 10_001, 10_002]


@pytest.mark.parametrize("count", ["reads", "writes", "relays", "reads_answered", "stored"])
def test_clients_are_served_while_they_read_or_write_here_or_through_others(count: str) -> None:
    node = paced_node()
    node.services.background.tick(node.state.now_ms)
    assert not node.services.background.busy
    serve(node, count)
    assert node.services.background.busy
    node.state.now_ms += QUIET_MS - 1
    node.services.background.tick(node.state.now_ms)
    assert node.services.background.busy
    node.state.now_ms += 1
    assert not node.services.background.busy


def test_who_watches_a_repair_does_not_slow_it_down() -> None:
    node = paced_node()
    node.services.background.tick(node.state.now_ms)
    serve(node, "commands")
    assert not node.services.background.busy
