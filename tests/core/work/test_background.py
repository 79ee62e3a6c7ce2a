"""Background procedures: none ends in silence, and an error in one does not stop the others."""

from __future__ import annotations

import itertools

import pytest

from server.core.base.config import Config
from server.core.base.errors import CommandError
from server.core.base.unexpected import Fatal
from server.core.node import Node
from server.core.records.versions import DamagedRecord
from server.core.work.background import AGAIN_MS, FAILING_MS
from server.core.work.procedures import Steps
from tests.core.commands.talking import make_node


@pytest.fixture
def node() -> Node:
    node = make_node(config=Config(engine="memory", tree_leaf_bits=14))
    node.state.now_ms = 0
    return node


def pass_ms(node: Node, duration_ms: int) -> None:
    for _ in range(duration_ms // 100):
        node.state.now_ms += 100
        node.timers.expire(node.state.now_ms)


@pytest.mark.parametrize("error", [DamagedRecord("damaged"), CommandError("ERR refused")])
def test_one_that_meets_an_expected_error_begins_again_after_ever_longer_pauses(node: Node, error: Exception) -> None:
    begun_ms: list[int] = []

    def fails() -> Steps:
        begun_ms.append(node.state.now_ms)
        yield node.background.pause(0)
        raise error

    node.background.run_forever("it", fails)
    pass_ms(node, 16 * AGAIN_MS)
    pauses = [later - earlier for earlier, later in itertools.pairwise(begun_ms)]
    assert len(pauses) == 4 and all(1.5 * one <= other <= 2.5 * one for one, other in itertools.pairwise(pauses))
    assert node.state.statistics.procedure_errors == len(begun_ms)
    assert node.background.failing()["it"]["errors"] == len(begun_ms)


def test_one_that_is_well_again_is_shown_as_failing_no_more(node: Node) -> None:
    errors = [DamagedRecord("damaged")]
    ends: list[int] = []

    def fails_once() -> Steps:
        yield node.background.pause(0)
        if errors:
            raise errors.pop()
        ends.append(node.state.now_ms)
        return None

    node.background.run_to_end("it", fails_once)
    pass_ms(node, 2 * AGAIN_MS)
    assert len(ends) == 1 and node.background.failing() == {"it": {"errors": 1, "error": "ERR damaged"}}
    pass_ms(node, FAILING_MS)
    assert node.background.failing() == {} and len(ends) == 1


def test_one_that_was_to_run_for_ever_and_ends_ends_the_node(node: Node) -> None:
    def ends() -> Steps:
        yield node.background.pause(0)
        return None

    node.background.run_forever("it", ends)
    with pytest.raises(Fatal, match="procedure it has"):
        pass_ms(node, 100)


def test_a_step_that_raises_stop_iteration_is_no_end(node: Node) -> None:
    """If it were taken for the procedure's own exception, the procedure would end in silence."""

    def begins_badly() -> Steps:
        yield lambda procedure: next(iter(()))
        return None

    with pytest.raises(Fatal, match="procedure it has failed"):
        node.background.run("it", begins_badly())


def test_who_comes_behind_one_that_raises_keeps_its_place(node: Node) -> None:
    resumed: list[str] = []

    def waits(name: str) -> Steps:
        yield node.background.pause(50)
        resumed.append(name)
        if name == "second":
            raise KeyError(name)
        return None

    for name in ("first", "second", "third"):
        node.background.run(name, waits(name))
    with pytest.raises(Fatal):
        pass_ms(node, 100)
    assert resumed == ["first", "second"]
    pass_ms(node, 100)
    assert resumed == ["first", "second", "third"]
