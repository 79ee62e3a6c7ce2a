"""SLOWLOG, LATENCY, and what INFO and CONFIG say of the times of commands."""

from __future__ import annotations

from server.core.node import Node
from tests.core.commands.talking import Client, make_node


def node_with_times() -> Node:
    node = make_node()
    node.services.latencies.add("get", 100, 3)
    node.services.latencies.add("get", 900, 1)
    node.services.latencies.add("config|get", 7, 1)
    return node


def test_slowlog_shows_the_latest_first() -> None:
    node = make_node()
    client = Client(node)
    assert client.ask("SLOWLOG GET") == [] and client.ask("SLOWLOG LEN") == 0
    for number in range(12):
        node.services.latencies.log_slow("get", 12_000, [b"GET", b"%d" % number], "127.0.0.1:5", b"app")
    seconds = node.state.time_ms // 1000
    assert client.ask("SLOWLOG GET 1") == [[11, seconds, 12_000, ["GET", "11"], "127.0.0.1:5", "app"]]
    assert len(client.ask("SLOWLOG GET")) == 10 and len(client.ask("SLOWLOG GET -1")) == 12
    refused = b"-ERR count should be greater than or equal to -1\r\n"
    assert client.raw("SLOWLOG GET -2") == client.raw("SLOWLOG GET x") == refused
    assert client.raw("SLOWLOG GET 1 2").startswith(
        b"-ERR unknown subcommand or wrong number of arguments for 'GET'. Try"
    )
    assert client.raw("SLOWLOG RESET") == b"+OK\r\n" and client.ask("SLOWLOG LEN") == 0


def test_the_slow_log_is_set_while_the_node_runs() -> None:
    node = make_node()
    client = Client(node)
    assert client.ask("CONFIG GET slowlog-*") == ["slowlog-log-slower-than", "10000", "slowlog-max-len", "128"]
    assert client.raw("CONFIG SET slowlog-log-slower-than -1 slowlog-max-len 2") == b"+OK\r\n"
    assert client.ask("CONFIG GET slowlog-*") == ["slowlog-log-slower-than", "-1", "slowlog-max-len", "2"]
    assert client.ask("CONFIG GET slowlog_*") == ["slowlog_slower_than_us", "-1", "slowlog_entries_max", "2"]
    assert b"couldn't be parsed" in client.raw("CONFIG SET slowlog-max-len x")
    assert b"must not be negative" in client.raw("CONFIG SET slowlog-max-len -1")


def test_latency_histogram_has_the_cumulative_counts_of_redis() -> None:
    client = Client(node_with_times())
    times = ["calls", 4, "histogram_usec", [128, 3, 1024, 4]]
    assert client.ask("LATENCY HISTOGRAM GET") == ["get", times]
    assert client.ask("LATENCY HISTOGRAM config nonsense") == ["config|get", ["calls", 1, "histogram_usec", [8, 1]]]
    assert client.ask("LATENCY HISTOGRAM")[0] == "get"


def test_latency_tells_of_the_slowest_commands() -> None:
    client = Client(node_with_times())
    told = client.raw("LATENCY DOCTOR")
    assert b"- get: 4 calls, p50 111 us, p99 1023 us\n" in told
    assert b"No events are kept: CONFIG SET latency-monitor-threshold MS" in told


def test_info_tells_the_times_on_demand_and_resetstat_forgets_them() -> None:
    client = Client(node_with_times())
    assert "cmdstat_" not in client.ask("INFO") and "cmdstat_" not in client.ask("INFO default")
    for section in ("all", "everything", "commandstats"):
        assert "cmdstat_get:calls=4,usec=1200,usec_per_call=300.00\r\n" in client.ask(f"INFO {section}")
    assert "latency_percentiles_usec_get:p50=111,p99=1023,p99.9=1023\r\n" in client.ask("INFO latencystats")
    client.raw("CONFIG RESETSTAT")
    assert "cmdstat_get" not in client.ask("INFO commandstats")
    node = client.node
    node.services.latencies.add("get", 50, 2)
    assert "cmdstat_get:calls=2,usec=100,usec_per_call=50.00\r\n" in client.ask("INFO commandstats")
    assert client.ask("LATENCY HISTOGRAM get")[1][1] == 2, "what has come since"
    assert b"- get: 2 calls, p50 55 us, p99 55 us\n" in client.raw("LATENCY DOCTOR")
    assert node.services.latencies.by_command["get"].calls == 6, "counters of Prometheus never go back"


def test_the_parts_of_the_work_are_shown_since_the_last_resetstat() -> None:
    client = Client(node_with_times())
    client.node.services.latencies.commit.add(300, 4)
    assert b"- commit: 4 times, p50 319 us, p99 319 us\n" in client.raw("LATENCY DOCTOR")
    client.raw("CONFIG RESETSTAT")
    assert b"- commit:" not in client.raw("LATENCY DOCTOR")
    client.node.services.latencies.commit.add(40, 1)
    assert b"- commit: 1 times, p50 47 us, p99 47 us\n" in client.raw("LATENCY DOCTOR")
    assert client.node.services.phases()["commit"].calls == 5
