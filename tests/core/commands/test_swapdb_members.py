"""Once databases are swapped, a node that does not know swaps can neither be staged to join nor committed."""

from __future__ import annotations

from protocol.peer_versions import SPACES
from server.core.ring.change import JOIN
from tests.core.commands.talking import Client, make_node, member
from tests.core.commands.test_membership import ask, error, myself


def test_once_databases_are_swapped_a_node_must_know_that_to_join() -> None:
    node, old = make_node(1), myself(4)
    assert ask(node, f"JOIN {old}")["changes"] == 1
    swapped = Client(node).error("SWAPDB 0 1")
    assert swapped.endswith("have not announced one to node n1: n4; commit or abort first")
    assert ask(node, "ABORT") == {"aborted": 1}
    assert Client(node).ask("SWAPDB 0 1") == "OK"
    assert error(node, f"JOIN {old}").startswith("ERR node n4 (10.0.0.4:7004) runs a version that does not read ")
    new = myself(4, capabilities=["orderly", "entries", "databases", "quorums", "replicas", "spaces"])
    assert ask(node, f"JOIN {new}")["changes"] == 1
    assert Client(node).ask("SWAPDB 0 1") == "OK", "a node that knows it may be staged"
    assert Client(node).ask("SWAPDB 2 3") == "OK"
    assert ask(node, "COMMIT 8")["epoch"] == 8


def test_a_join_that_was_staged_elsewhere_is_committed_only_if_its_node_knows_swaps() -> None:
    node = make_node(1)
    assert Client(node).ask("SWAPDB 0 1") == "OK"
    assert node.state.layout is not None
    fields = {"name": "n4", "address": "10.0.0.4:7004", "zone": "b", "weight": 1}
    node.services.staging.stage(node.state.layout, JOIN, member(4).id, **fields)
    assert error(node, "COMMIT 8").startswith("ERR node n4 (10.0.0.4:7004) runs a version that does not read ")
    node.state.with_spaces.announced(member(4).id, (SPACES,))
    assert ask(node, "COMMIT 8")["epoch"] == 8
