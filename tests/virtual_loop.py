"""An event loop in virtual time, on which whole nodes run in one process without sockets.

Theory. Connections are pairs of objects: what one end writes is read at the other end in the next pass of the loop, in one
piece. Time moves on by `PASS_S` with each pass, and at once to the next timer if nothing else is to do. So every run makes
the same turns.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable
from typing import Any

PASS_S = 0.0002  # virtual time of a pass of the loop
READ_BYTES_MAX = 256 << 10  # that one pass of the loop reads from a socket
_WALL_NS = 1_700_000_000 * 10**9


class _NoSelector(selectors.SelectSelector):
    """Waits for nothing: the loop's time moves on instead."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        self.loop.now_s += max(PASS_S, timeout or 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop in virtual time, in which connections are pairs of objects."""

    def __init__(self) -> None:
        selector = _NoSelector()
        selector.loop = self
        self.now_s = 1000.0
        self.listeners: dict[int, Callable[[], Any]] = {}
        super().__init__(selector)

    def time(self) -> float:
        return self.now_s

    async def create_server(self, factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        self.listeners[port] = factory
        return _Listener()

    async def create_connection(self, factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        if port not in self.listeners:
            raise ConnectionRefusedError(port)
        here, there = Transport(self, factory()), Transport(self, self.listeners[port]())
        here.other, there.other = there, here
        there.protocol.connection_made(there)
        here.protocol.connection_made(here)
        return here, here.protocol

    def run_in_executor(self, executor: Any, function: Any, *args: Any) -> Any:
        done = self.create_future()
        done.set_result(function(*args))
        return done


class _Listener:
    sockets = ()

    def close(self) -> None:
        pass


class _Socket:
    def setsockopt(self, *args: Any) -> None:
        pass


class Transport:
    """One end of a connection. What is written arrives at the other end in the next pass, in one read."""

    other: Transport

    def __init__(self, loop: VirtualLoop, protocol: Any) -> None:
        self._loop = loop
        self.protocol = protocol
        self._arrived = b""
        self._is_asked = self._is_paused = self._is_closed = False

    def write(self, data: bytes) -> None:
        self.other.take(data)

    def writelines(self, pieces: Any) -> None:
        self.other.take(b"".join(pieces))

    def take(self, data: bytes) -> None:
        self._arrived = self._arrived + data if self._arrived else data
        self._ask()

    def _ask(self) -> None:
        if not self._is_asked and not self._is_paused:
            self._is_asked = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._is_asked = False
        if self._is_paused or self._is_closed or not self._arrived:
            return
        data = self._arrived
        if len(data) > READ_BYTES_MAX:
            data, self._arrived = data[:READ_BYTES_MAX], data[READ_BYTES_MAX:]
            self._ask()
        else:
            self._arrived = b""
        self.protocol.data_received(data)

    def pause_reading(self) -> None:
        self._is_paused = True

    def resume_reading(self) -> None:
        self._is_paused = False
        if self._arrived:
            self._ask()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        known = {"socket": _Socket(), "peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 1)}
        return known.get(name, default)

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self._is_closed

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = self.other._is_closed = True
            self._loop.call_soon(self.protocol.connection_lost, None)
            self._loop.call_soon(self.other.protocol.connection_lost, None)

    abort = close


def rule_time(loop: VirtualLoop) -> None:
    """Makes the clocks of the process show the loop's time."""

    def now_ns(*_: Any) -> int:
        return int(loop.now_s * 1e9)

    time.monotonic = loop.time
    time.monotonic_ns = time.clock_gettime_ns = now_ns
    time.time_ns = lambda: _WALL_NS + now_ns()
