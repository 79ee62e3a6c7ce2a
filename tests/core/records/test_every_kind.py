"""The laws of merge for records of every kind of entry, in every mix, kinds of later versions among them.

Theory. The model has no clock: a command has a dot, the entries that it made, and the entries that it had seen and
superseded. An entry is there as long as no known command has superseded it. That is all that may decide, whatever the
kinds are. So a concurrent entry is never lost, and a removed one never comes back.
"""

from __future__ import annotations

import random
from itertools import permutations
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.core.formats import hyperloglog
from server.core.records import entries, joins
from server.core.records.entries import Entry
from server.core.records.kinds import (
    COUNTER_DELTA,
    HASH_DELTA,
    HASH_FIELD,
    HYPERLOGLOG,
    KEY_EXPIRY,
    LIST_ITEM,
    MEMBER,
    MEMBER_DELTA,
    SET_ELEMENT,
    STREAM_ENTRY,
)
from server.core.records.positions import FIRST, after
from server.core.records.siblings import TOMBSTONE, VALUE
from server.core.records.structure import verify
from server.core.records.versions import is_dead, merge, skeleton, summary, type_of
from server.core.records.views import pack_score
from tests.core.records.naive_types import ACTORS, NOW_MS

LATER_KINDS = (12, 14, 15, 16, 200, 255)
DELTAS = (COUNTER_DELTA, HASH_DELTA, MEMBER_DELTA)
KINDS = (
    VALUE, TOMBSTONE, *DELTAS, HASH_FIELD, SET_ELEMENT, MEMBER, LIST_ITEM, HYPERLOGLOG, KEY_EXPIRY, STREAM_ENTRY,
    *LATER_KINDS,
)  # fmt: skip
LASTING = (TOMBSTONE, *DELTAS, MEMBER, LIST_ITEM, STREAM_ENTRY)  # their entries never expire
KEY_KINDS = (VALUE, TOMBSTONE, COUNTER_DELTA, HYPERLOGLOG, KEY_EXPIRY)  # their field is empty
FIELDS = {
    LIST_ITEM: (FIRST, after(FIRST), after(FIRST) + b"\x80"),
    STREAM_ENTRY: (bytes(15) + b"\1", bytes(15) + b"\2"),
    **dict.fromkeys(KEY_KINDS, (b"",)),
}
OTHER_FIELDS = (b"", b"a", b"field 46")  # the hash of the last one begins a chunk
PAYLOADS = {
    TOMBSTONE: (b"",), SET_ELEMENT: (b"",), KEY_EXPIRY: (b"",), MEMBER: (pack_score(1.5), pack_score(-2.0)),
    HYPERLOGLOG: (hyperloglog.new(), hyperloglog.add(hyperloglog.new(), [b"x"]) or b""),
    STREAM_ENTRY: (b"*2\r\n$1\r\na\r\n$1\r\nb\r\n",), **dict.fromkeys(DELTAS, (b"7", b"-1.5")),
}  # fmt: skip
STEPS = 14


class Command(NamedTuple):
    """What a command made, and what it had seen and superseded."""

    made: frozenset[Entry]
    superseded: frozenset[Entry]


class State(NamedTuple):
    """A record, and the commands that are known where it is."""

    record: bytes | None
    commands: frozenset[Command]

    def shown(self) -> set[Entry]:
        gone = {entry for command in self.commands for entry in command.superseded}
        return {entry for command in self.commands for entry in command.made} - gone


def _entry(rng: random.Random, kind: int, dot: bytes) -> Entry:
    expires_at_ms = 0 if kind in LASTING else rng.choice((0, 0, NOW_MS - 1, NOW_MS + 1))
    field = rng.choice(FIELDS.get(kind, OTHER_FIELDS))
    return (field, kind, dot, expires_at_ms, rng.choice(PAYLOADS.get(kind, (b"", b"payload"))))


def _commanded(rng: random.Random, state: State, actor: bytes, counter: int, kinds: tuple[int, ...]) -> State:
    shown = sorted(state.shown())
    superseded = frozenset(rng.sample(shown, rng.randint(0, len(shown))))
    dot = entries.pack_dot(actor, counter)
    made: dict[tuple[bytes, int], Entry] = {}
    kind = rng.choice(kinds)  # a command writes one type, and may set the expiry of the key
    for each in rng.choice(((), (kind,), (kind,) * 3, (kind, KEY_EXPIRY))):  # none: a removal
        entry = _entry(rng, each, dot)
        made[entry[:2]] = entry
    clock = {} if state.record is None else dict(entries.decode(state.record)[0])
    clock[actor] = counter
    left = [*(entry for entry in shown if entry not in superseded), *made.values()]
    command = Command(frozenset(made.values()), superseded)
    return State(entries.encode(clock, left), state.commands | {command})


def _joined(one: State, other: State) -> State:
    return State(merge(one.record, other.record), one.commands | other.commands)


def _states(seed: int) -> list[State]:
    """All states that three replicas ever had."""
    rng = random.Random(seed)
    kinds = tuple(rng.sample(KINDS, rng.randint(1, len(KINDS))))
    replicas = [State(None, frozenset())] * len(ACTORS)
    states: list[State] = []
    for counter in range(1, STEPS):
        place = rng.randrange(len(ACTORS))
        if states and rng.random() < 0.35:
            replicas[place] = _joined(replicas[place], rng.choice(states))
        else:
            replicas[place] = _commanded(rng, replicas[place], ACTORS[place], counter, kinds)
        states.append(replicas[place])
    return states


def _fault_in(states: list[State]) -> str:
    """What the entries of these states, and of any two of them joined, have too much or too little."""
    for one in states:
        for other in states:
            both = _joined(one, other)
            held = set() if both.record is None else set(entries.decode(both.record)[1])
            if held - both.shown():
                return f"came back: {held - both.shown()}"
            if both.shown() - held:
                return f"lost: {both.shown() - held}"
    return ""


@given(st.integers(0, 1 << 32))
@settings(max_examples=150, deadline=None)
def test_no_concurrent_entry_is_lost_and_no_removed_one_comes_back(seed: int) -> None:
    assert not _fault_in(_states(seed))


@given(st.integers(0, 1 << 32))
@settings(max_examples=60, deadline=None)
def test_merge_is_a_join_of_canonical_bytes(seed: int) -> None:
    records = list(dict.fromkeys(state.record for state in _states(seed) if state.record is not None))[-4:]
    for one, other, third in permutations(records, 3) if len(records) > 2 else ():
        joined = merge(one, other)
        assert joined is not None and verify(joined)
        assert joined == merge(other, one) == merge(joined, one) == entries.encode(*entries.decode(joined))
        assert merge(joined, third) == merge(one, merge(other, third))


@given(st.integers(0, 1 << 32))
@settings(max_examples=60, deadline=None)
def test_short_forms_merge_alike_and_tell_life_and_type(seed: int) -> None:
    records = [state.record for state in _states(seed) if state.record is not None]
    for one in records:
        for short in (skeleton(one), summary(one)):
            assert verify(short)
            assert (is_dead(short, NOW_MS), type_of(short, NOW_MS)) == (is_dead(one, NOW_MS), type_of(one, NOW_MS))
        for other in records[-3:]:
            assert merge(skeleton(one), skeleton(other)) == skeleton(merge(one, other) or b"")


@given(st.integers(0, 1 << 32))
@settings(max_examples=60, deadline=None)
def test_a_record_with_a_kind_of_a_later_version_lives(seed: int) -> None:
    for state in _states(seed):
        if any(entry[1] in LATER_KINDS for entry in state.shown()):
            assert state.record is not None and not is_dead(state.record, NOW_MS)


def test_every_kind_meets_every_other_one() -> None:
    met = {
        frozenset((one[1], other[1]))
        for seed in range(300)
        for state in _states(seed)
        for one in state.shown()
        for other in state.shown()
    }
    assert len(met) == len(KINDS) * (len(KINDS) + 1) // 2


@pytest.mark.interpreted
@pytest.mark.parametrize("told", ["lost", "came back"])
def test_a_planted_bug_is_found(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    survivors = joins._survivors
    if told == "came back":
        monkeypatch.setattr(joins, "_survivors", lambda one, other, *clocks: survivors(one, other, {}, {}))
    else:
        seen = dict.fromkeys(ACTORS, 1 << 60)
        monkeypatch.setattr(joins, "_survivors", lambda one, other, *clocks: survivors(one, other, seen, seen))
    assert any(_fault_in(_states(seed)).startswith(told) for seed in range(20))
