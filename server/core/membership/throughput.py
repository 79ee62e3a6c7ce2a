"""The throughput of a long fetch of keys, and the time that remains."""

from __future__ import annotations

from collections import deque

_SAMPLES = 10  # the throughput is that of the last ten samples


class Throughput:
    """The last samples of how many keys were here, and when."""

    def __init__(self) -> None:
        self._samples: deque[tuple[int, int]] = deque(maxlen=_SAMPLES)

    def add_sample(self, now_ms: int, keys: int) -> None:
        """Adds a sample: at `now_ms`, `keys` keys were here."""
        self._samples.append((now_ms, keys))

    def eta_s(self, keys_left: int) -> int | None:
        """The seconds until `keys_left` more keys are here; None if there is one sample only, or no progress."""
        if len(self._samples) < 2:
            return None
        (first_ms, first), (last_ms, last) = self._samples[0], self._samples[-1]
        if last <= first:
            return None
        return -(-keys_left * (last_ms - first_ms) // ((last - first) * 1000))
