"""Estimates how old a relay is when it arrives: the clocks of its sender and its receiver do not agree.

Theory. The receiver must know how long a message has been on its way (relays.py says why). It can compare the two monotonic
clocks only up to an unknown offset. So it compares each message with the least delayed one from the same sender:

- Each relay and each CLOCK message carries a reading of its sender's monotonic clock.
- The receiver subtracts that reading from its own monotonic clock. The difference is the unknown offset plus the delay of
  the message. For each sender, the receiver remembers the smallest difference: the message with the least delay had it.
- The age of a message is its difference minus the smallest difference. The offset cancels out. The age is too low by the
  delay of the least delayed message.
- Clocks drift. So the smallest difference grows by 1 ms for each 1000 ms that this node has been running, but not while it
  is suspended. This growth has another effect. Suppose that the delays of all messages become longer for good. At first all
  messages get a higher age. Each second lowers the ages of new messages by 1 ms, until a message with the new least
  delay has age 0.
"""

from __future__ import annotations

DRIFT_DIVISOR = 1000  # two machines' clocks may drift apart by 1 ms in this many ms


class RelayAges:
    """Computes the ages of messages. Keeps the smallest difference for each peer."""

    def __init__(self) -> None:
        self.awake_ms = 0  # how long this node has been running, as counted by its ticks
        self._least_difference_ms: dict[
            str, int
        ] = {}  # by peer: our clock minus its clock, in the least delayed message

    def note(self, peer: str, sent_ms: int, now_ms: int) -> int:
        """HOT. Notes a message just received, which `peer` sent at `sent_ms` by its own clock. Returns its age in ms."""
        difference_ms = now_ms - sent_ms - self.awake_ms // DRIFT_DIVISOR
        least_ms = min(difference_ms, self._least_difference_ms.get(peer, difference_ms))
        self._least_difference_ms[peer] = least_ms
        return difference_ms - least_ms

    def forget(self, peer: str) -> None:
        """Forgets the clock of a peer that has connected anew, perhaps as a process with a new clock."""
        self._least_difference_ms.pop(peer, None)
