"""Pauses of this node: whether what it read before may still decide what it writes now.

Theory. A coordinator reads a key with a quorum, and decides by that what to write (SET NX, APPEND, an EXEC, the pop of a
BLPOP). Suppose that it stands still between the two: SIGSTOP, a paused machine, a turn that takes seconds. The other nodes
give it up soon (requests/silences.py), and another owner coordinates its keys. When it goes on, what it has read is older
than what that owner has written and acknowledged. A write by what it has read would have the newer dot, and would win: the
acknowledged write would be lost, and a lock would have two holders.

So a node looks at each reading of its monotonic clock. If the clock has gone on by more than `fence_ms`, which is less
than the silence after which others give this node up, or by more than `relay_stale_ms`, the node was in a *pause*. Who
decides by a read asks `is_outdated`, with the time at which the read began. If it is, the read begins again, and then
sees what the other owner has written:

    who                                     where
    a command that reads one key, a chain   KeyRead.found (commands/steps.py)
    an atomic run: its read                 _SlotReads (commands/transactions/atomic_run.py)
    an atomic run of several turns          Snapshot.is_overtaken (commands/transactions/snapshot.py)
    the change of a large draft             write_in_slices (commands/draft_writes.py)
    a relay that was sent before the end    Relays.relayed (requests/relays.py): refused, and its sender routes it anew
    of the pause

At the end of a pause the other nodes do not know of it yet. What one of them has begun for this node would run beside
what this node begins. So it sends all of them a message in its next tick (requests/silences.py), and for `SETTLE_MS`
and until a tick after it, it begins no command that needs keys, neither of its clients nor of other nodes: by then they
send new commands here, and have ended their own. The commands wait as they do while cluster time is unknown (node.py,
peer_messages.py). If one pause follows another, they do not wait: a node with turns of seconds must go on.

What this does not cover. What this node had begun before a pause, and reads again, does not wait. A node may be suspended
between its decision and the end of the turn that sends it. And a move (LMOVE, RENAME) that has written its destination
before a pause goes on after it: the next owner may have served what it moves, as it may in a partition.
"""

from __future__ import annotations

from typing import Final

from server.core.base.config import Config
from server.core.base.longest import UNKNOWN_MS, Longest

_IDLE_TICKS: Final = 2  # an idle node reads its clock in each tick, so a gap of so many ticks is no pause
SETTLE_MS: Final = 100  # by then the others know that this node goes on
_CALM_MS: Final = 1000  # after so short a time without a pause commands wait no more
_SHORT_MS: Final = 90  # gaps up to this change no limit


class Pauses:
    """When this node last went on after a pause."""

    __slots__ = ("_config", "_read_ms", "fence_ms", "longest", "resumed_ms", "settled_ms")

    def __init__(self, config: Config) -> None:
        self._config = config
        self._read_ms = 0  # the last reading of the monotonic clock
        self.resumed_ms = self.settled_ms = 0
        self.longest = Longest()  # the gaps between two readings
        self.fence_ms = UNKNOWN_MS  # a gap of more is a pause, though it is less than `relay_stale_ms`

    def read_clock(self, now_ms: int, slept_ms: int = 0) -> None:
        """HOT. Notes a reading. In `slept_ms` of the time since the last one the machine slept, and its clock with it."""
        gap_ms = now_ms - self._read_ms + slept_ms
        self._read_ms = now_ms
        if gap_ms > _SHORT_MS:
            self._note(gap_ms, now_ms)

    def _note(self, gap_ms: int, now_ms: int) -> None:
        if gap_ms < now_ms:  # the first reading follows none
            self.longest.note(gap_ms)
        limit_ms = min(self.fence_ms, self._config.relay_stale_ms)
        if gap_ms > limit_ms and gap_ms > _IDLE_TICKS * self._config.tick_ms:
            self.resumed_ms = now_ms
            if now_ms - gap_ms >= self.settled_ms + _CALM_MS:
                self.settled_ms = now_ms + SETTLE_MS

    def is_outdated(self, read_ms: int) -> bool:
        """HOT. Whether a read that began at `read_ms` must not decide a write: there was a pause since then."""
        return read_ms < self.resumed_ms
