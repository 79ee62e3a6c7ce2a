"""The naive model of records: sets of writes, each with the set of writes that its author had seen. No clock, no byte.

A write is named by its dot and remembers its causal past as a plain set of dots. A replica is the set of writes that
have reached it. Its siblings are those that no other write it knows of has seen; a context is the set of all that the
replica knows of, be it itself or as the past of something it knows.

`states_of` runs a random history on records and on the model side by side. Four replicas take counters from hybrid
clocks of their own, so there are gaps; merges and contexts come from any state that any replica was ever in, so
messages are late, reordered and repeated. The actors' bytes look like counters, so that a search for one in the bytes
of a clock also hits between its entries.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hypothesis import strategies as st

from server.core.base.clock import HybridClock
from server.core.records.versions import (
    TOMBSTONE,
    VALUE,
    Sibling,
    clock_of,
    encode,
    merge,
    newest,
    sibling_count,
    siblings_of,
    supersede,
    verify,
    write,
)

ACTORS = [bytes(8), bytes(7) + b"\1", b"\0\0\0\1\0\1\0\0", b"\xfe" * 8]
NOW_MS = 1_000_000
OUTCOMES = [(0, VALUE), (0, TOMBSTONE), (NOW_MS - 1, VALUE), (NOW_MS, VALUE), (NOW_MS + 1, VALUE)]

Dot = tuple[bytes, int]


@dataclass(frozen=True)
class Write:
    """One write: what it stored, and which writes its author had seen."""

    sibling: Sibling
    past: frozenset[Dot]

    @property
    def dot(self) -> Dot:
        return self.sibling.actor, self.sibling.counter


Replica = frozenset[Write]  # every write that has ever reached it
NOTHING: Replica = frozenset()


def seen(replica: Replica) -> frozenset[Dot]:
    """Returns the context that a reader of `replica` gets: its writes, and all writes that these had seen."""
    return frozenset(known.dot for known in replica).union(*(known.past for known in replica))


def after_write(replica: Replica, sibling: Sibling, past: Iterable[Dot]) -> Replica:
    """Returns the replica after a write whose author has seen exactly `past`."""
    return replica | {Write(sibling, frozenset(past))}


def siblings(replica: Replica) -> list[Sibling]:
    """Returns the writes that no other known write has superseded, the oldest first."""
    superseded = frozenset[Dot]().union(*(known.past for known in replica))
    live = [known.sibling for known in replica if known.dot not in superseded]
    return sorted(live, key=lambda sibling: (sibling.counter, sibling.actor))


def clock(replica: Replica) -> dict[bytes, int]:
    """Returns a context as a version vector: the greatest counter seen of each actor."""
    greatest: dict[bytes, int] = {}
    for actor, counter in seen(replica):
        greatest[actor] = max(counter, greatest.get(actor, counter))
    return greatest


# --- histories


State = tuple[bytes | None, Replica]
Step = tuple[str, int, int, int]
STEP = st.tuples(
    st.sampled_from(["plain", "plain", "context", "blind", "merge", "merge", "advance"]),
    st.integers(0, len(ACTORS) - 1),
    st.integers(0, 30),
    st.integers(0, len(OUTCOMES) - 1),
)
# by itself a list strategy seldom makes more than ten
STEPS = st.sampled_from([0, 10, 25]).flatmap(lambda least: st.lists(STEP, min_size=least, max_size=least + 10))


@dataclass
class Member:
    """One replica of one key, as record bytes and in the model."""

    actor: bytes
    clock: HybridClock
    record: bytes | None = None
    model: Replica = NOTHING

    def perform(self, step: Step, states: list[State]) -> None:
        """Does one step on the record and on the model. Input from other replicas is their state some steps ago."""
        operation, _, place, outcome = step
        record, model = states[-1 - place % len(states)]
        if operation == "advance":
            self.clock.advance(place % 5)
        elif operation == "merge":
            self.clock.observe(max((counter for _, counter in seen(model)), default=0))
            self.record, self.model = merge(self.record, record), self.model | model
        else:
            context = () if record is None or operation == "blind" else clock_of(record)
            past = seen(self.model if operation == "plain" else model if context else NOTHING)
            sibling = Sibling(self.actor, self.clock.next(), *OUTCOMES[outcome], b"%d" % len(states))
            _, counter, expires_at_ms, kind, value = sibling
            if operation == "plain":
                self.record = supersede(self.record, self.actor, counter, value, expires_at_ms, kind)
            else:
                self.record = write(self.record, self.actor, counter, value, expires_at_ms, kind, context)
            self.model = after_write(self.model, sibling, past)


def check(record: bytes | None, model: Replica) -> None:
    """Checks that the record has exactly the siblings and the clock of the model, in canonical bytes."""
    expected = siblings(model)
    assert siblings_of(record) == expected
    if record is None:
        assert not model
        return
    assert clock_of(record) == tuple(sorted(clock(model).items()))
    assert sibling_count(record) == len(expected)
    assert newest(record) == expected[-1]
    assert record == encode(clock(model), expected)
    assert verify(record)


def states_of(steps: list[Step]) -> list[State]:
    """Runs `steps`, checks each state against the model, and returns all states of the replicas."""
    members = [Member(actor, HybridClock(1, 1000)) for actor in ACTORS]
    states: list[State] = [(None, NOTHING)]
    for step in steps:
        member = members[step[1]]
        member.perform(step, states)
        check(member.record, member.model)
        states.append((member.record, member.model))
    return states
