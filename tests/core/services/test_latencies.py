"""The times of commands: buckets, percentiles, and the slow log."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.base.histogram import Histogram, bucket_end_us, bucket_of
from server.core.services.latencies import Latencies, shortened
from tests.core.commands.talking import CONFIG, make_node


@given(st.integers(0, 2**35))
def test_a_time_is_in_a_bucket_that_ends_at_most_a_quarter_later(time_us: int) -> None:
    end_us = bucket_end_us(bucket_of(time_us))
    assert time_us <= end_us <= time_us * 5 // 4
    assert bucket_of(end_us + 1) == bucket_of(time_us) + 1, "no gap between buckets"


@pytest.mark.parametrize("time_us", [-5, 2**50])
def test_impossible_times_have_a_bucket(time_us: int) -> None:
    Histogram().add(time_us, 1)


def test_percentiles_and_sums() -> None:
    times = Histogram()
    assert times.percentile_us(99) == 0
    times.add(100, 90)
    times.add(1000, 9)
    times.add(50_000, 1)
    assert (times.calls, times.sum_us) == (100, 90 * 100 + 9 * 1000 + 50_000)
    assert [times.percentile_us(each) for each in (50, 99, 99.9)] == [111, 1023, 57_343]
    assert [calls for _, calls in times.cumulative()] == [90, 99, 100]


def test_thresholds_beyond_64_bits_mean_never() -> None:
    most = 2**63 - 1
    config = replace(CONFIG, slowlog_slower_than_us=most, latency_monitor_threshold_ms=most)
    latencies = Latencies(make_node(1, config).state)
    assert latencies.told_us < most, "a number of the compiled code"


def test_the_slow_log_keeps_the_last_ones_and_no_password() -> None:
    state = make_node().state
    latencies = Latencies(state)
    for number in range(200):
        latencies.log_slow("get", 20_000 + number, [b"GET", b"k%d" % number], "127.0.0.1:5", b"app")
    assert (len(latencies.slow), latencies.slow[0].number, latencies.slow[0].arguments) == (128, 199, [b"GET", b"k199"])
    state.config = replace(state.config, slowlog_entries_max=3)
    latencies.read_settings()
    assert [each.number for each in latencies.slow] == [199, 198, 197]
    latencies.log_slow("auth", 30_000, [b"AUTH", b"hunter2"], "127.0.0.1:5", b"")
    assert latencies.slow[0].arguments == [b"(redacted)"] and len(latencies.slow) == 3


def test_long_commands_are_shortened_as_redis_does() -> None:
    assert shortened([b"SET", b"k", b"x" * 200]) == [b"SET", b"k", b"x" * 128 + b"... (72 more bytes)"]
    shown = shortened([b"MGET", *[b"k"] * 40])
    assert len(shown) == 32 and shown[-1] == b"... (10 more arguments)"
    assert len(shortened([b"MGET", *[b"k"] * 31])) == 32
