"""Spans for OpenTelemetry: the same picture as `dyn trace`, and an exporter that never holds up the node."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from server.core.base.config import Config, ConfigError
from server.shell import telemetry
from server.shell.telemetry import Telemetry
from tests.core.commands.talking import CONFIG, make_node
from tests.sim.world import World


def _exported(world: World) -> dict[str, ReadableSpan]:
    """One traced INCR at a node that relays it: the exported spans by node."""
    exporters = {}
    for host in world.hosts:
        services = host.running.services
        exporters[host.member.name] = InMemorySpanExporter(), services
    exports = {name: Telemetry(services.state, services.traces, one) for name, (one, services) in exporters.items()}
    host = world.owners(b"k")[1]
    session = host.running.open_session("10.0.0.9:1", "10.0.0.1:1", host.now_ms())
    host.deliver("sample", lambda: host.running.traced_command(session, [b"INCR", b"k"], host.now_ms()))
    world.run(12_000)
    found = {}
    for name, (one, _) in exporters.items():
        exports[name].export()
        exports[name].stop()
        [found[name]] = one.get_finished_spans()
    return found


def test_the_spans_of_all_nodes_make_one_picture() -> None:
    world = World(3, 3)
    world.start()
    world.run(5000)
    first, relay, third = (host.member.name for host in world.owners(b"k"))
    spans = _exported(world)
    assert len({span.context.trace_id for span in spans.values()}) == 1
    root, coordinator, replica = spans[relay], spans[first], spans[third]
    assert (root.name, root.parent) == ("INCR", None)
    assert coordinator.parent.span_id == root.context.span_id
    assert replica.parent.span_id == coordinator.context.span_id
    assert coordinator.name == "RELAY"
    assert root.resource.attributes["service.name"] == "dyn"
    assert root.resource.attributes["dyn.node"] == relay
    events = [event.name for event in root.events]
    assert events[:4] == ["turn ended", "committed", "sent RELAY", "received COMPARE"] or "received RELAYED" in events
    assert events[-1] == "sent the reply"
    peers = [event.attributes["dyn.peer"] for event in root.events if event.name == "sent RELAY"]
    assert peers == [first]
    begun_ns, ended_ns = root.start_time, root.end_time
    now_ns = world.hosts[0].running.state.time_ms * 1_000_000
    assert now_ns - 60_000_000_000 < begun_ns < ended_ns <= now_ns, "cluster time"
    assert begun_ns - 100_000_000 < coordinator.start_time < ended_ns + 100_000_000


class _Stuck(SpanExporter):
    """A collector that does not answer."""

    def __init__(self) -> None:
        self.begun, self.released = threading.Event(), threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.begun.set()
        self.released.wait()
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Nothing to close."""


def test_a_collector_that_does_not_answer_holds_up_nobody() -> None:
    node, stuck = make_node(1, Config.of({"engine": "memory", "tree_leaf_bits": 14, "traces_max": 3000})), _Stuck()
    exporting = Telemetry(node.state, node.services.traces, stuck)
    traces = node.services.traces
    for _ in range(3):  # more spans than the queue of the batch processor has room for
        for _ in range(1000):
            assert traces.begin("GET") is not None
        traces.expire(1 << 60)
        exporting.export()
    assert stuck.begun.wait(60), "the thread of the processor is at work"
    assert not stuck.released.is_set(), "and `export` has returned all the same"
    stuck.released.set()
    exporting.stop()


def test_without_the_setting_nothing_is_imported_or_exported() -> None:
    node = make_node(1)
    assert telemetry.telemetry_of(CONFIG, node.state, node.services.traces) is None
    code = "import sys, server.shell.server; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"[]\n"
    traces = node.services.traces
    assert traces.begin("GET") is not None
    traces.expire(1 << 60)
    assert traces.drain_ended() == []


def test_a_missing_library_is_a_setting_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    node = make_node(1)
    with pytest.raises(ConfigError, match=r"pip install 'dyn\[otel\]'"):
        telemetry.telemetry_of(Config.of({"trace_one_in": 2}), node.state, node.services.traces)
