"""Refused peers: who speaks as a node and is none is counted each time, and logged once a minute for each reason.

Theory. An intruder chooses what he sends and how often. So no line of the log repeats his words, and their number does not
depend on his. The first refusal of a reason is logged at once, and those that follow within `PAUSE_S` with one line.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from server.core.base.statistics import Statistics

log = logging.getLogger("dyn")
PAUSE_S = 60.0
_TEXTS = {
    "peers_without_proof": "introduced themselves as nodes without a proof of the secret of this cluster: nodes of an "
    "earlier version, nodes without the file `secret`, or an intruder",
    "peers_with_wrong_proof": "did not prove the secret of this cluster: nodes with another file `secret`, or an intruder",
    "handshakes_dropped": "began the handshake of nodes and did not end it in time (handshake_ms_max, handshakes_max)",
    "blocks_forged": "sent a block that no node has sent, and were closed: somebody changes or repeats what nodes send",
}


class RefusedPeers:
    """Counts and logs the connections that were refused, by the name of the counter in `Statistics`."""

    def __init__(self, statistics: Statistics, time: Callable[[], float]) -> None:
        self._statistics = statistics
        self._time = time
        self._unreported: dict[str, tuple[int, str]] = {}  # by counter: how many, and the address of the last one
        self._due_s: dict[str, float] = {}  # by counter: when the next line may be logged

    def note(self, counter: str, address: str) -> None:
        """A connection from `address` was refused."""
        setattr(self._statistics, counter, getattr(self._statistics, counter) + 1)
        if counter in _TEXTS:
            self._unreported[counter] = (self._unreported.get(counter, (0, ""))[0] + 1, address)
            self.report()

    def report(self) -> None:
        """Logs what is due; meant to be called once a second."""
        now_s = self._time()
        for counter, (count, address) in list(self._unreported.items()):
            if now_s >= self._due_s.get(counter, now_s):
                self._due_s[counter] = now_s + PAUSE_S
                del self._unreported[counter]
                log.warning("refused: %d connections %s; the last one came from %s", count, _TEXTS[counter], address)
