"""What is added and removed again leaves nothing behind: after 10,000 times a record is as long as after once.

Two nodes take turns, so the clock has both from the second time on.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from server.core.formats import hyperloglog
from server.core.records import draft_bytes
from server.core.records.draft import Draft
from server.core.records.entries import ROW_BYTES
from server.core.records.kinds import HASH, LIST, SET, STREAM, STRING, ZSET
from server.core.records.positions import FIRST, after, between
from server.core.records.views import View, pack_score

NOW_MS = 1_000_000
TIMES = 10_000
ACTORS = (b"actor-a.", b"actor-b.")
STAYS, GOES = b"stays", b"goes"
Change = Callable[[Draft], object]


def _append(draft: Draft) -> None:
    """RPUSH, as the commands of lists do it: the position behind the last one."""
    last = next(iter(draft.items_backwards()), None)
    draft.put(FIRST if last is None else after(last[0]), GOES)


def _insert(draft: Draft) -> None:
    """LINSERT behind the first item."""
    (first, _), (second, _) = list(draft.items())[:2]
    draft.put(between(first, second), GOES)


def _pop(place: int) -> Change:
    def pop(draft: Draft) -> None:
        assert draft.remove(list(draft.items())[place][0])

    return pop


def _count(draft: Draft) -> None:
    draft.add(GOES if draft._writes != STRING else b"", Decimal(3))


def _sketch(draft: Draft) -> None:
    draft.set_sketch(hyperloglog.add(hyperloglog.new(), [GOES]) or b"")


def _remove(draft: Draft) -> None:
    assert draft.remove(GOES)


def _keep(field: bytes, payload: bytes) -> Change:
    return lambda draft: draft.put(field, payload)


def _two_items(draft: Draft) -> None:
    draft.put(FIRST, STAYS)
    draft.put(after(FIRST), STAYS)


def _nothing(draft: Draft) -> None:
    """There is nothing that stays."""


# The type, what stays, what is added, and how it is removed.
CHANGES: dict[str, tuple[int, Change, Change, Change]] = {
    "string": (STRING, _nothing, lambda draft: draft.set_string(GOES), Draft.clear),
    "counter": (STRING, _nothing, _count, Draft.clear),
    "sketch": (STRING, _nothing, _sketch, Draft.clear),
    "hash": (HASH, _keep(STAYS, b"v"), lambda draft: draft.put(GOES, b"v"), _remove),
    "counter in a hash": (HASH, _keep(STAYS, b"v"), _count, _remove),
    "field that expires": (HASH, _keep(STAYS, b"v"), lambda draft: draft.put(GOES, b"v", NOW_MS + 1), _remove),
    "set": (SET, _keep(STAYS, b""), lambda draft: draft.put(GOES, b""), _remove),
    "sorted set": (ZSET, _keep(STAYS, pack_score(1)), lambda draft: draft.put(GOES, pack_score(2)), _remove),
    "sum in a sorted set": (ZSET, _keep(STAYS, pack_score(1)), _count, _remove),
    "whole hash": (HASH, _nothing, lambda draft: draft.put(GOES, b"v"), _remove),
    "queue": (LIST, _keep(FIRST, STAYS), _append, _pop(0)),
    "end of a list": (LIST, _keep(FIRST, STAYS), _append, _pop(-1)),
    "middle of a list": (LIST, _two_items, _insert, _pop(1)),
    "stream": (STREAM, _keep(bytes(16), b""), lambda draft: draft.put(b"\1" * 16, b""), lambda d: d.remove(b"\1" * 16)),
    "expiry of a key": (SET, _keep(STAYS, b""), lambda draft: draft.expire(NOW_MS + 9), Draft.persist),
    "another type": (SET, _nothing, lambda draft: draft.put(GOES, b""), lambda draft: draft.set_string(b"v")),
}


def _sizes(name: str, times: int) -> list[int]:
    """The length of the record after each removal."""
    key_type, keep, add, remove = CHANGES[name]
    record, counter, sizes = None, 0, []
    for number in range(times):
        if number < 2:
            draft = Draft(record, NOW_MS, key_type)
            keep(draft)
            counter += 1
            record = draft.record(ACTORS[number], counter) if draft.changed else record
        for change in (add, remove):
            draft = Draft(record, NOW_MS, key_type)
            if draft.key_type not in (0, key_type):
                draft.clear()  # as DEL does before a command of another type
            change(draft)
            assert draft.changed
            counter += 1
            record = draft.record(ACTORS[number % 2], counter)
        sizes.append(len(record))
    return sizes


@pytest.mark.parametrize("name", CHANGES)
def test_removal_leaves_no_growth(name: str) -> None:
    sizes = _sizes(name, TIMES)
    may_begin_a_chunk = ROW_BYTES if name == "queue" else 0  # each time it is another position
    assert max(sizes[1:]) <= sizes[1] + may_begin_a_chunk


@pytest.mark.interpreted
def test_a_removal_that_leaves_something_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = draft_bytes._Rewriting._changed

    def leaves_what_it_sees(self: draft_bytes._Rewriting, field: bytes, group: list[object]) -> object:
        return [*group[-50:], *[entry for entry in changed(self, field, group) if entry not in group]]

    monkeypatch.setattr(draft_bytes._Rewriting, "_changed", leaves_what_it_sees)
    for name in ("hash", "set", "sorted set"):
        sizes = _sizes(name, 20)
        assert sizes[-1] > sizes[1], name


def test_a_key_without_elements_is_gone() -> None:
    draft = Draft(None, NOW_MS, HASH)
    draft.put(GOES, b"v")
    again = Draft(draft.record(ACTORS[0], 1), NOW_MS, HASH)
    again.remove(GOES)
    assert View(again.record(ACTORS[0], 2), NOW_MS).key_type == 0
