"""Lanes: which commands of a connection wait for which, and that each of them begins in the end."""

from __future__ import annotations

import pytest

from server.core.base.lanes import Lane, Lanes, Parked
from server.core.chains import may_enter
from server.core.commands.spec import EXCLUSIVE, READ, WRITE

NOW = 7  # the present turn


def _enter(lanes: Lanes, number: int, *keys: bytes, kind: int = WRITE) -> list[Lane]:
    own = lanes.of_keys(keys)
    lanes.enter(number, own, kind, 1)
    return own


def _park(lanes: Lanes, number: int, *keys: bytes) -> Parked:
    parked = Parked(number, [b"DEL", *keys], EXCLUSIVE, lanes.of_keys(keys))
    lanes.park(parked)
    return parked


def test_a_key_has_one_lane_and_a_command_is_in_it_once() -> None:
    lanes = Lanes()
    own = _enter(lanes, 0, b"a", b"b", b"a")
    assert [lane.key for lane in own] == [b"a", b"b"]
    assert [lane.running for lane in own] == [1, 1]
    assert lanes.of_keys([b"b"]) == own[1:]


def test_a_lane_is_free_when_all_that_ran_there_is_answered() -> None:
    lanes = Lanes()
    _enter(lanes, 0, b"a", kind=READ)
    _enter(lanes, 1, b"a", kind=READ)
    parked = _park(lanes, 2, b"a")
    lanes.leave(0)
    assert not lanes.free and not parked.is_first()
    lanes.leave(1)
    assert list(lanes.free) == parked.lanes and parked.is_first()


def test_a_command_of_many_keys_waits_for_all_of_them() -> None:
    lanes = Lanes()
    _enter(lanes, 0, b"a")
    _enter(lanes, 1, b"b")
    both, behind = _park(lanes, 2, b"a", b"b"), _park(lanes, 3, b"b")
    assert lanes.parked == 2
    lanes.leave(1)
    assert not both.is_first()
    lanes.leave(0)
    assert both.is_first() and not behind.is_first()
    lanes.unpark(both)
    assert lanes.parked == 1
    lanes.enter(2, both.lanes, EXCLUSIVE, 2)
    assert not behind.is_first()
    lanes.leave(2)
    assert behind.is_first()


def test_an_answer_nobody_waits_for_leaves_nothing_behind() -> None:
    lanes = Lanes()
    first = _enter(lanes, 0, b"a")
    lanes.leave(0)
    lanes.leave(0)  # of a command without keys, say
    assert not lanes.free and lanes.of_keys([b"a"]) != first


def test_a_second_answer_to_a_command_frees_no_lane() -> None:
    lanes = Lanes()
    _enter(lanes, 0, b"a", kind=READ)
    _enter(lanes, 1, b"a", kind=READ)
    parked = _park(lanes, 2, b"a")
    lanes.leave(0)
    lanes.leave(0)
    assert not lanes.free and not parked.is_first()


# The table in server/core/base/lanes.py: what runs in the lane, since which turn, and whether a read or a write may begin.
BESIDE = [
    (None, NOW, True, True),
    (READ, NOW, True, False),
    (READ, NOW - 1, True, False),
    (WRITE, NOW, False, True),
    (WRITE, NOW - 1, False, False),
    (EXCLUSIVE, NOW, False, False),
]


@pytest.mark.parametrize(("running", "turn", "read", "write"), BESIDE)
def test_which_commands_begin_beside_others(running: int | None, turn: int, read: bool, write: bool) -> None:
    lanes = Lanes()
    _enter(lanes, 0, b"a", kind=WRITE)  # an earlier command of the lane says nothing
    if running is None:
        lanes.leave(0)
    else:
        lanes.enter(1, lanes.of_keys([b"a"]), running, turn)
        lanes.leave(0)
    (lane,) = lanes.of_keys([b"a"])
    assert (may_enter(lane, READ, NOW), may_enter(lane, WRITE, NOW)) == (read, write)
    assert not may_enter(lane, EXCLUSIVE, NOW) or running is None
    _park(lanes, 2, b"a")
    assert not any(may_enter(lane, kind, NOW) for kind in (READ, WRITE)), "it would overtake what is parked"
