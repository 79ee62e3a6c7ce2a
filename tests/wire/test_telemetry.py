"""The setting trace_one_in: what nodes send to an OpenTelemetry collector (OTLP over HTTP), as a collector decodes it."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.wire.cluster import WireCluster, wait_for

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
