"""The port for monitoring, asked by HTTP libraries."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.ports import free_ports
from tests.wire.cluster import WireCluster, wait_for
from tests.wire.raw import raw


def fetched(port: int, path: str) -> tuple[int, str]:
    """The status and the content of an answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_prometheus_and_probes_are_answered(tmp_path: Path) -> None:
    port = free_ports(1)
    cluster = WireCluster(tmp_path, 1, config=f'metrics = "127.0.0.1:{port}"')
    node = cluster.nodes[0]
    try:
        node.start()
        wait_for(node.serves, "it serves")
        assert fetched(port, "/healthz") == (200, "ok\n")
        assert fetched(port, "/readyz") == (503, "this node is not a member of a cluster yet\n")
        node.stop()
        cluster.form()
        assert fetched(port, "/readyz") == (200, "ready\n")
        with node.client() as client:
            for number in range(100):
                client.set(f"k{number}", "v")
            client.config_set("slowlog-log-slower-than", 0)
            client.get("k1")
            assert client.slowlog_get(1)[0]["command"] == b"GET k1"
            stats = client.info("commandstats")["cmdstat_set"]
            assert stats["calls"] == 100 and stats["usec"] > 0
            assert client.execute_command("LATENCY", "HISTOGRAM", "set")[b"set"][b"calls"] == 100
        status, text = fetched(port, "/metrics")
        assert status == 200
        read = {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        assert read["dyn_command_seconds_count", "set"] == 100
        assert read["dyn_command_seconds_bucket", "set", "+Inf"] == 100
        assert read["dyn_keys",] == 100 and read["dyn_net_input_bytes_total",] > 100
        assert ("dyn_engine_disk_bytes",) in read and ("dyn_engine_compaction_pending_bytes",) in read
    finally:
        cluster.dispose()


def test_a_port_that_is_taken_is_named(tmp_path: Path, cluster: WireCluster) -> None:
    taken = cluster.nodes[0].port
    other = WireCluster(tmp_path, 1, config=f'metrics = "127.0.0.1:{taken}"')
    try:
        other.nodes[0].start()
        wait_for(lambda: "does not start" in other.nodes[0].log, "it gives up")
        assert f"no metrics at 127.0.0.1:{taken} (setting 'metrics'): " in other.nodes[0].log
    finally:
        other.dispose()


def test_client_list_shows_descriptors_and_buffers(cluster: WireCluster) -> None:
    node = cluster.nodes[0]
    with node.client(client_name="asks") as client, raw(node.port) as half:
        half.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$100000\r\n" + b"x" * 50_000)

        def half_sent() -> list[dict[str, str]]:
            return [row for row in client.client_list() if int(row["qbuf"]) >= 50_000]

        wait_for(lambda: len(half_sent()) == 1, "what was sent is counted")
        row = half_sent()[0]
        asks = next(row for row in client.client_list() if row["name"] == "asks")
        assert int(row["fd"]) > 0 and int(asks["fd"]) > 0 and row["fd"] != asks["fd"]
        assert int(row["tot-mem"]) >= int(row["qbuf"]) and asks["omem"] == "0"
