"""Processes that send a load and time its answers.

Theory. A client that asks again once it has been answered (a *closed loop*) asks less just while a server stands still. It
counts a pause of a second as one slow request, not as the thousand that were due meanwhile. So the latency of an *open
loop* is counted from the moment at which a request was due: requests are due at a fixed rate, whatever has become of
those before them, and each is sent on one of many connections without a wait for earlier replies.

A closed loop measures how much gets done. Its latency is that of a batch.

Each process waits in `select`, whose timeouts are exact to some 50 microseconds. How late it sent is told, too: if that is
much, it is the generator that is slow, and not the cluster. All processes of a machine share the clock (CLOCK_MONOTONIC).
"""

from __future__ import annotations

import multiprocessing
import select
import socket
import threading
import time
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection as Pipe
from typing import Any

import hiredis

from protocol.slots import key_slot
from tests.scale.requests import Address, Source, Work, name_of

DRAIN_S = 5.0  # so long the answers that are missing at the end are waited for
RECEIVE_BYTES = 1 << 18
START_S = 60.0


@dataclass
class Samples:
    """The answers by command: when each request was due, in order of the answers, and how long it took in ms."""

    due_s: dict[str, array[float]] = field(default_factory=dict)
    took_ms: dict[str, array[float]] = field(default_factory=dict)
    sent_late_ms: array[float] = field(default_factory=lambda: array("d"))
    errors: dict[str, int] = field(default_factory=dict)
    unanswered: int = 0
    operations: int = 0

    def add(self, kind: str, due_s: float, took_ms: float) -> None:
        """A request was answered."""
        self.due_s.setdefault(kind, array("d")).append(due_s)
        self.took_ms.setdefault(kind, array("d")).append(took_ms)

    def add_all(self, other: Samples) -> None:
        """Adds what another process has seen."""
        for kind in other.due_s:
            self.due_s.setdefault(kind, array("d")).extend(other.due_s[kind])
            self.took_ms.setdefault(kind, array("d")).extend(other.took_ms[kind])
        self.sent_late_ms.extend(other.sent_late_ms)
        for text, count in other.errors.items():
            self.errors[text] = self.errors.get(text, 0) + count
        self.unanswered += other.unanswered
        self.operations += other.operations

    def between(self, from_s: float, to_s: float, *kinds: str) -> list[float]:
        """The sorted times in ms of the requests of these kinds (of all, if none is named) that were due then."""
        return sorted(
            took_ms
            for kind in kinds or self.due_s
            if kind in self.due_s
            for due_s, took_ms in zip(self.due_s[kind], self.took_ms[kind], strict=True)
            if from_s <= due_s < to_s
        )

    def all(self, *kinds: str) -> list[float]:
        """The same for the whole time."""
        return self.between(0, float("inf"), *kinds)


class _Connection:
    """A connection, and what is to be answered on it: for each request its kind, and when it was due."""

    def __init__(self, address: Address, place: int) -> None:
        self.address, self.place = address, place
        self.socket = socket.create_connection(address, timeout=DRAIN_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = hiredis.Reader()
        self.pending: deque[tuple[str, float]] = deque()

    def send(self, kind: str, data: bytes, due_s: float) -> None:
        self.pending.append((kind, due_s))
        self.socket.sendall(data)

    def receive(self, samples: Samples) -> int:
        """Takes the replies that are there. Returns how many."""
        data = self.socket.recv(RECEIVE_BYTES)
        if not data:
            raise ConnectionError(f"{self.address} has closed the connection")
        now_s, count = time.monotonic(), 0
        self.reader.feed(data)
        while (reply := self.reader.gets()) is not False:
            kind, due_s = self.pending.popleft()
            count += 1
            if isinstance(reply, hiredis.ReplyError):
                text = str(reply)[:100]
                samples.errors[text] = samples.errors.get(text, 0) + 1
            else:
                samples.add(kind, due_s, (now_s - due_s) * 1000)
        samples.operations += count
        return count


class _Router:
    """Chooses the connection of a request: of the next node, or of the one that coordinates the key.

    It takes one without a request in flight if there is one, as a pool of connections does. Else one slow request would
    delay those behind it on its connection."""

    def __init__(self, work: Work) -> None:
        count = len(work.addresses)
        self.connections = [
            _Connection(work.addresses[place % count], place % count) for place in range(work.connections)
        ]
        self._next = 0
        by_port: dict[int, deque[_Connection]] = {}
        for connection in self.connections:
            by_port.setdefault(connection.address[1], deque()).append(connection)
        self._by_place = list(by_port.values())
        self._ends: list[int] = []
        self._owners: list[deque[_Connection]] = []
        if work.is_aware:
            self._follow_slots(work.addresses[0], by_port)

    def _follow_slots(self, address: Address, by_port: dict[int, deque[_Connection]]) -> None:
        for _, end, (_, port, *_), *_ in sorted(ask(address, b"CLUSTER", b"SLOTS")):
            self._ends.append(end)
            self._owners.append(by_port[port])

    def choose(self, number: int) -> _Connection:
        self._next += 1
        if self._ends:
            owners = self._owners[bisect_left(self._ends, key_slot(name_of(number)))]
        else:
            owners = self._by_place[self._next % len(self._by_place)]
        for _ in range(len(owners)):
            connection = owners.popleft()
            owners.append(connection)
            if not connection.pending:
                break
        return connection


def ask(address: Address, *words: bytes) -> Any:
    """The reply to one command."""
    with socket.create_connection(address, timeout=START_S) as connection:
        connection.sendall(hiredis.pack_command(words))  # type: ignore[arg-type]
        reader = hiredis.Reader()
        while (reply := reader.gets()) is False:
            data = connection.recv(RECEIVE_BYTES)
            if not data:
                raise ConnectionError(f"{address} has closed the connection")
            reader.feed(data)
    if isinstance(reply, hiredis.ReplyError):
        raise reply
    return reply


def _run_open(work: Work, pipe: Pipe, seed: int, samples: Samples) -> list[_Connection]:
    """Sends requests when they are due, until the pipe says to end. Returns the connections."""
    router, source = _Router(work), Source(work, seed)
    by_socket = {connection.socket: connection for connection in router.connections}
    waited_for: list[Any] = [pipe, *by_socket]
    pipe.send("ready")
    pipe.recv()
    interval_s = 1 / work.rate
    due_s = time.monotonic() + source._rng.random() * interval_s
    while True:
        now_s = time.monotonic()
        while due_s <= now_s:
            kind, number, data = source.next()
            connection = router.choose(number)
            connection.send(f"{kind} {connection.place}" if work.pings else kind, data, due_s)
            samples.sent_late_ms.append((time.monotonic() - due_s) * 1000)
            due_s += interval_s
        for each in select.select(waited_for, [], [], max(0.0, due_s - time.monotonic()))[0]:
            if each is pipe:
                return router.connections
            by_socket[each].receive(samples)


def _run_closed(work: Work, pipe: Pipe, seed: int, samples: Samples) -> list[_Connection]:
    """Each connection has `depth` requests in flight, until the pipe says to end. Returns the connections."""
    router, source = _Router(work), Source(work, seed)
    left = dict.fromkeys(router.connections, 0)
    by_socket = {connection.socket: connection for connection in router.connections}
    waited_for: list[Any] = [pipe, *by_socket]

    def begin(connection: _Connection) -> None:
        requests = [source.next() for _ in range(work.depth)]
        now_s = time.monotonic()
        connection.pending.extend([(kind, now_s) for kind, _, _ in requests])
        connection.socket.sendall(b"".join([data for _, _, data in requests]))
        left[connection] = work.depth

    pipe.send("ready")
    pipe.recv()
    for connection in router.connections:
        begin(connection)
    while True:
        for each in select.select(waited_for, [], [])[0]:
            if each is pipe:
                return router.connections
            connection = by_socket[each]
            left[connection] -= connection.receive(samples)
            if not left[connection]:
                begin(connection)


def _drain(connections: Sequence[_Connection], samples: Samples) -> None:
    end_s = time.monotonic() + DRAIN_S
    by_socket = {connection.socket: connection for connection in connections}
    while True:
        waiting = [connection.socket for connection in connections if connection.pending]
        ready = select.select(waiting, [], [], max(0.0, end_s - time.monotonic()))[0] if waiting else []
        if not ready:
            break
        for each in ready:
            by_socket[each].receive(samples)
    samples.unanswered += sum([len(connection.pending) for connection in connections])


def _process(work: Work, pipe: Pipe, seed: int) -> None:
    """The main function of a process."""
    samples = Samples()
    run = _run_open if work.rate else _run_closed
    connections = run(work, pipe, seed, samples)
    pipe.recv()
    _drain(connections, samples)
    pipe.send(samples)


@contextmanager
def loading(work: Work, processes: int = 1) -> Iterator[Samples]:
    """Sends the load within. What is yielded is empty, and complete at the end."""
    samples = Samples()
    context = multiprocessing.get_context("spawn")
    running: list[tuple[Any, Any]] = []
    part = replace(work, rate=work.rate / processes, connections=max(1, work.connections // processes))
    try:
        for seed in range(processes):
            ours, theirs = context.Pipe()
            process = context.Process(target=_process, args=(part, theirs, seed), daemon=True)
            process.start()
            theirs.close()
            running.append((process, ours))
        for _, pipe in running:
            pipe.recv()
        for _, pipe in running:
            pipe.send("go")
        yield samples
        for _, pipe in running:
            pipe.send("end")
        for _, pipe in running:
            samples.add_all(pipe.recv())
        for process, _ in running:
            process.join()
    finally:
        for process, _ in running:
            process.kill()


def pass_s(seconds: float) -> None:
    """Lets a load or a fault last: its length is what is measured."""
    threading.Event().wait(seconds)


def measure(work: Work, seconds: float, processes: int = 1) -> tuple[Samples, float]:
    """Sends the load for so long. Returns what was seen, and the exact duration in seconds."""
    with loading(work, processes) as samples:
        began_s = time.monotonic()
        pass_s(seconds)
        took_s = time.monotonic() - began_s
    return samples, took_s
