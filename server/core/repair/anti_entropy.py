"""Anti-entropy: each node compares itself in the background with every node that it shares partitions with.

Those are its *partners*, a bounded number in a cluster of any size; other members are never looked at.

The idea (Dynamo, section 4.7). One node of each pair leads, by a rule that shares the work evenly. Once in
`repair_interval_ms` it asks the other for the hashes of all ranges that both own. If they are equal, this costs some
hundred bytes; if not, it settles the differences (exchange.py). It also does so soon after the other node has come up,
because then there is most to repair. If several peers have differences they take turns, a range each, so that a wiped
node does not keep the others waiting.

Replicas that accept writes are never quite equal, because each write reaches one of them first. Most such differences are
gone by the time the range is opened. Otherwise one record is sent twice.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

from server.core.base.state import State
from server.core.records.trees import Span, Trees
from server.core.repair.differences import How, LeafDifference
from server.core.repair.exchange import FANOUT, Exchange, Outcome, PeerLost
from server.core.repair.exchange_answers import equal_spans
from server.core.ring.layout import Layout
from server.core.ring.partners import Partners
from server.core.work.background import Background
from server.core.work.procedures import Step, Steps
from server.core.work.questions import Questions

POLL_MS = 1000  # from one check of which peers came up, and which are due, to the next
SOON_MS = 1000  # from a peer's coming up to its comparison, at least; at most twice that. Its hints are delivered first
OVERDUE_INTERVALS, OVERDUE_MS_MIN = 3, 300_000  # the status shows a peer that is up and was compared longer ago
RETRY_MS = 10_000  # after a peer was lost during an exchange


def shared_spans(
    count: int, trees: Trees, partitions: Sequence[int], one: str, other: str, holders: Callable[[int], Sequence[str]]
) -> list[Span]:
    """The leaves of those partitions (`count` in all) that both nodes own, by `holders`; adjacent ones are one span."""
    spans: list[Span] = []
    for partition in partitions:
        owners = holders(partition)
        if one in owners and other in owners:
            span = trees.span_of(count, partition)
            if spans and spans[-1][1] == span[0]:
                spans[-1] = (spans[-1][0], span[1])
            else:
                spans.append(span)
    return spans


class _Round:
    """A comparison with a peer that found differences, and those that are left to settle, the next one last."""

    __slots__ = ("dropped_hints", "exchange", "outcome", "remaining")

    def __init__(self, exchange: Exchange, outcome: Outcome, dropped_hints: int) -> None:
        self.exchange = exchange
        self.outcome = outcome
        self.dropped_hints = dropped_hints  # for that peer, when the comparison began
        self.remaining: list[LeafDifference] = []


class AntiEntropy:
    """Compares this node with its peers for as long as the process runs."""

    def __init__(self, state: State, questions: Questions, background: Background) -> None:
        self._state = state
        self._questions = questions
        self._background = background
        self._partners: Partners | None = None  # by the layout of the last check
        self._up: dict[str, bool] = {}  # by peer, as of the last check
        self.compared_ms: dict[str, int] = {}  # by peer: when its last whole comparison ended
        self._usable_ms: dict[str, int] = {}  # by peer that is up: since when
        self._due_ms: dict[str, int] = {}  # by peer: when its next comparison is due
        self._rounds: dict[str, _Round] = {}  # by peer: a comparison with differences left
        background.run_forever("anti-entropy", self._steps)

    def connected(self, peer: str) -> None:
        """A link to `peer` was opened, perhaps to a new process on another disk: it is compared soon."""
        self._up[peer] = False

    def _steps(self) -> Steps:
        yield self._background.sleep(self._state.rng.randrange(POLL_MS))
        while True:
            self._update_schedule()
            peer = self._next_peer()
            if peer is None:
                yield self._background.sleep(POLL_MS)
                continue
            try:
                if peer in self._rounds:
                    yield from self._settle_next(peer, self._rounds[peer])
                else:
                    yield from self._compare(peer)
            except PeerLost:
                self._rounds.pop(peer, None)
                self._put_off(peer, min(RETRY_MS, self._state.config.repair_interval_ms))

    def _update_schedule(self) -> None:
        """Notes which peers came up, and when each is due."""
        state, layout = self._state, self._state.layout
        if layout is None:
            return
        peers = dict.fromkeys(self._partners_by(layout).partitions)
        peers.update(dict.fromkeys([peer for peer in state.hints.dropped_hints if peer in state.members]))
        for peer in peers:
            up = state.is_usable(peer)
            if up and not self._up.get(peer):
                self._usable_ms[peer] = state.now_ms
                self._rounds.pop(peer, None)
                self._put_off(peer, SOON_MS + state.rng.randrange(SOON_MS))
            elif up and peer in state.hints.dropped_hints:
                self._due_ms[peer] = min(self._due_ms[peer], state.now_ms + RETRY_MS)
            self._up[peer] = up
        for peer in [peer for peer in self._up if peer not in peers]:
            del self._up[peer]  # no partner any more: if it becomes one again, it is new

    def _partners_by(self, layout: Layout) -> Partners:
        if self._partners is None or self._partners.layout is not layout:
            self._partners = Partners(layout, self._state.id)
        return self._partners

    def overdue_s(self) -> dict[str, int]:
        """By peer that this node compares itself with and that is up: the seconds since their last whole comparison, or
        since it came up if there was none; only those that are overdue."""
        state = self._state
        limit_ms = max(OVERDUE_MS_MIN, OVERDUE_INTERVALS * state.config.repair_interval_ms)
        ages_ms = {
            peer: state.now_ms - max(self.compared_ms.get(peer, up_ms), up_ms)
            for peer, up_ms in self._usable_ms.items()
            if self._up.get(peer) and self._is_leader_of(peer)
        }
        return {peer: age_ms // 1000 for peer, age_ms in ages_ms.items() if age_ms > limit_ms}

    def last_compared_ms(self, peer: str) -> int | None:
        """When this node has last compared itself with a peer as a whole; if it never has, when the peer came up. None if
        comparisons with it are led by the peer, although this node may have led one, because of hints that it dropped."""
        return self.compared_ms.get(peer, self._usable_ms.get(peer)) if self._is_leader_of(peer) else None

    def _next_peer(self) -> str | None:
        """A peer that is due, else the next one in turn that has differences left; None if there is none."""
        due = [
            peer
            for peer, due_ms in self._due_ms.items()
            if due_ms <= self._state.now_ms
            and self._up.get(peer)
            and peer not in self._rounds
            and self._is_leader_of(peer)
        ]
        due += [peer for peer in self._rounds if self._up.get(peer)]
        return due[0] if due else None

    def _is_leader_of(self, peer: str) -> bool:
        """Whether this node starts comparisons with `peer`: it leads the pair, or it had to drop hints for the peer."""
        state, layout = self._state, self._state.layout
        if layout is None or state.is_filling:  # filling.py compares with every owner
            return False
        if peer in state.hints.dropped_hints:
            return peer in state.members
        partners = self._partners_by(layout)
        return peer in partners.partitions and partners.leads(peer)

    def _compare(self, peer: str) -> Generator[Step, Any, None]:
        """Finds the differences with a peer."""
        state, layout = self._state, self._state.layout
        assert layout is not None
        outcome = Outcome()
        exchange = Exchange(state, self._questions, self._background, peer, outcome)
        found = _Round(exchange, outcome, state.hints.dropped_hints.get(peer, 0))
        # A pending owner fetches older records by itself. It does not fetch writes of which this node dropped the hints.
        holders = layout.keepers if peer in state.hints.dropped_hints else layout.readers
        shared = self._partners_by(layout).partitions.get(peer, [])
        spans = shared_spans(layout.partitions, state.records.trees, shared, state.id, peer, holders)
        for difference in (yield from exchange.compare(spans))[::-1]:
            # A range that is empty on one side may take long: in parts, other peers get their turns in between.
            parts = [difference.span] if difference.how is How.OPEN else equal_spans(difference.span, FANOUT)
            found.remaining += [LeafDifference(part, difference.how) for part in parts[::-1]]
        self._rounds[peer] = found
        self._end_if_done(peer, found)

    def _settle_next(self, peer: str, present: _Round) -> Generator[Step, Any, None]:
        """Settles one range, then moves the peer to the end of the queue."""
        del self._rounds[peer]
        yield from present.exchange.settle([present.remaining.pop()])
        self._rounds[peer] = present
        self._end_if_done(peer, present)

    def _end_if_done(self, peer: str, present: _Round) -> None:
        if present.remaining:
            return
        del self._rounds[peer]
        self._state.statistics.trees_compared += 1
        self.compared_ms[peer] = self._state.now_ms
        dropped = self._state.hints.dropped_hints
        if not present.outcome.unsettled and peer in dropped and dropped[peer] == present.dropped_hints:
            del dropped[peer]  # the peer has what it missed, and no further hint was dropped meanwhile
        interval_ms = self._state.config.repair_interval_ms
        self._put_off(peer, interval_ms - self._state.rng.randrange(interval_ms // 4 + 1))

    def _put_off(self, peer: str, delay_ms: int) -> None:
        self._due_ms[peer] = self._state.now_ms + delay_ms
