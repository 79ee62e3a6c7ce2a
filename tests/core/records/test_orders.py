"""Kept orders: always those of the record that is asked about, and seldom made anew."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.records.differences import changed_fields
from server.core.records.draft import Draft
from server.core.records.kinds import HASH, ZSET
from server.core.records.orders import PAIR_BYTES, KeptOrders, Orders, by_score
from server.core.records.slicing import SLICE_FIELDS, in_order, run_through
from server.core.records.views import View, pack_score

ACTOR = b"actor--1"
KEY = b"k"
Changes = list[tuple[int, int | None]]  # (member, score, or None to remove it)
CHANGES = st.lists(st.tuples(st.integers(0, 600), st.none() | st.integers(-3, 3)), min_size=1, max_size=30)


def changed(record: bytes | None, changes: Changes, counter: int) -> bytes:
    """The record after some changes."""
    draft = Draft(record, 0, ZSET)
    for member, score in changes:
        if score is None:
            draft.remove(b"m%d" % member)
        else:
            draft.put(b"m%d" % member, pack_score(float(score)))
    return draft.record(ACTOR, counter)


def order_of(orders: Orders[Any], record: bytes, key: bytes = KEY) -> list[tuple[float, bytes]]:
    """The order, for a record."""
    return run_through(orders.of(key, View(record, 0)))


def naive(record: bytes) -> list[tuple[float, bytes]]:
    """All pairs, sorted."""
    return sorted(by_score(item) for item in View(record, 0).items())


@given(st.lists(CHANGES, max_size=8), st.randoms(use_true_random=False))
def test_an_order_follows_every_record_back_and_forth(rounds: list[Changes], rng: random.Random) -> None:
    orders = Orders(by_score, 1 << 30)
    records = [changed(None, [(member, member % 7) for member in range(400)], 1)]
    for counter, changes in enumerate(rounds, 2):
        records.append(changed(records[-1], changes, counter))
        for record in (records[-1], rng.choice(records), records[-1]):
            assert order_of(orders, record) == naive(record)
    assert orders.made <= 1


def test_an_order_is_made_once_and_a_change_decodes_what_it_touches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop of ZADD and ZRANGE, or of ZPOPMIN, on 5,000 members."""
    record = changed(None, [(member, member * 7919 % 5000) for member in range(5000)], 1)
    orders = KeptOrders(1 << 30).scores
    decoded = 0
    items_in = View.items_in

    def counting(self: View, chunk: int) -> list[tuple[bytes, bytes]]:
        nonlocal decoded
        decoded += 1
        return items_in(self, chunk)

    assert order_of(orders, record) == naive(record)
    monkeypatch.setattr(View, "items_in", counting)
    for counter in range(2, 102):
        record = changed(record, [(counter * 37, counter)], counter)
        assert order_of(orders, record)
    assert orders.made == 1
    assert decoded <= 100 * 2, "two chunks a change, the old one and the new one"
    monkeypatch.undo()
    assert order_of(orders, record) == naive(record)


def test_after_very_many_changes_and_for_another_type_the_order_is_made_anew() -> None:
    orders = Orders(by_score, 1 << 30)
    record = changed(None, [(member, 1) for member in range(1000)], 1)
    other = changed(record, [(member, 2) for member in range(900)], 2)
    for each in (record, other):
        assert order_of(orders, each) == naive(each)
    assert orders.made == 2
    draft = Draft(None, 0, HASH)
    draft.put(b"f", b"v")
    assert changed_fields(View(other, 0), View(draft.record(ACTOR, 9), 0), 100) is None


def test_what_is_kept_is_bounded_in_bytes_and_goes_by_its_last_use() -> None:
    records = {name: changed(None, [(member, 1) for member in range(size)], 1) for name, size in
        ((b"a", 100), (b"b", 400), (b"c", 600))}  # fmt: skip
    cost = {name: len(record) + PAIR_BYTES * len(naive(record)) for name, record in records.items()}
    orders = Orders(by_score, cost[b"a"] + cost[b"c"] + 10)
    for name in (b"a", b"b", b"a", b"b", b"a", b"c"):
        order_of(orders, records[name], name)
    assert orders.made == 3
    order_of(orders, records[b"a"], b"a")
    assert orders.made == 3, "the one that was used longest ago has gone"
    order_of(orders, records[b"b"], b"b")
    assert orders.made == 4
    small = Orders(by_score, 10)
    assert order_of(small, records[b"a"]) == naive(records[b"a"]), "what has no room is answered, and not kept"
    assert run_through(orders.of(KEY, View(None, 0))) == []


def test_sorting_in_slices_is_sorting() -> None:
    rng = random.Random(4)
    for size in (0, 1, SLICE_FIELDS, SLICE_FIELDS + 1, 3 * SLICE_FIELDS):
        items = [(rng.randrange(50), b"%d" % number) for number in range(size)]
        slices, pauses = in_order(items), 0
        while True:
            try:
                next(slices)
            except StopIteration as stop:
                assert stop.value == sorted(items)
                break
            pauses += 1
        assert (pauses > 0) == (size > SLICE_FIELDS)
