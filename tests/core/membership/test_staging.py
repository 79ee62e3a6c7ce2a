"""Staged changes: one set at all nodes, whatever order they hear of it in, for one epoch, and over restarts."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from server.core.membership.staging import STAGED_MAX
from server.core.messages.announcements import staged_in
from server.core.node import Node
from server.core.ring.change import JOIN, LEAVE, READ_QUORUM, REPLACE, WEIGHT, WRITE_QUORUM, ZONE, Change
from server.core.ring.layout import Layout
from server.core.ring.succession import ChangeError, commit
from tests.core.commands.talking import CONFIG, WALL_MS, finish_turn, layout_of, make_node, member, reach

IDS = [f"{number:040x}" for number in range(9)]


def layout(node: Node) -> Layout:
    present = node.state.layout
    assert present is not None
    return present


def stage(node: Node, kind: str, number: int, **fields: object) -> Change:
    return node.services.staging.stage(layout(node), kind, IDS[number], **fields)


def join(node: Node, number: int) -> Change:
    new = member(number)
    return stage(node, JOIN, number, name=new.name, address=new.address, zone=new.zone, weight=1)


def document(node: Node) -> bytes:
    told = node.services.staging.document()
    assert told is not None
    return told


def test_changes_come_in_the_order_they_were_staged_in() -> None:
    node = make_node(3)
    made = [join(node, 4), stage(node, WEIGHT, 4, weight=3), stage(node, LEAVE, 1), stage(node, ZONE, 2, zone="b")]
    assert node.services.staging.changes() == made
    assert [change.id for change in made] == sorted({change.id for change in made})


def test_a_later_change_supersedes_one_that_sets_the_same() -> None:
    """The plan shows what will be, and the layout becomes that; abort takes all of it back."""
    node, other = make_node(3), make_node(3)
    stage(node, WEIGHT, 1, weight=5)
    apart = [stage(node, ZONE, 1, zone="b"), stage(node, WEIGHT, 2, weight=5), join(node, 4)]
    node.services.staging.stage(layout(node), READ_QUORUM, "", weight=3)
    write = node.services.staging.stage(layout(node), WRITE_QUORUM, "", weight=3)
    read = node.services.staging.stage(layout(node), READ_QUORUM, "", weight=2)
    weight = stage(node, WEIGHT, 1, weight=7)
    other.services.staging.merge(staged_in(document(node)))
    for each in (node, other):
        assert each.services.staging.changes() == [*apart, write, read, weight]
    following = commit(layout(node), node.services.staging.changes())
    assert (following.r, following.w) == (2, 3)
    assert next(each.weight for each in following.members if each.id == IDS[1]) == 7
    assert other.services.staging.abort(layout(other)) == 6
    assert other.services.staging.changes() == []


@pytest.mark.parametrize(
    ("node_id", "name"),
    [("4" * 129, "n4"), ("with blank", "n4"), ("n\u00e4", "n4"), ("4", "n" * 129), ("4", "n 4"), ("4", "")],
)
def test_a_node_whose_id_or_name_is_too_long_or_no_word_does_not_join(node_id: str, name: str) -> None:
    """Three hundred letters were taken, and then no node would write any more (issue 11)."""
    node = make_node(3)
    with pytest.raises(ChangeError, match=r"the (id|name) .*(without blanks|printable word)"):
        node.services.staging.stage(layout(node), JOIN, node_id, name=name, address="10.0.0.4:7004", zone="", weight=1)
    with pytest.raises(ChangeError, match=r"the (id|name) .*(without blanks|printable word)"):
        node.services.staging.stage(
            layout(node), REPLACE, IDS[2], other=node_id, name=name, address="10.0.0.4:7004", zone="", weight=1
        )
    node.services.staging.stage(
        layout(node), JOIN, "4" * 128, name="n" * 128, address="10.0.0.4:7004", zone="", weight=1
    )


def test_a_change_that_cannot_be_made_after_the_others_is_refused() -> None:
    node = make_node(3)
    stage(node, LEAVE, 1)
    for kind, number, fields, why in (
        (LEAVE, 1, {}, "n1 is leaving already"),
        (LEAVE, 8, {}, "no member"),
        (WEIGHT, 2, {"weight": 0}, "not positive"),
        (ZONE, 2, {"zone": "a b"}, "not a printable word"),
        (JOIN, 4, {"name": "n2", "address": "h:1", "weight": 1}, "there is a node n2 already"),
        (JOIN, 4, {"name": "n4", "address": "nowhere", "weight": 1}, "is not host:port"),
    ):
        with pytest.raises(ChangeError, match=why):
            stage(node, kind, number, **fields)
    assert [change.kind for change in node.services.staging.changes()] == [LEAVE]


def test_all_of_the_members_cannot_leave() -> None:
    node = make_node(2)
    stage(node, LEAVE, 1)
    with pytest.raises(ChangeError, match="no node would be left"):
        stage(node, LEAVE, 2)


def test_there_is_a_bound() -> None:
    node = make_node(3)
    for number in range(STAGED_MAX):
        stage(node, WEIGHT, 1, weight=number + 1)
    with pytest.raises(ChangeError, match="256 changes are staged already"):
        stage(node, WEIGHT, 1, weight=1)
    assert node.services.staging.abort(layout(node)) == 1, "the others are superseded, and count all the same"
    stage(node, WEIGHT, 1, weight=1)


def test_nodes_that_hear_of_each_other_in_any_order_hold_the_same() -> None:
    first, second = make_node(3), make_node(3)
    second.state.rng = random.Random(2)
    documents = []
    join(first, 4)
    documents.append(document(first))
    stage(second, LEAVE, 2)
    documents.append(document(second))
    second.services.staging.merge(staged_in(documents[0]))
    second.services.staging.abort(layout(second))
    documents.append(document(second))
    stage(first, WEIGHT, 4, weight=2)
    stage(first, WEIGHT, 1, weight=5)
    documents.append(document(first))
    ends = []
    for order in itertools.permutations(documents):
        node = make_node(3)
        for told in (*order, order[0]):
            node.services.staging.merge(staged_in(told))
        ends.append(node.services.staging.changes())
    assert all(end == ends[0] for end in ends)
    assert [(change.kind, change.weight) for change in ends[0]] == [(WEIGHT, 2), (WEIGHT, 5)]


def test_what_was_aborted_does_not_come_back() -> None:
    node = make_node(3)
    join(node, 4)
    before = document(node)
    node.services.staging.abort(layout(node))
    node.services.staging.merge(staged_in(before))
    assert node.services.staging.changes() == []
    assert node.services.staging.document() is not None, "the others must hear of it"


def test_a_new_epoch_makes_it_void() -> None:
    node = make_node(3)
    join(node, 4)
    before = document(node)
    assert node.services.membership.offer(replace(layout(node), epoch=8))
    assert (node.services.staging.changes(), node.services.staging.document()) == ([], None)
    node.services.staging.merge(staged_in(before))
    assert node.services.staging.changes() == []
    stage(node, WEIGHT, 3, weight=2)
    assert [change.kind for change in node.services.staging.changes()] == [WEIGHT]


def test_it_is_on_disk() -> None:
    node = make_node(3)
    made = join(node, 4)
    aborted = document(node)
    node.services.staging.abort(layout(node))
    kept = join(node, 5)
    finish_turn(node)
    store = node.state.records._store
    again = Node(member(1), b"actor--2", 2, CONFIG, store, random.Random(3), WALL_MS)
    assert again.services.staging.changes() == [kept] != [made]
    again.services.staging.merge(staged_in(aborted))
    assert again.services.staging.changes() == [kept]


def test_it_is_told_when_a_link_is_made_and_beside_gossip() -> None:
    node = make_node(3)
    reach(node, 2)
    node.connected(IDS[3], 0)
    assert b"STAGED" not in b"".join(node.end_turn().messages.values())
    join(node, 4)
    node.connected(IDS[3], 0)
    assert b"STAGED" in node.end_turn().messages[IDS[3]]
    told = b""
    for second in range(1, 20):
        node.tick(second * 1000, WALL_MS + second * 1000)
        told += b"".join(finish_turn(node).messages.values())
    assert b"STAGED" in told


def test_a_change_of_a_newer_version_is_passed_over() -> None:
    node, newer = make_node(3), make_node(3)
    join(newer, 4)
    node.services.staging.merge(staged_in(document(newer).replace(b'"kind":"join"', b'"kind":"join","mood":"new"')))
    assert node.services.staging.changes() == []


def test_a_node_without_a_layout_holds_nothing() -> None:
    node, other = make_node(0), make_node(3)
    join(other, 4)
    node.services.staging.merge(staged_in(document(other)))
    assert (node.services.staging.changes(), node.services.staging.document()) == ([], None)
    assert node.services.membership.offer(layout_of((member(1), member(2), member(3))))
    node.services.staging.merge(staged_in(document(other)))
    assert node.services.staging.changes() == other.services.staging.changes()


def test_every_node_knows_which_plans_were_shown() -> None:
    """An operator may ask for the plan at one node, and commit at another one."""
    first, second = make_node(3), make_node(3)
    made = [stage(first, LEAVE, 1)]
    assert not first.services.staging.is_unseen(layout(first), made), "no plan was shown"
    assert first.services.staging.show(layout(first), made) and not first.services.staging.show(layout(first), made)
    later = [*made, stage(first, LEAVE, 2)]
    second.services.staging.merge(staged_in(document(first)))
    for node in (first, second):
        assert node.services.staging.is_unseen(layout(node), later) and not node.services.staging.is_unseen(
            layout(node), made
        )
    assert not second.services.staging.show(layout(second), made), "that is no news"
    assert b"shown" not in document(make_staged()), "earlier versions read documents as before"


def make_staged() -> Node:
    node = make_node(3)
    stage(node, LEAVE, 1)
    return node
