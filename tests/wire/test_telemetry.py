"""The setting trace_one_in: what nodes send to an OpenTelemetry collector (OTLP over HTTP), as a collector decodes it; and
collectors that are away, answer nothing or junk, which may not harm a node.
"""

from __future__ import annotations

import gzip
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from protocol import resp
from tests.ports import free_ports
from tests.wire.cluster import WireCluster, WireNode, wait_for
from tests.wire.raw import raw

MakeCluster = Callable[..., WireCluster]
Span = tuple[str, Any]  # the node that has sent it, and the span


@contextmanager
def collector() -> Iterator[tuple[int, list[Span], list[str]]]:
    """A collector on this machine: its port, the spans that it has got, and what was wrong with requests."""
    spans: list[Span] = []
    wrong: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            if (self.path, self.headers["content-type"]) != ("/v1/traces", "application/x-protobuf"):
                wrong.append(f"{self.path} {self.headers['content-type']}")
            for told in ExportTraceServiceRequest.FromString(body).resource_spans:
                attributes = {each.key: each.value.string_value for each in told.resource.attributes}
                if attributes["service.name"] != "dyn":
                    wrong.append(str(attributes))
                spans.extend((attributes["dyn.node"], span) for scope in told.scope_spans for span in scope.spans)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1], spans, wrong
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_collector_gets_one_picture_of_a_request_from_all_nodes(make_cluster: MakeCluster) -> None:
    with collector() as (port, spans, wrong):
        told = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "OTEL_BSP_SCHEDULE_DELAY": "100"}
        cluster = make_cluster(nodes=3, config="trace_one_in = 1\n", environments=dict.fromkeys(range(3), told))
        owners = cluster.nodes[0].document("DYN.RING", "LOCATE", "key")["owners"]
        relay = next(node for node in cluster.nodes if node.name == owners[1])
        with relay.client() as client:
            assert client.execute_command("INCR", "key") == 1

        def of_the_request() -> dict[str, Any]:
            root = next((span for node, span in spans if (node, span.name) == (owners[1], "INCR")), None)
            return {node: span for node, span in spans if root is not None and span.trace_id == root.trace_id}

        wait_for(lambda: len(of_the_request()) == 3, "the spans of three nodes")
        cluster.stop()
    found = of_the_request()
    root, coordinator, replica = (found[name] for name in (owners[1], owners[0], owners[2]))
    assert root.parent_span_id == b"" and coordinator.parent_span_id == root.span_id
    assert replica.parent_span_id == coordinator.span_id
    assert {len(span.trace_id) for span in found.values()} == {16} and len(
        {span.span_id for span in found.values()}
    ) == 3
    assert root.events[-1].name == "sent the reply" and "committed" in [event.name for event in replica.events]
    assert all(span.start_time_unix_nano <= span.end_time_unix_nano for span in found.values())
    assert wrong == []


JUNK = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n\xff\xfejunk\x00",
    b"HTTP/1.1 503 Busy\r\nRetry-After: 100000\r\nContent-Length: 5\r\n\r\nlater",
    b"\x00\x01\x02 this is not HTTP\r\n\r\n",
    b"",
)


@contextmanager
def bad_collector(answers: bool) -> Iterator[tuple[int, list[int]]]:
    """A collector that takes connections and answers junk, or nothing: its port, and one item for each connection."""
    connections: list[int] = []
    is_over = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            connections.append(1)
            if answers:
                self.request.recv(1 << 16)
                self.request.sendall(JUNK[len(connections) % len(JUNK)])
            else:
                is_over.wait()

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1], connections
        finally:
            is_over.set()
            server.shutdown()
            thread.join()


SPANS = 6000  # three times what the queue of the library has room for


@pytest.mark.parametrize("kind", ["away", "silent", "junk"])
def test_a_bad_collector_does_not_harm_the_node(kind: str, make_cluster: MakeCluster) -> None:
    with ExitStack() as stack:
        port, connections = (
            (free_ports(1), []) if kind == "away" else stack.enter_context(bad_collector(answers=kind == "junk"))
        )
        told = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "OTEL_BSP_SCHEDULE_DELAY": "100"}
        settings = f"trace_one_in = 1\ntraces_max = {SPANS}\n"
        [node] = (cluster := make_cluster(nodes=1, config=settings, environments={0: told})).nodes
        with raw(node.port, 60) as client:
            for number in range(SPANS):  # one at a time: only the first of a pipeline is traced
                client.sendall(resp.command("SET", f"k{number % 100}", "v"))
                assert client.recv(100) == b"+OK\r\n"
        before_mib = node.resident_mib()
        wait_for(lambda: _uptime_s(node) >= 12, "the traces are over, and were handed to the exporter")
        if kind != "away":
            wait_for(lambda: connections, "the collector was asked")
        assert node.is_healthy() and node.resident_mib() < before_mib + 64
        assert len(node.log.splitlines()) < 200, "it does not fill its log"
        cluster.stop()  # asserts that it ends by itself, with status 0


def _uptime_s(node: WireNode) -> int:
    with node.client() as client:
        return int(client.info("server")["uptime_in_seconds"])
