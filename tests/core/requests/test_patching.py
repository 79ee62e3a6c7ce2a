"""Patches between a coordinator and the owners: who gets one, what is answered, and what comes when it does not fit."""

from __future__ import annotations

from typing import Any

import pytest
from xxhash import xxh3_64_digest

from protocol.frames import FrameReader, seal
from protocol.peer_versions import CAPABILITIES, PATCHES
from server.core.base.sinks import Sink
from server.core.messages.kinds import encode_patch
from server.core.node import Node
from server.core.records.patches import apply, is_patch, make
from server.core.records.records import storage_key_of
from server.core.requests.patching import Patching
from server.core.requests.replica import patched, whole_records
from server.core.requests.write_groups import WriteGroup
from tests.core.commands.talking import ADDRESS, LOCAL_ADDRESS, finish_turn, make_node, member, reach
from tests.core.messages.samples import hash_of

TWO, THREE = member(2).id, member(3).id
FIELDS = {b"%d" % number: bytes(50) for number in range(100)}


def version(counter: int) -> bytes:
    """A large hash after so many writes of one field by one actor."""
    return hash_of(FIELDS | {b"7": b"%d" % counter}, counter << 16)


def patch_of(counter: int) -> bytes:
    """The patch that makes that version of the one before."""
    patch = make(version(counter - 1), version(counter))
    assert patch is not None
    return patch


def group_of(node: Node, record: bytes, base: bytes | None) -> WriteGroup:
    """A group that writes the key, in place of a former record."""
    plan = node.services.route(b"k").plan
    group = WriteGroup(node.state.next_number(), plan, plan.tally(2), 1000)
    group.payload = [KEY, record]
    group.bases = {} if base is None else {1: base}
    group.size_bytes = len(record)
    group.waiters = [(None, Sink(), 0)]
    return group


@pytest.fixture
def node() -> Node:
    """Member 1 of three, with links to the others, of which only member 2 takes patches."""
    node = make_node(3)
    for number in (2, 3):
        reach(node, number)
    node.state.note_capabilities(TWO, CAPABILITIES)
    node.state.note_capabilities(THREE, [word for word in CAPABILITIES if word != PATCHES])
    finish_turn(node)
    return node


KEY = storage_key_of(b"k")


def sent(node: Node, peer: str = TWO) -> list[list[Any]]:
    """The messages of this turn to a peer that carry records."""
    at_once, behind = outgoing(node, peer)
    kinds = (b"STORE", b"PATCH", b"UNFIT", b"STORED")
    return [each for each in (*at_once, *behind) if each[0] in kinds]


def outgoing(node: Node, peer: str = TWO) -> tuple[list[list[Any]], list[list[Any]]]:
    """Ends the turn. Returns the messages to a peer that pass large ones, and those that do not."""
    outbox = finish_turn(node)
    return messages_in(outbox.messages.get(peer, b"")), messages_in(
        b"".join([seal([message]) for message in outbox.large.get(peer, [])])
    )


def messages_in(data: bytes) -> list[list[Any]]:
    """Decodes frames."""
    reader = FrameReader()
    reader.feed(data)
    return [each for each in iter(reader.next, None) if each]


def store(node: Node, record: bytes) -> None:
    """Makes this the record of the key."""
    node.state.records.put(KEY, record, node.state.records.get(KEY))


def test_only_what_changes_is_sent_to_those_that_take_it(node: Node) -> None:
    patching = Patching(node.state)
    message = patching.begin(group_of(node, version(2), version(1)))
    assert 0 < len(message) < 400 < len(version(2)) // 10
    assert patching.send(TWO, message) and not patching.send(THREE, message)
    (found,) = sent(node)
    assert found[0] == b"PATCH" and found[3] == KEY and apply(version(1), found[4]) == version(2)
    assert node.state.statistics.patches_sent == 1


def test_a_group_without_a_former_record_has_no_patch(node: Node) -> None:
    patching = Patching(node.state)
    assert patching.begin(group_of(node, version(2), None)) == b""
    assert patching.begin(group_of(node, version(2), hash_of({b"other": b"x" * 5000}, 1 << 16))) == b""


def test_one_whole_record_serves_all_patches_that_were_on_their_way(node: Node) -> None:
    """Three groups do not fit. The first gets the present record; the others their patch, behind it; then again whole."""
    patching = Patching(node.state)
    groups = [group_of(node, version(n), version(n - 1)) for n in (2, 3, 4)]
    for group in groups:
        patching.begin(group)
    store(node, version(4))
    sent(node)
    patching.unfit(groups[0], TWO)
    (found,) = sent(node)
    assert found[0] == b"STORE" and found[4] == version(4) and int(found[2]) == groups[0].number
    for group in groups[1:]:
        patching.unfit(group, TWO)
        (found,) = sent(node)
        assert found[0] == b"PATCH" and int(found[2]) == group.number and is_patch(found[4])
        assert patched(version(4), found[4]) == version(4), "it has the write already, and says so"
    patching.unfit(groups[1], TWO)
    assert [each[0] for each in sent(node)] == [b"STORE"], "the whole record was lost"
    later = group_of(node, version(5), version(4))
    patching.begin(later)
    patching.unfit(later, TWO)
    assert [each[0] for each in sent(node)] == [b"STORE"], "the one before does not include it"


def test_a_key_is_compared_behind_its_patch_until_that_is_confirmed(node: Node) -> None:
    """Else the owner would differ, and answer with its whole record. Other keys of the same turn pass."""
    patching, other = Patching(node.state), storage_key_of(b"k{k}2")
    group = group_of(node, version(2), version(1))
    assert patching.begin(group)
    assert compared(node) == ([other], [KEY])
    patching.settle(group)
    assert compared(node) == ([KEY, other], [])


def test_a_key_is_compared_behind_its_large_record(node: Node) -> None:
    patching, other = Patching(node.state), storage_key_of(b"k{k}2")
    group = group_of(node, version(2), None)
    group.size_bytes = node.state.config.large_message_bytes
    assert not patching.begin(group) and compared(node) == ([other], [KEY])


def compared(node: Node) -> tuple[list[bytes], list[bytes]]:
    """Reads two keys. Returns which of them are compared at once, and which behind large messages."""
    node.services.reads.hedging.compared_share = 1.0
    session = node.open_session(ADDRESS, LOCAL_ADDRESS, 0)
    node.commands(session, [[b"GET", b"k"], [b"GET", b"k{k}2"]], 0)
    at_once, behind = [[key for each in found if each[0] == b"COMPARE" for key in each[4:]] for found in outgoing(node)]
    return at_once, behind


def test_a_replica_makes_the_record_or_asks_for_it(node: Node) -> None:
    """The table of patching.py."""
    assert patched(version(1), patch_of(2)) == version(2)
    assert patched(version(2), patch_of(2)) == version(2) and patched(version(5), patch_of(2)) == version(5)
    assert patched(version(1), patch_of(3)) is None
    assert whole_records(node.state, [KEY, patch_of(2)]) is None, "it has no record"
    store(node, version(1))
    other = storage_key_of(b"other")
    pairs = [other, version(3), KEY, patch_of(2), KEY, patch_of(3)]
    assert whole_records(node.state, pairs) == [other, version(3), KEY, version(2), KEY, version(3)]
    assert whole_records(node.state, [KEY, patch_of(2), KEY, patch_of(4)]) is None
    assert node.state.records.get(KEY) == version(1), "it has stored nothing yet"


def test_a_patch_that_is_wrong_for_its_base_changes_nothing() -> None:
    """It was made badly: another result, or one that is no record."""
    body = bytearray(patch_of(2)[8:])
    body[-1] ^= 1
    wrong = bytes(body)
    assert patched(version(1), xxh3_64_digest(wrong) + wrong) is None


def test_what_a_replica_answers(node: Node) -> None:
    for stored, patch, answer in (
        (None, patch_of(2), b"UNFIT"),
        (version(1), patch_of(2), b"STORED"),
        (version(2), patch_of(2), b"STORED"),
        (version(2), patch_of(4), b"UNFIT"),
    ):
        before = stored if stored is not None else None
        if before is not None:
            store(node, before)
            finish_turn(node)
        reader = FrameReader()
        reader.feed(seal([encode_patch(0, 7, [KEY, patch])]))
        message = reader.next()
        assert message is not None
        node.receive(TWO, message, 1)
        assert [each[0] for each in sent(node)] == [answer]
        if answer == b"STORED":
            assert node.state.records.get(KEY) == version(2)
        else:
            assert node.state.records.get(KEY) == before


def test_a_peer_that_greets_again_has_to_announce_again(node: Node) -> None:
    assert TWO in node.state.patching
    node.greeted(TWO, 1)
    assert TWO not in node.state.patching
