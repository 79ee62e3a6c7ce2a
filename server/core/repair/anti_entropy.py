"""The continual comparison: by itself, and in the background, each node becomes equal to those it shares data with.

Theory (Dynamo, section 4.7). Of each two nodes one leads, by a rule that shares the work out evenly. Within
`repair_interval_ms` it asks the other once for the hashes of all that both own, which costs some hundred bytes when they
are equal, and settles what differs (exchange.py). It does so soon after the other has come up, too, for then there is most
to repair. Several peers with differences take turns, a range each, so that a wiped node does not keep the others waiting.

Replicas that take writes are never quite equal, for a write is on one of them first. Such a difference is mostly gone
when it is opened; otherwise one record travels twice.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

from server.core.base.state import State
from server.core.records.trees import Span, Trees
from server.core.repair.exchange import FANOUT, Difference, Exchange, How, Outcome, PeerLost
from server.core.repair.exchange_answers import parts_of
from server.core.ring.layout import Layout
from server.core.work.background import Background
from server.core.work.procedures import Step, Steps
from server.core.work.questions import Questions

LOOK_MS = 1000  # between two looks at who has come up and who is due
SOON_MS = 1000  # at least so long after a peer came up, at most twice that: its hints go first
RETRY_MS = 10_000  # after a peer was lost in the middle


def leads(layout: Layout, one: str, other: str) -> bool:
    """Whether of these two members `one` asks and the other answers; each leads about half of its pairs."""
    ids = [member.id for member in layout.members]
    here, there = ids.index(one), ids.index(other)
    return (here < there) == ((here + there) % 2 == 1)


def shared_spans(
    layout: Layout, trees: Trees, one: str, other: str, holders: Callable[[int], Sequence[str]]
) -> list[Span]:
    """The leaves of all partitions that both nodes should hold, by `holders`; adjacent partitions are one span."""
    spans: list[Span] = []
    for partition in range(layout.partitions):
        owners = holders(partition)
        if one in owners and other in owners:
            span = trees.span_of(layout.partitions, partition)
            if spans and spans[-1][1] == span[0]:
                spans[-1] = (spans[-1][0], span[1])
            else:
                spans.append(span)
    return spans


class _Round:
    """One comparison with a peer that has found differences, and what is left of them."""

    __slots__ = ("behind", "exchange", "left", "outcome")

    def __init__(self, exchange: Exchange, outcome: Outcome, behind: int) -> None:
        self.exchange = exchange
        self.outcome = outcome
        self.behind = behind
        self.left: list[Difference] = []


class AntiEntropy:
    """Compares this node with its fellow owners for as long as it lives."""

    def __init__(self, state: State, questions: Questions, background: Background) -> None:
        self._state = state
        self._questions = questions
        self._background = background
        self._up: dict[str, bool] = {}
        self._due_ms: dict[str, int] = {}
        self._rounds: dict[str, _Round] = {}
        background.run_forever("anti-entropy", self._steps)

    def connected(self, peer: str) -> None:
        """There is a new connection to `peer`, perhaps to a new process over another disk."""
        self._up[peer] = False

    def _steps(self) -> Steps:
        """Runs for ever."""
        yield self._background.pause(self._state.rng.randrange(LOOK_MS))
        while True:
            self._look()
            peer = self._next_peer()
            if peer is None:
                yield self._background.pause(LOOK_MS)
                continue
            try:
                if peer in self._rounds:
                    yield from self._go_on(peer, self._rounds[peer])
                else:
                    yield from self._begin(peer)
            except PeerLost:
                self._rounds.pop(peer, None)
                self._put_off(peer, min(RETRY_MS, self._state.config.repair_interval_ms))

    def _look(self) -> None:
        """Notes who has come up, and for when."""
        state, layout = self._state, self._state.layout
        for member in layout.members if layout is not None else ():
            peer = member.id
            if peer == state.id:
                continue
            up = state.is_usable(peer)
            if up and not self._up.get(peer):
                self._rounds.pop(peer, None)
                self._put_off(peer, SOON_MS + state.rng.randrange(SOON_MS))
            elif up and peer in state.hints.dropped_hints:
                self._due_ms[peer] = min(self._due_ms[peer], state.now_ms + RETRY_MS)
            self._up[peer] = up

    def _next_peer(self) -> str | None:
        """The peer that is due, or whose differences are to be settled; each gets its turn."""
        due = [
            peer
            for peer, due_ms in self._due_ms.items()
            if due_ms <= self._state.now_ms and self._up.get(peer) and peer not in self._rounds and self._is_mine(peer)
        ]
        due += [peer for peer in self._rounds if self._up.get(peer)]
        return due[0] if due else None

    def _is_mine(self, peer: str) -> bool:
        """Whether this node is to compare itself with `peer`: it leads, or only it knows that the peer missed something."""
        layout = self._state.layout
        return (
            layout is not None
            and not self._state.is_filling  # which does the same
            and any(member.id == peer for member in layout.members)
            and (leads(layout, self._state.id, peer) or peer in self._state.hints.dropped_hints)
        )

    def _begin(self, peer: str) -> Generator[Step, Any, None]:
        state, layout = self._state, self._state.layout
        assert layout is not None
        outcome = Outcome()
        exchange = Exchange(state, self._questions, self._background, peer, outcome)
        found = _Round(exchange, outcome, state.hints.dropped_hints.get(peer, 0))
        # One that is to be an owner fetches by itself what it lacks, but not what was written since, and no hint kept of.
        holders = layout.keepers if peer in state.hints.dropped_hints else layout.readers
        spans = shared_spans(layout, state.records.trees, state.id, peer, holders)
        for difference in (yield from exchange.compare(spans))[::-1]:
            # what is empty on one side may take long, and is as well done in parts
            parts = [difference.span] if difference.how is How.OPEN else parts_of(difference.span, FANOUT)
            found.left += [Difference(part, difference.how) for part in parts[::-1]]
        self._rounds[peer] = found
        self._end_if_done(peer, found)

    def _go_on(self, peer: str, present: _Round) -> Generator[Step, Any, None]:
        """Settles one range, then it is another peer's turn."""
        del self._rounds[peer]
        yield from present.exchange.settle([present.left.pop()])
        self._rounds[peer] = present
        self._end_if_done(peer, present)

    def _end_if_done(self, peer: str, present: _Round) -> None:
        if present.left:
            return
        del self._rounds[peer]
        self._state.statistics.trees_compared += 1
        behind = self._state.hints.dropped_hints
        if not present.outcome.unsettled and peer in behind and behind[peer] == present.behind:
            del behind[peer]  # what it missed it has now, and no more came meanwhile
        interval_ms = self._state.config.repair_interval_ms
        self._put_off(peer, interval_ms - self._state.rng.randrange(interval_ms // 4 + 1))

    def _put_off(self, peer: str, delay_ms: int) -> None:
        self._due_ms[peer] = self._state.now_ms + delay_ms
