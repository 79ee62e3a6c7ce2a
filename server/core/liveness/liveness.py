"""Who is alive, as one node sees it: a pure table fed with messages, broken links and gossip.

Theory. Two questions hide in "is B alive?", and this table keeps them apart.
- *Can I use B?* Only what this node heard itself counts, for a coordinator's requests go over its own links. UP means:
  B spoke to us lately, and nothing went wrong since. Any message makes a peer UP at once; silence, a link broken or
  refused, a request out of time make it SUSPECT at once. Hearsay never makes a peer UP.
- *Is B dead?* Here witnesses count. A node's table holds its own heartbeat, which it alone raises; one newer than all
  we knew, brought by a node that holds B for UP itself, proves that B lived a moment ago. While such news comes, a peer
  that we cannot reach stays SUSPECT: a cut between us and B, with C reaching both, is not B's death. Without it, DOWN.
  (Other bearers do not count: a dead node's last heartbeats would go from hand to hand and put off the verdict.)
`judge` is that rule as a pure function; the rest is bookkeeping. Nobody's word makes a peer worse.

News is ordered by (incarnation, heartbeat), and only what is strictly newer counts: a late table brings nobody back. A
restart has a higher incarnation (wall clock at start). A node that reads of itself as suspect, or as newer than it is
(its clock was set back), raises its own: a few times a second at most, where the clock makes a thousand, so the next
restart stays above. (Das et al., "SWIM", 2002, 4.2; van Renesse, "A Gossip-Style Failure Detection Service", 1998)

Ask before you suspect: a peer silent for `probe_after_ms` is sent a table out of turn, and answers. So silence means
that questions went unanswered, also in a cluster larger than the fanout; and as every pair then talks about once a
second, the last heartbeats of the dead soon stop to be news.

A node that is slow itself trusts its suspicions less (Dadgar et al., "Lifeguard", 2017): silence is measured on a clock
that stands still while the next `tick` is late. A process that wakes from a pause finds its peers hardly more silent
than before, and requests that expired meanwhile are no evidence against them.

In a cluster of more than `small_max` members nobody can talk to all others (gossip_table.py says who watches whom and how
news spreads). Of those that it *watches* a node judges as above; their other watchers are its witnesses. Any other peer
owes it nothing until asked (as one of the partners drawn at random, or by a request): its silence begins with the first
question that it has not answered. It is UP while nothing is known against it: no evidence of our own, and no *blame*. A
watcher's verdict DOWN on an incarnation goes through the cluster as a rumour, and whoever has not heard the peer lately
believes it; the blamed node, to whom everybody tells it, refutes it by a higher incarnation, which goes the same way. What
a node holds against a peer that it does not watch stays with it, and so does a suspicion: one bad link is no rumour. And a
node that hears hardly any of those it watches is rather deaf itself than right: it blames nobody.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from server.core.liveness.gossip_table import COUNTER_MAX, Ring, Rumours, State, TableEntry, decode_table, encode_table

__all__ = ["COUNTER_MAX", "Liveness", "LivenessLimits", "State", "decode_table", "encode_table", "judge"]

NEVER = -(1 << 62)  # a time before every other, far enough that any silence since then is long


_UP = State.UP


@dataclass(frozen=True, slots=True)
class LivenessLimits:
    """The times of the failure detector. Raises ValueError when they contradict each other."""

    suspect_after_ms: int = 2000  # direct silence that makes a peer SUSPECT
    down_after_ms: int = 4000  # direct silence that makes it DOWN, if no witness has news of it
    unlinked_down_after_ms: int = 2000  # the same since its link broke or was refused: a dead process, not a slow one
    relayed_life_ms: int = 2000  # for so long a witness' newer heartbeat keeps a peer from DOWN
    probe_after_ms: int = 1000  # direct silence after which a peer is asked out of turn
    probe_interval_ms: int = 250  # and asked again, until it is DOWN
    gossip_interval_ms: int = 1000
    gossip_fanout: int = 3
    tick_interval_ms: int = 250  # the longest pause between two ticks that the caller should make
    tick_late_ms: int = 500  # the most silence that one tick accounts for: beyond it the lag is our own
    small_max: int = 17  # members of a cluster in which each node watches all others
    watched_max: int = 8  # peers that a node of a larger one watches
    table_entries: int = 32  # of one message in a large cluster: ourselves, the watched, rumours, others in turn
    hearsay_life_ms: int = 10_000  # as relayed_life_ms, of peers that are not watched: news of them is rarer

    def __post_init__(self) -> None:
        if not 0 < self.probe_after_ms < self.suspect_after_ms < self.down_after_ms:
            raise ValueError("liveness needs 0 < probe_after_ms < suspect_after_ms < down_after_ms")
        if not 0 < self.tick_interval_ms < self.tick_late_ms or self.gossip_interval_ms < 1 or self.gossip_fanout < 1:
            raise ValueError("liveness needs 0 < tick_interval_ms < tick_late_ms, and gossip")
        if not 0 < self.watched_max < min(self.small_max, self.table_entries - 2):
            raise ValueError("liveness needs 0 < watched_max < small_max and room for others in a table")


def judge(
    heard_ago_ms: int, relayed_ago_ms: int, unlinked_ago_ms: int | None, failed: bool, limits: LivenessLimits
) -> State:
    """The verdict on a peer: times since it spoke to us, since a witness had news of it, since its link went (None:
    it has not, or the peer spoke since then), and whether a request to it has failed since it last spoke."""
    if heard_ago_ms < limits.suspect_after_ms and unlinked_ago_ms is None and not failed:
        return State.UP
    if relayed_ago_ms < limits.relayed_life_ms:
        return State.SUSPECT
    dead_link = unlinked_ago_ms is not None and unlinked_ago_ms >= limits.unlinked_down_after_ms
    return State.DOWN if dead_link or heard_ago_ms >= limits.down_after_ms else State.SUSPECT


class _Peer:
    """What is known of one peer. Times are on the table's own clock, which stands still while this node lags."""

    __slots__ = (
        "asked_ms", "blamed", "failed", "heard_ms", "news", "relayed_ms", "since_ms", "state", "unlinked_ms", "watched"
    )  # fmt: skip

    def __init__(self) -> None:
        self.state = State.DOWN
        self.watched = True
        self.blamed = False  # a watcher has said that it is DOWN, in its present incarnation
        self.news = (0, 0)  # the newest (incarnation, heartbeat)
        self.heard_ms = self.relayed_ms = self.asked_ms = NEVER
        self.since_ms = NEVER  # its silence is not counted from before; of one not watched: the first open question
        self.unlinked_ms: int | None = None
        self.failed = False


class Liveness:
    """The table of one node. `now_ms` is monotonic; ids that are not members are ignored everywhere.

    The caller sends `table(peer)` to each peer that `tick` names, answers a table that was no answer itself with its own
    (push-pull), and reports what its links and requests meet. `generation` grows with every change of a state or of
    the members, for caches to key on.
    """

    def __init__(self, self_id: str, incarnation: int, limits: LivenessLimits, rng: random.Random) -> None:
        self.self_id = self_id
        self.incarnation = incarnation
        self.heartbeat = self.generation = 0
        self.limits = limits
        self._rng = rng
        self._hearsay_limits = replace(limits, relayed_life_ms=limits.hearsay_life_ms)
        self._peers: dict[str, _Peer] = {}
        self._ring = Ring([self_id], limits.small_max, limits.watched_max)
        self._watched: list[str] = []
        self._others: list[str] = []  # those not watched: our tables tell of them in turn
        self._told = 0  # of the others, in the present turn
        self._rumours = Rumours()
        self._stands_ms = -NEVER  # from here on our clock stands still until the next tick
        self._lag_ms = 0  # for how long it has stood still so far
        self._lagged_ms = NEVER  # when it last did
        self._gossip_due_ms = -rng.randrange(limits.gossip_interval_ms)  # no two nodes in step, though clocks may be

    def set_members(self, ids: Sequence[str], now_ms: int) -> None:
        """The members of the layout, with or without this node. Those that stay keep what is known of them. New ones
        are DOWN until their first message (nobody is believed up unheard); the next tick, whenever it is, asks them."""
        peers = {node: self._peers.get(node) or _Peer() for node in ids if node != self.self_id}
        if list(peers) == list(self._peers):
            return
        self._peers = peers
        self._ring = Ring([self.self_id, *peers], self.limits.small_max, self.limits.watched_max)
        for node, known in peers.items():
            watched = self._ring.watches(self.self_id, node)
            if watched != known.watched:  # its silence so far was none, or is none of our business any more
                known.since_ms = self._clock_ms(now_ms) if watched and known.state is _UP else NEVER
                known.watched = watched
        self._watched = [node for node, known in peers.items() if known.watched]
        self._others = [node for node in self._ring.after(self.self_id) if not peers[node].watched]
        self._told = 0
        self.generation += 1

    def heard(self, peer: str, now_ms: int) -> None:
        """HOT. A message came from `peer` over its link: it is UP. Tables go through `merge`, which knows old ones."""
        known = self._peers.get(peer)
        if known is None:
            return
        known.heard_ms = (now_ms if now_ms < self._stands_ms else self._stands_ms) - self._lag_ms
        if known.state is not _UP:
            known.unlinked_ms = None
            known.failed = False
            self._enter(known, _UP)

    def link_lost(self, peer: str, now_ms: int) -> None:
        """The connection to `peer` broke: SUSPECT at once, DOWN soon unless it speaks or a witness has news of it."""
        known, clock_ms = self._peers.get(peer), self._clock_ms(now_ms)
        if known is not None:
            if known.unlinked_ms is None:  # the first evidence counts, or each retry would put off the verdict
                known.unlinked_ms = clock_ms
            self._judge(known, clock_ms)

    def link_refused(self, peer: str, now_ms: int) -> None:
        """A connection to `peer` could not be made: the same evidence as a link that broke."""
        self.link_lost(peer, now_ms)

    def request_failed(self, peer: str, now_ms: int) -> None:
        """A request to `peer` ran into its deadline: SUSPECT until its next message. Ignored while this node lags and
        for `suspect_after_ms` after: deadlines passed then because nobody was here to read the answers."""
        known = self._peers.get(peer)
        lagging = now_ms > self._stands_ms or now_ms - self._lagged_ms < self.limits.suspect_after_ms
        if known is not None and not lagging:
            known.failed = True
            self._judge(known, self._clock_ms(now_ms))

    def tick(self, now_ms: int) -> list[str]:
        """Age all suspicions, at least each `tick_interval_ms`. Returns the peers to send `table()` to now: each gossip
        interval some at random, and at any tick those whose silence calls for a question."""
        if now_ms > self._stands_ms:
            self._lag_ms += now_ms - self._stands_ms
            self._lagged_ms = now_ms
        self._stands_ms = now_ms + self.limits.tick_late_ms
        clock_ms = self._clock_ms(now_ms)
        unsure: list[tuple[str, _Peer]] = []  # all but those that we do not watch and have nothing against
        for node, known in self._peers.items():
            if known.watched or known.state is not _UP or known.blamed or known.since_ms > known.heard_ms:
                self._judge(known, clock_ms)
                unsure.append((node, known))
        chosen: list[str] = []
        overdue_ms, interval_ms = now_ms - self._gossip_due_ms, self.limits.gossip_interval_ms
        if overdue_ms >= 0:
            self._gossip_due_ms = now_ms + interval_ms - overdue_ms % interval_ms  # keeping its phase
            chosen = self._partners()
        chosen += [node for node, known in unsure if node not in chosen and self._doubts(known, clock_ms)]
        for node in chosen:
            known = self._peers[node]
            if not known.watched and known.since_ms <= known.heard_ms:
                known.since_ms = clock_ms
            known.asked_ms = clock_ms
        return chosen

    def table(self, to: str = "") -> list[TableEntry]:
        """What a gossip message to a peer carries: this node first, then its peers, or as many of them as may be: what is
        held of `to`, those watched, rumours, and the others in turn. Raises our heartbeat: each table is news."""
        self.heartbeat += 1
        table = [(self.self_id, self.incarnation, self.heartbeat, State.UP)]
        if not self._ring.is_wide:
            return table + [(node, *known.news, known.state) for node, known in self._peers.items()]
        peers = self._peers
        chosen = dict.fromkeys([to, *self._watched] if to in peers else self._watched)
        for node in self._rumours.take(self.limits.table_entries - 1 - len(chosen)):
            chosen[node] = None
        told, room = self._told, self.limits.table_entries - 1 - len(chosen)
        for node in self._others[told : told + room]:
            chosen[node] = None
        self._told = told + room if told + room < len(self._others) else 0
        deaf = 4 * sum(peers[node].state is _UP for node in self._watched) < len(self._watched)
        for node in chosen:
            known = peers.get(node)
            if known is not None and known.news[0]:
                state = State.DOWN if node == to and known.blamed else self._word_on(known, deaf)
                table.append((node, *known.news, state))
        return table

    def merge(self, table: Sequence[TableEntry], from_peer: str, now_ms: int) -> None:
        """A table came from `from_peer`. A newer heartbeat of a third node that the sender reaches is a sign of life; a
        table whose sender is not UP here and brings no news of itself is an old one, delivered late."""
        clock_ms = self._clock_ms(now_ms)
        for node, incarnation, heartbeat, state in table:
            if node == self.self_id:
                self._read_of_self(incarnation, heartbeat, state)
                continue
            known = self._peers.get(node)
            if known is None:
                continue
            if node != from_peer and not known.watched:
                self._hear_say(node, known, (incarnation, heartbeat), state, clock_ms)
                continue
            if node != from_peer and (state is not _UP or not self._ring.watches(from_peer, node)):
                known.blamed |= state is State.DOWN and 0 < incarnation == known.news[0]  # we only have it know that
                continue
            is_news = (incarnation, heartbeat) > known.news
            if is_news:
                self._learn(node, known, (incarnation, heartbeat))
            if node == from_peer and (is_news or known.state is _UP):
                self.heard(node, now_ms)
            elif is_news:
                known.relayed_ms = clock_ms
                if known.state is State.DOWN:
                    self._enter(known, State.SUSPECT)

    def state(self, peer: str) -> State:
        """The verdict on a node: UP for ourselves, DOWN for one that is no member."""
        known = self._peers.get(peer)
        return known.state if known is not None else _UP if peer == self.self_id else State.DOWN

    def is_live(self, peer: str) -> bool:
        """Whether requests should go to this node: it is UP."""
        known = self._peers.get(peer)
        return peer == self.self_id if known is None else known.state is _UP

    def is_speaking(self, peer: str, now_ms: int) -> bool:
        """Whether a node has spoken to us lately, or owes us no word. A lag of this node is no silence of its peers."""
        known = self._peers.get(peer)
        return known is not None and self._silence_ms(known, self._clock_ms(now_ms)) < self.limits.suspect_after_ms

    def _enter(self, known: _Peer, state: State) -> None:
        if state is not known.state:
            known.state = state
            self.generation += 1

    def _clock_ms(self, now_ms: int) -> int:
        return min(now_ms, self._stands_ms) - self._lag_ms

    def _judge(self, known: _Peer, clock_ms: int) -> None:
        unlinked_ago_ms = None if known.unlinked_ms is None else clock_ms - known.unlinked_ms
        silence_ms, relayed_ago_ms = self._silence_ms(known, clock_ms), clock_ms - known.relayed_ms
        limits = self.limits if known.watched else self._hearsay_limits
        verdict = judge(silence_ms, relayed_ago_ms, unlinked_ago_ms, known.failed, limits)
        if known.blamed and not known.watched and clock_ms - known.heard_ms >= limits.suspect_after_ms:
            verdict = State.DOWN
        self._enter(known, verdict)

    def _silence_ms(self, known: _Peer, clock_ms: int) -> int:
        """For how long a peer has owed us a word; for ever if nothing was heard of it yet, from anybody."""
        if known.watched:
            return clock_ms - max(known.heard_ms, known.since_ms)
        if known.since_ms > known.heard_ms:
            return clock_ms - known.since_ms
        return 0 if known.news[0] or known.heard_ms != NEVER else clock_ms - NEVER

    def _word_on(self, known: _Peer, deaf: bool) -> State:
        """What we tell others of a peer in a large cluster: a verdict of our own only if we watch it."""
        if not known.watched:
            return State.DOWN if known.blamed and known.state is State.DOWN else _UP
        if known.state is State.DOWN:
            if deaf:
                return State.SUSPECT
            known.blamed = True
        return known.state

    def _learn(self, node: str, known: _Peer, news: tuple[int, int]) -> None:
        """There is a newer heartbeat. A new incarnation is not to blame for the old one, and who knew that should know."""
        if news[0] > known.news[0] > 0 and self._ring.is_wide:
            known.blamed = False
            self._rumours.begin(node, self._ring.size)
        known.news = news

    def _hear_say(self, node: str, known: _Peer, news: tuple[int, int], state: State, clock_ms: int) -> None:
        """What a third node says of a peer that we do not watch."""
        if state is _UP and news > known.news:
            self._learn(node, known, news)
            known.relayed_ms = clock_ms
            if known.state is State.DOWN:
                self._judge(known, clock_ms)
        elif state is State.DOWN and news[0] > 0 and (news[0], 1) > (known.news[0], int(known.blamed)):
            if news > known.news:
                self._learn(node, known, news)
            known.blamed = True
            self._rumours.begin(node, self._ring.size)
            self._judge(known, clock_ms)

    def _partners(self) -> list[str]:
        """Whom to gossip with in this interval: `gossip_fanout` of those not DOWN, and of the DOWN as many as are left
        over, one at least, so that two halves of a cluster which hold each other for dead meet again."""
        dead = [node for node, known in self._peers.items() if known.state is State.DOWN]
        living = [node for node, known in self._peers.items() if known.state is not State.DOWN]
        if self._ring.is_wide and living and self._rng.randrange(len(living)) >= self.limits.watched_max * len(dead):
            dead = []  # or the few dead of a large cluster would be asked by all of it at once
        fanout = self.limits.gossip_fanout
        chosen = self._rng.sample(living, min(fanout, len(living)))
        return chosen + self._rng.sample(dead, min(max(1, fanout - len(chosen)), len(dead)))

    def _doubts(self, known: _Peer, clock_ms: int) -> bool:
        """Whether to ask a peer out of turn: a new one, or one falling silent; at gossip's pace when long unheard."""
        if known.asked_ms == NEVER and known.watched:
            return True
        silence_ms = self._silence_ms(known, clock_ms)
        if known.state is State.DOWN or (known.state is _UP and silence_ms < self.limits.probe_after_ms):
            return False
        long_silent = silence_ms >= self.limits.down_after_ms
        pause_ms = self.limits.gossip_interval_ms if long_silent else self.limits.probe_interval_ms
        return clock_ms - known.asked_ms >= pause_ms

    def _read_of_self(self, incarnation: int, heartbeat: int, state: State) -> None:
        """Somebody's entry about us. Whoever doubts the incarnation we live in, or remembers a later one, is answered
        with a new one: the only way to be news again to all who know the old."""
        doubted = state is not _UP and incarnation == self.incarnation
        if doubted or (incarnation, heartbeat) > (self.incarnation, self.heartbeat):
            self.incarnation = min(incarnation + 1, COUNTER_MAX)
