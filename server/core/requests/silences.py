"""How long a coordinator may be silent until it is given up: what two nodes agree on, and follow.

Theory. A node that waits for a silent coordinator (SIGSTOP, a paused machine) should give it up soon, and one that waits
for a slow coordinator should not: a second coordinator beside a live one can lose acknowledged writes. `relay_silence_ms`
(1,500) suits a machine that stalls. A machine that is well is never silent for so long. So the limit follows what is
measured, as in an accrual failure detector (Hayashibara et al., "The phi accrual failure detector", 2004): it is `_FACTOR`
times the longest stall and the longest round trip lately (base/longest.py), at least `relay_silence_ms_min` and at most
`relay_silence_ms`. Under fsync `always` it is `relay_silence_ms`, as the messages of a turn wait for the disk.

A limit is safe only if the coordinator *fences* itself by a shorter one: after a pause, it must not write by what it has
read before, and must not run relays that were sent before (base/pauses.py, relays.py). Its own limit for that is two thirds
of the silence limit, and at most `relay_stale_ms`. The rest is for what its clock does not see: the way of a message, and
the time from one tick to the next. So both sides must agree, also while the limit changes. The coordinator knows its
stalls first, so it decides:

    the coordinator                                        the other nodes
    lowers the limit: fences itself by the lower one       on SILENCE: give it up by the new limit, and answer HEEDED
    at once, then sends SILENCE
    raises it: sends SILENCE, and fences itself by the
    higher one when HEEDED has come

A node that has never sent SILENCE over its present link is given up after `relay_silence_ms`: one of an earlier version,
or one that has just begun. A peer that is not live by our table (SUSPECT, DOWN) does not count for the pauses, so that it
cannot keep the limit low for the others. It has given us up already, or it is frozen itself, and then asks anew before it
judges anybody, as the next paragraph says.

Silence counts only while a question is open. In each tick a node looks at the peers that owe it replies to relays. Who has
sent something since the last question is asked another one (TIME, which is answered in the same turn and overtakes large
messages). A peer is *silent* if nothing at all has come for its limit since a question. If the node's own tick is late, it
may have stood still itself, and the answers may lie in its sockets: then all questions are asked anew.

One bad path is no silence. If a question has no answer at the next tick, the node asks others (ISALIVE) whether the
peer answers them. Those that are near it say at once that the question has come. They ask the peer (TIME), and say so
if it answers (both ALIVE). A peer is given up early only if some node has said that the question has come, and none
that the peer answers. So a node that is cut off itself gives up nobody early, and a cluster of two nodes knows no early
way. (Das et al., "SWIM", 2002, 3.1.)

What is given up early is less than what is given up after `relay_silence_ms`:

- A command that must not run twice (INCR, SET NX) goes on waiting. If the coordinator goes on, it runs the command or
  refuses it as stale, and then the command is routed anew: a short pause costs such a command time, and is no error.
- A relay of more than `LARGE_BYTES` goes on waiting, as it may be long on its way. The coordinator accepts relays
  with arguments of half as much more until they are `relay_stale_ms` old. (More, so that it counts no relay as large that
  the sender does not.)

What this does not cover. If all messages of a coordinator to all nodes are delayed suddenly, for longer than the limit,
and nothing like that has happened lately, two nodes coordinate for a moment, as in a partition. Then the answer comes, and
its long round trip raises the limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from protocol.peer_versions import SILENCES
from server.core.base.longest import Longest
from server.core.base.state import State
from server.core.messages.announcements import encode_alive, encode_heeded, encode_isalive, encode_silence, encode_time

LARGE_BYTES: Final = 128 << 10
_FACTOR: Final = 3  # how many times the longest stall a coordinator may be silent
_WITNESSES_MAX: Final = 2  # other nodes that are asked whether a peer is alive
_TICKS_MIN: Final = 3  # a limit is so many ticks at least: silence and pauses are noticed by ticks
_STEP_MS: Final = 50  # limits are multiples of it, so that they change rarely


class _Told:
    """What we have told a peer of our silence."""

    __slots__ = ("least_ms", "limit_ms", "number")

    def __init__(self, full_ms: int) -> None:
        self.least_ms = full_ms  # the lowest limit by which the peer may give us up
        self.limit_ms = -1  # the last that was sent over this link
        self.number = 0  # of that message


class Silences:
    """The limits of this node's own silence, by peer, and of its peers'."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._told: dict[str, _Told] = {}
        self._number = 0
        self._limits: dict[str, tuple[int, int]] = {}  # by peer: what it has told us, and the number of that message
        self._asked_ms: dict[str, int] = {}  # by peer that owes us replies: when it was sent a question, see `silent`
        self._round_trips: dict[str, Longest] = {}
        self._wanted: dict[str, dict[str, tuple[int, int]]] = {}  # node -> who asked us for it -> its number, and when
        self._reached = (-1, 0)  # the latest of our questions that another node has read, and when it said so
        self._ticked_ms = 0
        self._resumed_ms = 0

    # --- our own silence

    def stale_ms(self, peer: str) -> int:
        """HOT. How old a relay of `peer` may be when it comes, unless it is large."""
        told = self._told.get(peer)
        return self._state.config.relay_stale_ms if told is None else self._fence_ms(told)

    def _fence_ms(self, told: _Told) -> int:
        config = self._state.config
        if told.least_ms >= config.relay_silence_ms:
            return config.relay_stale_ms
        return min(config.relay_stale_ms, told.least_ms * 2 // 3)

    def connected(self, peer: str) -> None:
        """Our link to `peer` is open: it may be another process, which has told us nothing and was told nothing."""
        self._limits.pop(peer, None)
        told = self._told.get(peer)
        if told is None:
            return
        if peer in self._state.capable[SILENCES]:
            told.limit_ms = -1
        else:
            del self._told[peer]  # it is another process, of an earlier version

    def heeded(self, peer: str, number: int) -> None:
        """Handles HEEDED: `peer` has read that SILENCE, and all that were sent before."""
        told = self._told.get(peer)
        if told is not None and told.number == number and told.limit_ms >= 0:
            told.least_ms = told.limit_ms

    def tell(self, now_ms: int) -> None:
        """With each tick: tells the peers when our limit has changed, and that we go on after a pause."""
        state, longest = self._state, self._state.pauses.longest
        if self._resumed_ms != state.pauses.resumed_ms and state.layout is not None:
            self._resumed_ms = state.pauses.resumed_ms
            for member in state.layout.members:
                if member.id in state.links:
                    state.send(member.id, encode_time(state.clock_reading(), now_ms))
        longest.note(0)  # pauses.py notes longer gaps only
        longest.advance(now_ms)
        tables: tuple[dict[str, Any], ...] = (self._told, self._limits, self._round_trips, self._wanted)
        for table in tables:
            for peer in [peer for peer in table if peer not in state.members]:
                del table[peer]
        for peer in state.capable[SILENCES]:
            if peer in state.links and peer in state.members:
                trips = self._trips(peer)
                trips.advance(now_ms)
                self._tell(peer, self._limit_of(max(longest.ms, trips.ms)))
        fences = [self._fence_ms(told) for peer, told in self._told.items() if state.liveness.is_live(peer)]
        state.pauses.fence_ms = min(fences, default=state.config.relay_silence_ms)

    def _tell(self, peer: str, limit_ms: int) -> None:
        config, told = self._state.config, self._told.get(peer)
        if config.fsync == "always":
            limit_ms = config.relay_silence_ms
        if told is None:
            if limit_ms >= config.relay_silence_ms:
                return  # that is what it believes anyway
            told = self._told[peer] = _Told(config.relay_silence_ms)
        if limit_ms == told.limit_ms:
            return
        self._number += 1
        told.limit_ms, told.number, told.least_ms = limit_ms, self._number, min(limit_ms, told.least_ms)
        self._state.send(peer, encode_silence(self._state.clock_reading(), self._number, limit_ms))

    def _limit_of(self, longest_ms: int) -> int:
        config = self._state.config
        least_ms = max(config.relay_silence_ms_min, _TICKS_MIN * config.tick_ms)
        limit_ms = max(least_ms, _FACTOR * longest_ms // _STEP_MS * _STEP_MS)
        return min(limit_ms, config.relay_silence_ms)

    @property
    def own_limit_ms(self) -> int:
        """For INFO: the silence after which all peers that know of limits give this node up."""
        full_ms = self._state.config.relay_silence_ms
        return max([told.least_ms for told in self._told.values()], default=full_ms)

    # --- the silence of others

    def announced(self, peer: str, number: int, limit_ms: int) -> None:
        """Handles SILENCE: from now on `peer` may be given up after this time. An older one may come behind a newer one,
        over a connection that has broken."""
        if number > self._limits.get(peer, (0, -1))[1]:
            self._limits[peer] = limit_ms, number
        self._state.send(peer, encode_heeded(self._state.clock_reading(), number))

    def greeted(self, peer: str) -> None:
        """`peer` has opened a connection to us, and tells us its limit again, unless it is of an earlier version."""
        self._limits.pop(peer, None)
        if peer in self._told:
            self._told[peer].limit_ms = -1  # what it has answered over its former connection may be lost

    def timed(self, peer: str, asked_ms: int) -> None:
        """`peer` has answered the TIME of `asked_ms`: notes how long that took, and tells those who wanted to know."""
        state = self._state
        self._trips(peer).note(state.now_ms - asked_ms)
        wanted = self._wanted.get(peer)
        if wanted:
            for asker, (number, since_ms) in list(wanted.items()):
                if asked_ms >= since_ms:
                    del wanted[asker]
                    state.send(asker, encode_alive(state.clock_reading(), number, peer))

    def witness_asked(self, asker: str, number: int, node: str) -> None:
        """Handles ISALIVE: asks that node for a sign of life."""
        state = self._state
        if self._trips(node).ms < state.config.tick_ms:  # else its answer would come too late to the asker
            state.send(asker, encode_alive(state.clock_reading(), number, state.id))
        if node in state.links and node in state.members:
            askers = self._wanted.setdefault(node, {})
            if askers.get(asker, (-1, 0))[0] != number:  # a repeated question: any answer since the first one counts
                askers[asker] = number, state.now_ms
            state.send(node, encode_time(state.clock_reading(), state.now_ms))

    def witnessed(self, peer: str, number: int, node: str) -> None:
        """Handles ALIVE: `peer` has read our question, or `node` has answered `peer`; then we ask that node anew."""
        if node == peer:
            if number > self._reached[0]:
                self._reached = number, self._state.now_ms
        elif self._asked_ms.get(node) == number:
            del self._asked_ms[node]

    def _trips(self, peer: str) -> Longest:
        trips = self._round_trips.get(peer)
        if trips is None:
            trips = self._round_trips[peer] = Longest()
        return trips

    def silent(self, now_ms: int, owing: Iterable[str]) -> list[tuple[str, int]]:
        """With each tick that is not very late: asks those of `owing`, the peers that owe us replies, that have no question
        open. Returns the silent ones, with their limits in ms, if these are shorter than `relay_silence_ms`."""
        state, config = self._state, self._state.config
        was_late, self._ticked_ms = now_ms - self._ticked_ms > 2 * config.tick_ms, now_ms
        asked, self._asked_ms = {} if was_late else self._asked_ms, {}
        silent = []
        for peer in owing:
            told_ms, _ = self._limits.get(peer, (config.relay_silence_ms, 0))
            limit_ms = max(told_ms, self._limit_of(self._trips(peer).ms))
            if limit_ms >= config.relay_silence_ms or peer not in state.links:
                continue
            asked_ms = asked.get(peer, -1)
            if asked_ms <= state.last_message_ms.get(peer, -1):
                asked_ms = now_ms
                state.send(peer, encode_time(state.clock_reading(), now_ms))
            elif now_ms - asked_ms >= limit_ms and self._is_reached(asked_ms, now_ms - config.tick_ms):
                silent.append((peer, limit_ms))
            elif now_ms > asked_ms:
                self._ask_others(peer, asked_ms)
            self._asked_ms[peer] = asked_ms
        return silent

    def _is_reached(self, asked_ms: int, until_ms: int) -> bool:
        """Whether another node was reached with that question until then, and would have told us that the peer is alive."""
        number, told_ms = self._reached
        return number >= asked_ms and told_ms <= until_ms

    def _ask_others(self, peer: str, asked_ms: int) -> None:
        state = self._state
        able = [other for other in state.capable[SILENCES] if other != peer and state.is_usable(other)]
        for other in able[:_WITNESSES_MAX]:
            state.send(other, encode_isalive(state.clock_reading(), asked_ms, peer))


def is_large(commands: Sequence[list[bytes]]) -> bool:
    """Whether the sender of a relay counts it as large for sure."""
    return sum([len(word) for args in commands for word in args]) > LARGE_BYTES * 3 // 2
