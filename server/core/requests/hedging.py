"""Which owners a quorum read asks, and when it asks one more because an answer is late (a *hedge*).

Theory (Dean and Barroso, "The Tail at Scale", 2013). A read needs R replicas, so the coordinator asks R owners, itself
included, and not all N. To ask all of them would hide a slow owner, too. But each read would then cost the messages and
the work of an owner whose answer nobody needs. With N=3 and R=2 a GET that asks one other owner instead of both costs
half of the messages. A slow owner is hidden in two other ways:

- The owner to ask is the better one of two that are drawn at random. For each peer this module keeps the mean of its
  recent latencies (an exponentially weighted one). Peers whose means differ by `SIMILAR_MS` or less count as equal,
  so that healthy owners share the load.
- If the answer is later than about 97 % of the answers of this peer (`tail_ms`), one more owner is asked. That is the
  hedge. The tail does not fall further once it is `DELAY_MS_MIN` or less.

If an owner hangs, the first question that waits longer than its tail raises its mean to that wait. So reads prefer other
owners from then on.

The budget (a token bucket). If the whole cluster is slow, hedges would double its load just then. So each read adds
`BUDGET_SHARE` of a token to a bucket of `BUDGET_READS_MAX` tokens, which is full at the start. A hedge of n reads takes n
tokens, and waits while there are none. One case needs no tokens: a question has had no answer for `LATE_MS` or
for four times the tail, whichever is longer. Such a peer probably hangs, and is not only slow.

If a peer refuses, has no vote for a key, or loses its link, the next owner is asked at once (reads.py). That needs no
tokens.

The running tail is an estimate of the 97th percentile without a history of samples. The *gain* is a fifth of the
estimate. A sample above the estimate raises it by 97 % of the gain; any other sample lowers it by 3 % of the gain. So
it is stable where 3 % of the samples are above it. Each run of `_check` raises the estimate of a peer at most once,
because answers that are late together have one cause.

Time is in whole milliseconds, and one timer (work/timers.py) serves all groups: it is set for the first answer that will
be late. If the timer itself runs late, this node was busy, and the answers may wait in its sockets. So `_check` hedges
nothing the first time that this happens, and sets the timer to `DELAY_MS_MIN` later.

    owners that are asked     why                     where
    the R - 1 chosen ones     the quorum needs them   Reads._ask_needed
    all live ones             the read is sampled     Reads._launch, for a share of `COMPARED_SHARE` of the groups
    all live ones             an answer differs       Reads._count_answer, for read repair
    all, or their stand-ins   too few are live for R  Reads._launch
    one more                  an owner has failed     Reads._ask_needed
    one more                  an answer is late       Reads._hedge
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from server.core.base.state import State
from server.core.requests.read_groups import ReadGroup
from server.core.work.timers import Timers

COMPARED_SHARE = 0.01  # this share of the groups, chosen at random, asks all owners, so that each owner is compared
BUDGET_SHARE: Final = 0.05
BUDGET_READS_MAX: Final = 1000.0
DELAY_MS_MIN: Final = 5  # healthy answers are often as late as this on a busy machine
DELAY_MS_MAX: Final = 250
LATE_MS: Final = 250
RETRY_MS: Final = 10  # a hedge without tokens is tried again after this time
SIMILAR_MS: Final = 2.0  # latencies are measured in whole milliseconds
NO_VOTE_MS: Final = 50.0  # the least mean of a peer that gave no vote: such a peer is damaged, or is being filled
_QUANTILE: Final = 0.97
_GAIN: Final = 0.2
_NEWEST: Final = 0.25  # weight of the newest latency in the mean


class PeerLatency:
    """How fast one peer has answered reads lately, and the groups that wait for it."""

    __slots__ = ("asked", "mean_ms", "tail_ms")

    def __init__(self) -> None:
        self.mean_ms = 0.0
        self.tail_ms = float(DELAY_MS_MIN)
        self.asked: deque[tuple[int, ReadGroup]] = deque()  # when, and for which group, in this order

    def answered_after(self, latency_ms: int) -> None:
        """HOT. Adds a sample."""
        self.mean_ms += (latency_ms - self.mean_ms) * _NEWEST
        if latency_ms > self.tail_ms:
            self._raise_tail()
        elif self.tail_ms > DELAY_MS_MIN:
            self.tail_ms -= self.tail_ms * _GAIN * (1 - _QUANTILE)

    def is_late_by(self, silence_ms: int) -> None:
        """Notes that a question has had no answer for `silence_ms`, which is not less than the tail."""
        self.mean_ms = max(self.mean_ms, float(silence_ms))
        self._raise_tail()

    def _raise_tail(self) -> None:
        if self.tail_ms < DELAY_MS_MAX:
            self.tail_ms += self.tail_ms * _GAIN * _QUANTILE


class Hedging:
    """Chooses the owners that reads ask, and calls `hedge` for a group whose answer is late.

    `hedge` asks one more owner, and returns whether there was one.
    """

    def __init__(self, state: State, timers: Timers, hedge: Callable[[ReadGroup], bool]) -> None:
        self.compared_share = COMPARED_SHARE
        self.tokens = BUDGET_READS_MAX
        self._state = state
        self._timers = timers
        self.hedge = hedge  # tracing wraps it (core/tracing/traces.py)
        self._peers: dict[str, PeerLatency] = {}
        self._timer_ms = 0  # when `_check` is called next; 0 if no timer is set
        self._was_late = False  # the last run of `_check` came late, and hedged nothing

    # --- whom to ask

    def is_sampled(self) -> bool:
        """HOT. Whether the next group asks all owners. Random: a fixed interval could miss the same key each time."""
        return self._state.rng.random() < self.compared_share

    def choose(self, owners: Sequence[str], count: int) -> list[str]:
        """HOT. Returns `count` of the owners, or all if there are fewer. Each is the better one of two random ones."""
        if len(owners) <= count:
            return list(owners)
        if count == 1:
            return [self._better(owners)]
        left, chosen = list(owners), []
        for _ in range(count):
            owner = self._better(left)
            left.remove(owner)
            chosen.append(owner)
        return chosen

    def _better(self, owners: Sequence[str]) -> str:
        """Returns the faster one of two random owners, or either of them if they are about equally fast."""
        count = len(owners)
        draw = int(self._state.rng.random() * count * (count - 1))
        first, second = draw // (count - 1), draw % (count - 1)
        one, other = owners[first], owners[second + (second >= first)]
        return other if self._mean_ms(other) + SIMILAR_MS < self._mean_ms(one) else one

    def _mean_ms(self, peer: str) -> float:
        known = self._peers.get(peer)
        return 0.0 if known is None else known.mean_ms

    # --- what happens to the answers

    def earn(self, reads: int) -> None:
        """HOT. Adds the share of `reads` new reads to the budget."""
        self.tokens = min(self.tokens + reads * BUDGET_SHARE, BUDGET_READS_MAX)

    def asked(self, peer: str, group: ReadGroup) -> None:
        """HOT. `peer` has been asked for a group, and is in `group.awaited`."""
        known = self._peers.get(peer)
        if known is None:
            known = self._peers[peer] = PeerLatency()
        now_ms = self._state.now_ms
        known.asked.append((now_ms, group))
        due_ms = now_ms + int(known.tail_ms)
        if not self._timer_ms or due_ms < self._timer_ms:
            self._set_timer(due_ms)

    def answered(self, peer: str, group: ReadGroup) -> None:
        """HOT. Notes an answer of `peer`. Its latency is no sample while `peer` owes the answer for an earlier group."""
        known = self._peers.get(peer)
        if known is None:
            return
        asked = known.asked
        while asked:
            sent_ms, first = asked[0]
            if first is group:
                asked.popleft()
                known.answered_after(self._state.now_ms - sent_ms)
                return
            if peer in first.awaited:
                return
            asked.popleft()

    def gave_no_vote(self, peer: str) -> None:
        """Raises the mean of `peer`, which has refused a group or a vote for a key. So other owners are asked first."""
        known = self._peers.get(peer)
        if known is not None:
            known.mean_ms = max(known.mean_ms, NO_VOTE_MS)

    def lost(self, peer: str) -> None:
        """Forgets the latency of `peer`: the link to it broke."""
        self._peers.pop(peer, None)

    # --- late answers

    def _set_timer(self, due_ms: int) -> None:
        self._timer_ms = due_ms
        self._timers.call_at(due_ms, self._check)

    def _check(self) -> None:
        """Hedges the groups whose answers are late, as far as the budget allows, and sets the next timer."""
        now_ms = self._state.now_ms
        if not self._timer_ms or now_ms < self._timer_ms:
            return  # this timer was replaced by one that was due earlier
        is_late = now_ms - self._timer_ms > DELAY_MS_MIN
        self._timer_ms = 0
        if is_late and not self._was_late:
            self._was_late = True
            self._set_timer(now_ms + DELAY_MS_MIN)
            return
        self._was_late = False
        dues_ms = [self._check_peer(peer, known, now_ms) for peer, known in list(self._peers.items())]
        next_ms = min([due_ms for due_ms in dues_ms if due_ms], default=0)
        if next_ms and (not self._timer_ms or next_ms < self._timer_ms):
            self._set_timer(next_ms)

    def _check_peer(self, peer: str, known: PeerLatency, now_ms: int) -> int:
        """Hedges the groups that `peer` is late for. Returns when to look at that peer again, 0 for never."""
        asked, delay_ms = known.asked, int(known.tail_ms)
        silence_ms = 0
        due_ms = 0
        while asked:
            sent_ms, group = asked[0]
            if peer in group.awaited:
                if sent_ms + delay_ms > now_ms:
                    due_ms = sent_ms + delay_ms
                    break
                silence_ms = max(silence_ms, now_ms - sent_ms)
                if group.is_waiting and not self._try_hedge(group, now_ms - sent_ms, delay_ms):
                    due_ms = now_ms + RETRY_MS
                    break
            asked.popleft()
        if silence_ms:
            known.is_late_by(silence_ms)
        return due_ms

    def _try_hedge(self, group: ReadGroup, silence_ms: int, delay_ms: int) -> bool:
        """Hedges a group if the budget allows it, or if the answer is very late. Returns False if the hedge has to wait."""
        statistics, reads = self._state.statistics, len(group.keys)
        if self.tokens <= 0 and silence_ms < max(LATE_MS, 4 * delay_ms):
            if not group.is_hedge_refused:
                group.is_hedge_refused = True
                statistics.hedges_refused += reads
            return False
        if self.hedge(group):
            self.tokens -= reads
            statistics.reads_hedged += reads
        return True
