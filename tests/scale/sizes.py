"""By the number of keys: what an operation costs, what a key takes in memory, how long a node needs to start."""

from __future__ import annotations

import argparse
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench import TESTS, run_benchmark
from tests.scale.clusters import addresses, fill, formed, pids, settle
from tests.scale.figures import Table, shown
from tests.servers import Served, cpu_s, redis_server, resident_mib
from tests.wire.cluster import wait_for
from tests.wire.repairs import keys as keys_of


def measure_keys(options: argparse.Namespace) -> Table:
    """Throughput and CPU by redis-benchmark over all keys, and the memory of a key."""
    columns = (
        "keys",
        "server",
        *[f"{test} -P {depth}: krps (CPU us)" for test, depth in TESTS],
        "B a key",
        "MiB a node",
    )
    table = Table(
        "scale-keys", columns, f"values of 100 B, 50 connections, {options.requests:,} requests a figure at -P 16"
    )
    for count in options.keys:
        with tempfile.TemporaryDirectory() as scratch, redis_server(Path(scratch)) as bare:
            _add_row(table, "redis", bare, count, options.requests, lambda: None)
        with formed() as cluster:
            server = Served(cluster.ports[0], pids(cluster))
            _add_row(table, "dyn", server, count, options.requests, lambda: settle(cluster, count))  # noqa: B023
    return table


def _add_row(table: Table, name: str, server: Served, count: int, requests: int, wait: Callable[[], None]) -> None:
    before_mib = _mean_mib(server)
    fill(("127.0.0.1", server.port), count)
    wait()
    after_mib = _mean_mib(server)
    key_bytes = (after_mib - before_mib) * (1 << 20) / count
    table.add(f"{count:,}", name, *_rates(server, count, requests), shown(key_bytes, 0), shown(after_mib, 0))


def _mean_mib(server: Served) -> float:
    return statistics.mean(map(resident_mib, server.pids))


def _rates(server: Served, count: int, requests: int) -> list[str]:
    cells = []
    for test, depth in TESTS:
        found = run_benchmark(*server, test, depth, requests if depth > 1 else requests // 5, ("-r", str(count)))
        cells.append(f"{found.rps / 1000:.1f} ({found.cpu_s:.1f})")
    return cells


def measure_starts(options: argparse.Namespace) -> Table:
    """How long the third node needs until it answers: after a clean stop, and after a crash under load."""
    columns = ("keys", "start after", "s until PING", "s until it has all keys", "CPU s", "s for 1,000,000 keys")
    table = Table("scale-start", columns, "values of 100 B, one node of three, which were filled just before")
    for count in options.keys:
        with formed() as cluster:
            fill(addresses(cluster.nodes)[0], count)
            settle(cluster, count)
            node = cluster.nodes[2]
            for after, number in (("a clean stop", signal.SIGTERM), ("kill -9", signal.SIGKILL)):
                node.signal(number)
                node.wait()
                began_s = time.monotonic()
                node.start()
                wait_for(node.serves, f"{node.name} serves")
                serves_s = time.monotonic() - began_s
                wait_for(lambda: keys_of(node) >= count, f"{node.name} has all keys", 600)  # noqa: B023
                whole_s = time.monotonic() - began_s
                spent_s = cpu_s([node.pid])
                table.add(
                    f"{count:,}", after, shown(serves_s, 2), shown(whole_s, 2), shown(spent_s, 2),
                    shown(serves_s / count * 1e6, 2) if count >= 100_000 else "",
                )  # fmt: skip
                cluster.wait_healthy()
    return table
