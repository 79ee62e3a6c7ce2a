"""Clusters to be measured: three nodes or more, filled with keys; their memory, their processor's time, their loops."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from tests.scale.figures import say
from tests.scale.generator import RECEIVE_BYTES, Samples, ask, measure
from tests.scale.requests import Address, Mix, Work, encode_set
from tests.servers import cpu_s
from tests.wire.cluster import WireCluster, WireNode, wait_for
from tests.wire.raw import raw
from tests.wire.repairs import counters, hints, keys

FILL_BATCH = 500
SETTLED_S, SCRUBBED_S = 300.0, 1800.0
SCRUBBING = "scrub_interval_ms = 1000\n"  # the scrub begins anew as soon as it has ended


@contextmanager
def made(
    nodes: int = 3, fsync: str = "everysec", config: str = "", advertised: Mapping[int, int] | None = None
) -> Iterator[WireCluster]:
    """A cluster in a temporary directory that is not formed yet. What its logs say at the end goes to stderr."""
    with tempfile.TemporaryDirectory() as scratch:
        cluster = WireCluster(Path(scratch) / "cluster", nodes, fsync, config, advertised=advertised)
        try:
            yield cluster
        finally:
            with redirect_stdout(sys.stderr):
                cluster.dispose()


@contextmanager
def formed(nodes: int = 3, fsync: str = "everysec", config: str = "") -> Iterator[WireCluster]:
    """A healthy cluster."""
    with made(nodes, fsync, config) as cluster:
        cluster.form()
        yield cluster


def addresses(nodes: Sequence[WireNode]) -> tuple[Address, ...]:
    """Where these nodes serve."""
    return tuple([(node.host.address, node.port) for node in nodes])


def build_of(cluster: WireCluster) -> str:
    """What the nodes run: compiled code or the sources."""
    info: bytes = ask(addresses(cluster.nodes)[0], b"INFO", b"server")
    return next(line.partition(":")[2] for line in info.decode().splitlines() if line.startswith("dyn_build:"))


def fill(address: Address, count: int, value_bytes: int = 100) -> float:
    """Stores the keys 0 to `count` - 1 by pipelines. Returns how many seconds it took."""
    say(f"filling with {count:,} keys of {value_bytes:,} bytes")
    value, began_s = b"v" * value_bytes, time.monotonic()
    batch = max(1, min(FILL_BATCH, (4 << 20) // (value_bytes + 50)))
    with raw(address[1], 60.0, address[0]) as connection:
        for first in range(0, count, batch):
            numbers = range(first, min(first + batch, count))
            connection.sendall(b"".join([encode_set(number, value) for number in numbers]))
            left = 5 * len(numbers)
            while left > 0:
                said = connection.recv(RECEIVE_BYTES)
                if not said or said[:1] == b"-" or b"\n-" in said:
                    raise SystemExit(f"filling failed: {said[:200]!r}")
                left -= len(said)
    return time.monotonic() - began_s


def settle(cluster: WireCluster, count: int) -> None:
    """Waits until every owner has all of them: no hint is open, and the nodes hold `count` keys three times."""
    copies = min(3, len(cluster.nodes))
    wait_for(lambda: hints(cluster.nodes[0])["total"] == 0, "all hints are delivered", SETTLED_S)
    wait_for(lambda: sum(map(keys, cluster.nodes)) >= copies * count, "all owners have all keys", SETTLED_S)


def scrub(cluster: WireCluster, count: int) -> int:
    """Waits until every node has read all its keys once more; for a cluster with the settings `SCRUBBING`. Returns how many
    keys that were."""

    def scrubbed() -> int:
        return min([counters(node)["records_scrubbed"] for node in cluster.nodes])

    goal = scrubbed() + count
    wait_for(lambda: scrubbed() >= goal, "the scrub has read all keys", SCRUBBED_S)
    return len(cluster.nodes) * count


def pids(cluster: WireCluster) -> list[int]:
    """The processes of the nodes."""
    return [node.pid for node in cluster.nodes]


def cost(work: Work, servers: Sequence[int], seconds: float, processes: int = 1) -> tuple[Samples, float, float]:
    """Sends the load for so long. Returns the samples, the operations a second, and the CPU in us of an operation."""
    before_s = cpu_s(servers)
    samples, took_s = measure(work, seconds, processes)
    if samples.errors:
        say(f"errors: {samples.errors}")
    operations = max(1, samples.operations)
    return samples, samples.operations / took_s, (cpu_s(servers) - before_s) / operations * 1e6


def half_of_the_knee(at: tuple[Address, ...], count: int, seconds: float, mix: Mix) -> float:
    """Raises the rate step by step until the 99th percentile is five times that of the first step, and past 20 ms.

    Returns half of the last rate before that: requests a second.
    """
    rate, before, limit_ms = 1000.0, 500.0, 0.0
    while True:
        samples, _ = measure(Work(at, count, mix, rate, connections=32), seconds)
        times_ms = samples.all()
        p99_ms = times_ms[int(len(times_ms) * 0.99)] if times_ms else float("inf")
        late_ms = sorted(samples.sent_late_ms)[int(len(samples.sent_late_ms) * 0.99)]
        say(f"{rate:,.0f} requests/s: p99 {p99_ms:.1f} ms; sent late by {late_ms:.1f} ms (p99)")
        limit_ms = limit_ms or max(20.0, 5 * p99_ms)
        if p99_ms > limit_ms:
            return before / 2
        rate, before = rate * 1.4, rate
