"""Quorum reads: which replica's vote counts for which key, and what each client gets.

Member 1 coordinates. The tests play members 2 and 3: they send what these replicas would send.
"""

from __future__ import annotations

from typing import Any

import pytest
from hiredis import Reader

from protocol.frames import FrameReader
from protocol.peer_versions import CAPABILITIES
from server.core.messages.comparison import checksums
from server.core.node import Node
from server.core.records.records import storage_key_of
from server.core.records.versions import supersede
from server.core.requests import reads
from server.core.requests.digests import digest, short_digest
from tests.core.commands.talking import ADDRESS, CONFIG, LOCAL_ADDRESS, Store, finish_turn, make_node, member, reach

ACTOR = b"actor-z."
KEYS = [b"k%d" % number for number in range(4)]
OLD, NEW = (supersede(None, ACTOR, number, b"value%d" % number) for number in (1, 2))
TWO, THREE = member(2).id, member(3).id


class Group:
    """A pipeline that reads four keys from a coordinator, which cannot read its records at the indexes `damaged`.

    `is_sampled`: it asks both other owners at once; else the one that it needs. `orderly`: peers that have announced
    ORDERLY, so that they know short digests.
    """

    def __init__(
        self,
        damaged: tuple[int, ...] = (),
        comparing: bool = True,
        is_sampled: bool = True,
        orderly: tuple[str, ...] = (),
    ) -> None:
        self.node = node = make_node(3, CONFIG)
        node.services.reads.hedging.compared_share = float(is_sampled)
        store = node.state.records._store
        assert isinstance(store, Store)
        for place, key in enumerate(KEYS):
            store.pairs[storage_key_of(key)] = b"junk" if place in damaged else OLD
        for number in (2, 3):
            reach(node, number)
            if comparing:
                node.greeted(member(number).id, 0, CAPABILITIES)
        for peer in orderly:
            self.tell(peer, b"ORDERLY", 0)
        self.session = node.open_session(ADDRESS, LOCAL_ADDRESS, 0)
        node.commands(self.session, [[b"GET", key] for key in KEYS], 0)
        self.replies: list[Any] = []
        self.asked = self.turn()
        [self.number] = {int(message[2]) for messages in self.asked.values() for message in messages}

    def tell(self, peer: str, kind: bytes, number: int, *items: bytes) -> None:
        """Receives a message of `peer`."""
        self.node.receive(peer, [kind, b"0", b"%d" % number, *items], 0)

    def turn(self) -> dict[str, list[list[Any]]]:
        """Ends the turn. Returns the READ and COMPARE messages, by peer."""
        outbox = finish_turn(self.node)
        reader = Reader()
        for session, data in outbox.replies:
            assert session is self.session
            reader.feed(data)
        while (reply := reader.gets()) is not False:
            self.replies.append(reply)
        return {
            peer: [m for m in messages_in(data) if m[0] in (b"READ", b"COMPARE")]
            for peer, data in outbox.messages.items()
        }

    def answered(self, peer: str, *message: bytes) -> list[Any]:
        """Receives an answer of `peer` (kind, item, …), and returns all replies so far."""
        self.tell(peer, message[0], self.number, *message[1:])
        self.turn()
        return [reply if isinstance(reply, bytes) else str(reply)[:15] for reply in self.replies]


def messages_in(data: bytes) -> list[list[Any]]:
    """Decodes the messages of a turn to one peer."""
    reader = FrameReader(1 << 20)
    reader.feed(data)
    found = []
    while (message := reader.next()) is not None:
        found.append(message)
    return found


def test_one_question_carries_the_checksums_of_all_records() -> None:
    group = Group()
    for peer in (TWO, THREE):
        [message] = group.asked[peer]
        assert message[0] == b"COMPARE"
        assert message[3:] == [checksums([OLD] * 4, ()), *map(storage_key_of, KEYS)]


def test_the_first_same_answers_all() -> None:
    group = Group()
    assert group.answered(TWO, b"SAME") == [b"value1"] * 4
    assert group.answered(THREE, b"SAME") == [b"value1"] * 4
    assert group.node.state.in_flight == 0
    assert not group.node.services.reads.is_busy()


def test_a_record_that_differs_is_joined_for_its_key() -> None:
    group = Group()
    assert group.answered(TWO, b"DIFFER", b"=+==", NEW) == [b"value1", b"value2", b"value1", b"value1"]
    assert group.answered(THREE, b"SAME") == group.replies
    assert group.node.services.reads.repair.queued == {
        THREE: [storage_key_of(KEYS[1]), NEW],
        group.node.state.id: [storage_key_of(KEYS[1]), NEW],
    }


def test_all_owners_are_asked_where_an_answer_differs() -> None:
    group = Group(is_sampled=False)
    [(first, _)] = [(peer, messages) for peer, messages in group.asked.items() if messages]
    [other] = {TWO, THREE} - {first}
    group.tell(first, b"DIFFER", group.number, b"=+==", NEW)
    assert {peer: len(messages) for peer, messages in group.turn().items()} == {other: 1}
    assert group.replies == [b"value1", b"value2", b"value1", b"value1"], "nobody waits for the comparison"
    group.tell(other, b"DIFFER", group.number, b"==-=")
    assert group.node.services.reads.repair.queued == {
        other: [storage_key_of(KEYS[1]), NEW, storage_key_of(KEYS[2]), OLD],
        group.node.state.id: [storage_key_of(KEYS[1]), NEW],
    }
    assert not group.node.services.reads.is_busy()


def test_what_one_replica_cannot_read_waits_for_the_other() -> None:
    group = Group()
    assert group.answered(TWO, b"DIFFER", b"==?=") == [b"value1", b"value1"], "replies stay in order"
    assert group.node.state.in_flight == 1
    assert group.answered(THREE, b"DIFFER", b"=+=?", NEW) == [b"value1"] * 4, "the second came after its answer"
    assert group.node.state.in_flight == 0
    assert list(group.node.services.reads.repair.queued) == [TWO, group.node.state.id]


def test_what_this_node_cannot_read_is_read_from_both_others() -> None:
    group = Group(damaged=(1,))
    assert group.answered(TWO, b"DIFFER", b"=+==", OLD) == [b"value1"]
    assert group.answered(THREE, b"DIFFER", b"=+==", NEW) == [b"value1", b"value2", b"value1", b"value1"]
    assert group.node.services.reads.repair.queued == {TWO: [storage_key_of(KEYS[1]), NEW]}, (
        "here it is mended, not repaired"
    )


def test_different_damage_on_all_three_costs_nobody_an_answer() -> None:
    group = Group(damaged=(0,))
    assert group.answered(TWO, b"DIFFER", b"+?==", OLD) == []
    assert group.answered(THREE, b"DIFFER", b"+=?=", OLD) == [b"value1"] * 4
    assert group.node.state.in_flight == 0
    assert not group.node.services.reads.is_busy()


def test_one_key_without_a_quorum_fails_alone() -> None:
    group = Group(damaged=(1,))
    assert group.answered(TWO, b"DIFFER", b"=?==") == [b"value1", "NOQUORUM read: ", b"value1", b"value1"]
    assert group.node.state.in_flight == 0


@pytest.mark.parametrize("word", [b"REFUSED", b""])
def test_a_refusal_or_a_lost_link_is_a_lost_vote_for_the_keys_set_apart_too(word: bytes) -> None:
    group = Group(damaged=(1,))
    if word:
        group.tell(THREE, word, group.number)
    else:
        group.node.disconnected(THREE, 0)
    assert group.answered(TWO, b"SAME") == [b"value1", "NOQUORUM read: ", b"value1", b"value1"]


def test_a_key_set_apart_is_answered_at_the_deadline() -> None:
    group = Group(damaged=(3,))
    assert group.answered(TWO, b"SAME") == [b"value1"] * 3
    group.node.services.reads.expire(group.node.state.config.request_timeout_ms + 1)
    group.turn()
    assert str(group.replies[3]).startswith("TIMEOUT read")
    assert group.node.state.in_flight == 0
    assert not group.node.services.reads.is_busy()


def test_a_key_set_apart_counts_once_in_the_statistics() -> None:
    group = Group(damaged=(1,))
    group.node.services.reads.expire(group.node.state.config.request_timeout_ms + 1)
    group.turn()
    assert [str(reply)[:7] for reply in group.replies] == ["TIMEOUT"] * 4
    assert group.node.state.statistics.timeouts == 4
    group = Group(damaged=(1,))
    group.tell(TWO, b"REFUSED", group.number)
    group.tell(THREE, b"REFUSED", group.number)
    group.turn()
    assert [str(reply)[:8] for reply in group.replies] == ["NOQUORUM"] * 4
    assert group.node.state.statistics.no_quorum == 4
    assert group.node.state.in_flight == 0


def test_a_peer_that_does_not_compare_is_asked_as_before() -> None:
    group = Group(comparing=False)
    [message] = group.asked[TWO]
    assert (message[0], len(message[3])) == (b"READ", 8)
    assert group.answered(TWO, b"RECORDS", OLD, NEW, OLD, b"") == [b"value1", b"value2", b"value1", b"value1"]
    assert group.answered(THREE, b"SAME") == group.replies
    keys = [storage_key_of(key) for key in KEYS]
    assert group.node.services.reads.repair.queued == {
        TWO: [keys[3], OLD],
        THREE: [keys[1], NEW],
        group.node.state.id: [keys[1], NEW],
    }


def test_peers_of_two_earlier_versions_get_each_a_digest_that_they_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """One question for both would send the short digest of the first peer to the second, which does not know it."""
    monkeypatch.setattr(reads, "DIGESTED_BYTES_MAX", 100)
    for orderly, other in ((TWO, THREE), (THREE, TWO)):
        asked = Group(comparing=False, orderly=(orderly,)).asked
        [short], [whole] = asked[orderly], asked[other]
        assert (short[0], short[3]) == (b"READ", short_digest([OLD] * 4))
        assert (whole[0], whole[3]) == (b"READ", digest([OLD] * 4))
        assert short[4:] == whole[4:] == [storage_key_of(key) for key in KEYS]


def test_a_renewed_process_must_say_again_that_it_compares() -> None:
    node: Node = Group().node
    assert list(node.state.comparing) == [TWO, THREE]
    node.greeted(TWO, 0)
    assert list(node.state.comparing) == [THREE]


def test_what_a_node_that_is_being_filled_does_not_hold_is_no_vote_of_its() -> None:
    group = Group()
    node = group.node
    store = node.state.records._store
    assert isinstance(store, Store)
    del store.pairs[storage_key_of(KEYS[0])]
    node.state.records.cache.clear()
    node.state.lacks_records = True
    node.commands(group.session, [[b"GET", key] for key in KEYS], 0)
    group.answered(TWO, b"SAME")  # the first group, from before
    group.replies.clear()
    group.number += 1
    assert group.answered(TWO, b"DIFFER", b"-===") == [], "another owner has not got it either"
    assert group.answered(THREE, b"DIFFER", b"+===", NEW) == [b"value2", b"value1", b"value1", b"value1"]


def test_a_replica_that_is_being_filled_says_so_per_key() -> None:
    node = make_node(3, CONFIG)
    reach(node, 2)
    store = node.state.records._store
    assert isinstance(store, Store)
    keys = [storage_key_of(key) for key in KEYS]
    store.pairs |= {keys[0]: OLD, keys[1]: NEW}
    node.state.lacks_records = True
    node.receive(TWO, [b"COMPARE", b"0", b"9", checksums([OLD, OLD, OLD, None], ()), *keys], 0)
    [answer] = [message for message in messages_in(finish_turn(node).messages[TWO]) if message[0] == b"DIFFER"]
    assert answer[2:] == [b"9", b"=+??", NEW]
