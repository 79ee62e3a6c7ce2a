"""Exports the spans of traced requests to OpenTelemetry (https://opentelemetry.io/docs/specs/otel/trace/).

Theory. With the setting `trace_one_in` the core traces one of so many requests of clients (core/tracing/). Each node
exports its own spans; they have the trace's id, and the id of the span that has asked, so the collector puts the whole
picture together. A span is one node's part of a request: its events are what the node has received, committed and sent. Its
times are in cluster time, on which all nodes agree to some milliseconds.

Nothing here holds up the event loop. Once a second the spans that are over go to the SDK's batch processor, whose thread
sends them; its queue is bounded, and what finds no room is dropped. The usual variables of OpenTelemetry say where they go
(OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_HEADERS, ...).

The libraries are imported only if the setting is on: `pip install 'dyn[otel]'`.

What it costs. Measured with redis-benchmark -t set -c 50 at one of three compiled nodes, in seven rounds that alternate
with a cluster that traces nothing, on a busy machine: one in 100 takes 15 % more CPU a SET (92 instead of 80 us on
average). A collector that is away, silent or answers junk holds up nobody (tests/wire/test_telemetry.py).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from server.core.base.config import Config, ConfigError
from server.core.base.state import State
from server.core.tracing.spans import Span, SpanTurn
from server.core.tracing.traces import Traces

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import SpanContext

_ALL_MS: Final = 1 << 60
_STOP_S: Final = 1.0  # a node that stops waits so long for the last spans to leave
_NS_PER_MS: Final = 1_000_000
_NS_PER_US: Final = 1000


class Telemetry:
    """The exporter of one node's spans."""

    def __init__(self, state: State, traces: Traces, exporter: SpanExporter) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        member = state.member
        self._state = state
        self._traces = traces
        self._resource = Resource.create(
            {"service.name": "dyn", "service.instance.id": member.name, "dyn.node": member.name}
        )
        self._processor = BatchSpanProcessor(exporter)
        traces.is_exporting = True

    def export(self) -> None:
        """Hands the spans that are over to the thread that sends them. Called once a second."""
        for span in self._traces.drain_ended():
            self._processor.on_end(self._converted(span))

    def stop(self) -> None:
        """Exports all spans, and waits for a moment until they are sent."""
        self._traces.expire(_ALL_MS)
        self.export()
        sending = threading.Thread(target=self._processor.shutdown, daemon=True)
        sending.start()
        sending.join(_STOP_S)

    def _converted(self, span: Span) -> ReadableSpan:
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        from opentelemetry.trace import SpanKind

        events = [event for turn in span.turns for event in self._events(turn)]
        begun_ns = self._wall_ns(span.begun_us)
        return ReadableSpan(
            span.name,
            context=_context(span.trace, span.id),
            parent=_context(span.trace, span.parent) if span.parent else None,
            resource=self._resource,
            attributes={"db.system.name": "dyn", "dyn.turns": len(span.turns)},
            events=events,
            kind=SpanKind.SERVER,
            start_time=begun_ns,
            end_time=max([event.timestamp for event in events], default=begun_ns),
            instrumentation_scope=InstrumentationScope("dyn"),
        )

    def _events(self, turn: SpanTurn) -> list[Event]:
        """What a node has done in a turn, in order."""
        from opentelemetry.sdk.trace import Event

        name_of = self._state.layout_name
        steps = [
            (f"received {kind}", {"dyn.peer": name_of(peer)}, at_us) for kind, peer, at_us in turn.received
        ]  # fmt: skip
        steps += [
            (name, {}, at_us)
            for name, at_us in (
                ("has the reply", turn.answered_us), ("turn ended", turn.ended_us), ("committed", turn.committed_us),
            )
            if at_us is not None
        ]  # fmt: skip
        if turn.sent_us is not None:
            steps += [(f"sent {kind}", {"dyn.peer": name_of(peer)}, turn.sent_us) for kind, peer, _ in turn.sent]
            steps += [("sent the reply", {}, turn.sent_us)] if turn.answered_us is not None else []
        return [Event(name, attributes, self._wall_ns(at_us)) for name, attributes, at_us in steps]

    def _wall_ns(self, time_us: int) -> int:
        """Cluster time in nanoseconds since 1970, of a reading of this node's monotonic clock."""
        return time_us * _NS_PER_US + self._state.cluster_time.offset_ms * _NS_PER_MS


def _context(trace: bytes, span: bytes) -> SpanContext:
    from opentelemetry.trace import SpanContext, TraceFlags

    flags = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(int.from_bytes(trace, "big"), int.from_bytes(span, "big"), is_remote=True, trace_flags=flags)


def telemetry_of(config: Config, state: State, traces: Traces) -> Telemetry | None:
    """The exporter that the settings ask for, if they do. Raises ConfigError if its libraries are not installed."""
    if not config.trace_one_in:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise ConfigError(f"setting 'trace_one_in' needs a library: pip install 'dyn[otel]' ({error})") from None
    return Telemetry(state, traces, OTLPSpanExporter())
