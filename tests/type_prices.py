"""`make bench-types`: what commands on collections of 10, 1,000 and 10,000 elements cost, beside a redis-server's.

The first tables have the CPU of all server processes in microseconds a command, over one connection that sends one command
at a time, or 16 in a pipeline. CPU is steadier than time, but compare only what one run has measured. The last table has
what 50 connections get done (redis-benchmark) on a list of 100,000 items and a hash of 10,000 fields. Nothing here asserts.
"""

from __future__ import annotations

import argparse
import random
import socket
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import hiredis

from tests.bench import run_benchmark
from tests.servers import Served, cpu_s, dyn_cluster, redis_server

VALUE = b"v" * 50
SIZES = (10, 1_000, 10_000)
DEPTHS = (1, 16)
LIST_ITEMS, HASH_FIELDS = 100_000, 10_000
FILL_WORDS = 1000
Words = list[bytes]
# What is asked again and again of a collection: (key, a field of it, a number that grows) -> commands.
Ask = Callable[[bytes, bytes, int], list[Words]]


def _element(number: int) -> bytes:
    return b"element:%012d" % number + b"." * 30  # 50 bytes


TESTS: dict[str, tuple[str, Ask]] = {
    "HGET": ("hash", lambda key, field, n: [[b"HGET", key, field]]),
    "HSET": ("hash", lambda key, field, n: [[b"HSET", key, field, b"%050d" % n]]),
    "SISMEMBER": ("set", lambda key, field, n: [[b"SISMEMBER", key, field]]),
    "SADD, SREM": ("set", lambda key, field, n: [[b"SADD", key, b"new:%d" % n], [b"SREM", key, b"new:%d" % n]]),
    "ZSCORE": ("zset", lambda key, field, n: [[b"ZSCORE", key, field]]),
    "ZADD": ("zset", lambda key, field, n: [[b"ZADD", key, b"%d" % n, field]]),
    "ZRANGE 0 9": ("zset", lambda key, field, n: [[b"ZRANGE", key, b"0", b"9"]]),
    "LRANGE 0 9": ("list", lambda key, field, n: [[b"LRANGE", key, b"0", b"9"]]),
    "RPUSH, LPOP": ("list", lambda key, field, n: [[b"RPUSH", key, VALUE], [b"LPOP", key]]),
    "INCR": ("counter", lambda key, field, n: [[b"INCR", key]]),
}
FILLING: dict[str, Callable[[int], Words]] = {
    "hash": lambda number: [_element(number), VALUE],
    "set": lambda number: [_element(number)],
    "zset": lambda number: [b"%d" % number, _element(number)],
    "list": lambda number: [VALUE],
}
ADDING = {"hash": b"HSET", "set": b"SADD", "zset": b"ZADD", "list": b"RPUSH"}
RATES = (
    f"HSET hash:{HASH_FIELDS} element:__rand_int__{'.' * 30} {VALUE.decode()}",
    f"LPUSH list:{LIST_ITEMS} {VALUE.decode()}",
    f"RPOP list:{LIST_ITEMS}",
)


class Connection:
    """A connection that sends commands in pipelines."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._reader = hiredis.Reader()

    def ask(self, commands: list[Words]) -> None:
        """Sends commands at once, and reads their replies. Raises the first error among them."""
        self._socket.sendall(b"".join([hiredis.pack_command(tuple(words)) for words in commands]))
        left = len(commands)
        while left:
            reply = self._reader.gets()
            if reply is False:
                self._reader.feed(self._socket.recv(1 << 16))
                continue
            if isinstance(reply, hiredis.ReplyError):
                raise reply
            left -= 1


def _fill(connection: Connection, kind: str, size: int) -> None:
    for first in range(0, size, FILL_WORDS):
        numbers = range(first, min(first + FILL_WORDS, size))
        words = [word for number in numbers for word in FILLING[kind](number)]
        connection.ask([[ADDING[kind], b"%b:%d" % (kind.encode(), size), *words]])


def _cost_us(connection: Connection, pids: list[int], test: str, size: int, depth: int, count: int) -> float:
    """The CPU of the servers in microseconds a command."""
    kind, ask = TESTS[test]
    rng = random.Random(size)
    key = b"%b:%d" % (kind.encode(), size)
    commands = [words for n in range(count) for words in ask(key, _element(rng.randrange(size)), n)][:count]
    connection.ask(commands[:depth])
    before_s = cpu_s(pids)
    for first in range(0, count, depth):
        connection.ask(commands[first : first + depth])
    return (cpu_s(pids) - before_s) / count * 1e6


def main() -> None:
    """Fills both, measures and prints the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.type_prices", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=2000, help="commands of one figure; ten times as many for redis")
    parser.add_argument("--requests", type=int, default=50_000, help="of one figure of the last table")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as scratch,
        redis_server(Path(scratch)) as bare,
        dyn_cluster(Path(scratch)) as cluster,
    ):
        servers = {"redis": (Connection(bare.port), bare.pids, 10), "dyn": (Connection(cluster.port), cluster.pids, 1)}
        costs: dict[tuple[str, str, int, int], list[float]] = {}
        for connection, *_ in servers.values():
            for kind in ADDING:
                for size in SIZES:
                    _fill(connection, kind, size)
            _fill(connection, "list", LIST_ITEMS)
        for number in range(options.rounds):
            for test in TESTS:
                for size in SIZES if TESTS[test][0] in ADDING else SIZES[:1]:
                    print(f"round {number + 1}: {test} of {size}", file=sys.stderr, flush=True)
                    for depth in DEPTHS:
                        for name, (connection, pids, times) in servers.items():
                            cost_us = _cost_us(connection, pids, test, size, depth, options.count * times)
                            costs.setdefault((name, test, size, depth), []).append(cost_us)
        _report_costs(costs)
        _report_rates([bare, cluster], options.requests)


def _report_costs(costs: dict[tuple[str, str, int, int], list[float]]) -> None:
    for depth in DEPTHS:
        print(f"\nus of CPU a command, redis / dyn, -P {depth}\n")
        print("| elements | " + " | ".join(TESTS) + " |")
        print("|---|" + "---|" * len(TESTS))
        for size in SIZES:
            cells = []
            for test in TESTS:
                pair = [costs.get((name, test, size, depth), []) for name in ("redis", "dyn")]
                cells.append(" / ".join([f"{statistics.median(each):.0f}" for each in pair if each]))
            print(f"| {size:,} | {' | '.join(cells)} |")


def _report_rates(servers: list[Served], requests: int) -> None:
    print(
        f"\n50 connections: thousand a second (us of CPU), a list of {LIST_ITEMS:,}, a hash of {HASH_FIELDS:,} fields\n"
    )
    print("| command | redis -P 1 | dyn -P 1 | redis -P 16 | dyn -P 16 |")
    print("|---|---|---|---|---|")
    for command in RATES:
        cells = []
        for depth in DEPTHS:
            for port, pids in servers:
                got = run_benchmark(port, pids, command, depth, requests, ("-r", str(HASH_FIELDS)))
                cells.append(f"{got.rps / 1000:.1f} ({got.cpu_s:.0f})")
        print(f"| {command.split()[0]} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
