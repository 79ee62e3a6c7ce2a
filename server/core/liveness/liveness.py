"""The failure detector: which nodes are alive, as one node sees it. A pure table of messages, links and gossip.

Theory. "Is B alive?" contains two questions, and this table keeps them apart.

- *Can I use B?* Only what this node has heard itself counts, because a coordinator's requests use its own links. UP
  means that B sent a message lately and nothing has gone wrong since. Any message makes a peer UP at once. Silence, a
  broken or refused link, or a request past its deadline make it SUSPECT at once. Hearsay never makes a peer UP.
- *Is B dead?* Here witnesses count. A node's table contains its own heartbeat, which only the node itself raises.
  Suppose a node that holds B for UP brings a heartbeat of B that is newer than all we know. That proves that B lived a
  moment ago. While such news comes, a peer that we cannot reach stays SUSPECT: a cut between us and B is not B's death
  if C reaches both. Without such news it becomes DOWN. (Nodes that do not hold B for UP are no witnesses: they would
  pass a dead node's last heartbeats on to each other, and delay the verdict.)

`judge` is that rule as a pure function. No message of another node makes a peer's verdict worse.

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
has not answered. It is UP while nothing is known against it: no evidence of our own, and no *blame*. Blame is the
verdict DOWN of a watcher on an incarnation. It spreads through the cluster as a rumour, and a node that has not heard
the peer lately believes it. All nodes tell the blamed node, too. If it is alive, it refutes the blame by a higher
incarnation, which spreads in the same way. What does not spread: evidence against a peer that this node does not watch,
and suspicions, because one bad link is no news for others. And a node that hears hardly any of the peers it watches is
probably cut off itself: it blames no peer.
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
    """The times of the failure detector. Raises ValueError if they contradict each other."""

    suspect_after_ms: int = 2000  # silence towards us that makes a peer SUSPECT
    down_after_ms: int = 4000  # silence towards us that makes a peer DOWN, if no witness has news of it
    unlinked_down_after_ms: int = 2000  # the same after its link broke or was refused: it is dead rather than slow
    relayed_life_ms: int = 2000  # a newer heartbeat from a witness keeps a peer from DOWN for this time
    probe_after_ms: int = 1000  # a peer that is silent for this time gets a probe
    probe_interval_ms: int = 250  # pause between probes, until the peer is DOWN
    gossip_interval_ms: int = 1000
    gossip_fanout: int = 3
    tick_interval_ms: int = 250  # the caller must call `tick` at least this often
    tick_late_ms: int = 500  # if a tick is later than this, the rest of the silence counts as our own lag
    small_max: int = 17  # with up to so many members each node watches all others
    watched_max: int = 8  # peers that a node of a larger cluster watches
    table_entries: int = 32  # in a message of a large cluster: ourselves, the watched, rumours, others in turn
    hearsay_life_ms: int = 10_000  # as relayed_life_ms, for peers that are not watched: news of them is rarer

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
    """Returns the verdict on a peer. A broken link or failed request counts only if it came after the peer's last message.

    heard within `suspect_after_ms`, link not broken, no request failed    UP
    else: a witness had news within `relayed_life_ms`                      SUSPECT
    else: link broken for `unlinked_down_after_ms`                         DOWN
    else: silent for `down_after_ms`                                       DOWN
    else                                                                   SUSPECT
    """
    if heard_ago_ms < limits.suspect_after_ms and unlinked_ago_ms is None and not failed:
        return State.UP
    if relayed_ago_ms < limits.relayed_life_ms:
        return State.SUSPECT
    dead_link = unlinked_ago_ms is not None and unlinked_ago_ms >= limits.unlinked_down_after_ms
    return State.DOWN if dead_link or heard_ago_ms >= limits.down_after_ms else State.SUSPECT


class _Peer:
    """What is known of one peer. Times are on the table's clock, which does not advance while this node lags."""

    __slots__ = (
        "asked_ms", "blamed", "failed", "heard_ms", "news", "relayed_ms", "since_ms", "state", "unlinked_ms", "watched"
    )  # fmt: skip

    def __init__(self) -> None:
        self.state = State.DOWN
        self.watched = True
        self.blamed = False  # a watcher has said that it is DOWN in its present incarnation
        self.news = (0, 0)  # its newest (incarnation, heartbeat)
        self.heard_ms = self.relayed_ms = self.asked_ms = NEVER
        self.since_ms = NEVER  # its silence counts from here at the earliest; if not watched: our first open question
        self.unlinked_ms: int | None = None
        self.failed = False


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
        self._hearsay_limits = replace(limits, relayed_life_ms=limits.hearsay_life_ms)
        self._peers: dict[str, _Peer] = {}
        self._ring = Ring([self_id], limits.small_max, limits.watched_max)
        self._watched: list[str] = []
        self._others: list[str] = []  # those not watched, which our tables contain in turn
        self._next_other = 0  # index into `_others`
        self._rumours = Rumours()
        self._stands_ms = -NEVER  # from here on the table's clock does not advance until the next tick
        self._lag_ms = 0  # how long it has not advanced, in all
        self._lagged_ms = NEVER  # when that last happened
        self._gossip_due_ms = -rng.randrange(limits.gossip_interval_ms)  # a random phase: nodes must not gossip in step

    def set_members(self, ids: Sequence[str], now_ms: int) -> None:
        """Sets the members of the layout. Members that stay keep their state. New ones are DOWN until their first message;
        the next tick sends them a table."""
        peers = {node: self._peers.get(node) or _Peer() for node in ids if node != self.self_id}
        if list(peers) == list(self._peers):
            return
        self._peers = peers
        self._ring = Ring([self.self_id, *peers], self.limits.small_max, self.limits.watched_max)
        for node, known in peers.items():
            watched = self._ring.watches(self.self_id, node)
            if watched != known.watched:  # before, its silence meant nothing; or from now on it does not
                known.since_ms = self._clock_ms(now_ms) if watched and known.state is _UP else NEVER
                known.watched = watched
        self._watched = [node for node, known in peers.items() if known.watched]
        self._others = [node for node in self._ring.after(self.self_id) if not peers[node].watched]
        self._next_other = 0
        self.generation += 1

    def heard(self, peer: str, now_ms: int) -> None:
        """HOT. A message has come from `peer` over its link, so it is UP. For tables call `merge`: they may be old."""
        known = self._peers.get(peer)
        if known is None:
            return
        known.heard_ms = (now_ms if now_ms < self._stands_ms else self._stands_ms) - self._lag_ms
        if known.state is not _UP:
            known.unlinked_ms = None
            known.failed = False
            self._enter(known, _UP)

    def link_lost(self, peer: str, now_ms: int) -> None:
        """The connection to `peer` broke: it is SUSPECT at once, and soon DOWN, unless it or a witness brings news."""
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
        lagging = now_ms > self._stands_ms or now_ms - self._lagged_ms < self.limits.suspect_after_ms
        if known is not None and not lagging:
            known.failed = True
            self._update_verdict(known, self._clock_ms(now_ms))

    def tick(self, now_ms: int) -> list[str]:
        """Updates all verdicts, at least every `tick_interval_ms`. Returns the peers to send `table()` to: in each gossip
        interval some random ones, and in each tick those that need a probe."""
        if now_ms > self._stands_ms:
            self._lag_ms += now_ms - self._stands_ms
            self._lagged_ms = now_ms
        self._stands_ms = now_ms + self.limits.tick_late_ms
        clock_ms = self._clock_ms(now_ms)
        unsure: list[tuple[str, _Peer]] = []  # all watched peers, and others with something known against them
        for node, known in self._peers.items():
            if known.watched or known.state is not _UP or known.blamed or known.since_ms > known.heard_ms:
                self._update_verdict(known, clock_ms)
                unsure.append((node, known))
        chosen: list[str] = []
        overdue_ms, interval_ms = now_ms - self._gossip_due_ms, self.limits.gossip_interval_ms
        if overdue_ms >= 0:
            self._gossip_due_ms = now_ms + interval_ms - overdue_ms % interval_ms  # keeps its phase
            chosen = self._partners()
        chosen += [node for node, known in unsure if node not in chosen and self._needs_probe(known, clock_ms)]
        for node in chosen:
            known = self._peers[node]
            if not known.watched and known.since_ms <= known.heard_ms:
                known.since_ms = clock_ms
            known.asked_ms = clock_ms
        return chosen

    def table(self, to: str = "") -> list[TableEntry]:
        """Returns the table for a gossip message to peer `to`, and raises our heartbeat, so that each table is news.

        It has this node and all peers. In a large cluster: this node, `to`, the watched peers, rumours, and others in
        turn.
        """
        self.heartbeat += 1
        table = [(self.self_id, self.incarnation, self.heartbeat, State.UP)]
        if not self._ring.is_wide:
            return table + [(node, *known.news, known.state) for node, known in self._peers.items()]
        peers = self._peers
        chosen = dict.fromkeys([to, *self._watched] if to in peers else self._watched)
        for node in self._rumours.next_to_tell(self.limits.table_entries - 1 - len(chosen)):
            chosen[node] = None
        first, room = self._next_other, self.limits.table_entries - 1 - len(chosen)
        for node in self._others[first : first + room]:
            chosen[node] = None
        self._next_other = first + room if first + room < len(self._others) else 0
        deaf = 4 * sum(peers[node].state is _UP for node in self._watched) < len(self._watched)
        for node in chosen:
            known = peers.get(node)
            if known is not None and known.news[0]:
                state = State.DOWN if node == to and known.blamed else self._state_to_tell(known, deaf)
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
                self._apply_hearsay(node, known, (incarnation, heartbeat), state, clock_ms)
                continue
            if node != from_peer and (state is not _UP or not self._ring.watches(from_peer, node)):
                known.blamed |= state is State.DOWN and 0 < incarnation == known.news[0]  # our next table to it says so
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
        """Returns the verdict on a node: UP for this node, DOWN for one that is no member."""
        known = self._peers.get(peer)
        return known.state if known is not None else _UP if peer == self.self_id else State.DOWN

    def is_live(self, peer: str) -> bool:
        """Whether requests should go to this node: it is UP."""
        known = self._peers.get(peer)
        return peer == self.self_id if known is None else known.state is _UP

    def is_speaking(self, peer: str, now_ms: int) -> bool:
        """Whether a node has sent a message within `suspect_after_ms`, or had no reason to. Our own lag does not count."""
        known = self._peers.get(peer)
        return known is not None and self._silence_ms(known, self._clock_ms(now_ms)) < self.limits.suspect_after_ms

    def _enter(self, known: _Peer, state: State) -> None:
        if state is not known.state:
            known.state = state
            self.generation += 1

    def _clock_ms(self, now_ms: int) -> int:
        return min(now_ms, self._stands_ms) - self._lag_ms

    def _update_verdict(self, known: _Peer, clock_ms: int) -> None:
        unlinked_ago_ms = None if known.unlinked_ms is None else clock_ms - known.unlinked_ms
        silence_ms, relayed_ago_ms = self._silence_ms(known, clock_ms), clock_ms - known.relayed_ms
        limits = self.limits if known.watched else self._hearsay_limits
        verdict = judge(silence_ms, relayed_ago_ms, unlinked_ago_ms, known.failed, limits)
        if known.blamed and not known.watched and clock_ms - known.heard_ms >= limits.suspect_after_ms:
            verdict = State.DOWN
        self._enter(known, verdict)

    def _silence_ms(self, known: _Peer, clock_ms: int) -> int:
        """Returns how long a peer has been silent while a message was due; very long if nothing was ever heard of it."""
        if known.watched:
            return clock_ms - max(known.heard_ms, known.since_ms)
        if known.since_ms > known.heard_ms:
            return clock_ms - known.since_ms
        return 0 if known.news[0] or known.heard_ms != NEVER else clock_ms - NEVER

    def _state_to_tell(self, known: _Peer, deaf: bool) -> State:
        """Returns the state of a peer for our tables in a large cluster. Only for a watched peer it is our own verdict."""
        if not known.watched:
            return State.DOWN if known.blamed and known.state is State.DOWN else _UP
        if known.state is State.DOWN:
            if deaf:
                return State.SUSPECT
            known.blamed = True
        return known.state

    def _learn(self, node: str, known: _Peer, news: tuple[int, int]) -> None:
        """Stores a newer heartbeat. A new incarnation ends the blame of the old one, and spreads as a rumour."""
        if news[0] > known.news[0] > 0 and self._ring.is_wide:
            known.blamed = False
            self._rumours.add(node, self._ring.size)
        known.news = news

    def _apply_hearsay(self, node: str, known: _Peer, news: tuple[int, int], state: State, clock_ms: int) -> None:
        """Applies an entry of a third node about a peer that we do not watch."""
        if state is _UP and news > known.news:
            self._learn(node, known, news)
            known.relayed_ms = clock_ms
            if known.state is State.DOWN:
                self._update_verdict(known, clock_ms)
        elif state is State.DOWN and news[0] > 0 and (news[0], 1) > (known.news[0], int(known.blamed)):
            if news > known.news:
                self._learn(node, known, news)
            known.blamed = True
            self._rumours.add(node, self._ring.size)
            self._update_verdict(known, clock_ms)

    def _partners(self) -> list[str]:
        """Returns random peers for this gossip interval: `gossip_fanout` of those not DOWN, and one DOWN peer or more,
        so that two halves of a cluster that believe each other dead find each other again."""
        dead = [node for node, known in self._peers.items() if known.state is State.DOWN]
        living = [node for node, known in self._peers.items() if known.state is not State.DOWN]
        if self._ring.is_wide and living and self._rng.randrange(len(living)) >= self.limits.watched_max * len(dead):
            dead = []  # otherwise all nodes of a large cluster would ask its few dead ones at once
        fanout = self.limits.gossip_fanout
        chosen = self._rng.sample(living, min(fanout, len(living)))
        return chosen + self._rng.sample(dead, min(max(1, fanout - len(chosen)), len(dead)))

    def _needs_probe(self, known: _Peer, clock_ms: int) -> bool:
        """Whether to probe a peer: a new one, or one that is silent; if it has long been silent, at the rate of gossip."""
        if known.asked_ms == NEVER and known.watched:
            return True
        silence_ms = self._silence_ms(known, clock_ms)
        if known.state is State.DOWN or (known.state is _UP and silence_ms < self.limits.probe_after_ms):
            return False
        long_silent = silence_ms >= self.limits.down_after_ms
        pause_ms = self.limits.gossip_interval_ms if long_silent else self.limits.probe_interval_ms
        return clock_ms - known.asked_ms >= pause_ms

    def _read_own_entry(self, incarnation: int, heartbeat: int, state: State) -> None:
        """Reads another node's entry about this node. If it doubts our incarnation, or knows a later one, we take a new
        incarnation: only that is news to all nodes."""
        doubted = state is not _UP and incarnation == self.incarnation
        if doubted or (incarnation, heartbeat) > (self.incarnation, self.heartbeat):
            self.incarnation = min(incarnation + 1, COUNTER_MAX)
