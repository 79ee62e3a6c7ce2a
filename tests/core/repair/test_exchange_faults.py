"""The exchange when something goes wrong: lost peers, full disks, damage, and records that all agreed to forget."""

from __future__ import annotations

from typing import Any

import pytest

from server.core.records.records import storage_key_of
from server.core.repair.exchange import NothingTaken, PeerLost
from server.core.ring.change import WEIGHT, Change
from server.core.ring.succession import commit
from server.core.work.background import BATCH_KEYS
from tests.core.repair.machines import CONFIG, keys_of, tombstone, written
from tests.core.repair.test_exchange import LONG_MS, Two

KEYS = keys_of(5 * BATCH_KEYS)


def filled(two: Two) -> int:
    """How many keys have come here."""
    return sum(two.here.record(key) is not None for key in KEYS)


def fill_there(two: Two) -> Two:
    two.there.write(b"v", *KEYS)
    return two


# --- a peer that is lost


@pytest.mark.parametrize("kind", [b"HASHES", b"LIST"])
def test_a_peer_that_never_answers_is_lost_at_the_deadline(kind: bytes) -> None:
    two = fill_there(Two())
    two.on_answer_to(kind, lambda: False)
    ended = two.begin()
    two.machines.pass_ms(CONFIG.request_timeout_ms)
    assert isinstance(ended[0], PeerLost) and not isinstance(ended[0], NothingTaken)
    assert filled(two) == 0


def test_a_late_answer_changes_nothing() -> None:
    two = fill_there(Two())
    two.on_answer_to(b"LIST", lambda: False)
    ended = two.begin()
    two.machines.pass_ms(2 * CONFIG.request_timeout_ms)
    two.machines.pass_on = lambda message: True
    for message in two.machines.kept_back:
        two.machines.deliver(message)
    two.machines.pass_ms(LONG_MS)
    assert len(ended) == 1 and filled(two) == 0


def _cut(two: Two) -> None:
    two.machines.cut("n2")


def _new_layout(two: Two) -> None:
    two.machines.adopt(commit(two.machines.layout, [Change("c", WEIGHT, "n2", weight=2)]))


def _stop(two: Two) -> None:
    two.outcome.stopped = True


@pytest.mark.parametrize("happens", [_cut, _new_layout, _stop])
def test_what_is_done_before_the_end_stays_done(happens: Any) -> None:
    """And the next exchange goes on with the rest."""
    two = fill_there(Two())
    pages = [None] * 2

    def end_in_the_middle() -> None:
        if pages:
            pages.pop()
        else:
            happens(two)

    two.on_answer_to(b"LIST", end_in_the_middle)
    assert isinstance(two.repair(), PeerLost)
    assert filled(two) == 2 * BATCH_KEYS
    two.machines.pass_on = lambda message: True
    two.machines.link("n2")
    two.outcome.stopped = False
    assert two.repair() is None and filled(two) == len(KEYS)
    assert two.outcome.keys_taken == len(KEYS), "and what has come is not fetched again"


def test_a_peer_of_another_epoch_is_lost() -> None:
    two = fill_there(Two())
    two.there.state.adopt(commit(two.machines.layout, [Change("c", WEIGHT, "n2", weight=2)]))
    assert isinstance(two.repair(), PeerLost) and filled(two) == 0


# --- disks


def test_a_full_disk_here_takes_nothing() -> None:
    two = fill_there(Two())
    two.here.state.room = 1
    assert isinstance(two.repair(), NothingTaken) and filled(two) == 0


def test_a_full_disk_there_takes_nothing() -> None:
    two = Two()
    two.here.write(b"v", *KEYS)
    two.there.state.room = 1
    assert isinstance(two.repair(), NothingTaken)
    assert two.there.values(KEYS) == [None] * len(KEYS) and two.counts == (0, 0, 0, 0)


def test_who_needs_not_give_takes_all_that_a_full_peer_has() -> None:
    two = fill_there(Two())
    only_here = keys_of(3, "only here")
    two.here.write(b"v", *only_here)
    two.there.state.room = 1
    assert two.repair(must_give=False) is None
    assert filled(two) == len(KEYS) and two.there.values(only_here) == [None] * 3
    assert len(two.machines.asked(b"MERGE")) == 1, "it is offered nothing more"


# --- damage


def test_a_record_that_is_damaged_there_is_left_and_the_others_are_taken() -> None:
    two = fill_there(Two())
    two.there.damage(KEYS[3])
    assert two.repair() is None
    assert filled(two) == len(KEYS) - 1 and two.here.record(KEYS[3]) is None
    assert two.counts == (len(KEYS) - 1, len(KEYS) - 1, 1, 0)
    assert two.there.damaged == [storage_key_of(KEYS[3])] * len(two.there.damaged) != []


def test_a_record_that_is_damaged_here_is_not_overwritten_and_is_told() -> None:
    """Its bytes may have had a vote: only mending puts another one there."""
    two = Two(*keys_of(4))
    two.here.damage(b"k1")
    two.there.write(b"new", b"k1", b"k2", at=2)
    assert two.repair() is None
    assert two.here.value(b"k2") == b"new" and two.outcome.unsettled > 0
    assert storage_key_of(b"k1") in two.here.damaged
    assert two.here.disk.get(storage_key_of(b"k1")) == b"junk"


def test_a_record_that_is_damaged_here_is_not_sent() -> None:
    two = Two()
    two.here.write(b"v", *KEYS)
    two.here.damage(KEYS[3])
    assert two.repair() is None
    assert [two.there.value(key) for key in KEYS] == [None if key == KEYS[3] else b"v" for key in KEYS]
    assert two.outcome.unsettled == 1


def test_what_cannot_be_listed_there_is_asked_for_key_by_key() -> None:
    """The keys that only the peer has there stay unknown; those that we have are compared, and it gets what it lacks."""
    keys = keys_of(12, "tag")
    two = Two(*keys[:8], *keys[9:])
    two.there.write(b"new", keys[2], at=2)
    two.here.write(b"new", keys[4], at=2)
    two.here.write(b"v", keys[8])
    two.there.lose_blocks(keys[7], keys[9])
    assert two.repair() is None
    assert two.here.value(keys[2]) == b"new" and two.there.value(keys[4]) == b"new"
    assert two.there.value(keys[8]) == b"v", "which lies in the gap"
    assert two.outcome.unreadable > 0 and two.outcome.unsettled == 2, "the damaged ones"


def test_a_peer_of_the_version_before_does_not_say_where_a_gap_ends() -> None:
    """So all that we have in the ranges is asked for."""
    keys = keys_of(12, "tag")
    two = Two(*keys)
    two.there.write(b"new", keys[2], keys[9], at=2)
    two.there.lose_blocks(keys[7])
    answer = two.there.answerers[b"LIST"]
    two.there.answerers[b"LIST"] = lambda asked: answer(asked)[:2] if answer(asked)[1] == b"?" else answer(asked)
    assert two.repair() is None
    assert [two.here.value(keys[place]) for place in (2, 9)] == [b"new"] * 2


def test_what_cannot_be_listed_here_is_looked_up_by_the_keys_of_the_peer() -> None:
    keys = keys_of(12, "tag")
    two = Two(*keys)
    two.there.write(b"new", keys[2], keys[9], at=2)
    two.there.write(b"v", b"{tag}x")
    two.here.write(b"newest", keys[11], at=3)
    two.here.lose_blocks(keys[7])
    assert two.repair() is None
    assert [two.here.value(keys[place]) for place in (2, 9)] == [b"new"] * 2 and two.here.value(b"{tag}x") == b"v"
    assert two.there.value(keys[11]) == b"newest" and two.machines.asked(b"FETCH")
    fetched = [key for items in two.machines.asked(b"FETCH") for key in items[1:]]
    assert storage_key_of(keys[10]) not in fetched, "what lies behind the gap is listed again"
    assert two.outcome.unreadable > 0 and storage_key_of(keys[7]) in two.here.damaged


def test_a_gap_here_is_passed_over_where_everything_is_sent() -> None:
    two = Two()
    two.here.write(b"v", *KEYS)
    two.here.lose_blocks(KEYS[20])
    assert two.repair() is None
    assert [two.there.value(key) for key in KEYS] == [None if key == KEYS[20] else b"v" for key in KEYS]
    assert two.outcome.unreadable > 0


# --- what changes meanwhile


def test_a_record_that_is_gone_since_it_was_listed_is_not_taken() -> None:
    two = Two(b"k1", b"k2")
    two.there.write(b"new", b"k1", at=2)

    def collect() -> None:
        two.there.state.records.remove(storage_key_of(b"k1"))

    two.on_answer_to(b"LIST", collect)
    assert two.repair() is None
    assert two.here.value(b"k1") == b"v" and two.outcome.unsettled == 0


def test_what_is_sent_is_what_is_held_by_then() -> None:
    two = Two(b"k1", b"k2")
    two.there.write(b"new", b"k1", at=2)
    latest = written(b"latest", b"k1", 9)
    two.on_answer_to(b"FETCH", lambda: two.here.put(latest, b"k1"))
    assert two.repair() is None
    assert two.both(b"k1") == [latest, latest]


@pytest.mark.parametrize("is_here_empty", [True, False])
def test_what_was_read_before_a_fence_is_not_stored_after_it(is_here_empty: bool) -> None:
    """The page is begun again: by then it is known what all have agreed to forget."""
    two = Two(*([] if is_here_empty else keys_of(8)))
    two.there.put(tombstone(5), b"key")

    def forget() -> None:
        two.there.state.records.remove(storage_key_of(b"key"))
        two.here.state.draw_line()
        two.machines.pass_on = lambda message: True

    two.on_answer_to(b"LIST" if is_here_empty else b"FETCH", forget)
    assert two.repair() is None
    assert two.both(b"key") == [None, None] and two.counts == (0, 0, 0, 0)


def test_a_page_that_fences_pass_again_and_again_is_left() -> None:
    two = fill_there(Two())
    two.on_answer_to(b"LIST", lambda: two.here.state.draw_line() and None)
    assert two.repair() is None
    assert filled(two) == 0 and two.outcome.unsettled == 1
    assert two.questions().count(b"LIST") == 3


# --- the pace


@pytest.mark.parametrize(("busy", "keys_per_s"), [(0, 40_000), (1, 1000), (2, 1000)])
def test_it_works_at_the_slower_pace_if_clients_come_here_or_are_delayed_at_the_other_node(
    busy: int, keys_per_s: int
) -> None:
    two = fill_there(Two())
    ended = two.begin()
    before_ms = two.machines.now_ms
    while not ended:
        if busy == 1:
            two.here.state.statistics.reads += 1
            two.here.background.tick(two.machines.now_ms)
        two.there.pace.delays_clients = busy == 2
        two.machines.pass_ms(1)
    expected_ms = len(KEYS) * 1000 // keys_per_s
    assert 0.5 * expected_ms <= two.machines.now_ms - before_ms <= 1.5 * expected_ms + 10


def test_all_bytes_of_both_sides_are_counted() -> None:
    two = fill_there(Two())
    assert two.repair() is None
    said = sum(len(word) for message in two.machines.said for word in message.words)
    assert said < two.outcome.bytes_sent < 2 * said + 300 * len(two.machines.said)
    assert two.here.state.statistics.repair_bytes_sent == two.outcome.bytes_sent
