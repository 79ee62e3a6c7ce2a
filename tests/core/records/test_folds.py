"""Folds of sums: no value changes, whatever is written and merged around them; seen with a world that folds nothing."""

from __future__ import annotations

import random
from collections.abc import Callable
from decimal import Decimal
from itertools import permutations, product

import pytest

from server.core.formats.numbers import decimal_text
from server.core.records import entries, versions
from server.core.records.draft import Draft
from server.core.records.folds import folded
from server.core.records.joins import Contradiction
from server.core.records.kinds import COUNTER_DELTA, HASH, HASH_DELTA, STRING, ZSET
from server.core.records.numbers import folded_text_of, is_folded
from server.core.records.structure import verify
from server.core.records.views import View, pack_score, unpack_score

GONE = [b"gone--%d-" % number for number in range(6)]
LIVE = [b"live--%d-" % number for number in range(3)]


def add(
    record: bytes | None, actor: bytes, counter: int, amount: str, key_type: int = STRING, field: bytes = b""
) -> bytes:
    draft = Draft(record, 0, key_type)
    draft.add(field, Decimal(amount))
    return draft.record(actor, counter)


def counter_of(*amounts: str, live: str = "7", key_type: int = STRING, field: bytes = b"") -> bytes:
    """A number to which gone actors have added these amounts, one each, and a live one."""
    record: bytes | None = None
    for place, amount in enumerate(amounts):
        record = add(record, GONE[place], 10 + place, amount, key_type, field)
    return add(record, LIVE[0], 50, live, key_type, field)


def deltas(record: bytes) -> list[bytes]:
    return sorted([entry[4] for entry in entries.decode(record)[1] if entry[1] in (COUNTER_DELTA, HASH_DELTA, 7)])


@pytest.mark.parametrize("amounts", [("1", "2", "3"), ("-5", "2"), ("1", "-1"), ("0.5", "-0.25", "3"), ("10",) * 6])
def test_sums_of_gone_actors_become_one(amounts: tuple[str, ...]) -> None:
    record = counter_of(*amounts)
    after = folded(record, LIVE)
    total = sum([Decimal(amount) for amount in amounts], Decimal(0))
    assert deltas(after) == sorted([folded_text_of(total), b"7"])
    assert View(after, 0).string() == View(record, 0).string() == decimal_text(total + 7)
    assert verify(after) and folded(after, LIVE) == after, "one sum alone is not folded again"
    assert versions.merge(after, record) == versions.merge(record, after) == after
    short = versions.pruned(after)
    assert versions.clock_entries(short) == 2 and View(short, 0).string() == View(record, 0).string()


def test_a_folded_sum_is_folded_again_with_others() -> None:
    first = folded(counter_of("1", "2"), LIVE)
    later = add(add(first, GONE[4], 60, "10"), GONE[3], 61, "20")
    again = folded(later, LIVE)
    assert deltas(again) == [b"033", b"7"] and View(again, 0).string() == b"40"
    assert versions.merge(again, later) == versions.merge(again, first) == again


def test_what_is_not_folded() -> None:
    record = counter_of("1", "2")
    assert folded(record, [*LIVE, *GONE]) == record and folded(record, [*LIVE, GONE[0]]) == record
    assert folded(counter_of("1"), LIVE) == counter_of("1")
    plain = versions.supersede(None, LIVE[0], 5, b"v")
    assert folded(plain, []) == plain
    hidden = Draft(None, 0, HASH)
    hidden.put(b"f", b"v")
    both = versions.merge(record, hidden.record(LIVE[1], 5))
    assert both is not None and folded(both, LIVE) == both, "the newest dot decides the type"


def test_fields_and_scores() -> None:
    record, time = None, 0
    for actor in GONE:
        for field, amount in product((b"", b"f", b"g"), ("2", "0.5")):
            time += 1
            record = add(record, actor, time, amount, HASH, field)
    put = Draft(record, 0, HASH)
    put.put(b"g", b"100")
    record = add(put.record(LIVE[0], 99), LIVE[1], 100, "1", HASH, b"f")
    after = folded(record, LIVE)
    assert dict(View(after, 0).items()) == dict(View(record, 0).items()) == {b"": b"15", b"f": b"16", b"g": b"100"}
    assert deltas(after) == [b"015", b"015", b"1"] and verify(after)
    scores = Draft(None, 0, ZSET)
    scores.put(b"m", pack_score(1.5))
    record = scores.record(GONE[0], 1)
    for place, actor in enumerate(GONE):
        record = add(record, actor, 10 + place, "0.1", ZSET, b"m")
    after = folded(record, LIVE)
    assert unpack_score(View(after, 0).get(b"m") or b"") == unpack_score(View(record, 0).get(b"m") or b"") == 2.1
    assert deltas(after) == [b"00.6"]


def test_two_different_sums_of_one_dot_are_still_a_fault() -> None:
    one, other = add(None, GONE[0], 5, "1"), add(None, GONE[0], 5, "2")
    with pytest.raises(Contradiction):
        versions.merge(add(one, LIVE[0], 9, "1"), add(other, LIVE[1], 9, "1"))
    assert [is_folded(text) for text in (b"0", b"00", b"-05", b"-5", b"0.5", b"00.5", b"10", b"-0.5", b"")] == [
        False, True, True, False, False, True, False, False, False,
    ]  # fmt: skip


class Pair:
    """The same history twice: with folds, and without."""

    def __init__(self, record: bytes) -> None:
        self.with_folds = [record] * 3
        self.without = [record] * 3
        self.time = 1000

    def write(self, place: int, change: Callable[[Draft], None]) -> None:
        self.time += 1
        for world in (self.with_folds, self.without):
            draft = Draft(world[place], 0, STRING)
            change(draft)
            world[place] = draft.record(LIVE[place], self.time)

    def sync(self, place: int, other: int) -> None:
        for world in (self.with_folds, self.without):
            merged = versions.merge(world[place], world[other])
            assert merged is not None
            world[place] = merged

    def fold(self, place: int, agreed: bytes) -> None:
        """A DROP arrives: it applies only where the record is the one agreed on."""
        if self.with_folds[place] == agreed:
            self.with_folds[place] = folded(agreed, LIVE)

    def check(self) -> None:
        for one, other in zip(self.with_folds, self.without, strict=True):
            assert View(one, 0).string() == View(other, 0).string()


def _history(seed: int) -> Pair:
    rng = random.Random(seed)
    agreed = counter_of(*[str(rng.randint(-9, 9)) for _ in range(rng.randint(2, 6))])
    if rng.random() < 0.5:
        agreed = folded(agreed, [*LIVE, *rng.sample(GONE, 2)])
    pair = Pair(agreed)
    for _ in range(rng.randint(3, 14)):
        place = rng.randrange(3)
        match rng.choice(("add", "add", "set", "del", "sync", "sync", "fold", "fold")):
            case "add":
                amount = Decimal(rng.randint(-9, 9))
                pair.write(place, lambda draft, amount=amount: draft.add(b"", amount))  # type: ignore[misc]
            case "set":
                pair.write(place, lambda draft: draft.set_string(b"100"))
            case "del":
                pair.write(place, lambda draft: draft.clear())
            case "sync":
                pair.sync(place, rng.randrange(3))
            case _:
                pair.fold(place, agreed)
        pair.check()
    return pair


@pytest.mark.parametrize("part", range(8))
def test_no_history_tells_whether_there_was_a_fold(part: int) -> None:
    folds = 0
    for seed in range(part * 100, part * 100 + 100):
        pair = _history(seed)
        folds += pair.with_folds != pair.without
        joined = set()
        for order in permutations(pair.with_folds):
            first = versions.merge(versions.merge(order[0], order[1]), order[2])
            assert first == versions.merge(order[0], versions.merge(order[1], order[2]))
            assert first is not None
            joined.add(first)
        assert len(joined) == 1, "merge is commutative and associative over folds"
        for place, other in ((0, 1), (0, 2), (1, 0), (2, 0)):
            pair.sync(place, other)
            pair.check()
        assert len(set(pair.with_folds)) == 1
    assert folds > 10
