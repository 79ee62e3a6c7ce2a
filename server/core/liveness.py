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
"""

from __future__ import annotations

import enum
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

TABLE_ENTRIES_MAX = 1024
COUNTER_MAX = 10**18 - 1
NEVER = -(1 << 62)  # a time before every other, far enough that any silence since then is long


class State(enum.Enum):
    """UP: reached directly. SUSPECT: not to be relied on. DOWN: no sign of life, from anybody."""

    UP = "up"
    SUSPECT = "suspect"
    DOWN = "down"


_UP = State.UP
_ENTRY = re.compile(rb"([^ ]{1,128}) (\d{1,18}) (\d{1,18}) (up|suspect|down)(?: .*)?", re.DOTALL)

TableEntry = tuple[str, int, int, State]  # (node id, incarnation, heartbeat, the sender's verdict)


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

    def __post_init__(self) -> None:
        if not 0 < self.probe_after_ms < self.suspect_after_ms < self.down_after_ms:
            raise ValueError("liveness needs 0 < probe_after_ms < suspect_after_ms < down_after_ms")
        if not 0 < self.tick_interval_ms < self.tick_late_ms or self.gossip_interval_ms < 1 or self.gossip_fanout < 1:
            raise ValueError("liveness needs 0 < tick_interval_ms < tick_late_ms, and gossip")


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


class PeerStatus(NamedTuple):
    """One peer, for status displays."""

    state: State
    last_heard_ms: int | None  # None before its first message; later than it was by any lag of ours since
    incarnation: int


class _Peer:
    """What is known of one peer. Times are on the table's own clock, which stands still while this node lags."""

    __slots__ = ("asked_ms", "failed", "heard_ms", "news", "relayed_ms", "state", "unlinked_ms")

    def __init__(self) -> None:
        self.state = State.DOWN
        self.news = (0, 0)  # the newest (incarnation, heartbeat)
        self.heard_ms = self.relayed_ms = self.asked_ms = NEVER
        self.unlinked_ms: int | None = None
        self.failed = False


class Liveness:
    """The table of one node. `now_ms` is monotonic; ids that are not members are ignored everywhere.

    The caller sends `table()` to each peer that `tick` names, answers a table that was no answer itself with its own
    (push-pull), and reports what its links and requests meet. `generation` grows with every change of a state or of
    the members, for caches to key on.
    """

    def __init__(self, self_id: str, incarnation: int, limits: LivenessLimits, rng: random.Random) -> None:
        self.self_id = self_id
        self.incarnation = incarnation
        self.heartbeat = self.generation = 0
        self.limits = limits
        self._rng = rng
        self._peers: dict[str, _Peer] = {}
        self._tick_due_ms = 0
        self._stands_ms = -NEVER  # from here on our clock stands still until the next tick
        self._lag_ms = 0  # for how long it has stood still so far
        self._lagged_ms = NEVER  # when it last did
        self._gossip_due_ms = -rng.randrange(limits.gossip_interval_ms)  # no two nodes in step, though clocks may be

    def set_members(self, ids: Sequence[str], now_ms: int) -> None:
        """The members of the layout, with or without this node. Those that stay keep what is known of them. New ones
        are DOWN until their first message (nobody is believed up unheard); the next tick, whenever it is, asks them."""
        peers = {node: self._peers.get(node) or _Peer() for node in ids if node != self.self_id}
        if list(peers) != list(self._peers):
            self._peers = peers
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
        self._tick_due_ms = now_ms + self.limits.tick_interval_ms
        self._stands_ms = now_ms + self.limits.tick_late_ms
        clock_ms = self._clock_ms(now_ms)
        for known in self._peers.values():
            self._judge(known, clock_ms)
        chosen: list[str] = []
        overdue_ms, interval_ms = now_ms - self._gossip_due_ms, self.limits.gossip_interval_ms
        if overdue_ms >= 0:
            self._gossip_due_ms = now_ms + interval_ms - overdue_ms % interval_ms  # keeping its phase
            chosen = self._partners()
        chosen += [node for node, known in self._peers.items() if node not in chosen and self._doubts(known, clock_ms)]
        for node in chosen:
            self._peers[node].asked_ms = clock_ms
        return chosen

    def next_deadline_ms(self) -> int:
        """When `tick` is wanted next, at the latest. Later calls are taken for a lag of this node, if by much."""
        return self._tick_due_ms

    def table(self) -> list[TableEntry]:
        """What a gossip message carries: this node first, then its peers. Raises our heartbeat: each table is news."""
        self.heartbeat += 1
        table = [(self.self_id, self.incarnation, self.heartbeat, State.UP)]
        table += [(node, *known.news, known.state) for node, known in self._peers.items()]
        return table

    def merge(self, table: Sequence[TableEntry], from_peer: str, now_ms: int) -> None:
        """A table came from `from_peer`. A newer heartbeat of a third node that the sender reaches is a sign of life; a
        table whose sender is not UP here and brings no news of itself is an old one, delivered late."""
        for node, incarnation, heartbeat, state in table:
            if node == self.self_id:
                self._read_of_self(incarnation, heartbeat, state)
                continue
            known = self._peers.get(node)
            if known is None or (state is not _UP and node != from_peer):
                continue
            is_news = (incarnation, heartbeat) > known.news
            if is_news:
                known.news = (incarnation, heartbeat)
            if node == from_peer and (is_news or known.state is _UP):
                self.heard(node, now_ms)
            elif is_news:
                known.relayed_ms = self._clock_ms(now_ms)
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

    def snapshot(self) -> dict[str, PeerStatus]:
        """What is known of each peer, in the order of the members."""
        status = {}
        for node, known in self._peers.items():
            last_heard_ms = None if known.heard_ms == NEVER else known.heard_ms + self._lag_ms
            status[node] = PeerStatus(known.state, last_heard_ms, known.news[0])
        return status

    def _enter(self, known: _Peer, state: State) -> None:
        if state is not known.state:
            known.state = state
            self.generation += 1

    def _clock_ms(self, now_ms: int) -> int:
        return min(now_ms, self._stands_ms) - self._lag_ms

    def _judge(self, known: _Peer, clock_ms: int) -> None:
        unlinked_ago_ms = None if known.unlinked_ms is None else clock_ms - known.unlinked_ms
        heard_ago_ms, relayed_ago_ms = clock_ms - known.heard_ms, clock_ms - known.relayed_ms
        self._enter(known, judge(heard_ago_ms, relayed_ago_ms, unlinked_ago_ms, known.failed, self.limits))

    def _partners(self) -> list[str]:
        """Whom to gossip with in this interval: `gossip_fanout` of those not DOWN, and of the DOWN as many as are left
        over, one at least, so that two halves of a cluster which hold each other for dead meet again."""
        dead = [node for node, known in self._peers.items() if known.state is State.DOWN]
        living = [node for node in self._peers if node not in dead]
        fanout = self.limits.gossip_fanout
        chosen = self._rng.sample(living, min(fanout, len(living)))
        return chosen + self._rng.sample(dead, min(max(1, fanout - len(chosen)), len(dead)))

    def _doubts(self, known: _Peer, clock_ms: int) -> bool:
        """Whether to ask a peer out of turn: a new one, or one falling silent; at gossip's pace when long unheard."""
        if known.asked_ms == NEVER:
            return True
        silence_ms = clock_ms - known.heard_ms
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


def encode_table(table: Sequence[TableEntry]) -> list[bytes]:
    """One item an entry: id, incarnation, heartbeat and state between single spaces; no id may hold a space."""
    return [f"{node} {incarnation} {beat} {state.value}".encode() for node, incarnation, beat, state in table]


def decode_table(items: Sequence[bytes]) -> list[TableEntry]:
    """The table that `encode_table` made; further fields of an entry are left to later versions. Raises ValueError."""
    if len(items) > TABLE_ENTRIES_MAX:
        raise ValueError(f"gossip table of {len(items)} entries, at most {TABLE_ENTRIES_MAX} are allowed")
    table = []
    for item in items:
        match = _ENTRY.fullmatch(item)
        if match is None:
            raise ValueError(f"malformed gossip entry {item[:64]!r}")
        node, incarnation, heartbeat, state = match.groups()
        table.append((node.decode(), int(incarnation), int(heartbeat), State(state.decode())))
    return table
