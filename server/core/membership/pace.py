"""The pace of a long fetch of keys, and when it will be over at that pace."""

from __future__ import annotations

from collections import deque

_SAMPLES = 10  # the pace is that of the last ten samples


class Pace:
    """How many keys were there at which times, lately."""

    def __init__(self) -> None:
        self._samples: deque[tuple[int, int]] = deque(maxlen=_SAMPLES)

    def note(self, now_ms: int, keys: int) -> None:
        """A sample: at that time so many keys were there."""
        self._samples.append((now_ms, keys))

    def eta_s(self, keys_left: int) -> int | None:
        """In how many seconds so many more keys will be there; None if the pace is not known, or it stands still."""
        if len(self._samples) < 2:
            return None
        (first_ms, first), (last_ms, last) = self._samples[0], self._samples[-1]
        if last <= first:
            return None
        return -(-keys_left * (last_ms - first_ms) // ((last - first) * 1000))
