"""A traced request in virtual time: which nodes it meets, in which order, and what nodes without tracing see of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from protocol.frames import FrameReader
from server.core.base.config import Config
from tests.sim.host import Host
from tests.sim.world import World

Document = dict[str, Any]


@pytest.fixture
def world() -> World:
    """Three nodes that know each other."""
    world = World(3, 3)
    world.start()
    world.run(5000)
    return world


def trace(world: World, host: Host, *command: str | bytes) -> Document:
    """What DYN.TRACE answers."""
    operation = world.ask(host, "DYN.TRACE", *command)
    assert not operation.error, operation.error
    document: Document = json.loads(operation.reply)
    return document


def roles(document: Document) -> dict[str, tuple[str, str | None]]:
    """The role of each node, and the node that it was asked by."""
    return {row["node"]: (row["role"], row["parent"]) for row in document["nodes"]}


def sent(document: Document, node: str) -> list[tuple[str, str]]:
    """What a node has sent, in order."""
    row = next(row for row in document["nodes"] if row["node"] == node)
    return [(each["message"], each["to"]) for turn in row["turns"] for each in turn["sent"]]


def times(turn: Document) -> list[int]:
    """The times of a turn, in the order in which they must be."""
    received = [each["at_us"] for each in turn["received"]]
    named = [turn[name] for name in ("ended_us", "committed_us", "sent_us")]
    return [turn["begun_us"], *received, *named]


def test_a_write_goes_from_its_coordinator_to_the_replicas(world: World) -> None:
    owners = world.owners(b"k")
    document = trace(world, owners[0], "SET", b"k", b"v")
    first, second, third = (host.member.name for host in owners)
    assert (document["command"], document["reply"], document["without_trace"]) == ("SET", "OK", [])
    assert roles(document) == {
        first: ("coordinator", None), second: ("replica", first), third: ("replica", first),
    }  # fmt: skip
    assert sorted(sent(document, first)) == sorted([("STORE", second), ("STORE", third)])
    assert sent(document, second) == [("STORED", first)]
    assert world.ask(owners[2], "GET", b"k").reply == b"v"


def test_times_of_a_node_rise_and_parts_lie_within_the_whole(world: World) -> None:
    document = trace(world, world.owners(b"k")[1], "SET", b"k", b"v")
    assert document["took_us"] > 0
    for row in document["nodes"]:
        assert [times(turn) for turn in row["turns"]] == [sorted(times(turn)) for turn in row["turns"]]
        assert 0 <= row["offset_us"] <= document["took_us"]
    offsets = [row["offset_us"] for row in document["nodes"]]
    assert offsets == sorted(offsets)
    assert offsets[1] > 0, "the way to the coordinator takes time"


def test_a_relay_a_coordinator_and_a_replica_are_told_apart() -> None:
    world = World(4, 4)
    world.start()
    world.run(5000)
    owners = world.owners(b"k")
    outsider = next(host for host in world.hosts if host not in owners)
    document = trace(world, outsider, "INCR", b"k")
    relay, first = outsider.member.name, owners[0].member.name
    assert document["reply"] == 1
    found = roles(document)
    assert found[relay] == ("relay", None)
    assert found[first] == ("coordinator", relay)
    assert {found[host.member.name] for host in owners[1:]} == {("replica", first)}
    assert sent(document, relay) == [("RELAY", first)]
    assert sent(document, first)[-1] == ("RELAYED", relay)


def test_the_places_of_parts_do_not_depend_on_the_clocks_of_nodes(world: World) -> None:
    """The hosts of the simulator have booted at other times, so their monotonic clocks have nothing in common."""
    assert len({host.now_ms() for host in world.hosts}) == 3
    document = trace(world, world.owners(b"k")[0], "SET", b"k", b"v")
    first, *others = document["nodes"]
    assert all(0 <= row["network_us"] <= first["took_us"] for row in others), "the last answer may come after the reply"


def test_the_reply_is_that_of_the_command_even_if_it_is_an_error(world: World) -> None:
    host = world.hosts[0]
    trace(world, host, "SET", b"k", b"text")
    assert "not an integer" in trace(world, host, "INCR", b"k")["reply"]["error"]
    assert trace(world, host, "SET", b"b", b"\xff")["reply"] == "OK"
    assert trace(world, host, "GET", b"b")["reply"] == {"base64": "/w=="}
    assert trace(world, host, "GET", b"none")["reply"] is None


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (("NEWS", "k"), "unknown command"),
        (("GET",), "wrong number of arguments"),
        (("GET", "a", "b"), "wrong number of arguments"),
        (("PING", "x"), "only commands with keys"),
        (("BLPOP", "k", "0"), "only commands with keys"),
        (("DYN.TRACE", "GET", "k"), "only commands with keys"),
        (("FLUSHALL", "ASYNC"), "only commands with keys"),
    ],
)
def test_what_has_no_way_is_refused(world: World, command: tuple[str, ...], error: str) -> None:
    assert error in world.ask(world.hosts[0], "DYN.TRACE", *command).error


def test_a_down_owner_is_replaced_and_the_trace_says_by_whom() -> None:
    world = World(5, 4)
    world.start()
    world.run(5000)
    owners = world.owners(b"k")
    outsider = next(host for host in world.hosts if host not in owners)
    owners[2].kill()
    world.run(10_000)
    document = trace(world, owners[0], "SET", b"k", b"v")
    assert roles(document)[outsider.member.name] == ("stand-in", owners[0].member.name)
    assert ("HINT", outsider.member.name) in sent(document, owners[0].member.name)


def test_a_further_owner_that_is_asked_because_an_answer_is_late_is_part_of_the_trace(world: World) -> None:
    owners = world.owners(b"k")
    first, second, third = (host.member.name for host in owners)
    trace(world, owners[0], "SET", b"k", b"v")
    owners[1].freeze()
    asked = [sent(trace(world, owners[0], "GET", b"k"), first) for _ in range(4)]
    assert [("COMPARE", second), ("COMPARE", third)] in asked


@pytest.mark.parametrize("old", [1, 2])
def test_a_node_of_an_earlier_version_works_and_shows_as_without_trace(world: World, old: int) -> None:
    """Replica 1 or 2 of the key has not announced that it traces."""
    owners = world.owners(b"k")
    for host in world.hosts:
        host.running.state.tracing.pop(owners[old].id, None)
    document = trace(world, owners[0], "SET", b"k", b"v")
    name = owners[old].member.name
    assert document["reply"] == "OK"
    assert document["without_trace"] == [{"node": name, "why": "its version does not trace"}]
    assert name not in roles(document)


def test_an_old_coordinator_works_too(world: World) -> None:
    owners = world.owners(b"k")
    for host in world.hosts:
        host.running.state.tracing.pop(owners[0].id, None)
    document = trace(world, owners[1], "SET", b"k", b"v")
    assert (document["reply"], document["took_us"] > 0) == ("OK", True)
    assert document["without_trace"] == [{"node": owners[0].member.name, "why": "its version does not trace"}]


def _kinds(outbox_messages: dict[str, bytes]) -> list[bytes]:
    found: list[bytes] = []
    for data in outbox_messages.values():
        reader = FrameReader()
        reader.feed(data)
        while (message := reader.next()) is not None:
            found.append(message[0])
    return found


def test_only_messages_of_the_traced_request_travel_in_envelopes(world: World) -> None:
    """One turn of a node with a traced write between two others."""
    host = world.owners(b"k")[0]
    node, now_ms = host.running, host.now_ms()
    node.end_turn()
    session = node.open_session("10.0.0.9:1", "10.0.0.1:1", now_ms)
    node.command(session, [b"SET", b"{k}1", b"v"], now_ms)
    traced = node.open_session("10.0.0.9:2", "10.0.0.1:1", now_ms)
    node.command(traced, [b"DYN.TRACE", b"SET", b"k", b"v"], now_ms)
    node.command(session, [b"SET", b"{k}2", b"v"], now_ms)
    kinds = _kinds(node.end_turn().messages)
    assert kinds == [b"STORE", b"TRACED", b"STORE"] * 2
    assert len(node.services.traces.spans) == 1


def test_without_a_traced_request_nothing_is_noted_or_marked(world: World) -> None:
    for number in range(20):
        assert world.ask(world.hosts[number % 3], "SET", b"k%d" % number, b"v").reply == b"OK"
    assert not any(host.running.services.traces.spans for host in world.hosts)


def test_notes_are_forgotten_and_bounded() -> None:
    world = World(6, 3, config=Config(engine="memory", tree_leaf_bits=14, traces_max=5))
    world.start()
    world.run(5000)
    host = world.hosts[0]
    for _ in range(5):
        trace(world, host, "SET", b"k", b"v")
    assert world.ask(host, "DYN.TRACE", "SET", b"k", b"v").error.startswith("BUSY")
    assert [len(each.running.services.traces.spans) for each in world.hosts] == [5, 5, 5]
    world.run(11_000)
    assert [len(each.running.services.traces.spans) for each in world.hosts] == [0, 0, 0]
    assert trace(world, host, "GET", b"k")["reply"] == "v"


def test_nothing_is_traced_within_a_trace() -> None:
    world = World(7, 3, config=Config(engine="memory", tree_leaf_bits=14, trace_one_in=1))
    world.start()
    world.run(5000)
    host = world.hosts[1]
    assert trace(world, host, "SET", b"k", b"v")["reply"] == "OK"
    client = world.client(host)
    _, refused, _, executed = client.send([b"MULTI"], [b"DYN.TRACE", b"SET", b"k", b"w"], [b"GET", b"k"], [b"EXEC"])
    world.run(2000)
    assert "not allowed inside a transaction" in refused.error and executed.error.startswith("EXECABORT")
    assert all(host.crashes == [] for host in world.hosts)
    assert world.ask(host, "GET", b"k").reply == b"v"


def test_a_fraction_of_requests_is_sampled() -> None:
    world = World(8, 3, config=Config(engine="memory", tree_leaf_bits=14, trace_one_in=4))
    world.start()
    world.run(5000)
    for number in range(100):
        assert world.ask(world.hosts[number % 3], "SET", b"k%d" % number, b"v").reply == b"OK"
    spans = [span for host in world.hosts for span in host.running.services.traces.spans.values()]
    roots = [span for span in spans if not span.parent]
    assert 10 <= len(roots) <= 45
    assert {span.trace for span in spans} == {span.trace for span in roots}


def test_a_sampled_command_gets_its_usual_reply_and_leaves_a_span(world: World) -> None:
    host = world.owners(b"k")[1]
    for each in world.hosts:
        each.running.services.traces.is_exporting = True
    session = host.running.open_session("10.0.0.9:1", "10.0.0.1:1", host.now_ms())
    host.deliver("sample", lambda: host.running.traced_command(session, [b"SET", b"k", b"v"], host.now_ms()))
    world.run(1000)
    assert (session.flushed, session.flushed_bytes) == (1, len(b"+OK\r\n"))
    spans = [span for each in world.hosts for span in each.running.services.traces.spans.values()]
    assert len(spans) == 3
    assert len({span.trace for span in spans}) == 1
    root = next(span for span in spans if not span.parent)
    assert (root.name, root.turns[-1].answered_us is not None) == ("SET", True)
    world.run(11_000)
    ended = [span for each in world.hosts for span in each.running.services.traces.drain_ended()]
    assert sorted(span.id for span in ended) == sorted(span.id for span in spans)
