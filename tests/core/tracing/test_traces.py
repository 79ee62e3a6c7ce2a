"""How messages of a traced request are marked: their order, their names, and what a hostile peer may send."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hiredis
import pytest

from protocol.peer_versions import CAPABILITIES
from protocol.slots import key_slot
from server.core.messages.kinds import encode_patch
from server.core.messages.reader import Malformed
from server.core.node import Node
from server.core.outbox import Outbox
from tests.core.commands.talking import CONFIG, Client, finish_turn, go_by_own_clock, make_node, member
from tests.core.requests.test_reads import messages_in

OTHER = member(2).id
LARGE_BYTES = 64 << 10
LARGE = b"v" * LARGE_BYTES
IDS = [bytes(16), bytes(8)]


def made(capabilities: tuple[bytes, ...] = tuple(CAPABILITIES)) -> Node:
    """A node of two; the other one, which never answers, has announced these capabilities."""
    node = make_node(2, replace(CONFIG, large_message_bytes=LARGE_BYTES))
    node.connected(OTHER, 0, capabilities)
    node.greeted(OTHER, 0, capabilities)
    go_by_own_clock(node)
    finish_turn(node)
    return node


def key_at(node: Node, coordinator: str | None) -> bytes:
    """A key that this node coordinates (None) or another one."""
    state, keys = node.state, (b"k%d" % number for number in range(999))
    return next(key for key in keys if state.routes[key_slot(key) >> state.route_shift].coordinator == coordinator)


def relayed_values(outbox: Outbox) -> list[bytes]:
    """The values of the relayed SETs, in the order in which the other node gets them: small messages, then large ones."""
    found = messages_in(outbox.messages.get(OTHER, b""))
    for data in outbox.large.get(OTHER, []):
        reader = hiredis.Reader()
        reader.feed(data)
        found.append(reader.gets())
    inner = [message[5:] if message[0] == b"TRACED" else message for message in found]
    return [command[2] for message in inner if message[0] == b"RELAY" for command in message[5:]]


@pytest.mark.parametrize("traced", ["first", "another client's between them", "another one's behind the first"])
def test_a_small_write_does_not_overtake_a_large_one_of_its_key_that_was_sent_early(traced: str) -> None:
    node = made()
    key, client, other = key_at(node, OTHER), Client(node), Client(node)
    if traced == "first":
        node.services.traces.one_in = 1
        node.commands(client.session, [[b"SET", key, LARGE], [b"SET", key, b"small"]], 0)
    else:
        node.command(client.session, [b"SET", key, LARGE], 0)
        node.traced_command(other.session, [b"GET", key] if "between" in traced else [b"SET", b"{x}", b"y"], 0)
        node.command(client.session, [b"SET", key, b"small"], 0)
    values = [value for value in relayed_values(finish_turn(node)) if value in (LARGE, b"small")]
    assert values == [LARGE, b"small"]


def test_the_next_turn_sends_its_relays_apart_from_large_ones_again() -> None:
    node = made()
    key, client = key_at(node, OTHER), Client(node)
    node.traced_command(client.session, [b"SET", key, LARGE], 0)
    assert finish_turn(node).large[OTHER]
    other = Client(node)
    node.command(other.session, [b"SET", key, b"small"], 0)
    outbox = finish_turn(node)
    assert (relayed_values(outbox), outbox.large) == ([b"small"], {})


def test_messages_that_must_not_overtake_others_are_part_of_the_trace() -> None:
    """A patch, say, or a comparison of a large key. Those for others stay as they are, and so does their order."""
    node = made()
    traces, state = node.services.traces, node.state
    span = traces.begin("SET")
    assert span is not None

    def patch(number: int) -> bytes:
        return encode_patch(0, number, [])

    state.send_behind(OTHER, patch(1))
    traces.run(span, lambda: state.send_behind(OTHER, patch(2)))
    state.send_behind(OTHER, patch(3))
    kinds = []
    for data in finish_turn(node).large[OTHER]:
        reader = hiredis.Reader()
        reader.feed(data)
        kinds.append(reader.gets()[:3:2])
    assert kinds == [[b"PATCH", b"1"], [b"TRACED", b"0"], [b"PATCH", b"3"]]
    assert ("PATCH", OTHER, True) in span.turns[0].sent


def envelope(*inner: Any) -> list[Any]:
    return [b"TRACED", b"0", b"0", *IDS, *inner]


def test_envelopes_in_envelopes_are_malformed_however_deep() -> None:
    node = made()
    message = [b"CLOCK", b"0", b"1"]
    for _ in range(5000):
        message = envelope(*message)
    with pytest.raises(Malformed, match="an envelope in an envelope"):
        node.receive(OTHER, message, 0)
    with pytest.raises(Malformed, match="an envelope in an envelope"):
        node.receive(OTHER, envelope(*envelope(b"CLOCK", b"0", b"1")), 0)


@pytest.mark.parametrize("kind", [b"X" * 100_000, b"\xff" * 100], ids=["long", "no text"])
def test_the_kind_of_a_peers_message_is_cut_in_the_notes(kind: bytes) -> None:
    node = made()
    node.receive(OTHER, envelope(kind, b"0", b"1"), 0)
    span = node.services.traces.spans[IDS[0]]
    assert len(span.name) == len(span.turns[0].received[0][0]) == 32


@pytest.mark.parametrize(
    ("word", "name"),
    [(b"Set", "SET"), (b"X" * 999, "unknown"), (b"\xff", "unknown"), (b"config", "CONFIG|GET")],
)
def test_a_span_has_the_name_of_a_known_command(word: bytes, name: str) -> None:
    node = made()
    client = Client(node)
    node.traced_command(client.session, [word, b"GET", b"maxmemory"], 0)
    assert [span.name for span in node.services.traces.spans.values()] == [name]


def test_a_write_that_began_at_the_end_of_a_turn_is_not_passed_by_one_of_the_next_turn() -> None:
    """The large SET waited for the APPEND, and began at the end of a turn. The small one comes with the next turn: it
    waits, because a small message would pass a large one."""
    node = made()
    key, client = key_at(node, OTHER), Client(node)
    node.commands(client.session, [[b"APPEND", key, b"x"], [b"SET", key, LARGE]], 0)
    relay = next(each for each in messages_in(finish_turn(node).messages[OTHER]) if each[0] == b"RELAY")
    node.receive(OTHER, [b"RELAYED", b"0", relay[2], b"\0\0\0\0", b":1\r\n"], 1)
    assert relayed_values(finish_turn(node)) == [LARGE]
    node.commands(client.session, [[b"SET", key, b"small"]], 2)
    assert relayed_values(finish_turn(node)) == []
