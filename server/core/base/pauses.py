"""Pauses of this node: whether what it read before may still decide what it writes now.

Theory. A coordinator reads a key with a quorum, and decides by that what to write (SET NX, APPEND, an EXEC, the pop of a
BLPOP). Suppose that it stands still between the two: SIGSTOP, a paused machine, a turn that takes seconds. The other nodes
give it up after `relay_silence_ms`, and another owner coordinates its keys. When it goes on, what it has read is older
than what that owner has written and acknowledged. A write by what it has read would have the newer dot, and would win: the
acknowledged write would be lost, and a lock would have two holders.

So a node looks at each reading of its monotonic clock. If the clock has gone on by more than `relay_stale_ms`, which is
not more than `relay_silence_ms`, the node was in a *pause*. Who decides by a read asks `is_outdated`, with the time at
which the read began. If it is, the read begins again, and then sees what the other owner has written:

    who                                     where
    a command that reads one key, a chain   KeyRead.found (commands/steps.py)
    an atomic run: its read                 _SlotReads (commands/transactions/atomic_run.py)
    an atomic run of several turns          Snapshot.is_overtaken (commands/transactions/snapshot.py)
    the change of a large draft             write_in_slices (commands/draft_writes.py)
    a relay that was sent before the end    Relays.relayed (requests/relays.py): refused, and its sender routes it anew
    of the pause

What this does not cover. At the end of a pause the other nodes have not heard of it yet. For some milliseconds, until they
have, two owners coordinate. A node may be suspended between its decision and the end of the turn that sends it. And a
move (LMOVE, RENAME) that has written its destination before a pause goes on after it: the next owner may have served what
it moves, as it may in a partition.
"""

from __future__ import annotations

from typing import Final

from server.core.base.config import Config

_IDLE_TICKS: Final = 2  # an idle node reads its clock in each tick, so a gap of so many ticks is no pause


class Pauses:
    """When this node last went on after a pause."""

    __slots__ = ("_config", "_read_ms", "resumed_ms")

    def __init__(self, config: Config) -> None:
        self._config = config
        self._read_ms = 0  # the last reading of the monotonic clock
        self.resumed_ms = 0

    def read_clock(self, now_ms: int, slept_ms: int = 0) -> None:
        """HOT. Notes a reading. In `slept_ms` of the time since the last one the machine slept, and its clock with it."""
        gap_ms = now_ms - self._read_ms + slept_ms
        self._read_ms = now_ms
        if gap_ms > self._config.relay_stale_ms and gap_ms > _IDLE_TICKS * self._config.tick_ms:
            self.resumed_ms = now_ms

    def is_outdated(self, read_ms: int) -> bool:
        """HOT. Whether a read that began at `read_ms` must not decide a write: there was a pause since then."""
        return read_ms < self.resumed_ms
