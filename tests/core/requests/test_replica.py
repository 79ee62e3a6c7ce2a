"""A replica's vote, where its layout is not the coordinator's: what it does not own it may lack."""

from __future__ import annotations

import pytest

from protocol.frames import FrameReader
from server.core.node import Node
from server.core.records.records import storage_key_of
from tests.core.commands.talking import finish_turn, make_node, member, reach

KEYS = [storage_key_of(b"k%d" % number) for number in range(200)]


@pytest.fixture
def node() -> Node:
    """One of five nodes, of which three own each key."""
    node = make_node(5)
    for number in (2, 3):
        reach(node, number)
    finish_turn(node)
    return node


def _answer(node: Node, keys: list[bytes]) -> list[bytes]:
    peer = member(2).id
    node.receive(peer, [b"COMPARE", b"%d" % node.state.clock.last, b"7", b"-" * 8 * len(keys), *keys], 1)
    reader = FrameReader(1 << 20)
    reader.feed(finish_turn(node).messages[peer])
    answers = iter(reader.next, None)
    return next(answer for answer in answers if answer is not None and answer[0] in (b"SAME", b"DIFFER"))


def test_a_key_that_is_missing_is_no_vote_where_another_key_of_the_group_is_owned(node: Node) -> None:
    """The coordinator goes by an older layout, by which one group of owners had both keys."""
    owned = next(key for key in KEYS if node.state.owns(key))
    foreign = next(key for key in KEYS if not node.state.owns(key))
    alone = _answer(node, [foreign])[3]
    assert _answer(node, [owned, foreign])[3][1:] == alone
    assert _answer(node, [owned])[3] != alone


def test_a_group_is_stored_as_by_a_former_owner_if_one_of_its_keys_is_not_owned(node: Node) -> None:
    owned = next(key for key in KEYS if node.state.owns(key))
    foreign = next(key for key in KEYS if not node.state.owns(key))
    assert node.state.owns_all([]) and node.state.owns_all([owned, b""])
    assert not node.state.owns_all([owned, b"", foreign, b""])
