"""`make bench-pipelines`: pipelines of one client, on a durable cluster of three nodes and a redis-server in one run.

Each test is one long pipeline of one connection, and both servers get it in turn. The time is what the client sees; the
cost is the processor time of all server processes together. Each figure is the median over the rounds, and a ratio is the
median of the ratios of each round. The last three tests belong together: SETs and GETs of the same keys, mixed, and apart.
An error among the replies ends the run. Beyond that nothing asserts.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import redis

from tests.servers import cpu_s, dyn_cluster, redis_server

VALUE = b"v" * 100
FEW_KEYS = 100
MIXED, GETS, SETS = "SET, GET of 100 keys, mixed", "the GETs of it alone", "the SETs of it alone"
_PIPED = re.compile(r"errors: 0, replies: (\d+)")

Words = tuple[bytes, ...]


@dataclass(frozen=True)
class Pipeline:
    """Commands of one connection. `run` sends them to the server at a port, in round `number`."""

    count: int
    run: Callable[[int, int], None]


@dataclass(frozen=True)
class Figures:
    """One run of a pipeline."""

    took_s: float
    cpu_s: float


def main() -> None:
    """Runs the rounds and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.pipeline_rates", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="a regular expression for the pipelines to run")
    parser.add_argument("--engine", default="rocksdb", choices=("rocksdb", "memory"))
    parser.add_argument("--dir", type=Path, help="where the cluster keeps its data (default: a temporary directory)")
    options = parser.parse_args()
    pipelines = {name: each for name, each in _pipelines().items() if re.search(options.only, name)}
    results: dict[tuple[str, str], list[Figures]] = {}
    with (
        tempfile.TemporaryDirectory(dir=options.dir) as scratch,
        redis_server(Path(scratch)) as bare,
        dyn_cluster(Path(scratch), "everysec", options.engine) as cluster,
    ):
        for number in range(options.rounds):
            for name, pipeline in pipelines.items():
                for server, port, pids in (("redis", *bare), ("dyn", *cluster)):
                    print(f"round {number + 1}: {server} {name}", file=sys.stderr, flush=True)
                    results.setdefault((server, name), []).append(_measure(pipeline, port, pids, number))
    _report(pipelines, results, options)


def _pipelines() -> dict[str, Pipeline]:
    def few(words: Callable[[bytes], Iterable[Words]]) -> list[Words]:
        return [each for index in range(30_000) for each in words(b"few:%d" % (index * 7919 % FEW_KEYS))]

    alternating = [
        each for index in range(4000) for each in ((b"SET", b"b:%d" % index, VALUE), (b"GET", b"a:%d" % index))
    ]
    same = [
        each
        for index in range(4000)
        for each in ((b"SET", b"s:%d" % (index % 7), VALUE), (b"GET", b"s:%d" % (index % 7)))
    ]
    some = random.Random(1)
    at_random = [(b"SET", b"key:%d" % some.randrange(3000), b"v") for _ in range(100_000)]
    return {
        "4,000 x (SET b; GET a), redis-py": _by_client(lambda number: alternating),
        "4,000 x (SET k; GET k), 7 keys, redis-py": _by_client(lambda number: same),
        "100,000 SETs of 3,000 keys": _by_pipe(
            lambda number: [(b"SET", b"key:%d" % (index * 7919 % 3000), VALUE) for index in range(100_000)]
        ),
        "the same at random, values of 1 byte": _by_pipe(lambda number: at_random),
        "10,000 SET NX, as many keys": _by_pipe(
            lambda number: [(b"SET", b"nx:%d:%d" % (number, index), VALUE, b"NX") for index in range(10_000)]
        ),
        "10,000 SET NX, one key": _by_pipe(lambda number: [(b"SET", b"one:%d" % number, VALUE, b"NX")] * 10_000),
        "10,000 SET NX, as many keys, redis-py": _by_client(
            lambda number: [(b"SET", b"nxc:%d:%d" % (number, index), b"v", b"NX") for index in range(10_000)]
        ),
        "10,000 SETNX, as many keys": _by_pipe(
            lambda number: [(b"SETNX", b"setnx:%d:%d" % (number, index), b"v") for index in range(10_000)]
        ),
        MIXED: _by_pipe(lambda number: few(lambda key: ((b"SET", key, VALUE), (b"GET", key)))),
        GETS: _by_pipe(lambda number: few(lambda key: ((b"GET", key),))),
        SETS: _by_pipe(lambda number: few(lambda key: ((b"SET", key, VALUE),))),
    }


def _by_client(commands: Callable[[int], list[Words]]) -> Pipeline:
    """By redis-py, as one pipeline."""

    def run(port: int, number: int) -> None:
        with contextlib.closing(redis.Redis(port=port, socket_timeout=60)) as client:
            pipe = client.pipeline(transaction=False)
            for words in commands(number):
                pipe.execute_command(*words)
            pipe.execute()

    return Pipeline(len(commands(0)), run)


def _by_pipe(commands: Callable[[int], list[Words]]) -> Pipeline:
    """By `redis-cli --pipe`."""

    def run(port: int, number: int) -> None:
        data = payloads.get(number) or payloads.setdefault(number, _encoded(commands(number)))
        done = subprocess.run(["redis-cli", "-p", str(port), "--pipe"], input=data, capture_output=True, check=False)
        told = done.stdout.decode() + done.stderr.decode()
        if (found := _PIPED.search(told)) is None or int(found[1]) != count:
            raise SystemExit(f"redis-cli --pipe: {told[-2000:]}")

    payloads: dict[int, bytes] = {}
    count = len(commands(0))
    return Pipeline(count, run)


def _encoded(commands: list[Words]) -> bytes:
    def each(words: Words) -> bytes:
        return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])

    return b"".join([each(words) for words in commands])


def _measure(pipeline: Pipeline, port: int, pids: list[int], number: int) -> Figures:
    before_s, began_s = cpu_s(pids), time.perf_counter()
    pipeline.run(port, number)
    return Figures(time.perf_counter() - began_s, cpu_s(pids) - before_s)


def _report(
    pipelines: dict[str, Pipeline], results: dict[tuple[str, str], list[Figures]], options: argparse.Namespace
) -> None:
    print(f"\n{options.rounds} rounds, medians; engine {options.engine}, 3 nodes, N=3 R=2 W=2; values of 100 bytes\n")
    print("| pipeline | redis s | dyn s | dyn / redis | CPU us a command, redis | CPU us a command, dyn |")
    print("|---|---|---|---|---|---|")
    for name, pipeline in pipelines.items():
        redis_runs, dyn_runs = results["redis", name], results["dyn", name]
        ratio = statistics.median(dyn.took_s / redis.took_s for redis, dyn in zip(redis_runs, dyn_runs, strict=True))
        cells = [f"{statistics.median(run.took_s for run in runs):.3f}" for runs in (redis_runs, dyn_runs)]
        cells.append(f"{ratio:.1f}")
        medians = [statistics.median(run.cpu_s for run in runs) for runs in (redis_runs, dyn_runs)]
        cells += [f"{cpu_s / pipeline.count * 1e6:.1f}" for cpu_s in medians]
        print(f"| {name} | {' | '.join(cells)} |")
    if {MIXED, GETS, SETS} <= pipelines.keys():
        rows = zip(*(results["dyn", name] for name in (MIXED, GETS, SETS)), strict=True)
        share = statistics.median((gets.took_s + sets.took_s) / mixed.took_s for mixed, gets, sets in rows)
        print(f"\nThe mixed pipeline runs at {share:.2f} of the rate of its GETs and SETs apart.")


if __name__ == "__main__":
    main()
