"""Hashes of which some fields expire: counted, and their last expiry found, from those chunks that have such a field."""

from __future__ import annotations

import random

import pytest

from server.core.records import versions
from server.core.records.draft import Draft
from server.core.records.entries import Index, decode
from server.core.records.kinds import HASH
from server.core.records.views import View

ACTOR = b"actor--1"
FIELDS = 1000
END_MS = 3_000


def hash_with(expiring: dict[bytes, int], key_expires_at_ms: int = 0, empty_field: bool = False) -> bytes:
    """A hash of FIELDS fields, of which some expire."""
    draft = Draft(None, 0, HASH)
    for number in range(FIELDS):
        field = b"f%d" % number
        draft.put(field, b"v", expiring.get(field, 0))
    if empty_field:
        draft.put(b"", b"v", expiring.get(b"", 0))
    if key_expires_at_ms:
        draft.expire(key_expires_at_ms)
    return draft.record(ACTOR, 1)


@pytest.mark.parametrize("seed", range(20))
def test_counts_and_last_expiry_are_those_of_all_entries(seed: int) -> None:
    rng = random.Random(seed)
    chosen = [*[b"f%d" % number for number in rng.sample(range(FIELDS), rng.choice((1, 3, 50, FIELDS)))], b""]
    expiring = {field: rng.randrange(1, END_MS) for field in chosen}
    record = hash_with(expiring, rng.choice((0, END_MS + rng.randrange(9))), rng.random() < 0.5)
    assert versions.last_expiry(record) == max(entry[3] for entry in decode(record)[1])
    for now_ms in (0, END_MS // 2, END_MS - 1):
        view = View(record, now_ms)
        assert len(view) == len(list(view.lasting_items()))


@pytest.mark.interpreted
def test_only_chunks_with_an_expiry_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    record = hash_with({b"f7": 5})
    decoded: list[int] = []
    entries_in = Index.entries_in

    def counted(self: Index, chunk: int) -> list[tuple[bytes, int, bytes, int, bytes]]:
        decoded.append(chunk)
        return entries_in(self, chunk)

    view = View(record, 10)
    monkeypatch.setattr(Index, "entries_in", counted)
    assert Index(record).count > 5
    assert len(view) == FIELDS - 1
    assert len(decoded) == 1
