"""DYN.CLUSTER QUORUM: N, R and W are staged together, by nodes that all know such changes."""

from __future__ import annotations

import pytest

from protocol.peer_versions import REPLICA_COUNTS
from server.core.node import Node
from server.core.ring.succession import commit
from tests.core.commands.talking import WALL_MS, Client, finish_turn, make_node, member
from tests.core.commands.test_membership import ask, error, myself


def know(node: Node, *numbers: int, words: tuple[bytes, ...] = (b"quorums", b"replicas")) -> None:
    """These members have announced that they know changes of N, R and W."""
    for number in numbers:
        node.state.note_capabilities(member(number).id, words)


def test_n_is_staged_with_its_r_and_w() -> None:
    node = make_node(5)
    know(node, 2, 3, 4, 5)
    assert "stage all three together, such as `dyn config set n 5 --r 3 --w 3`" in error(node, "QUORUM N 5")
    assert ask(node, "PLAN")["changes"] == [], "nothing of it was staged"
    staged = {"change": "replica_count", "node": "", "copies": 5}
    assert ask(node, "QUORUM n 5 R 3 W 3") == {"staged": staged, "epoch": 8, "changes": 3}
    assert ask(node, "QUORUM N 4 R 3 W 2")["changes"] == 3, "the later numbers supersede the earlier ones"
    assert [change.weight for change in node.services.staging.changes()] == [4, 3, 2]
    assert ask(node, "ABORT") == {"aborted": 3}


@pytest.mark.parametrize("words", ["N 5 N 4", "N 5 R", "X 5", "N 5 R 3 W 3 W 3"])
def test_numbers_that_are_staged_have_each_one_value(words: str) -> None:
    node = make_node(5)
    know(node, 2, 3, 4, 5)
    assert error(node, f"QUORUM {words}").startswith("ERR syntax error")


def test_n_does_not_change_before_every_node_knows_such_changes() -> None:
    """During a rolling upgrade: n3 knows R and W only."""
    node = make_node(3)
    know(node, 2)
    know(node, 3, words=(b"quorums",))
    assert error(node, "QUORUM N 2 R 2 W 2").startswith(
        "ERR n3: not reached yet, or of a version that does not know changes of N: start or upgrade all nodes first"
    )
    assert ask(node, "QUORUM R 3")["changes"] == 1
    know(node, 3)
    assert ask(node, "QUORUM N 2 R 2 W 2")["changes"] == 3
    node.state.capable[REPLICA_COUNTS].clear()
    assert "does not know changes of N" in error(node, "COMMIT 8"), "a node came back with the earlier version"


def test_a_node_that_does_not_know_changes_of_n_does_not_join_where_one_may_be_staged() -> None:
    """Before it was refused only if N was staged first. n3 runs an earlier version at the beginning, and is upgraded."""
    node = make_node(3)
    know(node, 2)
    old, new = (myself(4, capabilities=["entries", "databases", "quorums", *more]) for more in ([], ["replicas"]))
    know(node, 3, words=(b"quorums",))
    assert ask(node, f"JOIN {old}")["changes"] == 1, "nobody can stage another N"
    ask(node, "ABORT")
    know(node, 3)
    assert "runs a version that does not read" in error(node, f"JOIN {old}")
    assert "runs a version that does not read" in error(node, f"REPLACE n3 {old}")
    assert ask(node, f"JOIN {new}")["changes"] == 1
    assert ask(node, "QUORUM N 4 R 3 W 3")["changes"] == 4
    assert "runs a version that does not read" in error(node, f"JOIN {old.replace('n4', 'n5')}")


def test_nodes_leave_until_fewer_than_n_are_left_only_if_every_node_knows_what_holds_meanwhile() -> None:
    """n3 runs an earlier version, which would read by the smaller R at once, and miss writes."""
    node = make_node(3)
    know(node, 2)
    know(node, 3, words=(b"quorums",))
    assert ask(node, "LEAVE n2")["changes"] == 1
    assert error(node, "COMMIT 8").startswith(
        "ERR this commit leaves fewer than N=3 nodes, and these nodes have not announced that they know such changes: n3. "
        "Start or upgrade them first, or let fewer nodes leave"
    )
    assert node.state.layout is not None and node.state.layout.epoch == 7
    know(node, 3)
    assert ask(node, "COMMIT 8")["epoch"] == 8
    assert node.state.layout.changes_n


def test_while_n_changes_a_commit_by_which_nobody_leaves_waits_for_no_announcement() -> None:
    """All have announced it at the commit of N. Then n1 was restarted, while n5 is down."""
    node = make_node(5)
    know(node, 2, 3, 4, 5)
    assert ask(node, "QUORUM N 5 R 3 W 3")["changes"] == 3
    assert node.state.layout is not None
    node.services.membership.offer(commit(node.state.layout, node.services.staging.changes()))
    assert node.state.layout.epoch == 8 and node.state.layout.changes_n
    node.state.capable[REPLICA_COUNTS].clear()
    know(node, 2, 3, 4)
    assert ask(node, "ZONE n2 z")["changes"] == 1
    assert Client(node).raw("DYN.CLUSTER COMMIT 9") == b"", "it takes more than a turn"
    node.tick(20, WALL_MS + 20)
    (reply,) = [data for _, data in finish_turn(node).replies]
    assert b'{"epoch":9,"changes":1}' in reply


def test_a_node_of_an_earlier_version_may_be_removed_and_may_leave_where_n_are_left() -> None:
    node = make_node(3)
    know(node, 2)
    assert ask(node, "REMOVE n3")["changes"] == 1, "it is gone, and others have its data"
    assert ask(node, "COMMIT 8")["epoch"] == 8
    larger = make_node(4)
    know(larger, 2, 3)
    assert ask(larger, "LEAVE n4")["changes"] == 1
    assert ask(larger, "COMMIT 8")["epoch"] == 8
