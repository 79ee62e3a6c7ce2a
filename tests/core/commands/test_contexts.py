"""Contexts that speak of the future: what the cluster handed out is taken, and what a client forges kills no node."""

from __future__ import annotations

import pytest

from protocol.bounds import COUNTER_MAX
from protocol.tokens import decode_context, encode_context
from server.core.base.clock import SEQUENCE_BITS
from server.core.node import Node
from server.core.records.records import storage_key_of
from server.core.records.versions import Sibling as Version
from server.core.records.versions import clock_of, encode, siblings_of
from tests.core.commands.talking import WALL_MS, Client, finish_turn, make_node

KEY = b"key"
A_DAY_AHEAD = (WALL_MS + 86_400_000) << SEQUENCE_BITS
THEIRS = b"actor--9"


def _store(node: Node, actor: bytes, counter: int, clock: dict[bytes, int] | None = None) -> None:
    """A record that another node has sent."""
    version = Version(actor, counter, 0, 0, b"old")
    node.state.records.merge_all([storage_key_of(KEY), encode({actor: counter} | (clock or {}), [version])])
    finish_turn(node)


def _values(node: Node) -> list[bytes]:
    return [sibling.value for sibling in siblings_of(node.state.records.get(storage_key_of(KEY)))]


def _token(actor: bytes, counter: int) -> str:
    return encode_context(KEY, [(actor, counter)]).decode()


def test_a_context_of_a_day_ahead_supersedes_what_it_covers() -> None:
    node = make_node()
    client = Client(node)
    _store(node, THEIRS, A_DAY_AHEAD)
    context, values = client.ask("DYN.GET key")
    assert values == ["old"]
    context, acks, _ = client.ask(f"DYN.SET key new CONTEXT {context}")
    assert acks == 1
    assert client.ask("DYN.GET key")[1] == ["new"]
    assert dict(decode_context(KEY, context.encode()))[THEIRS] == A_DAY_AHEAD
    assert node.state.clock.last < A_DAY_AHEAD - (80_000_000 << SEQUENCE_BITS), "no clock follows it"
    assert node.state.clock.refused == 0
    assert client.ask(f"DYN.DEL key CONTEXT {context}")[1] == 1
    assert client.ask("DYN.GET key")[1] == []


def test_plain_commands_supersede_what_was_written_a_day_ahead() -> None:
    node = make_node()
    client = Client(node)
    _store(node, THEIRS, A_DAY_AHEAD)
    assert client.ask("SET key new") == "OK"
    assert client.ask("GET key") == "new"
    _store(node, THEIRS, A_DAY_AHEAD + 1)
    assert client.ask("DEL key") == 1
    assert client.ask("GET key") is None


def test_a_context_moves_the_clock_within_the_limit() -> None:
    node = make_node()
    seen = (WALL_MS + 1000) << SEQUENCE_BITS
    assert Client(node).ask(f"DYN.SET key new CONTEXT {_token(THEIRS, seen)}")
    assert max(counter for _, counter in clock_of(node.state.records.get(storage_key_of(KEY)) or b"")) > seen


@pytest.mark.parametrize("counter", [COUNTER_MAX + 1, (1 << 64) - 1])
def test_no_counter_is_taken_that_is_none(counter: int) -> None:
    node = make_node()
    assert "were never made" in Client(node).error(f"DYN.SET key new CONTEXT {_token(THEIRS, counter)}")
    assert _values(node) == []


@pytest.mark.parametrize("guest", [False, True])
def test_no_context_speaks_of_writes_of_ours_that_we_have_not_made(guest: bool) -> None:
    node = make_node()
    actor = node.state.guest_actor if guest else node.state.actor
    for counter in (node.state.clock.last + 1000, A_DAY_AHEAD, COUNTER_MAX):
        assert "were never made" in Client(node).error(f"DYN.SET key new CONTEXT {_token(actor, counter)}")
    assert _values(node) == []


@pytest.mark.parametrize("line", ["SET key new", "SET key new EX 9", "DYN.SET key new", "DEL key", "GETSET key new"])
@pytest.mark.parametrize("counter", [A_DAY_AHEAD, COUNTER_MAX])
@pytest.mark.parametrize("others", [{}, {THEIRS: 7}], ids=["alone", "beside another actor"])
def test_a_record_with_a_forged_write_of_ours_makes_us_a_new_actor(
    line: str, counter: int, others: dict[bytes, int]
) -> None:
    """Somebody has forged a context that names us, and written with it through another node."""
    node = make_node()
    client = Client(node)
    before = node.state.actor
    _store(node, before, counter, others)
    client.ask(line)
    assert node.state.actor != before
    record = node.state.records.get(storage_key_of(KEY))
    assert record is not None
    clock = dict(clock_of(record))
    assert clock[before] == counter
    assert WALL_MS <= clock[node.state.actor] >> SEQUENCE_BITS < WALL_MS + 1000
    again = node.state.actor
    assert client.ask("SET key again") == "OK"
    assert node.state.actor == again
    assert client.ask("GET key") == "again"
