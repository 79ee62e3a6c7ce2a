"""Which commands of a connection get which time."""

from __future__ import annotations

from server.core.services.latencies import Latencies
from server.shell.timing import Timing
from tests.core.commands.talking import make_node

MS = 1_000_000  # nanoseconds


class Watch:
    """A clock that the test sets."""

    now_ms = 0

    def now_ns(self) -> int:
        return self.now_ms * MS


def began(timing: Timing, watch: Watch, at_ms: int, *commands: bytes) -> None:
    watch.now_ms = at_ms
    timing.began([command.split() for command in commands])


def calls(latencies: Latencies) -> dict[str, tuple[int, int]]:
    """By command: calls, and milliseconds in all."""
    return {name: (times.calls, times.sum_us // 1000) for name, times in latencies.by_command.items()}


def test_commands_that_begin_together_have_the_time_of_their_last_reply() -> None:
    latencies = Latencies(make_node().state)
    watch = Watch()
    timing = Timing(latencies, watch.now_ns)
    began(timing, watch, 0, b"GET a", b"get b", b"SET c 1", b"GET d", b"nonsense", b"CONFIG GET x", b"CONFIG RESETSTAT")
    began(timing, watch, 1, b"PING")
    timing.answered(6, 5 * MS, "127.0.0.1:5", b"")
    assert calls(latencies) == {}, "one reply of the first batch has not left"
    timing.answered(1, 7 * MS, "127.0.0.1:5", b"")
    expected = {"get": (3, 21), "set": (1, 7), "config|get": (1, 7), "config|resetstat": (1, 7)}
    assert calls(latencies) == expected
    timing.answered(1, 9 * MS, "127.0.0.1:5", b"")
    assert calls(latencies) == expected | {"ping": (1, 8)}
    assert not latencies.slow


def test_the_last_command_of_a_slow_batch_is_logged_unless_it_waits_on_purpose() -> None:
    state = make_node().state
    latencies, watch = Latencies(state), Watch()
    timing = Timing(latencies, watch.now_ns)
    for command in (b"BLPOP q 0", b"WAIT 1 0", b"nonsense"):
        began(timing, watch, 0, command)
    began(timing, watch, 0, b"GET a", b"GET b")
    timing.answered(5, 11 * MS, "127.0.0.1:5", b"app")
    assert [(each.arguments, each.took_us, each.client_name) for each in latencies.slow] == [
        ([b"GET", b"b"], 11_000, b"app")
    ]
    state.config.slowlog_slower_than_us = -1
    latencies.read_settings()
    began(timing, watch, 0, b"GET a")
    timing.answered(1, 99 * MS, "127.0.0.1:5", b"app")
    assert len(latencies.slow) == 1, "the log is off"


def test_the_slow_log_and_the_monitor_have_thresholds_of_their_own() -> None:
    """Which of them hears of a command of 11 ms: `slow_ms` is below or at it, the threshold of the monitor, too, or off."""
    for slow_us, threshold_ms, is_logged, is_sampled in (
        (-1, 0, False, False), (10_999, 0, True, False), (11_000, 0, False, False), (-1, 11, False, True),
        (-1, 12, False, False), (0, 11, True, True), (11_000, 11, False, True), (0, 12, True, False),
    ):  # fmt: skip
        state = make_node().state
        state.config.slowlog_slower_than_us, state.config.latency_monitor_threshold_ms = slow_us, threshold_ms
        latencies, watch = Latencies(state), Watch()
        timing = Timing(latencies, watch.now_ns)
        began(timing, watch, 0, b"GET a")
        timing.answered(1, 11 * MS, "127.0.0.1:5", b"app")
        sampled = [sample.took_ms for event in latencies.monitor.events.values() for sample in event.samples]
        assert (bool(latencies.slow), sampled == [11]) == (is_logged, is_sampled), (slow_us, threshold_ms)
