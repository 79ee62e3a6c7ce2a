"""By the shape of the load: the size of values, the number of connections, the mix of reads and writes, the nodes."""

from __future__ import annotations

import argparse
import resource
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.bench import run_benchmark
from tests.scale.clusters import addresses, cost, fill, formed, pids, settle
from tests.scale.figures import Table, percentile, say, shown
from tests.scale.generator import pass_s
from tests.scale.requests import READ, WRITE, YCSB, Mix, Work
from tests.servers import Served, cpu_s, redis_server, resident_mib

VALUE_KEYS_BYTES = 200 << 20  # so much is stored of each size of values, at most, and so much asked for
SPARE_FILES = 200  # descriptors of a node beside its clients'
MIXES = {
    "100/0 uniform": Mix(1.0),
    "95/5 uniform": Mix(0.95),
    "50/50 uniform": Mix(0.5),
    "0/100 uniform": Mix(0.0),
    "0/100 zipfian": Mix(0.0, "zipfian"),
    "YCSB A: 50/50 zipfian": YCSB["A"],
    "YCSB B: 95/5 zipfian": YCSB["B"],
    "YCSB C: 100/0 zipfian": YCSB["C"],
    "YCSB D: 95/5 latest": YCSB["D"],
    "YCSB F: read, or read and write": YCSB["F"],
}


def measure_values(options: argparse.Namespace) -> Table:
    """MB/s and CPU by the size of values, beside a redis-server."""
    columns = (
        "bytes of a value",
        "server",
        "SET MB/s",
        "SETs/s",
        "CPU us",
        "p99 ms",
        "GET MB/s",
        "GETs/s",
        "CPU us",
        "p99 ms",
    )
    table = Table(
        "scale-values", columns, f"-P 1, 50 connections, {options.requests // 5:,} requests a figure or 200 MiB"
    )
    with tempfile.TemporaryDirectory() as scratch, redis_server(Path(scratch)) as bare, formed() as cluster:
        for size_bytes in options.values:
            for name, server in (("redis", bare), ("dyn", Served(cluster.ports[0], pids(cluster)))):
                table.add(f"{size_bytes:,}", name, *_values(server, size_bytes, options.requests // 5))
    return table


def _values(server: Served, size_bytes: int, requests: int) -> list[str]:
    keys = max(10, min(100_000, VALUE_KEYS_BYTES // size_bytes))
    requests = max(50, min(requests, VALUE_KEYS_BYTES // size_bytes))
    fill(("127.0.0.1", server.port), keys, size_bytes)
    cells = []
    for test in ("SET", "GET"):
        found = run_benchmark(*server, test, 1, requests, ("-d", str(size_bytes), "-r", str(keys)))
        rates = [shown(found.rps * size_bytes / 1e6), shown(found.rps, 0)]
        cells += [*rates, shown(found.cpu_s), shown(found.p99_ms)]
    return cells


def measure_connections(options: argparse.Namespace) -> Table:
    """Throughput, latency and memory by the number of connections."""
    columns = (
        "connections",
        "server",
        "SET krps",
        "CPU us",
        "p50 ms",
        "p99",
        "GET krps",
        "CPU us",
        "p50 ms",
        "p99",
        "KiB each",
    )
    table = Table(
        "scale-connections", columns, f"-P 1, one node, values of 100 B, {options.requests // 5:,} requests a figure"
    )
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_FILES
    with tempfile.TemporaryDirectory() as scratch:
        words = ("--maxclients", str(limit))
        config = f"clients_max = {limit}\n"
        with redis_server(Path(scratch), *words) as bare, formed(config=config) as cluster:
            for count in options.connections:
                if count > limit:
                    say(f"{count:,} connections are more than the limit on open files allows: {limit:,}")
                    continue
                for name, server in (("redis", bare), ("dyn", Served(cluster.ports[0], pids(cluster)))):
                    table.add(f"{count:,}", name, *_connections(server, count, options.requests // 5))
    return table


def _connections(server: Served, count: int, requests: int) -> list[str]:
    idle_kib = _idle_kib(server, count)  # first: later ones take memory that is free again
    cells = []
    for test in ("SET", "GET"):
        found = run_benchmark(*server, test, 1, max(requests, 2 * count), ("-c", str(count)))
        cells += [shown(found.rps / 1000), shown(found.cpu_s), shown(found.p50_ms), shown(found.p99_ms)]
    return [*cells, shown(idle_kib)]


def _idle_kib(server: Served, count: int) -> float:
    """What an idle connection takes in the memory of the server."""
    before_mib = resident_mib(server.pids[0])
    held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(count)]
    for each in held:
        each.sendall(b"PING\r\n")
    for each in held:
        each.recv(100)
    grown_mib = resident_mib(server.pids[0]) - before_mib
    for each in held:
        each.close()
    return grown_mib * 1024 / count


def measure_mixes(options: argparse.Namespace) -> Table:
    """CPU by the mix of reads and writes, and by which keys they ask for."""
    columns = ("mix", "operations/s", "CPU us of all nodes", "p50 ms of GET", "p99", "p50 ms of SET", "p99")
    sizes = (
        f"{options.some_keys:,} keys of 100 B, 48 connections over three nodes, -P 1, {options.seconds:g} s a figure"
    )
    table = Table("scale-mixes", columns, sizes)
    with formed() as cluster:
        fill(addresses(cluster.nodes)[0], options.some_keys)
        settle(cluster, options.some_keys)
        for name, mix in MIXES.items():
            work = Work(addresses(cluster.nodes), options.some_keys, mix, connections=48)
            samples, rate, cpu_us = cost(work, pids(cluster), options.seconds)
            times = [percentile(samples.all(kind), percent) for kind in (READ, WRITE) for percent in (50, 99)]
            table.add(name, shown(rate, 0), shown(cpu_us), *map(shown, times))
    return table


def measure_nodes(options: argparse.Namespace) -> Table:
    """CPU of an operation by the number of nodes: N stays 3."""
    columns = (
        "nodes",
        "GET CPU us",
        "SET CPU us",
        "GET -P 16 CPU us",
        "SET -P 16 CPU us",
        "idle CPU % of a node",
        "MiB a node",
    )
    sizes = f"{options.some_keys:,} keys of 100 B, N=3, 48 connections over all nodes, {options.seconds:g} s a figure"
    table = Table("scale-nodes", columns, sizes)
    for count in options.nodes:
        with formed(count) as cluster:
            fill(addresses(cluster.nodes)[0], options.some_keys)
            idle_percent = _idle_percent(pids(cluster), options.seconds)
            cells = []
            for depth in (1, 16):
                for mix in (Mix(1.0), Mix(0.0)):
                    work = Work(addresses(cluster.nodes), options.some_keys, mix, depth=depth, connections=48)
                    cells.append(shown(cost(work, pids(cluster), options.seconds)[2]))
            mib = sum([node.resident_mib() for node in cluster.nodes]) / count
            table.add(str(count), *cells, shown(idle_percent, 2), shown(mib, 0))
    return table


def _idle_percent(servers: Sequence[int], seconds: float) -> float:
    before_s = cpu_s(servers)
    pass_s(seconds)
    return (cpu_s(servers) - before_s) / seconds / len(servers) * 100
