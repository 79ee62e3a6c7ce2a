"""The pace of background work: as fast as clients do not notice, and never slower than a floor.

Theory. No fixed rate is right: what is nothing for an idle machine is too much beside a full load. What counts is how long
clients wait. A node sees that as the time until a quorum, or another coordinator, has answered its requests. So the pace
is found by trying, as TCP finds its share of a link (additive or slow increase, multiplicative decrease; LEDBAT, RFC 6817,
does it by delays):

- Nobody is served here, and no other node complains: `background_keys_per_s_idle`.
- Clients come: the pace falls to `background_keys_per_s` at once, and begins to grow from there. That is also the floor:
  repairs must end one day, even under a load that leaves no room for them.
- Every `WINDOW_MS` the 99th percentile of these times is compared with what it is without background work. If it is more
  than twice that and `SLACK_US`, clients are delayed, and the pace is halved. Otherwise, if background work had to wait
  for its budget, the pace grows by half, or near a pace that has delayed clients by a sixteenth.
- The other node of an exchange says with each answer whether its own clients are delayed
  (messages/exchange_questions.py). Then the pace is halved, too. A node of an older version says so as long as it serves
  clients.

What the percentile is without background work: the lowest one of the last ten minutes, since background work only makes
it worse. So it follows a load that grows. A window with few answers is joined to the next ones, for `JOINED_MS` at most,
and the pace does not grow before it was judged: few clients are protected, too. A burst of requests, or a slow disk, is
taken for a delay by background work. That slows background work down for a while, and no client.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from server.core.base.config import Config
from server.core.base.histogram import Histogram

WINDOW_MS: Final = 500
SAMPLES_MIN: Final = 50  # a window with fewer answers is joined to the next one,
JOINED_MS: Final = 3000  # until it is so old
SLACK_US: Final = 4_000
_KEPT_MS: Final = 600_000  # the lowest percentile is that of this time,
_SPAN_MS: Final = 60_000  # of which one value is kept for each of these


class Pace:
    """How many keys per second background work may handle at the moment."""

    def __init__(self, config: Config, waits: Sequence[Histogram]) -> None:
        """`waits`: how long clients' requests waited, in microseconds."""
        self._config = config
        self._waits = waits
        self._before = [wait.copy() for wait in waits]  # what they were when the window began
        self._window_ms = 0  # when the last window ended
        self._judged_ms = 0  # when one was judged
        self._lowest: deque[tuple[int, int]] = deque()  # the time of a span's first window, and its lowest percentile
        self._is_found = False  # the pace is being found; otherwise this node is idle
        self._found = 0
        self._delayed_at = 0  # the pace that has delayed clients last
        self._was_limited = False  # background work had to wait in this window
        self._peer_complains = False  # in this window
        self.delays_clients = False  # in the last window

    @property
    def keys_per_s(self) -> int:
        """The present pace. The settings may have changed since it was found."""
        config = self._config
        if not self._is_found:
            return config.background_keys_per_s_idle
        return max(min(self._found, config.background_keys_per_s_idle), config.background_keys_per_s)

    def limits(self) -> None:
        """Background work has to wait for its turn."""
        self._was_limited = True

    def peer_complains(self) -> None:
        """The clients of another node that takes part in the work are delayed."""
        self._peer_complains = True
        self._find()

    def tick(self, now_ms: int, serves_clients: bool) -> None:
        """Judges the window if it is over. `serves_clients`: here, within the last second."""
        if serves_clients:
            self._find()
        if now_ms - self._window_ms < WINDOW_MS:
            return
        self._window_ms = now_ms
        judged = self._judge(now_ms) if serves_clients else False
        if judged is not None:
            self.delays_clients = judged
        if not serves_clients and not self._peer_complains:
            self._is_found = False
        elif judged or self._peer_complains:
            self._delayed_at = self.keys_per_s
            self._found = self.keys_per_s // 2
        elif judged is False and self._was_limited:
            pace = self.keys_per_s
            is_near = pace * 2 < self._delayed_at * 3 and self._delayed_at < pace * 3 // 2
            self._found = pace + pace // (16 if is_near else 2) + 1
        self._was_limited = self._was_limited and judged is None
        self._peer_complains = False

    def _find(self) -> None:
        if not self._is_found:
            self._is_found, self._found, self._delayed_at = True, self._config.background_keys_per_s, 0

    def _judge(self, now_ms: int) -> bool | None:
        """Whether clients waited longer than they would without background work; None: too few answers to say so yet."""
        window = Histogram()
        for wait, before in zip(self._waits, self._before, strict=True):
            window.join(wait.since(before))
        if 0 < window.calls < SAMPLES_MIN and now_ms - self._judged_ms < JOINED_MS:
            return None
        self._judged_ms = now_ms
        if not window.calls:
            return False  # no client of this node waits for anything
        self._before = [wait.copy() for wait in self._waits]
        percentile_us = window.percentile_us(99)
        self._keep(now_ms, percentile_us)
        return percentile_us > 2 * min([lowest_us for _, lowest_us in self._lowest]) + SLACK_US

    def _keep(self, now_ms: int, percentile_us: int) -> None:
        lowest = self._lowest
        if not lowest or now_ms - lowest[-1][0] >= _SPAN_MS:
            lowest.append((now_ms, percentile_us))
        elif percentile_us < lowest[-1][1]:
            lowest[-1] = lowest[-1][0], percentile_us
        while now_ms - lowest[0][0] > _KEPT_MS:
            lowest.popleft()
