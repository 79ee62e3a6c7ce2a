"""Scans of one collection, random choices, and the orders that are kept for them."""

from __future__ import annotations

import random
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from server.core.base.errors import CommandError
from server.core.commands import choices
from server.core.commands.choices import RANDOM_FIELDS_MAX, WHOLE_FIELDS_MAX, choose, random_count, scan
from server.core.commands.sets.elements import element_items
from server.core.records import orders
from server.core.records.draft import Draft
from server.core.records.kinds import HASH, SET
from server.core.records.orders import KeptOrders
from server.core.records.slicing import run_through
from server.core.records.views import View

SINK: Any = SimpleNamespace(resp3=False)
CONFIG = SimpleNamespace(scan_page_keys=1000, pattern_bytes_max=1 << 16)
ACTOR = b"actor--1"


def _record(elements: list[bytes], old: bytes | None = None, removed: list[bytes] = [], counter: int = 1) -> bytes:  # noqa: B006
    draft = Draft(old, 0, SET)
    for element in elements:
        draft.put(element, b"")
    for element in removed:
        draft.remove(element)
    return draft.record(ACTOR, counter)


def _state() -> Any:
    return SimpleNamespace(orders=KeptOrders(1 << 30), config=CONFIG, rng=random.Random(5))


def _page(state: Any, record: bytes, cursor: int, *options: bytes) -> tuple[int, list[bytes]]:
    words = [b"SSCAN", b"k", b"%d" % cursor, *options]
    reply = run_through(scan("sscan", element_items)(View(record, 0), words, SINK, state))
    assert isinstance(reply, bytes)
    words = [word for word in reply.split(b"\r\n") if word and word[:1] not in b"*$"]
    return int(words[0]), words[1:]


def test_a_scan_returns_what_stays_while_other_elements_come_and_go() -> None:
    rng = random.Random(3)
    state = _state()
    stays = [b"stay%d" % number for number in range(400)]
    record = _record(stays + [b"go%d" % number for number in range(400)])
    counter = 2
    for _ in range(5):
        cursor, found = 0, Counter[bytes]()
        while True:
            cursor, elements = _page(state, record, cursor, b"COUNT", b"37")
            found.update(elements)
            if not cursor:
                break
            passing = [b"go%d" % rng.randrange(800) for _ in range(40)]
            record = _record(passing[:20], record, passing[20:], counter)
            counter += 1
        assert all(found[element] == 1 for element in stays)


def test_a_scan_of_a_collection_that_becomes_small_returns_the_rest() -> None:
    state = _state()
    stays = [b"stay%d" % number for number in range(WHOLE_FIELDS_MAX // 2)]
    passing = [b"go%d" % number for number in range(4 * WHOLE_FIELDS_MAX)]
    record = _record(stays + passing)
    cursor, first = _page(state, record, 0, b"COUNT", b"100")
    assert cursor
    record = _record([], record, passing, 2)
    last, rest = _page(state, record, cursor, b"COUNT", b"1")
    assert last == 0
    assert set(stays) <= set(first) | set(rest)
    assert not set(first) & set(rest) & set(stays)


def test_a_small_collection_comes_whole_and_a_pattern_filters_it() -> None:
    state = _state()
    record = _record([b"a", b"b", b"ab"])
    assert _page(state, record, 0, b"COUNT", b"1") == (0, [b"a", b"ab", b"b"])
    assert _page(state, record, 0, b"MATCH", b"a*") == (0, [b"a", b"ab"])


@pytest.mark.parametrize("size", [1, 5, 700])
def test_random_choices(size: int) -> None:
    rng = random.Random(11)
    elements = [b"%d" % number for number in range(size)]
    view = View(_record(elements), 0)
    for count in (1, 2, size // 2 + 1, size, size + 1):
        chosen = [element for element, _ in run_through(choose(view, count, rng))]
        assert len(set(chosen)) == len(chosen) == min(count, size)
        assert set(chosen) <= set(elements)
    assert len(run_through(choose(view, -2 * size, rng))) == 2 * size
    seen = Counter(run_through(choose(view, 1, rng))[0][0] for _ in range(20 * size))
    assert len(seen) == size, "each element is chosen now and then"


def test_counts_that_are_no_counts_are_refused() -> None:
    for text in (b"x", b"", b"-9223372036854775808", b"9223372036854775808", b"-1048577"):
        with pytest.raises(CommandError):
            random_count(text)
    assert random_count(b"-1048576") == -RANDOM_FIELDS_MAX


def test_an_expired_field_is_not_chosen() -> None:
    """Its chunk counts it, so places in a chunk are no help."""
    draft = Draft(None, 0, HASH)
    for number in range(700):
        draft.put(b"%d" % number, b"v", 5 if number % 2 else 0)
    view, rng = View(draft.record(ACTOR, 1), 10), random.Random(2)
    for count in (1, 3, -9, 340):
        chosen = [int(field) for field, _ in run_through(choose(view, count, rng))]
        assert len(chosen) == abs(count) and not any(number % 2 for number in chosen)


def test_fields_with_equal_hashes_are_on_one_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cursor is a hash, so the next page could not begin between them."""
    for module in (choices, orders):
        monkeypatch.setattr(module, "scan_place", lambda field: int(field[:1]))
    record = _record([b"%d%d" % (number % 3 + 1, number) for number in range(2 * WHOLE_FIELDS_MAX)])
    state, cursor, found = _state(), 0, []
    while True:
        cursor, elements = _page(state, record, cursor, b"COUNT", b"5")
        found.append({element[:1] for element in elements})
        if not cursor:
            break
    assert found == [{b"1"}, {b"2"}, {b"3"}]


def test_a_random_choice_decodes_each_chunk_once(monkeypatch: pytest.MonkeyPatch) -> None:
    view = View(_record([b"e%d" % number for number in range(4000)]), 0)
    decoded: list[int] = []
    items_in = View.items_in

    def counting(self: View, chunk: int) -> list[tuple[bytes, bytes]]:
        decoded.append(chunk)
        return items_in(self, chunk)

    monkeypatch.setattr(View, "items_in", counting)
    wanted, size = list(view.items()), len(view)
    decoded.clear()
    chosen = run_through(choose(view, -400, random.Random(4)))
    rng = random.Random(4)
    assert chosen == [wanted[rng.randrange(size)] for _ in range(400)]
    assert len(decoded) <= view.chunks()
