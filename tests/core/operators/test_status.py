"""The status of a cluster whose members change: roles, how far it has come, and a verdict that stays calm."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from server.core.operators.documents import locate
from server.core.operators.remarks import damage, filling, full
from server.core.operators.status import change_of, judge, news, role, seats_to_fill, waits_for
from server.core.ring.change import LEAVE, REMOVE, Change
from server.core.ring.layout import Layout
from server.core.ring.succession import commit, hand_over, settle
from tests.core.ring.test_succession import first_layout, join


def readers_of(layout: Layout) -> set[str]:
    return {node for partition in range(layout.partitions) for node in layout.readers(partition)}


def roles(layout: Layout) -> dict[str, str]:
    return {member.id: role(layout, member.id, readers_of(layout)) for member in layout.members}


def up(layout: Layout, **states: str) -> dict[str, str]:
    return {member.id: "up" for member in layout.members} | states


def fetching(done: int, partitions: int, eta_s: int | None = 40) -> dict[str, Any]:
    transfer = {"partitions": partitions, "partitions_done": done, "keys": partitions * 10, "keys_done": done * 10,
                "bytes_sent": 0, "eta_s": eta_s}  # fmt: skip
    return {"transfer": transfer}


def test_who_joins_is_joining_until_it_holds_something_and_who_leaves_is_leaving() -> None:
    moving = commit(first_layout(4), [join(4), Change("x", LEAVE, "m1")])
    assert roles(moving) == {"m0": "member", "m1": "leaving", "m2": "member", "m3": "member", "m4": "joining"}
    handed = hand_over(moving)
    assert roles(handed)["m4"] == "member"
    assert roles(settle(handed))["m1"] == "leaving"


def test_a_change_alone_is_no_reason_to_worry() -> None:
    moving = commit(first_layout(), [join(3)])
    assert judge(moving, up(moving)) == ("healthy", "all 4 nodes are up")
    # Its requests do not need the new node yet.
    verdict, summary = judge(moving, up(moving, m3="down"))
    assert verdict == "degraded" and summary.startswith("n3 (127.0.0.1:7003) is down: every key is still served")


def test_a_partition_with_fewer_readers_than_the_quorum_needs_those_it_has() -> None:
    """A cluster of one grows: its only node answers alone until the others have the data."""
    moving = commit(first_layout(1), [join(1), join(2)])
    assert judge(moving, up(moving, m1="down"))[0] == "degraded"
    assert judge(moving, up(moving, m0="down"))[0] == "unavailable"
    assert judge(hand_over(moving), up(moving, m1="down"))[0] == "degraded"
    assert judge(hand_over(moving), up(moving, m1="down", m2="down"))[0] == "unavailable"


def test_progress_is_counted_in_seats() -> None:
    moving = commit(first_layout(), [join(3)])
    assert seats_to_fill(moving) == {"m3": 12}
    change = change_of(moving, {"m3": fetching(5, 12)})
    assert change == {
        "phase": "transfer",
        "epoch": 2,
        "partitions_moving": 12,
        "partitions_moved": 5,
        "keys": 120,
        "keys_done": 50,
        "eta_s": 40,
    }
    assert news(moving, change, 0) == ["epoch 2: 5 of 12 partitions and 41% of the keys have moved, about 40 s left"]
    assert news(moving, change_of(moving, {"m3": fetching(5, 12, eta_s=None)}), 0) == [
        "epoch 2: 5 of 12 partitions and 41% of the keys have moved"
    ]


@pytest.mark.parametrize("told", [{}, {"m3": {"transfer": None}}, {"m3": {}}])
def test_a_node_that_tells_of_no_transfer_has_not_begun(told: Any) -> None:
    change = change_of(commit(first_layout(), [join(3)]), told)
    assert (change["partitions_moved"], change["keys"], change["eta_s"]) == (0, 0, None)


def test_of_several_nodes_the_slowest_says_how_long_it_takes() -> None:
    moving = commit(first_layout(), [join(3), join(4)])
    seats = seats_to_fill(moving)
    told = {"m3": fetching(1, seats["m3"], eta_s=7), "m4": fetching(2, seats["m4"], eta_s=9)}
    change = change_of(moving, told)
    assert (change["partitions_moved"], change["keys_done"], change["eta_s"]) == (3, 30, 9)
    assert change_of(moving, told | {"m4": fetching(2, seats["m4"], eta_s=None)})["eta_s"] is None


def test_at_the_handover_everything_has_moved() -> None:
    handed = hand_over(commit(first_layout(), [join(3)]))
    assert news(handed, change_of(handed, {}), 0) == ["epoch 2: 12 of 12 partitions have moved"]


def test_what_else_there_is_to_say() -> None:
    moving = commit(first_layout(4), [Change("x", LEAVE, "m1")])
    left = settle(hand_over(moving))
    assert news(left, None, 0) == ["n1: on the way out, until it holds nothing any more"]
    assert news(first_layout(), None, 1) == ["1 change is staged: see `dyn cluster plan`"]
    assert news(first_layout(), None, 2) == ["2 changes are staged: see `dyn cluster plan`"]


def test_old_copies_are_told_of_after_a_change() -> None:
    settled = settle(hand_over(commit(first_layout(), [join(3)])))
    told = {"m0": {"to_let_go": 20}, "m1": {"to_let_go": 3}, "m2": {}}
    assert news(settled, None, 0, told) == ["epoch 2: everything has moved, 23 old copies of keys are yet to be let go"]
    assert news(settled, None, 0, {"m0": {"to_let_go": 0}}) == []
    assert news(settled, None, 0, told | {"m2": {"hints_held": 1}}) == [], "they may be kept for somebody else"
    assert news(first_layout(), None, 0, told) == []


def test_two_layouts_that_were_merged_are_told_of_until_the_next_epoch() -> None:
    merged = replace(first_layout(), epoch=7, merged_epoch=7)
    assert news(merged, None, 0) == [
        "two layouts were committed side by side and merged into epoch 7: check `dyn ring show`"
    ]
    assert news(replace(merged, epoch=8), None, 0) == []


def test_a_key_lives_with_its_readers_and_beside_them_with_who_is_to_have_it() -> None:
    moving = commit(first_layout(), [join(3)])
    key = next(b"%d" % i for i in range(1000) if "beside" in locate(moving, b"%d" % i))
    told = locate(moving, key)
    assert (len(told["owners"]), told["beside"], told["fallbacks"]) == (3, ["n3"], [])
    handed = locate(hand_over(moving), key)
    assert "n3" in handed["owners"] and len(handed["beside"]) == 1 and handed["beside"][0] != "n3"
    assert "beside" not in locate(settle(hand_over(moving)), key)


def test_a_change_says_for_whom_it_waits() -> None:
    moving = commit(first_layout(4), [join(4)])
    assert waits_for(moving, up(moving)) == []
    assert waits_for(moving, up(moving, m4="down")) == ["n4"], "who is to get something must be there"
    assert waits_for(moving, up(moving, m1="down")) == [], "the other owners have what it has"
    assert waits_for(moving, up(moving, m1="down", m2="down")) == ["n1", "n2"]
    change = change_of(moving, {}, up(moving, m4="down"))
    assert change["waits_for"] == ["n4"] and "waits_for" not in change_of(moving, {}, up(moving))
    said = news(moving, change, 0)
    assert said[1] == "this waits for n4: what is gone for good is taken out by `dyn cluster remove n4`"
    assert waits_for(hand_over(moving), up(moving, m4="down")) == []
    left = settle(hand_over(commit(first_layout(4), [Change("x", LEAVE, "m1")])))
    assert news(left, None, 0, {}, up(left, m1="down"))[1].startswith("this waits for n1: ")


def test_a_full_disk_is_told_of() -> None:
    assert full(first_layout(), {"m0": {"disk_full": False}}) == []
    (remark,) = full(first_layout(), {"m0": {"disk_full": True}})
    assert remark.startswith("n0: no room on the disk, writes are refused there; free some space")
    assert "dyn cluster replace n0 HOST:PORT" in remark, "for a disk that is too small for good"


def test_a_node_that_is_being_filled_is_told_of() -> None:
    layout = first_layout()
    told = {"filling": {"keys": 50, "percent": 12, "eta_s": 40}}
    assert filling(layout, {"m0": {}, "m1": told}) == ["n1 is being filled, 12 %, about 40 s"]
    assert filling(layout, {"m1": {"filling": {"keys": 0, "percent": 0, "eta_s": None}}}) == ["n1 is being filled, 0 %"]
    assert filling(layout, {"m1": {"filling": None}, "m2": {}}) == []


def test_who_takes_the_place_of_one_that_is_gone_is_being_filled() -> None:
    """A copy is missing until it has everything. One that joins, or takes over from somebody who gives his, is not."""
    told = {"m4": fetching(2, 10)}
    gone = commit(first_layout(4), [join(4), Change("x", REMOVE, "m1")])
    assert "n4 is being filled, 20 %, about 40 s" in filling(gone, told)
    assert filling(hand_over(gone), told) == []
    for layout in (
        commit(first_layout(4), [join(4)]),
        commit(first_layout(4), [join(4), Change("x", LEAVE, "m1")]),
        commit(first_layout(2), [join(2)]),
    ):
        assert filling(layout, told) == []


def test_damage_is_told_of_while_there_is_some() -> None:
    layout = first_layout()
    assert damage(layout, {"m0": {"damaged": 0, "lost": 0, "unreadable": 0}, "m1": {}}) == []
    [waits] = damage(layout, {"m0": {"damaged": 3}})
    assert waits.startswith("n0 has 3 damaged records")
    [unreadable] = damage(layout, {"m2": {"unreadable": 5}})
    assert unreadable.startswith("n2 cannot read all of its store (5 of 16384 slots are hit)")
    assert "--rebuild" in unreadable
