"""The limits of a node depend on each other: if one does not fit into another, the error names both settings."""

from __future__ import annotations

import pytest

from server.core.base.config import Config, ConfigError

MIB = 1 << 20


def test_the_defaults_fit() -> None:
    assert Config.of({}) == Config()


@pytest.mark.parametrize(
    ("settings", "outer", "inner"),
    [
        ({"value_bytes_max": 32 * MIB}, "record_bytes_max", "value_bytes_max"),
        ({"value_bytes_max": 64 * MIB, "record_bytes_max": 65 * MIB}, "request_bytes_max", "value_bytes_max"),
        ({"request_bytes_max": 600 * MIB}, "client_buffers_bytes_max", "request_bytes_max"),
        ({"record_bytes_max": 65 * MIB}, "frame_bytes_max", "record_bytes_max"),
        ({"gathered_bytes_max": 100 * MIB}, "gathered_bytes_max", "record_bytes_max"),
        ({"frame_bytes_max": 600 * MIB}, "peer_buffer_bytes_max", "frame_bytes_max"),
        ({"peer_buffer_bytes_max": 100 * MIB}, "peer_buffer_bytes_max", "frame_bytes_max"),
        ({"values_in_flight_bytes_max": 600 * MIB}, "peer_buffer_bytes_max", "values_in_flight_bytes_max"),
        ({"peer_backlog_bytes_max": 600 * MIB}, "peer_buffer_bytes_max", "peer_backlog_bytes_max"),
        ({"relay_silence_ms": 999}, "relay_silence_ms", "relay_stale_ms"),
        ({"relay_stale_ms": 1501}, "relay_silence_ms", "relay_stale_ms"),
    ],
)
def test_limits_that_do_not_fit_are_refused_and_both_are_named(
    settings: dict[str, int], outer: str, inner: str
) -> None:
    with pytest.raises(ConfigError, match=rf"setting '{outer}' is \d+ and must be at least \d+, as '{inner}' is \d+: "):
        Config.of(settings)


def test_a_limit_on_transactions_that_nobody_has_set_fits_the_others() -> None:
    small = {"client_buffers_bytes_max": 32 * MIB, "request_bytes_max": 16 * MIB, "value_bytes_max": 2 * MIB}
    assert Config.of(small).transaction_bytes_max == 32 * MIB
    with pytest.raises(ConfigError, match="transaction_bytes_max"):
        Config.of({**small, "transaction_bytes_max": 33 * MIB})


def test_a_value_and_its_key_fit_into_a_record_to_the_byte() -> None:
    value = 31 * MIB
    room = 32 * MIB - value - 4096
    assert Config.of({"value_bytes_max": value, "key_bytes_max": room}).key_bytes_max == room
    with pytest.raises(ConfigError):
        Config.of({"value_bytes_max": value, "key_bytes_max": room + 1})
