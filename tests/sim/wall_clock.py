"""The wall clock of a machine: off by some skew, which somebody sets, and running too fast or too slow."""

from __future__ import annotations

from tests.sim.events import Events

EPOCH_MS = 1_800_000_000_000  # wall time at the start of a simulation, give or take each machine's skew


class WallClock:
    """Of a machine that has these events."""

    events: Events
    _skew_ms = _skew_ms_max = 0
    _drift_ppm = 0
    _drifts_since_ms = 0

    @property
    def skew_ms(self) -> int:
        """By how much the wall clock is ahead."""
        return self._skew_ms + (self.events.now_ms - self._drifts_since_ms) * self._drift_ppm // 1_000_000

    @skew_ms.setter
    def skew_ms(self, skew_ms: int) -> None:
        self._skew_ms_max = self.skew_ms_max
        self._skew_ms = skew_ms
        self._drifts_since_ms = self.events.now_ms

    @property
    def skew_ms_max(self) -> int:
        """The most that the wall clock ever was ahead."""
        return max(self.skew_ms, self._skew_ms, self._skew_ms_max)

    def drift(self, ppm: int) -> None:
        """From now on the wall clock runs too fast by so many millionths."""
        self.skew_ms = self.skew_ms
        self._drift_ppm = ppm

    def wall_ms(self) -> int:
        """The machine's idea of the time of day."""
        return EPOCH_MS + self.events.now_ms + self.skew_ms
