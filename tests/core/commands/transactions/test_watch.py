"""WATCH and UNWATCH of one node: what counts as a change of a key."""

from __future__ import annotations

import pytest

from server.core.node import Node
from tests.core.commands.talking import Client, make_node


@pytest.fixture
def node() -> Node:
    return make_node()


@pytest.mark.parametrize("change", ["SET a 1", "SET a 2", "DEL a", "EXPIRE a 99", "APPEND a x", "RENAME b a"])
@pytest.mark.parametrize("writes", ["SET a 9", "SET b 9", "SET {a}c 9", "PING"])
def test_exec_answers_null_if_a_watched_key_was_changed(node: Node, change: str, writes: str) -> None:
    client, other = Client(node), Client(node)
    for line in ("SET a 1", "SET b 7", "WATCH a c"):
        client.ask(line)
    other.ask(change)
    before = client.ask("MGET a b {a}c")
    for line in ("MULTI", writes):
        client.ask(line)
    assert client.raw("EXEC") == b"*-1\r\n"
    assert client.ask("MGET a b {a}c") == before
    for line in ("MULTI", writes):
        client.ask(line)
    assert len(client.ask("EXEC")) == 1, "EXEC forgets what was watched"


@pytest.mark.parametrize("changes", [["GET a"], ["SET d 1"], ["SET a 2 NX"], ["DEL nothing"], ["EXPIRE nothing 9"]])
def test_exec_runs_if_no_watched_key_was_changed(node: Node, changes: list[str]) -> None:
    client, other = Client(node), Client(node)
    for line in ("SET a 1", "WATCH a b nothing"):
        client.ask(line)
    for line in changes:
        other.ask(line)
    for line in ("MULTI", "INCR a"):
        client.ask(line)
    assert client.ask("EXEC") == [2]


def test_a_key_that_was_deleted_and_made_again_has_changed(node: Node) -> None:
    client = Client(node)
    for line in ("SET a 1", "WATCH a", "DEL a", "SET a 1", "MULTI", "GET a"):
        client.ask(line)
    assert client.raw("EXEC") == b"*-1\r\n"


def test_a_key_that_has_expired_since_it_was_watched_has_changed(node: Node) -> None:
    client = Client(node)
    for line in ("SET a 1 PX 100", "WATCH a", "MULTI", "GET a"):
        client.ask(line)
    node.tick(200, 1_700_000_000_200)
    client.now_ms = 200
    assert client.raw("EXEC") == b"*-1\r\n"
    for line in ("WATCH a", "MULTI", "GET a"):
        client.ask(line)
    assert client.ask("EXEC") == [None], "it had expired before"


def test_unwatch_forgets(node: Node) -> None:
    client = Client(node)
    for line in ("WATCH a", "SET a 1", "UNWATCH", "MULTI", "GET a"):
        client.ask(line)
    assert client.ask("EXEC") == ["1"]


def test_null_is_that_of_the_protocol(node: Node) -> None:
    client = Client(node)
    client.raw("HELLO 3")
    for line in ("WATCH a", "SET a 1", "MULTI"):
        client.ask(line)
    assert client.raw("EXEC") == b"_\r\n"


def test_a_key_that_is_watched_again_stays_as_it_was_seen(node: Node) -> None:
    client = Client(node)
    for line in ("WATCH a", "SET a 1", "WATCH a b", "MULTI"):
        client.ask(line)
    assert client.raw("EXEC") == b"*-1\r\n"
