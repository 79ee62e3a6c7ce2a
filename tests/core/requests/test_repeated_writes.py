"""Several writes of a key in one turn need one record on the other owners, and it acknowledges all of them."""

from __future__ import annotations

from typing import Any

import pytest

from server.core.node import Node
from server.core.records import versions
from server.core.records.records import storage_key_of
from server.core.requests.write_groups import WriteGroup, Written, last_of_each
from tests.core.commands.talking import Client, finish_turn, make_node, member, reach
from tests.core.requests.test_reads import messages_in

TWO, THREE = member(2).id, member(3).id
COUNT = 150  # writes: fewer are not looked through


@pytest.fixture
def node() -> Node:
    """One of three that reach each other."""
    node = make_node(3)
    for number in (2, 3):
        reach(node, number)
    return node


def _own_keys(node: Node, count: int) -> list[bytes]:
    keys = [b"k%d" % number for number in range(999)]
    return [key for key in keys if node.services.route(key).coordinator is None][:count]


def _sent(node: Node, peer: str, *kinds: bytes) -> list[list[Any]]:
    outbox = finish_turn(node)
    return [list(each) for each in messages_in(outbox.messages.get(peer, b"")) if each[0] in kinds]


def _values(pairs: list[bytes]) -> dict[bytes, list[bytes]]:
    return {key: versions.values_of(record, 0) for key, record in zip(pairs[::2], pairs[1::2], strict=True)}


def test_the_last_record_of_each_key_is_sent_and_all_clients_are_answered(node: Node) -> None:
    keys = _own_keys(node, 4)
    clients = [Client(node) for _ in range(3)]
    for number in range(COUNT):
        node.commands(clients[number % 3].session, [[b"SET", keys[number % 4], b"%d" % number]], 0)
    ((_, _, group, *pairs),) = _sent(node, TWO, b"STORE")
    assert len(pairs) == 8
    assert _values(pairs) == {storage_key_of(keys[number % 4]): [b"%d" % number] for number in range(COUNT - 4, COUNT)}
    node.receive(TWO, [b"STORED", b"0", group], 0)
    replies = dict(finish_turn(node).replies)
    assert replies == {client.session: b"+OK\r\n" * (COUNT // 3) for client in clients}


def test_concurrent_values_are_all_in_it(node: Node) -> None:
    """DYN.SET without a context supersedes nothing."""
    keys = _own_keys(node, 2)
    client = Client(node)
    node.commands(client.session, [[b"DYN.SET", keys[number % 2], b"%d" % number] for number in range(COUNT)], 0)
    ((_, _, _, *pairs),) = _sent(node, TWO, b"STORE")
    assert [len(values) for values in _values(pairs).values()] == [COUNT // 2, COUNT // 2]


def test_covered_writes_are_answered_by_it(node: Node) -> None:
    keys = _own_keys(node, 2)
    commands = [[b"SET", keys[number % 2], b"%d" % number] for number in range(COUNT)]
    node.receive(TWO, [b"RELAY", b"0", b"7", b"0", [b"0", b"0", b"0"], *commands], 0)
    covered, keep = _sent(node, TWO, b"COVERED", b"KEEP")
    assert covered[2:] == [b"7", keep[2], b"".join([number.to_bytes(4, "big") for number in range(COUNT)])]
    assert list(_values(keep[3:]).values()) == [[b"%d" % (COUNT - 2)], [b"%d" % (COUNT - 1)]]


def test_a_hint_is_kept_for_each_key(node: Node) -> None:
    keys = _own_keys(node, 2)
    client = Client(node)
    node.commands(client.session, [[b"SET", keys[number % 2], b"v"] for number in range(COUNT)], 0)
    ((_, _, group, *_),) = _sent(node, TWO, b"STORE")
    node.receive(THREE, [b"REFUSED", b"0", group], 0)
    assert all(node.state.hints.is_open(THREE, storage_key_of(key)) for key in keys)


def test_different_keys_are_all_sent(node: Node) -> None:
    keys = _own_keys(node, COUNT)
    client = Client(node)
    node.commands(client.session, [[b"SET", key, key] for key in keys], 0)
    ((_, _, _, *pairs),) = _sent(node, TWO, b"STORE")
    assert _values(pairs) == {storage_key_of(key): [key] for key in keys}


def test_a_write_of_several_keys_behind_others_is_the_last_one(node: Node) -> None:
    records = node.state.records
    group = WriteGroup(1, node.services.route(b"k").plan, node.services.route(b"k").plan.tally(2), 1000)
    keys = [storage_key_of(key) for key in (b"one", b"two", b"three")]

    def written(key: bytes, value: bytes) -> Written:
        old = records.get(key)
        return Written(key, versions.supersede(old, b"theactor", node.state.clock.next(), value), old)

    for key, value in ((keys[0], b"1"), (keys[1], b"2"), (keys[0], b"3")):
        one = written(key, value)
        node.services.writes.add(group, key, one.record, one.old, None, Client(node).session, 0)
    group.write_batch(records, [written(keys[0], b"4"), written(keys[2], b"5")], 1 << 20, None)
    pairs = last_of_each(group.payload, group.repeated)
    assert len(pairs) == 6
    assert _values(pairs) == {keys[0]: [b"4"], keys[1]: [b"2"], keys[2]: [b"5"]}
