"""What `make bench` compares with besides a bare redis-server: redis with two replicas, and a client that waits for one.

Theory. A SET that a bare redis-server has acknowledged is on one machine. A client that wants it on two sends WAIT 1 after
it. That is about what W=2 means (a WAIT that fails leaves the SET where it is). redis-benchmark cannot send two commands
in turn, so a small client does: each of 50 connections sends a batch and waits for all its replies. It measures
the other servers, too, so that their ratio has the same client on both sides. One WAIT follows each batch: one SET at
-P 1 and 16 at -P 16.
"""

from __future__ import annotations

import random
import selectors
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import redis

from tests.servers import Served, cpu_s, redis_server

CONNECTIONS = 50
KEYS = 100_000
VALUE = b"x" * 100
_DIFFERENT_BATCHES = 512  # made beforehand
WAIT = b"*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$1\r\n0\r\n"


@contextmanager
def replicated_redis(scratch: Path) -> Iterator[Served]:
    """A redis-server with two replicas. The port is that of the first one; the processes are all three."""
    with ExitStack() as stack:
        first = stack.enter_context(redis_server(scratch))
        pids = list(first.pids)
        for _ in range(2):
            options = ["--replicaof", "127.0.0.1", str(first.port), "--repl-diskless-sync-delay", "0"]
            pids += stack.enter_context(redis_server(scratch, *options)).pids
        with redis.Redis(port=first.port) as client:
            deadline_s = time.monotonic() + 60
            while not client.set("replicated", 1) or client.wait(2, 500) < 2:
                if time.monotonic() > deadline_s:
                    raise SystemExit("the replicas of redis-server do not follow it")
        yield Served(first.port, pids)


class Batches(NamedTuple):
    """What a client saw: SETs per second, the sorted times of the batches in ms, servers' CPU seconds per million SETs."""

    rps: float
    took_ms: list[float]
    cpu_s: float

    def percentile(self, percent: float) -> float:
        """The time in ms within which so many of the batches were answered."""
        return self.took_ms[min(int(len(self.took_ms) * percent / 100), len(self.took_ms) - 1)]


def sets_in_batches(served: Served, depth: int, requests: int, waits: bool) -> Batches:
    """Sends `requests` SETs in batches of `depth`, each followed by WAIT 1 if `waits`."""
    choose = random.Random(depth)
    batches = [_batch(choose, depth, waits) for _ in range(_DIFFERENT_BATCHES)]
    with ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection(("127.0.0.1", served.port))) for _ in range(CONNECTIONS)
        ]
        before_s, begun_s = cpu_s(served.pids), time.perf_counter()
        took_ms = _send_all(connections, batches, depth + waits, requests // depth)
        sent, took_s = requests // depth * depth, time.perf_counter() - begun_s
        return Batches(sent / took_s, sorted(took_ms), (cpu_s(served.pids) - before_s) / sent * 1e6)


def _send_all(connections: list[socket.socket], batches: list[bytes], replies: int, count: int) -> list[float]:
    """Sends `count` batches, one at a time on each connection. Returns how long each took, in ms."""
    took_ms: list[float] = []
    with selectors.DefaultSelector() as ready:
        for connection in connections:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ready.register(connection, selectors.EVENT_READ, [replies, time.perf_counter()])
            connection.sendall(batches[0])
        left = count - len(connections)
        while len(took_ms) < count:
            for key, _ in ready.select():
                data = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
                if not data or data.startswith(b"-"):
                    raise SystemExit(f"a server has answered {data[:200]!r}")
                key.data[0] -= data.count(b"\n")
                if key.data[0]:
                    continue
                now_s = time.perf_counter()
                took_ms.append(1000 * (now_s - key.data[1]))
                if left > 0:
                    left -= 1
                    key.data[:] = replies, now_s
                    key.fileobj.sendall(batches[left % len(batches)])  # type: ignore[union-attr]
    return took_ms


def _batch(choose: random.Random, depth: int, waits: bool) -> bytes:
    keys = [b"key:%012d" % choose.randrange(KEYS) for _ in range(depth)]
    return b"".join([b"*3\r\n$3\r\nSET\r\n$16\r\n%b\r\n$100\r\n%b\r\n" % (key, VALUE) for key in keys]) + WAIT * waits
