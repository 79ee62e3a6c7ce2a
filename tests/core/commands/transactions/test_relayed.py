"""A transaction on its way to the coordinator of its keys, and what it finds there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocol.peer_versions import CAPABILITIES, ENTRIES, ORDERLY
from server.core.base.errors import CommandError, unknown_command
from server.core.base.transaction import Watch
from server.core.commands.transactions.relayed import SlotTransaction, decode
from server.core.commands.transactions.watches import token_of
from server.core.node import Node
from server.core.records.draft import Draft
from server.core.records.records import storage_key_of
from tests.core.commands.talking import CONFIG, Client, finish_turn, make_node, member, reach
from tests.core.requests.test_reads import messages_in


def remote_key(node: Node) -> bytes:
    return next(
        b"k%d" % number for number in range(99) if node.services.route(b"k%d" % number).coordinator == member(2).id
    )


@pytest.mark.parametrize("capabilities", [CAPABILITIES, (ORDERLY, ENTRIES)])
def test_it_travels_as_one_command_to_a_coordinator_that_knows_it(capabilities: tuple[bytes, ...]) -> None:
    node = make_node(2)
    reach(node, 2)
    node.state.note_capabilities(member(2).id, capabilities)
    client, key = Client(node), remote_key(node)
    text = key.decode()
    client.raw("MULTI", f"SET {text} 1", "PING", f"INCR {text}")
    client.node.command(client.session, [b"EXEC"], 0)
    relay = _relay_in(finish_turn(node).messages[member(2).id])
    if b"transactions" not in capabilities:
        assert relay[5:] == [[b"SET", key, b"1"]], "command by command"
        return
    (call,) = relay[5:]
    assert isinstance(call, list)
    assert decode(call) == SlotTransaction([[b"SET", key, b"1"], [b"INCR", key]], {})
    node.receive(member(2).id, [b"RELAYED", b"0", relay[2], b"\0\0\0\0", b"*2\r\n+OK\r\n:2\r\n"], 0)
    assert [data for _, data in finish_turn(node).replies] == [b"*3\r\n+OK\r\n+PONG\r\n:2\r\n"]


@pytest.mark.parametrize("multi_slots", ["relaxed", "strict"])
def test_a_coordinator_that_turns_out_not_to_know_it(multi_slots: str) -> None:
    node = make_node(2, replace(CONFIG, multi_slots=multi_slots))
    reach(node, 2)
    other = member(2).id
    node.state.note_capabilities(other, CAPABILITIES)
    client, text = Client(node), remote_key(node).decode()
    for line in ("MULTI", f"SET {text} 1", "EXEC"):
        node.command(client.session, line.encode().split(), 0)
    relay = _relay_in(finish_turn(node).messages[other])
    node.receive(other, [b"RELAYED", b"0", relay[2], b"\0\0\0\0", unknown_command([b"DYN.EXEC", b"k"])], 0)
    outbox = finish_turn(node)
    if multi_slots == "relaxed":
        assert _relay_in(outbox.messages[other])[5:] == [[b"SET", text.encode(), b"1"]]
    else:
        assert b"is of a version without transactions" in outbox.replies[0][1]


# What runs again if its coordinator is lost, and what does not, as it would do something else or answer something else.
AGAIN = ["SET {k} 1", "SETEX {k} 9 1|PUBLISH c x", "SET {k} 1|SET {k} 2|DEL {k}", "GET {k}|STRLEN {k}"]
ONCE = ["INCR {k}", "SET {k} 1|RPUSH {k}{k} x", "SET {k} 1 NX", "LRANGE {k} 0 -1|DEL {k}", "SET {k} 1|GET {k}"]
AGAIN += ["HSET {k} f v|EXPIRE {k} 9", "DEL {k}|SADD {k} a b", "RENAME {k} {k}b", "EXPIRE {k} 9|SET {k}b 1"]
ONCE += [
    "SUNIONSTORE {k}d {k}|DEL {k}", "ZUNIONSTORE {k}d 1 {k}|DEL {k}", "SORT {k} STORE {k}d|DEL {k}",
    "BITOP NOT {k}d {k}|DEL {k}",
    "GEOSEARCHSTORE {k}d {k} FROMLONLAT 1 1 BYRADIUS 1 km|DEL {k}", "PFMERGE {k}d {k}|DEL {k}",
    "COPY {k} {k}d REPLACE|SET {k} new", "RENAME {k} {k}d|SET {k} new", "SADD {k} a|RENAME {k} {k}d",
    "SMOVE {k} {k}d m|SADD {k} m", "ZADD {k} XX 5 a|ZADD {k} NX 1 a", "EXPIRE {k} 9 XX|EXPIRE {k} 5 NX",
    "EXPIRE {k} 9|SADD {k} m",
]  # fmt: skip


@pytest.mark.parametrize(("lines", "again"), [*((each, True) for each in AGAIN), *((each, False) for each in ONCE)])
def test_a_transaction_whose_coordinator_is_lost_runs_again_or_its_outcome_is_unknown(lines: str, again: bool) -> None:
    node = make_node(2)
    reach(node, 2)
    node.state.note_capabilities(member(2).id, CAPABILITIES)
    client, text = Client(node), "{" + remote_key(node).decode() + "}"
    client.raw("MULTI", *lines.format(k=text).split("|"), "EXEC")
    node.disconnected(member(2).id, 0)
    told = [data for _, data in finish_turn(node).replies]
    assert node.state.statistics.relays_retried == again
    if not again:
        (error,) = told
        assert error.startswith(
            b"-TIMEOUT the connection to node n2, which coordinates this key, broke before the answer came: "
        )
        assert b"outcome=maybe-written" in error


@pytest.mark.parametrize("has_changed", [False, True])
@pytest.mark.parametrize(
    ("line", "told"),
    [("SET {k} mine", b"*1\r\n+OK\r\n"), ("GET {k}", b"*1\r\n$3\r\nold\r\n"), ("INCR {k}", b"-TIMEOUT")],
)
def test_a_second_run_of_what_watches_a_key(line: str, told: bytes, has_changed: bool) -> None:
    """If the key has changed by then, the first run may have changed it: a null would say that nothing was written."""
    node = make_node(2)
    reach(node, 2)
    node.state.note_capabilities(member(2).id, CAPABILITIES)
    client, key = Client(node), remote_key(node)
    client.ask("DYN.QUORUM R 1 W 1")
    record = Draft(None, node.state.time_ms)
    record.set_string(b"old")
    node.state.records.merge_all([storage_key_of(key), record.record(b"actor--2", 1)])
    client.session.watched = Watch()
    token = token_of(key, node.state.records.get(storage_key_of(key)), node.state.time_ms)
    client.session.watched.tokens[key] = token
    client.raw("MULTI", line.format(k=key.decode()), "EXEC")
    if has_changed:
        later = Draft(node.state.records.get(storage_key_of(key)), node.state.time_ms)
        later.set_string(b"mine")
        node.state.records.merge_all([storage_key_of(key), later.record(b"actor--2", 2)])
    node.disconnected(member(2).id, 0)
    reply = b"".join(data for _, data in finish_turn(node).replies)
    if has_changed and not line.startswith("INCR"):
        told = b"*-1\r\n" if line.startswith("GET") else b"-TIMEOUT"
    assert reply.startswith(told)
    assert (b"outcome=maybe-written" in reply) == told.startswith(b"-TIMEOUT")


def test_watch_needs_all_nodes_to_know_transactions() -> None:
    node = make_node(2)
    reach(node, 2)
    assert "these nodes have not announced one: n2" in Client(node).error("WATCH a")


def _relay_in(data: bytes) -> list[object]:
    return next(list(each) for each in messages_in(data) if each[0] == b"RELAY")


@pytest.mark.parametrize(
    "words", ["a x", "a 1", "a 1 a", "a 0 0", "a 0 3 GET a", "a 0 2 GET b", "a 1 b ", "a -1 2 GET a"]
)
def test_a_malformed_transaction_of_a_peer_is_refused(words: str) -> None:
    with pytest.raises(CommandError):
        decode([b"DYN.EXEC", *words.encode().split(b" ")])


def test_clients_cannot_send_what_nodes_send() -> None:
    client = Client(make_node())
    for line in ("DYN.EXEC a 0 2 GET a", "DYN.WATCHED a"):
        assert client.error(line).startswith("ERR unknown command")


def test_a_coordinator_that_is_back_while_the_keys_are_read_gets_the_command() -> None:
    node = make_node(4)
    reach(node, 2)
    for number in (2, 4):
        node.state.note_capabilities(member(number).id, CAPABILITIES)
    keys = [b"k%d" % number for number in range(99)]
    here = [key for key in keys if node.services.route(key).coordinator is None]
    whole = make_node(4)
    for number in (2, 3, 4):
        reach(whole, number)
    key = next(key for key in here if whole.services.route(key).coordinator == member(4).id)
    client = Client(node)
    for args in ([b"MULTI"], [b"INCR", key], [b"EXEC"]):
        node.command(client.session, args, 0)
    asked = next(each for each in messages_in(finish_turn(node).messages[member(2).id]) if each[0] == b"COMPARE")
    reach(node, 4)
    assert node.services.route(key).coordinator == member(4).id
    node.receive(member(2).id, [b"SAME", b"0", asked[2]], 0)
    outbox = finish_turn(node)
    assert not outbox.replies
    (call,) = _relay_in(outbox.messages[member(4).id])[5:]
    assert call[0] == b"DYN.EXEC"
