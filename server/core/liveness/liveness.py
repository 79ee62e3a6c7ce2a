"""The failure detector: which nodes are alive, as one node sees it. A pure table of messages, links and gossip.

Theory. "Is B alive?" contains two questions, and this table keeps them apart.

- *Can I use B?* Only B's own messages to this node count, because a coordinator's requests use its own links. UP means
  that B sent a message lately and nothing has gone wrong since. Any message of B makes B UP at once. Silence, a broken or
  refused link, or a request past its deadline make it SUSPECT at once. Messages of other nodes never make B UP.
- *Is B dead?* Here the messages of other nodes count. A node's table contains its own heartbeat, which only the node
  itself raises. A *witness* of B is a node that holds B for UP. If a witness sends us a heartbeat of B that is newer than
  all that we know, B was alive a moment ago: that is an *indirect* heartbeat. While such heartbeats come, a peer that we
  cannot reach stays SUSPECT: the network between us and B is cut, but C reaches both. Without them B becomes DOWN. (A node
  that does not hold B for UP is no witness: such nodes would pass a dead node's last heartbeats on to each other, and
  delay the verdict.)

`judge` is that rule as a pure function (verdict.py). No message of another node makes a peer's verdict worse.

News is ordered by (incarnation, heartbeat), and only strictly newer news counts. So a late table revives no node. A
restart has a higher incarnation (the wall clock at its start). A node raises its own incarnation if it reads that it is
suspect, or reads a newer incarnation of itself (its clock was set back). That happens a few times a second at most, and
the clock makes a thousand incarnations a second. So the next restart is still higher. (Das et al., "SWIM", 2002, 4.2;
van Renesse, "A Gossip-Style Failure Detection Service", 1998)

Probe before suspicion. A peer that is silent for `probe_after_ms` is sent a table at once, and answers it. So silence
means unanswered questions, also in a cluster that is larger than the fanout. And because every pair then talks about
once a second, the last heartbeats of a dead node soon stop to be news.

A node that is slow itself trusts its suspicions less (Dadgar et al., "Lifeguard", 2017). Silence is measured on a clock
that does not advance while the next `tick` is late. So after a pause of this process its peers are hardly more silent
than before. Requests that expired during the pause are no evidence against them.

Large clusters. With more than `small_max` members no node can talk to all others (gossip_table.py). A node *watches*
some peers; it judges these as above, and their other watchers are its witnesses. Any other peer need not send us
anything until we ask it (as a random partner, or by a request). So its silence begins with our first question that it
has not answered. It is UP while nothing is known against it: no evidence of our own, and no *report*. A report says that
a watcher holds an incarnation of the peer for DOWN. Reports spread through the cluster as rumours. A node that got no
message of the peer lately believes a report. All nodes pass the report on to the peer itself, too. If the peer is alive,
it refutes the report by a higher incarnation, which spreads in the same way. Two things do not spread: evidence against a
peer that this node does not watch, and suspicions, because one bad link is no news for others. And a node that gets
messages of hardly any of the peers that it watches is probably cut off itself: it reports no peer.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from server.core.liveness.gossip_table import (
    COUNTER_MAX,
    PeerState,
    Ring,
    Rumours,
    TableEntry,
    decode_table,
    encode_table,
)
from server.core.liveness.verdict import LivenessLimits, judge

__all__ = ["COUNTER_MAX", "Liveness", "LivenessLimits", "PeerState", "decode_table", "encode_table", "judge"]

TRIES_MAX = 64  # to find partners that are not DOWN
NEVER = -(1 << 62)  # a time before every other, far enough that any silence since then is long
_UP = PeerState.UP


class _Peer:
    """What is known of one peer. Times are on the table's clock, which does not advance while this node lags."""

    __slots__ = (
        "asked_ms", "failed", "indirect_ms", "last_message_ms", "news", "node", "reported_down", "since_ms", "state",
        "unlinked_ms", "watched",
    )  # fmt: skip

    def __init__(self, node: str) -> None:
        self.node = node
        self.state = PeerState.DOWN
        self.watched = True
        self.reported_down = False  # a watcher has reported that it is DOWN in its present incarnation
        self.news = (0, 0)  # its newest (incarnation, heartbeat)
        self.last_message_ms = self.indirect_ms = self.asked_ms = NEVER
        self.since_ms = NEVER  # its silence counts from here at the earliest; if not watched: our first open question
        self.unlinked_ms: int | None = None
        self.failed = False

    def is_doubtful(self) -> bool:
        """Whether there is something against it, or a question that it has not answered."""
        return self.state is not _UP or self.reported_down or self.since_ms > self.last_message_ms


class Liveness:
    """The failure detector of one node. `now_ms` is monotonic; ids that are not members are ignored.

    The caller sends `table(peer)` to each peer that `tick` returns. It answers each received table with its own, unless
    that table was an answer (push-pull). It reports messages, broken links and failed requests. `generation` grows with
    every change of a state or of the members; caches use it as their key.
    """

    def __init__(self, self_id: str, incarnation: int, limits: LivenessLimits, rng: random.Random) -> None:
        self.self_id = self_id
        self.incarnation = incarnation
        self.heartbeat = self.generation = 0
        self.limits = limits
        self._rng = rng
        self._unwatched_limits = replace(limits, indirect_ms_max=limits.indirect_ms_max_unwatched)
        self._peers: dict[str, _Peer] = {}
        self._ring = Ring([self_id], limits.small_max, limits.watched_max)
        self._watched: list[str] = []
        self._doubted: dict[str, _Peer] = {}  # those not watched that may be doubtful: others are not looked at
        self._others: list[str] = []  # those not watched, which our tables contain in turn
        self._next_other = 0  # index into `_others`
        self._all: list[str] = []
        self._rumours = Rumours()
        self._stops_ms = -NEVER  # from here on the table's clock does not advance until the next tick
        self._lag_ms = 0  # how long it has not advanced, in all
        self._lagged_ms = NEVER  # when that last happened
        self._gossip_due_ms = -rng.randrange(limits.gossip_interval_ms)  # a random phase: nodes must not gossip in step

    def set_members(self, ids: Sequence[str], now_ms: int) -> None:
        """Sets the members of the layout. Members that stay keep their state. New ones are DOWN until their first message;
        the next tick sends them a table."""
        peers = {node: self._peers.get(node) or _Peer(node) for node in ids if node != self.self_id}
        if list(peers) == list(self._peers):
            return
        self._peers = peers
        self._all = list(peers)
        self._ring = Ring([self.self_id, *peers], self.limits.small_max, self.limits.watched_max)
        for node, known in peers.items():
            watched = self._ring.watches(self.self_id, node)
            if watched != known.watched:  # before, its silence meant nothing; or from now on it does not
                known.since_ms = self._clock_ms(now_ms) if watched and known.state is _UP else NEVER
                known.watched = watched
        self._watched = [node for node, known in peers.items() if known.watched]
        self._doubted = {node: known for node, known in peers.items() if not known.watched and known.is_doubtful()}
        self._others = [node for node in self._ring.after(self.self_id) if not peers[node].watched]
        self._next_other = 0
        self.generation += 1

    @property
    def is_wide(self) -> bool:
        """Whether the cluster is so large that each node watches a few others only."""
        return self._ring.is_wide

    def message_received(self, peer: str, now_ms: int) -> None:
        """HOT. A message has come from `peer` over its link, so it is UP. For tables call `merge`: they may be old."""
        known = self._peers.get(peer)
        if known is None:
            return
        known.last_message_ms = (now_ms if now_ms < self._stops_ms else self._stops_ms) - self._lag_ms
        if known.state is not _UP:
            known.unlinked_ms = None
            known.failed = False
            self._enter(known, _UP)

    def link_lost(self, peer: str, now_ms: int) -> None:
        """The connection to `peer` broke: it is SUSPECT at once, and soon DOWN unless a heartbeat of it comes."""
        known, clock_ms = self._peers.get(peer), self._clock_ms(now_ms)
        if known is not None:
            if known.unlinked_ms is None:  # the first break counts; otherwise each retry would delay the verdict
                known.unlinked_ms = clock_ms
            self._update_verdict(known, clock_ms)

    def link_refused(self, peer: str, now_ms: int) -> None:
        """A connection to `peer` could not be made. That counts as a broken connection."""
        self.link_lost(peer, now_ms)

    def request_failed(self, peer: str, now_ms: int) -> None:
        """A request to `peer` reached its deadline: SUSPECT until its next message. Ignored while this node lags, and for
        `suspect_after_ms` afterwards: then deadlines passed because this node did not read the answers."""
        known = self._peers.get(peer)
        lagging = now_ms > self._stops_ms or now_ms - self._lagged_ms < self.limits.suspect_after_ms
        if known is not None and not lagging:
            known.failed = True
            self._update_verdict(known, self._clock_ms(now_ms))

    def tick(self, now_ms: int) -> list[str]:
        """Updates all verdicts, at least every `tick_interval_ms`. Returns the peers to send `table()` to: in each gossip
        interval some random ones, and in each tick those that need a probe."""
        if now_ms > self._stops_ms:
            self._lag_ms += now_ms - self._stops_ms
            self._lagged_ms = now_ms
        self._stops_ms = now_ms + self.limits.tick_late_ms
        clock_ms = self._clock_ms(now_ms)
        doubtful: list[tuple[str, _Peer]] = []  # all watched peers, and others with evidence against them
        for node in self._watched:
            known = self._peers[node]
            self._update_verdict(known, clock_ms)
            doubtful.append((node, known))
        for node, known in list(self._doubted.items()):
            if known.is_doubtful():
                self._update_verdict(known, clock_ms)
                doubtful.append((node, known))
            else:
                del self._doubted[node]
        chosen: list[str] = []
        overdue_ms, interval_ms = now_ms - self._gossip_due_ms, self.limits.gossip_interval_ms
        if overdue_ms >= 0:
            self._gossip_due_ms = now_ms + interval_ms - overdue_ms % interval_ms  # keeps its phase
            chosen = self._partners()
        chosen += [node for node, known in doubtful if node not in chosen and self._needs_probe(known, clock_ms)]
        for node in chosen:
            known = self._peers[node]
            if not known.watched and known.since_ms <= known.last_message_ms:
                known.since_ms = clock_ms
                self._doubted[node] = known
            known.asked_ms = clock_ms
        return chosen

    def table(self, to: str = "") -> list[TableEntry]:
        """Returns the table for a gossip message to peer `to`, and raises our heartbeat, so that each table is news.

        It has this node and all peers. In a large cluster: this node, `to`, the watched peers, rumours, and others in
        turn.
        """
        self.heartbeat += 1
        table = [(self.self_id, self.incarnation, self.heartbeat, PeerState.UP)]
        if not self._ring.is_wide:
            return table + [(node, *known.news, known.state) for node, known in self._peers.items()]
        peers = self._peers
        chosen = dict.fromkeys([to, *self._watched] if to in peers else self._watched)
        for node in self._rumours.next_to_send(self.limits.table_entries - 1 - len(chosen)):
            chosen[node] = None
        first, room = self._next_other, self.limits.table_entries - 1 - len(chosen)
        for node in self._others[first : first + room]:
            chosen[node] = None
        self._next_other = first + room if first + room < len(self._others) else 0
        is_cut_off = 4 * sum(peers[node].state is _UP for node in self._watched) < len(self._watched)
        for node in chosen:
            known = peers.get(node)
            if known is not None and known.news[0]:
                state = PeerState.DOWN if node == to and known.reported_down else self._state_to_send(known, is_cut_off)
                table.append((node, *known.news, state))
        return table

    def merge(self, table: Sequence[TableEntry], from_peer: str, now_ms: int) -> None:
        """Merges a table of `from_peer`. A newer heartbeat of a third node is a sign of life if the sender holds it for UP.
        If the sender is not UP here, and the table has no news of the sender itself, it is old and was delivered late."""
        clock_ms = self._clock_ms(now_ms)
        for node, incarnation, heartbeat, state in table:
            if node == self.self_id:
                self._read_own_entry(incarnation, heartbeat, state)
                continue
            known = self._peers.get(node)
            if known is None:
                continue
            if node != from_peer and not known.watched:
                self._merge_unwatched(node, known, (incarnation, heartbeat), state, clock_ms)
                continue
            if node != from_peer and (state is not _UP or not self._ring.watches(from_peer, node)):
                known.reported_down |= (
                    state is PeerState.DOWN and 0 < incarnation == known.news[0]
                )  # our next table to it says so
                continue
            is_news = (incarnation, heartbeat) > known.news
            if is_news:
                self._learn(node, known, (incarnation, heartbeat))
            if node == from_peer and (is_news or known.state is _UP):
                self.message_received(node, now_ms)
            elif is_news:
                known.indirect_ms = clock_ms
                if known.state is PeerState.DOWN:
                    self._enter(known, PeerState.SUSPECT)

    def state(self, peer: str) -> PeerState:
        """Returns the verdict on a node: UP for this node, DOWN for one that is no member."""
        known = self._peers.get(peer)
        return known.state if known is not None else _UP if peer == self.self_id else PeerState.DOWN

    def is_live(self, peer: str) -> bool:
        """Whether requests should go to this node: it is UP."""
        known = self._peers.get(peer)
        return peer == self.self_id if known is None else known.state is _UP

    def is_speaking(self, peer: str, now_ms: int) -> bool:
        """Whether a node has sent a message within `suspect_after_ms`, or had no reason to. Our own lag does not count."""
        known = self._peers.get(peer)
        return known is not None and self._silence_ms(known, self._clock_ms(now_ms)) < self.limits.suspect_after_ms

    def is_heard(self, peer: str, within_ms: int, now_ms: int) -> bool:
        """Whether a message of this peer has come within that time, or may have come while this node lagged."""
        known = self._peers.get(peer)
        return known is None or self._clock_ms(now_ms) - known.last_message_ms <= within_ms

    def _enter(self, known: _Peer, state: PeerState) -> None:
        if state is not known.state:
            known.state = state
            self.generation += 1
            if state is not _UP and not known.watched:
                self._doubted[known.node] = known

    def _clock_ms(self, now_ms: int) -> int:
        return min(now_ms, self._stops_ms) - self._lag_ms

    def _update_verdict(self, known: _Peer, clock_ms: int) -> None:
        unlinked_ago_ms = None if known.unlinked_ms is None else clock_ms - known.unlinked_ms
        silence_ms, indirect_ago_ms = self._silence_ms(known, clock_ms), clock_ms - known.indirect_ms
        limits = self.limits if known.watched else self._unwatched_limits
        verdict = judge(silence_ms, indirect_ago_ms, unlinked_ago_ms, known.failed, limits)
        if known.reported_down and not known.watched and clock_ms - known.last_message_ms >= limits.suspect_after_ms:
            verdict = PeerState.DOWN
        self._enter(known, verdict)

    def _silence_ms(self, known: _Peer, clock_ms: int) -> int:
        """Returns how long a peer has been silent while a message was due; very long if it has never sent one."""
        if known.watched:
            return clock_ms - max(known.last_message_ms, known.since_ms)
        if known.since_ms > known.last_message_ms:
            return clock_ms - known.since_ms
        return 0 if known.news[0] or known.last_message_ms != NEVER else clock_ms - NEVER

    def _state_to_send(self, known: _Peer, is_cut_off: bool) -> PeerState:
        """Returns the state of a peer for our tables in a large cluster. Only for a watched peer it is our own verdict."""
        if not known.watched:
            return PeerState.DOWN if known.reported_down and known.state is PeerState.DOWN else _UP
        if known.state is PeerState.DOWN:
            if is_cut_off:
                return PeerState.SUSPECT
            known.reported_down = True
        return known.state

    def _learn(self, node: str, known: _Peer, news: tuple[int, int]) -> None:
        """Stores a newer heartbeat. A new incarnation voids a report on the old one, and spreads as a rumour."""
        if news[0] > known.news[0] > 0 and self._ring.is_wide:
            known.reported_down = False
            self._rumours.add(node, self._ring.size)
        known.news = news

    def _merge_unwatched(self, node: str, known: _Peer, news: tuple[int, int], state: PeerState, clock_ms: int) -> None:
        """Merges an entry about a peer that we do not watch, from another node."""
        if state is _UP and news > known.news:
            self._learn(node, known, news)
            known.indirect_ms = clock_ms
            if known.state is PeerState.DOWN:
                self._update_verdict(known, clock_ms)
        elif state is PeerState.DOWN and news[0] > 0 and (news[0], 1) > (known.news[0], int(known.reported_down)):
            if news > known.news:
                self._learn(node, known, news)
            known.reported_down = True
            self._doubted[node] = known
            self._rumours.add(node, self._ring.size)
            self._update_verdict(known, clock_ms)

    def _partners(self) -> list[str]:
        """Returns random peers for this gossip interval: `gossip_fanout` of those not DOWN, and one DOWN peer or more,
        so that two halves of a cluster that believe each other dead find each other again."""
        if self._ring.is_wide:
            return self._partners_of_many()
        dead = [node for node, known in self._peers.items() if known.state is PeerState.DOWN]
        living = [node for node, known in self._peers.items() if known.state is not PeerState.DOWN]
        chosen = self._rng.sample(living, min(self.limits.gossip_fanout, len(living)))
        return chosen + self._rng.sample(dead, min(max(1, self.limits.gossip_fanout - len(chosen)), len(dead)))

    def _partners_of_many(self) -> list[str]:
        """The same in a large cluster, without a look at all members. A dead one is asked rarely: otherwise all nodes
        would ask the few dead ones at once."""
        rng, peers, fanout = self._rng, self._peers, self.limits.gossip_fanout
        dead = [node for node in [*self._watched, *self._doubted] if peers[node].state is PeerState.DOWN]
        living = len(peers) - len(dead)
        chosen: dict[str, None] = {}
        for _ in range(TRIES_MAX):
            if len(chosen) == min(fanout, living):
                break
            node = self._all[rng.randrange(len(self._all))]
            if peers[node].state is not PeerState.DOWN:
                chosen[node] = None
        if living and rng.randrange(living) >= self.limits.watched_max * len(dead):
            dead = []
        return [*chosen, *rng.sample(dead, min(max(1, fanout - len(chosen)), len(dead)))]

    def _needs_probe(self, known: _Peer, clock_ms: int) -> bool:
        """Whether to probe a peer: a new one, or one that is silent; if it has long been silent, at the rate of gossip."""
        if known.asked_ms == NEVER and known.watched:
            return True
        silence_ms = self._silence_ms(known, clock_ms)
        if known.state is PeerState.DOWN or (known.state is _UP and silence_ms < self.limits.probe_after_ms):
            return False
        long_silent = silence_ms >= self.limits.down_after_ms
        pause_ms = self.limits.gossip_interval_ms if long_silent else self.limits.probe_interval_ms
        return clock_ms - known.asked_ms >= pause_ms

    def _read_own_entry(self, incarnation: int, heartbeat: int, state: PeerState) -> None:
        """Reads another node's entry about this node. If it doubts our incarnation, or knows a later one, we take a new
        incarnation: only that is news to all nodes."""
        doubted = state is not _UP and incarnation == self.incarnation
        if doubted or (incarnation, heartbeat) > (self.incarnation, self.heartbeat):
            self.incarnation = min(incarnation + 1, COUNTER_MAX)
