"""The port for monitoring (setting `metrics`): /metrics for Prometheus, /healthz and /readyz for service managers.

Theory. This port is for machines of the operator, and shows counts, no keys and no values. A request is answered by the
node's own loop, so an answer also shows that the loop runs: that is all that /healthz says. /readyz says whether clients
should be sent here. The parser is h11's. What a visitor may cost is bounded: `VISITORS_MAX` connections, of which each has
one request of `REQUEST_BYTES_MAX` and `VISIT_S`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

import h11
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from server.shell.metric_families import NodeCollector, not_ready

VISITORS_MAX: Final = 32
REQUEST_BYTES_MAX: Final = 16 << 10
VISIT_S: Final = 10.0
_TEXT, _METRICS = b"text/plain; charset=utf-8", b"text/plain; version=0.0.4; charset=utf-8"

Answer = tuple[int, bytes, bytes]  # status, type of the content, content


class Metrics:
    """What is answered, and the listening socket."""

    def __init__(self, collector: NodeCollector, why_not_ready: Callable[[], str]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(collector)
        ProcessCollector(registry=self._registry)
        self._why_not_ready = why_not_ready
        self._listener: asyncio.Server | None = None
        self.visitors: dict[Visit, None] = {}

    async def listen(self, loop: asyncio.AbstractEventLoop, address: str) -> None:
        """Listens at HOST:PORT. Raises OSError."""
        host, _, port = address.rpartition(":")
        try:
            self._listener = await loop.create_server(lambda: Visit(self, loop), host.strip("[]"), int(port))
        except OSError as error:
            raise OSError(error.errno, f"no metrics at {address} (setting 'metrics'): {error.strerror}") from error

    def answer(self, method: bytes, target: bytes) -> Answer:
        """The answer to a request."""
        if method not in (b"GET", b"HEAD"):
            return 405, _TEXT, b"only GET and HEAD are answered here\n"
        path = target.partition(b"?")[0]
        if path == b"/metrics":
            return 200, _METRICS, generate_latest(self._registry)
        if path == b"/healthz":
            return 200, _TEXT, b"ok\n"
        if path == b"/readyz":
            reason = self._why_not_ready()
            return (503, _TEXT, f"{reason}\n".encode()) if reason else (200, _TEXT, b"ready\n")
        return 404, _TEXT, b"there are /metrics, /healthz and /readyz\n"

    def close(self) -> None:
        """Stops listening, and ends the connections."""
        if self._listener is not None:
            self._listener.close()
        for visit in list(self.visitors):
            visit.end()


class Visit(asyncio.Protocol):
    """One connection, for one request."""

    def __init__(self, metrics: Metrics, loop: asyncio.AbstractEventLoop) -> None:
        self._metrics = metrics
        self._loop = loop
        self._http = h11.Connection(h11.SERVER, REQUEST_BYTES_MAX)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody has connected. If too many have, the connection ends at once."""
        self._transport = cast(asyncio.Transport, transport)
        if len(self._metrics.visitors) >= VISITORS_MAX:
            self._transport.abort()
            return
        self._metrics.visitors[self] = None
        self._deadline = self._loop.call_later(VISIT_S, self._transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        if self in self._metrics.visitors:
            del self._metrics.visitors[self]
            self._deadline.cancel()

    def data_received(self, data: bytes) -> None:
        """A part of the request. What follows it is not read."""
        if self._http.our_state is not h11.IDLE:
            return
        try:
            self._http.receive_data(data)
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            self._send((error.error_status_hint, _TEXT, b"this is no request that can be answered here\n"), False)
            return
        if isinstance(event, h11.Request):
            self._send(self._metrics.answer(event.method, event.target), event.method == b"HEAD")

    def _send(self, answer: Answer, is_head: bool) -> None:
        status, kind, content = answer
        headers = [(b"Content-Type", kind), (b"Content-Length", b"%d" % len(content)), (b"Connection", b"close")]
        data = self._http.send(h11.Response(status_code=status, headers=headers)) or b""
        if not is_head:
            data += self._http.send(h11.Data(data=content)) or b""
        self._transport.write(data)
        self._transport.close()

    def end(self) -> None:
        """Ends the connection."""
        self._transport.abort()


def metrics_of(collector: NodeCollector) -> Metrics:
    """The port of a node."""
    return Metrics(collector, lambda: not_ready(collector.clients))
