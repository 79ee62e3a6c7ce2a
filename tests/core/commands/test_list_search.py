"""Searches for items that equal a value: as a list of Python finds them, and without decoding what cannot hold them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.base.sinks import Sink
from server.core.commands.lists import edits, queries
from server.core.commands.lists.items import equal_items
from server.core.commands.typed import reply_now
from server.core.records.draft import Draft
from server.core.records.kinds import LIST
from server.core.records.versions import merge
from server.core.records.views import View

NOW_MS = 1_000_000
SINK = Sink()
# Some are parts of others, or of what is stored beside them.
VALUES = [b"", b"a", b"aa", b"aab", b"\0", b"\x80", b"b" * 70, b"actor-a.", b"none"]


def pushed(record: bytes | None, values: list[bytes], actor: bytes, counter: int) -> bytes | None:
    """A list after a push to its end."""
    if not values:
        return record
    draft = Draft(record, NOW_MS, LIST)
    reply_now(edits.rpush(draft, [b"", b"key", *values], SINK))
    return draft.record(actor, counter)


@given(
    st.lists(st.sampled_from(VALUES), max_size=300),
    st.lists(st.sampled_from(VALUES), max_size=80),
    st.lists(st.sampled_from(VALUES), max_size=80),
    st.sampled_from(VALUES),
    st.booleans(),
    st.integers(0, 400),
    st.booleans(),
)
def test_it_finds_what_a_list_of_python_finds(
    first: list[bytes],
    left: list[bytes],
    right: list[bytes],
    value: bytes,
    from_end: bool,
    compared_max: int,
    has_changes: bool,
) -> None:
    """Two sides have pushed at the same time, so several items may stand at one position."""
    base = pushed(None, first, b"actor-a.", 1)
    record = merge(pushed(base, left, b"actor-a.", 2), pushed(base, right, b"actor-b.", 3))
    view = Draft(record, NOW_MS, LIST) if has_changes else View(record, NOW_MS)
    if isinstance(view, Draft):
        reply_now(edits.lpush(view, [b"", b"key", b"aa"], SINK))
    items = list(view.items())
    places = list(range(len(items)))[::-1] if from_end else list(range(len(items)))
    expected = [(place, items[place]) for place in places[: compared_max or None] if items[place][1] == value]
    found = [each for each in equal_items(view, value, from_end, compared_max) if each is not None]
    assert found == expected


def test_it_is_what_redis_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """LPOS with all of its options, beside a naive one."""
    rng = random.Random(7)
    values = [rng.choice(VALUES) for _ in range(500)]
    view = View(pushed(None, values, b"actor-a.", 1), NOW_MS)
    for _ in range(300):
        rank, count, length = rng.choice([1, 2, 5, -1, -3]), rng.choice([0, 1, 3]), rng.choice([0, 1, 100, 499, 900])
        value = rng.choice(VALUES)
        places = list(range(500)) if rank > 0 else list(range(499, -1, -1))
        found = [place for place in places[: length or None] if values[place] == value][abs(rank) - 1 :]
        expected = found[: count or None]
        words = [b"RANK", b"%d" % rank, b"COUNT", b"%d" % count, b"MAXLEN", b"%d" % length]
        reply = reply_now(queries.lpos(view, [b"", b"key", value, *words], SINK))
        assert reply == b"*%d\r\n" % len(expected) + b"".join(b":%d\r\n" % place for place in expected)


SIZE = 20_000


@pytest.fixture(scope="module")
def long_list() -> bytes:
    """A list of items that differ."""
    record = pushed(None, [b"element:%012d" % number for number in range(SIZE)], b"actor-a.", 1)
    assert record is not None
    return record


@pytest.mark.interpreted  # compiled code calls methods that nobody can replace
@pytest.mark.parametrize("place", [0, 77, SIZE // 2, SIZE - 1, SIZE])
@pytest.mark.parametrize(
    "line",
    ["lrem 1", "lrem 0", "lrem -1", "linsert before", "linsert after", "lpos", "lpos rank -1", "lpos count 0"],
)
def test_a_search_decodes_few_chunks_and_pauses_seldom(
    monkeypatch: pytest.MonkeyPatch, long_list: bytes, line: str, place: int
) -> None:
    decoded = pauses = 0
    decode = View._lasting_in

    def count(view: View, chunk: int) -> list[tuple[bytes, bytes, int]]:
        nonlocal decoded
        decoded += 1
        return decode(view, chunk)

    monkeypatch.setattr(View, "_lasting_in", count)
    value, name, *options = b"element:%012d" % place, *line.split()
    draft, words = Draft(long_list, NOW_MS, LIST), [option.encode() for option in options]
    if name == "lpos":
        work = queries.lpos(draft, [b"", b"key", value, *words], SINK)
    elif name == "lrem":
        work = edits.lrem(draft, [b"", b"key", *words, value], SINK)
    else:
        work = edits.linsert(draft, [b"", b"key", words[0].upper(), value, b"new"], SINK)
    while next(work, b"over") != b"over":
        pauses += 1
    assert decoded <= 3
    assert pauses <= 1
