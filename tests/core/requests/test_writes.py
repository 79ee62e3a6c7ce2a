"""Quorum writes: which node keeps the hint for an owner that does not confirm, and what that counts for.

Member 1 coordinates and owns the key with members 2 and 3; members 4 and 5 are its fallbacks, in this order. The tests send
what these members would.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from server.core.base.config import Config
from server.core.base.room import FOR_NOTHING
from server.core.node import Node
from server.core.records.records import storage_key_of
from tests.core.commands.talking import ADDRESS, LOCAL_ADDRESS, finish_turn, make_node, member, reach
from tests.core.requests.test_reads import messages_in

LARGE = 200_000  # has a group of its own, and still travels whole
HINT_AFTER_MS = 1500
ONE, TWO, THREE, FOUR, FIVE = (member(number).id for number in range(1, 6))


def key_of_member_1(node: Node) -> bytes:
    """A key whose owners are members 1, 2 and 3, in this order."""
    keys = (b"key%d" % number for number in range(100))
    return next(key for key in keys if node.services.route(key).owners == (ONE, TWO, THREE))


class Write:
    """One SET that member 1 coordinates. `reached` are the members that it has a link to."""

    def __init__(
        self,
        reached: tuple[int, ...] = (2, 3, 4, 5),
        w: int = 2,
        before: Callable[[Node], None] = lambda node: None,
        value: bytes = b"value",
    ) -> None:
        self.node = make_node(5, Config(engine="memory", hint_after_ms=HINT_AFTER_MS))
        for number in reached:
            reach(self.node, number)
        before(self.node)
        self.node.state.reroute()
        self.key = key_of_member_1(self.node)
        self.session = self.node.open_session(ADDRESS, LOCAL_ADDRESS, 0)
        self.session.write_quorum = w
        self.node.command(self.session, [b"SET", self.key, value], 0)
        self.replies = b""
        self.sent: dict[str, list[list[Any]]] = {}
        self.end_turn()

    def end_turn(self) -> None:
        """Ends the turn: `sent` are the writes by member, `replies` what the client has got so far."""
        outbox = finish_turn(self.node)
        self.replies += b"".join(data for _, data in outbox.replies if isinstance(data, bytes))
        for peer, data in outbox.messages.items():
            found = [each for each in messages_in(data) if each[0] in (b"STORE", b"KEEP", b"HINT")]
            self.sent.setdefault(peer, []).extend(found)

    def tell(self, peer: str, kind: bytes) -> None:
        """`peer` answers the write that it was sent last."""
        self.node.receive(peer, [kind, b"0", b"%d" % int(self.sent[peer][-1][2])], 0)
        self.end_turn()

    def hint_keepers(self, owner: str) -> list[str]:
        """The nodes that keep, or were asked to keep, a hint for `owner`."""
        asked = [
            peer for peer, sent in self.sent.items() if any(m[0] == b"HINT" and m[3] == owner.encode() for m in sent)
        ]
        here = self.node.state.hints.is_open(owner, storage_key_of(self.key))
        return [ONE] * here + asked


def is_full(node: Node) -> None:
    """Member 3's disk has no room."""
    node.state.full[THREE] = FOR_NOTHING


def is_slow(node: Node) -> None:
    """Member 3 reads large messages too slowly."""
    node.state.backlogged[THREE] = None


def is_silent(write: Write) -> None:
    """Member 3 does not answer for `hint_after_ms`; member 2 does."""
    write.tell(TWO, b"STORED")
    write.node.services.writes.hint_unconfirmed(HINT_AFTER_MS)
    write.end_turn()


def refuses(write: Write) -> None:
    """Member 3 refuses the write."""
    write.tell(THREE, b"REFUSED")


def loses_its_link(write: Write) -> None:
    """The connection to member 3 breaks."""
    write.node.services.writes.peer_lost(THREE)
    write.end_turn()


def nothing(write: Write) -> None:
    """Nothing happens after the write was sent."""


@pytest.mark.parametrize(
    ("what", "make", "then", "keeper", "without_fallbacks"),
    [
        ("not live", lambda reached: Write(tuple({*reached} - {3})), nothing, FOUR, ONE),
        ("refuses", Write, refuses, FOUR, ONE),
        ("link breaks", Write, loses_its_link, FOUR, ONE),
        ("silent", Write, is_silent, FOUR, ONE),
        ("slow", lambda reached: Write(reached, before=is_slow, value=bytes(LARGE)), nothing, FOUR, ONE),
        ("full, enough others", lambda reached: Write(reached, before=is_full), nothing, ONE, ONE),
        ("full, too few others", lambda reached: Write(reached, w=3, before=is_full), nothing, FOUR, None),
    ],
)
def test_who_keeps_the_hint(what: str, make: Any, then: Any, keeper: str, without_fallbacks: str | None) -> None:
    """The table in writes.py, with fallbacks and without."""
    write = make((2, 3, 4, 5))
    assert write.hint_keepers(THREE) == ([] if then is not nothing else [keeper])
    then(write)
    assert write.hint_keepers(THREE) == [keeper], what
    write = make((2, 3))
    then(write)
    if without_fallbacks is None:
        assert write.replies.startswith(b"-DISKFULL"), "nothing is written without a quorum"
        assert not write.sent.get(TWO)
    else:
        assert write.hint_keepers(THREE) == [without_fallbacks], what


def test_no_node_stands_in_for_two_owners() -> None:
    """Member 3 is not live, and the plan names member 4 for it. Member 2 is replaced later: by the fallback after that."""

    def two_is_slow(node: Node) -> None:
        node.state.backlogged[TWO] = None

    write = Write((2, 4, 5), w=1, before=two_is_slow, value=bytes(LARGE))
    assert (write.hint_keepers(THREE), write.hint_keepers(TWO)) == ([FOUR], [FIVE])
    assert [message[3] for message in write.sent[FOUR]] == [THREE.encode()]
    for keeper in (FOUR, FIVE):
        write.tell(keeper, b"STORED")
    assert not write.node.services.writes.is_busy(), "both owners are replaced, and nobody else is waited for"


def test_a_stand_in_votes_for_its_owner_and_a_hint_here_does_not() -> None:
    write = Write((2, 4), w=3)
    write.tell(TWO, b"STORED")
    assert write.replies == b""
    write.tell(FOUR, b"STORED")
    assert write.replies == b"+OK\r\n"
    write = Write((2, 3), w=3)
    write.tell(TWO, b"STORED")
    write.tell(THREE, b"REFUSED")
    assert write.hint_keepers(THREE) == [ONE]
    assert write.replies.startswith(b"-NOQUORUM write: got=2 wanted=3 hinted=1 outcome=maybe-written")


def test_a_stand_in_that_fails_is_not_replaced_by_another_one() -> None:
    write = Write((2, 4, 5))
    assert write.hint_keepers(THREE) == [FOUR]
    write.tell(FOUR, b"REFUSED")
    assert write.hint_keepers(THREE) == [ONE, FOUR], "this node keeps the hint now"


def test_an_owner_that_confirms_after_its_hint_counts_once() -> None:
    write = Write(w=3)
    is_silent(write)
    write.tell(THREE, b"STORED")
    assert write.replies == b"+OK\r\n"
    write.tell(FOUR, b"STORED")
    assert write.node.state.in_flight == 0
    assert not write.node.services.writes.is_busy()


def test_groups_that_got_their_hints_early_do_not_cost_later_groups_theirs() -> None:
    """The limit is for the groups that still wait: a healthy owner of a later write is not replaced at once."""
    node = make_node(3, Config(engine="memory", unconfirmed_bytes_max=2500))
    for number in (2, 3):
        reach(node, number)
    session = node.open_session(ADDRESS, LOCAL_ADDRESS, 0)
    keys = [key for key in (b"k%d" % number for number in range(100)) if node.services.route(key).owners[0] == ONE][:8]
    hinted = []
    for key in keys:
        node.command(session, [b"SET", key, bytes(1000)], 0)
        finish_turn(node)
        hinted.append([node.state.hints.is_open(TWO, storage_key_of(each)) for each in keys].count(True))
    assert hinted == [0, 0, 1, 2, 3, 4, 5, 6], "two groups of 1000 bytes wait at any time"
    assert 2000 <= node.services.writes.unconfirmed_bytes <= 2500
    node.services.writes.expire(node.state.config.request_timeout_ms + 1)
    node.services.writes.hint_unconfirmed(HINT_AFTER_MS)
    assert node.services.writes.unconfirmed_bytes == 0


def test_a_write_with_w_1_is_on_this_node_alone_until_another_owner_has_confirmed_it() -> None:
    """Then the store must not be given up (rebuild.py). One that was not answered yet is no promise."""
    write = Write(w=1)
    writes = write.node.services.writes
    assert write.replies == b"+OK\r\n" and writes.holds_only_copy()
    write.tell(TWO, b"STORED")
    assert not writes.holds_only_copy()
    write = Write(w=2)
    assert write.replies == b"" and not write.node.services.writes.holds_only_copy()
    write.tell(THREE, b"STORED")
    assert write.replies == b"+OK\r\n" and not write.node.services.writes.holds_only_copy()
