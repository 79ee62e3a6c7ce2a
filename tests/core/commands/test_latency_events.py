"""LATENCY LATEST, HISTORY, GRAPH, RESET and DOCTOR: events that took as long as the threshold."""

from __future__ import annotations

from server.core.services.latency_monitor import SAMPLES_MAX
from tests.core.commands.talking import Client, make_node

MS = 1000  # microseconds


def client_with_events() -> tuple[Client, int]:
    """A node whose threshold is 100 ms, with three commands of one second, a commit ten seconds later, and the time of
    the first."""
    client = Client(make_node())
    state, latencies = client.node.state, client.node.services.latencies
    assert client.raw("CONFIG SET latency-monitor-threshold 100") == b"+OK\r\n"
    second = state.time_ms // 1000
    for took_ms in (100, 250, 99, 120):
        latencies.note("command", took_ms * MS)
    state.time_ms += 10_000
    latencies.note("commit", 400 * MS)
    latencies.note("command", 180 * MS)
    return client, second


def test_no_event_is_kept_before_there_is_a_threshold() -> None:
    client = Client(make_node())
    client.node.services.latencies.note("command", 3_600_000 * MS)
    assert client.ask("CONFIG GET latency-monitor-threshold") == ["latency-monitor-threshold", "0"]
    assert client.ask("LATENCY LATEST") == client.ask("LATENCY HISTORY command") == []
    assert client.raw("LATENCY RESET") == b":0\r\n"
    assert client.raw("LATENCY GRAPH fork") == b"-ERR No samples available for event 'fork'\r\n"


def test_a_sample_is_the_longest_time_of_its_second() -> None:
    client, second = client_with_events()
    assert client.ask("LATENCY HISTORY COMMAND") == [[second, 250], [second + 10, 180]]
    assert client.ask("LATENCY LATEST") == [["command", second + 10, 180, 250], ["commit", second + 10, 400, 400]]


def test_the_last_samples_are_kept_and_the_longest_time_of_all() -> None:
    client, second = client_with_events()
    latencies = client.node.services.latencies
    for _ in range(SAMPLES_MAX):
        client.node.state.time_ms += 1000
        latencies.note("command", 150 * MS)
    history = client.ask("LATENCY HISTORY command")
    assert len(history) == SAMPLES_MAX == 160 and history[0] == [second + 11, 150]
    assert client.ask("LATENCY LATEST")[0][2:] == [150, 250]


def test_reset_forgets_the_named_events_or_all_and_counts_them() -> None:
    client, _ = client_with_events()
    assert client.ask("LATENCY RESET commit commit nonsense") == 1
    assert [row[0] for row in client.ask("LATENCY LATEST")] == ["command"]
    client.node.services.latencies.note("sync", 500 * MS)
    assert client.ask("LATENCY RESET") == 2 and client.ask("LATENCY LATEST") == []


def test_without_a_threshold_no_more_events_come_and_those_before_stay() -> None:
    client, _ = client_with_events()
    client.raw("CONFIG SET latency-monitor-threshold 0")
    client.node.services.latencies.note("command", 9000 * MS)
    assert client.ask("LATENCY LATEST")[0][2:] == [180, 250]


def test_graph_and_doctor_tell_of_events_in_words() -> None:
    client, _ = client_with_events()
    graph = client.ask("LATENCY GRAPH command").splitlines()
    assert graph[0] == "command - high 250 ms, low 180 ms (all time high 250 ms)"
    assert graph[1] == "      10 s ago " + "#" * 50 + " 250 ms" and graph[2].endswith(" 180 ms")
    told = client.ask("LATENCY DOCTOR")
    assert "Events of 100 ms or longer:\n- command: in 2 seconds, the last one 0 s ago; 250 ms at most" in told
    client.ask("LATENCY RESET")
    assert "Events of 100 ms or longer: none.\n" in client.ask("LATENCY DOCTOR")
