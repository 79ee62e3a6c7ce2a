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
    latencies = Latencies(make_node().state)
    watch = Watch()
    timing = Timing(latencies, watch.now_ns)
    for command in (b"BLPOP q 0", b"WAIT 1 0", b"nonsense"):
        began(timing, watch, 0, command)
    began(timing, watch, 0, b"GET a", b"GET b")
    timing.answered(5, 11 * MS, "127.0.0.1:5", b"app")
    assert [(each.arguments, each.took_us, each.client_name) for each in latencies.slow] == [
        ([b"GET", b"b"], 11_000, b"app")
    ]
    latencies.slow_us = -1
    began(timing, watch, 0, b"GET a")
    timing.answered(1, 99 * MS, "127.0.0.1:5", b"app")
    assert len(latencies.slow) == 1, "the log is off"
