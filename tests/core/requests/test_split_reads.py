"""Reads that are split into several groups keep the number of the group that they came from.

ADOPTED (membership.py) tells whether a request that began under an older layout is still in flight. It goes by the
numbers of the groups. So a part of a group that was opened before the layout counts as older than the layout, too.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocol.peer_versions import CAPABILITIES
from server.core.base.config import Config
from server.core.node import Node
from server.core.records.records import storage_key_of
from server.core.records.versions import supersede
from server.core.requests import reads as reads_module
from tests.core.commands.talking import ADDRESS, LOCAL_ADDRESS, Store, finish_turn, make_node, member, reach
from tests.core.requests.test_reads import messages_in

KEYS = [b"k%d" % number for number in range(4)]
RECORD = supersede(None, b"actor-z.", 1, b"v" * 100)
TWO, THREE = member(2).id, member(3).id


def _node_with_reads(batch_bytes_max: int = 150) -> Node:
    """A node whose client reads four keys of 100 bytes, and which adopts another layout before the turn ends."""
    node = make_node(3, Config(engine="memory", tree_leaf_bits=14, batch_bytes_max=batch_bytes_max))
    store = node.state.records._store
    assert isinstance(store, Store)
    for key in KEYS:
        store.pairs[storage_key_of(key)] = RECORD
    for number in (2, 3):
        reach(node, number)
        node.greeted(member(number).id, 0, CAPABILITIES)
    session = node.open_session(ADDRESS, LOCAL_ADDRESS, 0)
    node.commands(session, [[b"GET", key] for key in KEYS], 0)
    return node


def _adopt_another(node: Node) -> None:
    layout = node.state.layout
    assert layout is not None
    node.services.membership.offer(replace(layout, epoch=layout.epoch + 1))
    assert node.state.layout is not layout, "the layout is adopted in this turn"


def _turns_in_flight(node: Node) -> int:
    """Ends turns, and lets members 2 and 3 answer what they are asked, until all reads are answered.

    As long as one is not, ADOPTED says that requests of before the layout are in flight. Returns the number of turns.
    """
    assert node.services.membership.in_flight()
    replies = b""
    turns = 0
    while not turns or node.state.in_flight:
        turns += 1
        outbox = finish_turn(node)
        replies += b"".join(data for _, data in outbox.replies if isinstance(data, bytes))
        assert node.services.membership.in_flight(), f"in turn {turns}"
        for peer, data in outbox.messages.items():
            for message in messages_in(data):
                if message[0] == b"COMPARE":
                    node.receive(peer, [b"SAME", b"0", b"%d" % int(message[2])], 0)
    assert not node.services.membership.in_flight()
    replies += b"".join(data for _, data in finish_turn(node).replies if isinstance(data, bytes))
    assert replies.count(b"$100") == len(KEYS)
    return turns


def test_postponed_reads_are_in_flight_under_the_old_layout() -> None:
    node = _node_with_reads()
    _adopt_another(node)
    assert _turns_in_flight(node) > 2


@pytest.mark.interpreted
def test_reads_that_are_divided_are_in_flight_under_the_old_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    node = _node_with_reads()
    records = node.state.records
    monkeypatch.setattr(records, "get_each", lambda keys, bytes_max=0: ([RECORD] * len(keys), []))
    _adopt_another(node)
    assert _turns_in_flight(node) == 1


@pytest.mark.interpreted
def test_reads_that_are_launched_alone_are_in_flight_under_the_old_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    node = _node_with_reads(1 << 20)
    size = reads_module.size_of

    def fail_once(records: list[bytes | None]) -> int:
        monkeypatch.setattr(reads_module, "size_of", size)
        raise RuntimeError("planted")

    monkeypatch.setattr(reads_module, "size_of", fail_once)
    _adopt_another(node)
    assert _turns_in_flight(node) == 1
