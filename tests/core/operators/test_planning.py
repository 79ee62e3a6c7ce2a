"""The plan of staged changes, and the sizes that it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from protocol.slots import SLOTS
from server.core.base.config import Config
from server.core.operators.planning import change_document, empty_plan, eta_s, names_of
from server.core.operators.planning import plan as plan_of
from server.core.operators.sizes import Sizes, own_sizes, sizes_of
from server.core.ring.assignment import assign
from server.core.ring.change import (
    JOIN,
    LEAVE,
    READ_QUORUM,
    REMOVE,
    REPLACE,
    REPLICA_COUNT,
    WEIGHT,
    WRITE_QUORUM,
    ZONE,
    Change,
)
from server.core.ring.layout import TRANSFER, Layout, Member
from server.core.ring.preview import PartitionMove
from server.core.ring.succession import commit
from tests.core.commands.talking import Client, make_node

CONFIG = Config(background_keys_per_s=10, background_keys_per_s_idle=100)


def make_layout(nodes: int = 3, partitions: int = 12 + 4, n: int = 3) -> Layout:
    members = tuple([Member(f"m{i}", f"n{i}", f"127.0.0.1:{7000 + i}", "z", 1) for i in range(nodes)])
    return Layout("c1", 4, partitions, n, min(2, n), min(2, n), members, assign(members, partitions, n))


def join(number: int) -> Change:
    return Change(f"x{number}", JOIN, f"m{number}", name=f"n{number}", address=f"127.0.0.1:{7000 + number}", zone="z",
                  weight=1)  # fmt: skip


def even(layout: Layout, keys: int = 10, busy: bool = False) -> Sizes:
    return Sizes([keys] * layout.partitions, [keys * 100] * layout.partitions, busy)


def plan(present: Layout, changes: list[Change], sizes: Sizes, config: Config) -> dict[str, Any]:
    """The plan of these changes, for the layout that they make."""
    return plan_of(present, commit(present, changes), changes, sizes, config)


def test_the_plan_of_a_join() -> None:
    present = make_layout()
    made = plan(present, [join(3)], even(present), CONFIG)
    assert list(made) == [
        "epoch", "changes", "moves", "balance_before", "balance_after", "zone_violations", "eta_s",
    ]  # fmt: skip
    assert made["epoch"] == 5
    assert made["changes"] == [{"change": "join", "node": "n3", "address": "127.0.0.1:7003", "zone": "z", "weight": 1}]
    assert [(move["from"], move["to"]) for move in made["moves"]] == [("n0", "n3"), ("n1", "n3"), ("n2", "n3")]
    assert sum(move["partitions"] for move in made["moves"]) == 12
    for move in made["moves"]:
        assert (move["keys"], move["bytes"]) == (move["partitions"] * 10, move["partitions"] * 1000)
    assert (made["balance_before"], made["balance_after"], made["zone_violations"]) == (1.0, 1.0, 0)
    assert made["eta_s"] == 2, "120 keys at 100 a second"
    assert plan(present, [join(3)], even(present, busy=True), CONFIG)["eta_s"] == 12


def test_nothing_staged_is_an_empty_plan() -> None:
    assert empty_plan(make_layout()) == {
        "epoch": 5,
        "changes": [],
        "moves": [],
        "balance_before": 1.0,
        "balance_after": 1.0,
        "zone_violations": 0,
        "eta_s": 0,
    }


def test_who_is_removed_gives_nothing() -> None:
    present = make_layout(4)
    made = plan(present, [Change("x", REMOVE, "m3")], even(present), CONFIG)
    assert made["moves"] and all(move["from"] != "n3" and move["to"] != "n3" for move in made["moves"])
    drained = plan(present, [Change("x", LEAVE, "m3")], even(present), CONFIG)
    assert {move["from"] for move in drained["moves"]} == {"n3"}


def test_under_a_change_that_is_not_over_moves_start_from_who_holds_the_data() -> None:
    before = make_layout()
    present = commit(before, [join(3)])
    assert present.phase == TRANSFER
    made = plan(present, [Change("x", WEIGHT, "m0", weight=2)], even(present), CONFIG)
    assert "the change to epoch 5 is not over yet" in made["now"]
    assert {move["from"] for move in made["moves"]} <= {"n0", "n1", "n2"}, "n3 has nothing to give"
    # Joined and drained again at once: the data has never left.
    assert plan(present, [Change("x", LEAVE, "m3")], even(present), CONFIG)["moves"] == []
    assert empty_plan(present)["now"] == made["now"]


def test_a_replacement_in_another_zone_may_violate_zones() -> None:
    members = tuple([replace(member, zone="abc"[i]) for i, member in enumerate(make_layout().members)])
    present = Layout("c1", 4, 16, 2, 2, 2, members, assign(members, 16, 2))
    change = Change("x", REPLACE, "m0", other="m3", name="n3", address="h:1", zone="b", weight=1)
    made = plan(present, [change], even(present), CONFIG)
    assert made["zone_violations"] > 0
    assert made["moves"] == [{"from": "n0", "to": "n3", "partitions": 11, "keys": 110, "bytes": 11000}] or (
        len(made["moves"]) == 1 and made["moves"][0]["to"] == "n3"
    )


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (Change("x", LEAVE, "m1"), {"change": "leave", "node": "n1"}),
        (Change("x", REMOVE, "m1"), {"change": "remove", "node": "n1"}),
        (Change("x", WEIGHT, "m1", weight=4), {"change": "weight", "node": "n1", "weight": 4}),
        (Change("x", ZONE, "m1"), {"change": "zone", "node": "n1", "zone": ""}),
        (
            Change("x", REPLACE, "m1", other="m9", name="n9", address="h:1", weight=1, gone=True),
            {"change": "replace", "node": "n1", "by": "n9", "address": "h:1", "gone": True},
        ),
        (Change("x", REPLACE, "m1", other="m2"), {"change": "replace", "node": "n1", "by": "n2", "gone": False}),
    ],
)
def test_changes_as_operators_see_them(change: Change, shown: dict[str, object]) -> None:
    assert change_document(change, names_of(make_layout(), [change])) == shown


@pytest.mark.parametrize(
    ("moved", "expected"),
    [
        ([], 0),
        ([PartitionMove("a", "b", (0,))], 1),
        ([PartitionMove("a", "b", tuple(range(16)))], 2),
        (
            [
                PartitionMove("a", "b", tuple(range(8))),
                PartitionMove("c", "b", tuple(range(8, 16))),
                PartitionMove("a", "d", (0,)),
            ],
            2,
        ),
        ([PartitionMove("a", "b", tuple(range(8))), PartitionMove("a", "d", tuple(range(8, 16)))], 1),
    ],
)
def test_the_time_is_that_of_the_node_which_gets_the_most(moved: Sequence[PartitionMove], expected: int) -> None:
    assert eta_s(moved, even(make_layout()), CONFIG) == expected


def test_a_node_tells_what_it_stores() -> None:
    node = make_node(1)
    client = Client(node)
    client.raw(*(f"SET {'x' * 20}{number} {'v' * 100}" for number in range(500)))
    told = own_sizes(node.state, True, 16)
    assert (len(told["keys"]), sum(told["keys"]), told["busy"]) == (16, 500, True)
    assert told["keys"][3] == sum(node.state.records.trees.counts[3 * SLOTS // 16 : 4 * SLOTS // 16])
    record = next(value for key, value in node.state.records._store.pairs.items() if b"xxx" in key)  # type: ignore[attr-defined]
    assert abs(told["mean_bytes"] - (len(record) + 6 + 22)) < 2
    assert own_sizes(make_node(1).state, False, 4) == {
        "keys": [0, 0, 0, 0], "mean_bytes": 0, "busy": False,
    }  # fmt: skip


def test_of_several_owners_the_one_that_has_the_most_is_believed() -> None:
    layout = make_layout(4, partitions=4, n=2)

    def told(keys: int, mean: float) -> dict[str, Any]:
        return {"keys": [keys] * 4, "mean_bytes": mean, "busy": keys == 7}

    sizes = sizes_of(layout, {"m0": told(7, 10.0), "m1": told(9, 10.5), "m2": [], "m9": told(99, 99.0)})
    for partition, owners in enumerate(layout.owners):
        keys = 9 if "m1" in owners else 7 if "m0" in owners else 0
        assert sizes.keys[partition] == keys
        assert sizes.bytes[partition] == {9: 94, 7: 70, 0: 0}[keys]
    assert sizes.busy


def test_a_plan_tells_of_fewer_copies() -> None:
    present = make_layout(4)
    four_to_three = plan(present, [Change("x", LEAVE, "m0")], even(present), CONFIG)
    assert "copies" not in four_to_three
    three_to_two = plan(make_layout(3), [Change("x", LEAVE, "m0")], even(present), CONFIG)
    assert three_to_two["copies"] == (
        "2 of each key then, 3 now: fewer than N=3 nodes would be left; the owners that stay compare their partitions "
        "first, and all nodes must be up until it is done"
    )


def numbers(n: int, r: int, w: int) -> list[Change]:
    kinds = (REPLICA_COUNT, READ_QUORUM, WRITE_QUORUM)
    return [Change(f"c{kind}", kind, "", weight=number) for kind, number in zip(kinds, (n, r, w), strict=True)]


def test_the_plan_of_a_smaller_n_tells_what_each_node_deletes() -> None:
    present = make_layout(nodes=4, n=3)
    made = plan(present, numbers(2, 2, 1), even(present), CONFIG)
    assert (made["n"], made["r"], made["w"], made["moves"]) == ([3, 2], [2, 2], [2, 1], [])
    assert [row["node"] for row in made["drops"]] == ["n0", "n1", "n2", "n3"]
    assert sum(row["partitions"] for row in made["drops"]) == 16
    assert all(
        (row["keys"], row["bytes"]) == (10 * row["partitions"], 1000 * row["partitions"]) for row in made["drops"]
    )
    assert "copies" not in made, "it is not the nodes that are too few"


def test_the_plan_of_a_larger_n_tells_what_moves() -> None:
    present = make_layout(nodes=4, n=3)
    made = plan(present, numbers(4, 2, 3), even(present), CONFIG)
    assert sum(move["partitions"] for move in made["moves"]) == 16 and "drops" not in made
    assert made["quorums"].startswith("all owners compare their partitions with the former owners first")
