"""A member's part in a collection: when it says yes, and when its yes no longer holds at the fence."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import pytest

from server.core.base.clock import SEQUENCE_BITS
from server.core.collection.late import carries_records
from server.core.collection.votes import VOTE_MS_MAX
from server.core.commands.operator import first_layout
from server.core.messages import record_questions as questions
from server.core.messages.record_questions import DROPPED, FOLDED, PRUNED, WAIT
from server.core.node import Node
from server.core.records.draft import Draft
from server.core.records.folds import folded
from server.core.records.kinds import STRING
from server.core.records.records import META, storage_key_of
from server.core.records.versions import TOMBSTONE, clock_entries, decode, encode, merge, pruned, supersede
from server.core.records.views import View
from server.core.ring.layout import Member
from server.storage.memory import MemoryEngine
from tests.core.commands.talking import CONFIG, go_by_own_clock
from tests.core.messages.reading import read

WALL_MS = 1_800_000_000_000
ACTOR = b"actor-a."
KEY = storage_key_of(b"key")
BALLOT = b"n1 1"
EPOCH = b"1"


@dataclass
class Voter:
    """One node of three; each of them owns all partitions."""

    engine: MemoryEngine = field(default_factory=MemoryEngine)
    node: Node = field(init=False)
    now_ms: int = 1000

    def __post_init__(self) -> None:
        self.start(WALL_MS)

    def start(self, wall_ms: int) -> None:
        """Starts the process on the engine's content."""
        members = [Member(name, name, f"127.0.0.1:{7000 + at}", "z", 1) for at, name in enumerate(("n1", "n2", "n3"))]
        wish = {"partitions": 16, "n": 3, "r": 2, "w": 2, "members": [
            {name: getattr(member, name) for name in ("id", "name", "address", "zone", "weight")} for member in members
        ]}  # fmt: skip
        self.node = Node(members[1], ACTOR, wall_ms, CONFIG, self.engine, random.Random(1), wall_ms)
        self.node.services.membership.offer(first_layout(wish, "cluster"))
        self.node.tick(self.now_ms, wall_ms)
        go_by_own_clock(self.node)
        self.node.state.links.add("n1")
        self.end_turn()

    def end_turn(self, synced: bool = False) -> None:
        """Ends the turn, as the shell does."""
        outbox = self.node.end_turn()
        self.engine.commit(outbox.writes)
        if synced:
            self.node.synced(outbox.turn)

    def store(self, record: bytes) -> bytes:
        """Stores a record, and returns its checksum."""
        self.node.state.records.merge_all([KEY, record])
        self.end_turn()
        return record[:8]

    def vote(
        self, checksum: bytes, mode: bytes = DROPPED, ballot: bytes = BALLOT, epoch: bytes = EPOCH
    ) -> bytes | None:
        """Returns its answer to VOTE."""
        return self.node.services.votes.vote(read(questions.VOTE, ballot, epoch, mode, KEY, checksum))

    def fence(self) -> list[bytes] | None:
        """Returns its answer to FENCE, after a line for which its vote is on the disk."""
        self.end_turn(synced=True)
        assert self.node.services.votes.line(read(questions.LINE, BALLOT, EPOCH)) != WAIT
        return self.node.services.votes.fence(read(questions.FENCE, BALLOT, EPOCH, b"n1", b"7"))


def _tombstone(counter: int = 5) -> bytes:
    return supersede(None, b"actor-x.", counter, b"", 0, TOMBSTONE)


@pytest.fixture
def voter() -> Voter:
    return Voter()


def test_the_same_tombstone_is_dropped_after_vote_line_and_fence(voter: Voter) -> None:
    checksum = voter.store(_tombstone())
    assert voter.vote(checksum) == b"\1"
    assert voter.fence() == [KEY]
    assert voter.node.services.votes.drop(read(questions.DROP, BALLOT, EPOCH, DROPPED, KEY, checksum)) == 1
    voter.end_turn()
    assert voter.engine.get(KEY) is None
    assert voter.node.services.votes.fence(read(questions.FENCE, BALLOT, EPOCH, b"n1", b"7")) is None, (
        "the ballot is over"
    )


def test_a_line_waits_for_the_disk(voter: Voter) -> None:
    voter.vote(voter.store(_tombstone()))
    assert voter.node.services.votes.line(read(questions.LINE, BALLOT, EPOCH)) == WAIT
    assert voter.node.state.sync_wanted
    voter.end_turn()
    assert voter.node.services.votes.line(read(questions.LINE, BALLOT, EPOCH)) == WAIT
    voter.node.synced(voter.node.state.turn - 1)
    reading = voter.node.services.votes.line(read(questions.LINE, BALLOT, EPOCH))
    assert voter.node.state.fence == reading < voter.node.state.clock.last


@pytest.mark.parametrize(
    "record",
    [
        supersede(None, b"actor-x.", 5, b"value"),
        supersede(None, b"actor-x.", 5, b"value", (WALL_MS + 60_000)),
        encode(
            {b"actor-x.": 5, b"actor-y.": 6},
            [*decode(_tombstone())[1], *decode(supersede(None, b"actor-y.", 6, b"v"))[1]],
        ),
    ],
    ids=["value", "not expired yet", "tombstone beside a value"],
)  # fmt: skip
def test_what_is_alive_may_not_go(voter: Voter, record: bytes) -> None:
    assert voter.vote(voter.store(record)) == b"\0"


def test_an_expired_value_may_go(voter: Voter) -> None:
    assert voter.vote(voter.store(supersede(None, b"actor-x.", 5, b"value", WALL_MS - 1))) == b"\1"


def test_another_record_or_none_is_a_no_of_an_owner(voter: Voter) -> None:
    assert voter.vote(_tombstone()[:8]) == b"\0"
    voter.store(_tombstone(6))
    assert voter.vote(_tombstone()[:8], ballot=b"n1 2") == b"\0"


def _newer(voter: Voter) -> None:
    voter.store(_tombstone(9))


def _hint(voter: Voter) -> None:
    voter.node.state.hints.keep("n3", [KEY], WALL_MS, voter.node.state.now_ms, False)


def _hint_that_came_and_went(voter: Voter) -> None:
    _hint(voter)
    voter.node.state.hints.confirm("n3", KEY, voter.node.state.now_ms)


def _write_in_flight(voter: Voter) -> None:
    voter.node.services.votes._unconfirmed = lambda keys: dict.fromkeys(keys)


@pytest.mark.parametrize("change", [_newer, _hint, _hint_that_came_and_went, _write_in_flight])
def test_what_happens_between_vote_and_fence_takes_the_yes_back(voter: Voter, change: Callable[[Voter], None]) -> None:
    voter.vote(voter.store(_tombstone()))
    change(voter)
    assert voter.fence() == []


@pytest.mark.parametrize("change", [_hint, _write_in_flight])
def test_hints_and_unconfirmed_writes_are_a_no(voter: Voter, change: Callable[[Voter], None]) -> None:
    checksum = voter.store(_tombstone())
    change(voter)
    assert voter.vote(checksum) == b"\0"


def test_a_ballot_that_comes_twice_has_one_answer(voter: Voter) -> None:
    checksum = voter.store(_tombstone())
    assert voter.vote(checksum) == b"\1"
    _newer(voter)
    assert voter.vote(checksum) == b"\1", "the fence will tell"
    assert voter.fence() == []


def test_another_layout_is_no_answer_at_all(voter: Voter) -> None:
    checksum = voter.store(_tombstone())
    assert voter.vote(checksum, epoch=b"2") is None
    assert voter.node.services.votes.line(read(questions.LINE, BALLOT, b"2")) is None
    assert voter.node.services.votes.fence(read(questions.FENCE, BALLOT, b"2")) is None
    assert voter.node.services.votes.drop(read(questions.DROP, BALLOT, b"2", DROPPED, KEY, checksum)) is None


def test_a_restarted_member_votes_when_its_clock_is_past_what_it_may_have_said(voter: Voter) -> None:
    checksum = voter.store(_tombstone())
    bound_ms = int(voter.engine.get(META + b"clock") or 0) >> SEQUENCE_BITS
    assert bound_ms > WALL_MS
    voter.start(WALL_MS - 60_000)
    assert voter.vote(checksum) is None
    voter.node.state.clock.advance(bound_ms - 1)
    assert voter.vote(checksum) is None
    voter.node.state.clock.advance(bound_ms + 1)
    assert voter.vote(checksum) == b"\1"
    assert voter.node.services.votes.line(read(questions.LINE, b"n1 0", EPOCH)) is None, (
        "votes of a former life are forgotten"
    )


def test_no_message_outruns_the_bound(voter: Voter) -> None:
    for step_ms in (1, 10_000, 19_000, 300_000):
        voter.now_ms += step_ms
        voter.node.state.clock.advance(WALL_MS + voter.now_ms)
        last = voter.node.state.clock.last
        voter.end_turn()
        assert int(voter.engine.get(META + b"clock") or 0) > last


def test_late_records_are_refused_and_nothing_else(voter: Voter) -> None:
    voter.vote(voter.store(_tombstone()))
    voter.fence()
    voter.node.state.links.add("n1")
    value = supersede(None, b"actor-y.", 3, b"old")
    for kind, late in ((b"STORE", 7), (b"KEEP", 6), (b"STORE", 8)):
        voter.node.receive("n1", [kind, b"%d" % late, b"1", KEY, value], 2000)
        held = voter.node.state.records.get(KEY)
        assert (merge(held, value) == held) == (late > 7)
    assert voter.node.state.statistics.late_refused == 2


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ([b"STORE"], True), ([b"KEEP"], True), ([b"HINT"], True), ([b"READ"], False),
        ([b"ASK", b"1", b"1", b"ABSORB"], True), ([b"ASK", b"1", b"1", b"MERGE"], True),
        ([b"ASK", b"1", b"1", b"PAGE"], False),
    ],
)  # fmt: skip
def test_messages_that_carry_records(message: Sequence[bytes], expected: bool) -> None:
    assert carries_records(message) is expected


def test_a_long_clock_is_pruned_and_the_whole_one_wins(voter: Voter) -> None:
    clock = {b"actor-%02d" % number: number + 1 for number in range(20)}
    whole = encode(clock, decode(supersede(None, b"actor-07", 8, b"value"))[1])
    short = pruned(whole)
    assert (clock_entries(whole), clock_entries(short)) == (20, 1)
    assert merge(whole, short) == merge(short, whole) == whole
    checksum = voter.store(whole)
    assert voter.vote(checksum, PRUNED) == b"\1"
    assert voter.fence() == [KEY]
    assert voter.node.services.votes.drop(read(questions.DROP, BALLOT, EPOCH, PRUNED, KEY, checksum)) == 1
    assert voter.node.state.records.get(KEY) == short


def _counter(*actors: bytes) -> bytes:
    """A number to which each of these actors has added 1."""
    record: bytes | None = None
    for number, actor in enumerate(actors):
        draft = Draft(record, 0, STRING)
        draft.add(b"", Decimal(1))
        record = draft.record(actor, 5 + number)
    assert record is not None
    return record


SUMS = _counter(b"gone---1", b"gone---2", ACTOR)


def _ballot_to_fold(voter: Voter, name: bytes = BALLOT, writers: bytes | None = None) -> list[bytes]:
    state = voter.node.state
    packed = state.actor + state.guest_actor if writers is None else writers
    return [name, EPOCH, FOLDED, packed, KEY, SUMS[:8]]


def test_sums_of_actors_that_are_gone_are_folded_after_vote_line_and_fence(voter: Voter) -> None:
    voter.store(SUMS)
    ballot = _ballot_to_fold(voter)
    services = voter.node.services
    assert services.votes.vote(read(questions.VOTE, *ballot)) == b"\1"
    assert voter.fence() == [KEY]
    assert services.votes.drop(read(questions.DROP, *ballot)) == 1
    voter.end_turn()
    stored = voter.engine.get(KEY)
    assert stored == folded(SUMS, [ACTOR]) and View(stored, 0).string() == b"3"
    assert services.votes.drop(read(questions.DROP, *ballot)) == 0


def test_no_vote_to_fold_while_another_one_is_open_or_for_others_who_write_here(voter: Voter) -> None:
    voter.store(SUMS)
    votes = voter.node.services.votes
    assert votes.vote(read(questions.VOTE, *_ballot_to_fold(voter, b"n1 8", b"gone---1"))) == b"\0", (
        "this node has started again since it was asked who writes here"
    )
    assert votes.vote(read(questions.VOTE, *_ballot_to_fold(voter))) == b"\1"
    other = _ballot_to_fold(voter, b"n3 1")
    assert votes.vote(read(questions.VOTE, *other)) == b"\0"
    votes.drop(read(questions.DROP, BALLOT, EPOCH, FOLDED, ACTOR))  # no key is left, and the ballot is over
    assert votes.vote(read(questions.VOTE, *other)) == b"\0", "a ballot gets the same answer again"
    assert votes.vote(read(questions.VOTE, *_ballot_to_fold(voter, b"n3 2"))) == b"\1"


def test_a_drop_folds_nothing_for_a_node_that_has_no_open_vote(voter: Voter) -> None:
    voter.store(SUMS)
    ballot = _ballot_to_fold(voter)
    assert voter.node.services.votes.drop(read(questions.DROP, *ballot)) == 0, "it never voted, or has restarted"
    assert voter.node.services.votes.vote(read(questions.VOTE, *ballot)) == b"\1"
    voter.now_ms += VOTE_MS_MAX + 1
    voter.node.tick(voter.now_ms, WALL_MS + voter.now_ms)
    voter.node.services.votes.vote(read(questions.VOTE, b"n3 9", EPOCH, PRUNED))  # forgets what is old
    assert voter.node.services.votes.drop(read(questions.DROP, *ballot)) == 0
    assert voter.node.state.records.get(KEY) == SUMS
