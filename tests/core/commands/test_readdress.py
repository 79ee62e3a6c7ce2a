"""DYN.CLUSTER READDRESS: what an operator may say, and how the answer comes together."""

from __future__ import annotations

import json

import pytest

from tests.core.commands.talking import Client, make_node, member


def test_the_shell_is_asked_and_its_findings_are_the_answer() -> None:
    """What a node says of itself is taken up whatever name the operator expected; the answer says that it is another."""
    node = make_node(3)
    client = Client(node)
    assert client.raw("DYN.CLUSTER READDRESS a:1 n3=b:2 a:1 n2=[::1]:3") == b"", "it waits for the shell"
    ((addresses, report),) = node.services.addresses.drain_searches()
    assert not node.services.addresses.searches
    assert addresses == ["a:1", "b:2", "[::1]:3"]
    found = [{"asked": "a:1", "node": "n2", "address": "a:1", "error": ""},
             {"asked": "b:2", "node": "n2", "address": "b:2", "error": ""},
             {"asked": "[::1]:3", "node": "", "address": "", "error": "nobody"}]  # fmt: skip
    report(found)
    (session,) = node.state.ready
    document = json.loads(session.flush().split(b"\r\n", 1)[1])
    assert [entry["error"] for entry in document["nodes"]] == ["", "node n2 answers there, not n3", "nobody"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("a", "ERR a is not [NAME=]HOST:PORT"),
        ("a:1 n2=b", "ERR n2=b is not [NAME=]HOST:PORT"),
        ("n9=a:1", "ERR there is no node n9: the members are n1, n2, n3"),
        ("", "ERR wrong number of arguments for 'dyn.cluster|readdress' command"),
    ],
)
def test_what_is_no_address(line: str, why: str) -> None:
    assert Client(make_node(3)).error(f"DYN.CLUSTER READDRESS {line}") == why


def test_who_this_node_is_says_when_it_came_to_its_address() -> None:
    node = make_node(3)
    told = json.loads(Client(node).ask("DYN.CLUSTER MYSELF"))
    assert (told["incarnation"], told["moved_ms"]) == (node.state.incarnation, node.state.incarnation)
    assert told["id"] == member(1).id
