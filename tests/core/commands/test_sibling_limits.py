"""How much one key may hold: more siblings, or more bytes of them, are refused before anything changes; and the way out."""

from __future__ import annotations

import pytest

from server.core.base.config import Config
from tests.core.commands.talking import Client, make_node

CONFIG = Config(engine="memory", tree_leaf_bits=14, record_bytes_max=1100, siblings_max=5)


@pytest.fixture
def client() -> Client:
    return Client(make_node(config=CONFIG))


def _fill(client: Client) -> str:
    """Three siblings of 300 bytes; the context of all of them."""
    for digit in "123":
        client.ask(f"DYN.SET k {digit * 300}")
    context, values = client.ask("DYN.GET k")
    assert values == ["1" * 300, "2" * 300, "3" * 300]
    return str(context)


def test_siblings_are_limited_by_their_bytes(client: Client) -> None:
    context = _fill(client)
    error = client.error("DYN.SET k " + "4" * 300)
    assert (
        error.startswith("TOOMANYSIBLINGS the 4 siblings of the key would have ")
        and "record_bytes_max is 1100" in error
    )
    assert client.ask("DYN.GET k") == [context, ["1" * 300, "2" * 300, "3" * 300]], "nothing has changed"
    assert client.ask(f"DYN.SET k {'4' * 900} CONTEXT {context}")[1] == 1
    assert client.ask("DYN.GET k")[1] == ["4" * 900]


def test_siblings_are_limited_by_their_number(client: Client) -> None:
    for number in range(5):
        client.ask(f"DYN.SET k {number}")
    assert client.error("DYN.SET k 5").startswith("TOOMANYSIBLINGS the key would have 6 siblings and siblings_max is 5")


@pytest.mark.parametrize("way_out", ["SET k small", "DEL k", "DYN.DEL k"])
def test_a_plain_write_resolves_a_key_that_is_full(client: Client, way_out: str) -> None:
    _fill(client)
    assert "TOOMANYSIBLINGS" not in str(client.ask(way_out))
    if way_out.startswith("SET"):
        assert client.ask("DYN.GET k")[1] == ["small"]


def test_a_key_over_the_limit_may_shrink() -> None:
    """Replicas join what several coordinators have taken: such a record is over the limit, and any write may reduce it."""
    node = make_node(config=Config(engine="memory", tree_leaf_bits=14, record_bytes_max=2000))
    client = Client(node)
    first = client.ask("DYN.SET k " + "1" * 900)[0]
    client.ask("DYN.SET k " + "2" * 900)
    node.state.config = CONFIG
    assert client.ask("DYN.DEL k")[1] == 1, "a deletion is never refused, though its tombstone takes some bytes"
    assert client.ask(f"DYN.SET k {'3' * 500} CONTEXT {first}")[1] == 1
    assert sorted(client.ask("DYN.GET k")[1]) == ["2" * 900, "3" * 500]
