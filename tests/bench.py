"""`make bench`: a node of a three-node durable cluster against a bare redis-server, alternating in one run; and against
redis with two replicas, whose client waits for one of them (replicated_redis.py). With `--beside REVISION` a node of a
cluster of that revision runs each test right after this one, and a table compares the two.

It measures what a client sees (throughput and latency of redis-benchmark) and what that costs (CPU seconds of all server
processes together per million operations). Machines are noisy, so only ratios within one run mean anything. Each figure
is the median over the rounds; the share of redis' throughput is the median of the shares of each round. Nothing here
asserts.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.replicated_redis import CONNECTIONS, replicated_redis, sets_in_batches
from tests.revisions import compiled_tree
from tests.servers import cpu_s, dyn_cluster, redis_server

TESTS = (("SET", 1), ("GET", 1), ("SET", 16), ("GET", 16))
BATCHES = "SET by a small client,"


@dataclass(frozen=True)
class Figures:
    """One run of redis-benchmark: throughput, latency percentiles in ms, server CPU seconds per million operations."""

    rps: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    cpu_s: float


def main() -> None:
    """Runs the rounds and prints the table."""
    options = _options()
    beside = compiled_tree(options.beside) if options.beside else None
    results: dict[tuple[str, str, int], list[Figures]] = {}
    with (
        tempfile.TemporaryDirectory(dir=options.dir) as scratch,
        redis_server(Path(scratch)) as bare,
        dyn_cluster(Path(scratch), options.fsync, options.engine) as cluster,
        replicated_redis(Path(scratch)) as replicated,
        ExitStack() as stack,
    ):
        servers = {"redis": bare, "dyn": cluster}
        if beside is not None:
            other = dyn_cluster(Path(scratch) / beside[0], options.fsync, options.engine, beside[1])
            servers[f"dyn at {beside[0]}"] = stack.enter_context(other)
        waiting = {"redis": (bare, False), "redis, 2 replicas, WAIT 1": (replicated, True), "dyn": (cluster, False)}
        for number in range(options.rounds):
            for test, depth in TESTS:
                requests = options.requests * (4 if depth > 1 else 1)
                for name, (port, pids) in list(servers.items())[:: -1 if number % 2 else 1]:
                    print(f"round {number + 1}: {name} {test} -P {depth}", file=sys.stderr, flush=True)
                    results.setdefault((name, test, depth), []).append(run_benchmark(port, pids, test, depth, requests))
            for depth in (1, 16):
                for name, (served, waits) in waiting.items():
                    print(f"round {number + 1}: {name} SET -P {depth}, small client", file=sys.stderr, flush=True)
                    found = sets_in_batches(served, depth, options.requests, waits)
                    times = [found.percentile(percent) for percent in (50, 99, 99.9)]
                    results.setdefault((name, BATCHES, depth), []).append(Figures(found.rps, *times, found.cpu_s))
    _report(results, options, tuple(servers))
    print(f"\nA small client with {CONNECTIONS} connections; SETs at -P 16 are followed by one WAIT for all of them:\n")
    _print_table(results, ((BATCHES, 1), (BATCHES, 16)), tuple(waiting))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=200_000, help="per test at -P 1; four times as many at -P 16")
    parser.add_argument("--fsync", default="everysec", choices=("always", "everysec", "no"))
    parser.add_argument("--engine", default="rocksdb", choices=("rocksdb", "memory"))
    parser.add_argument("--dir", type=Path, help="where the cluster keeps its data (default: a temporary directory)")
    parser.add_argument("--beside", metavar="REVISION", help="compare with the nodes of this revision, too")
    return parser.parse_args()


def run_benchmark(
    port: int, pids: list[int], test: str, depth: int, requests: int, options: Sequence[str] = ()
) -> Figures:
    """Runs redis-benchmark once. `pids` are the servers' processes; `options` are further words for redis-benchmark.

    `test` is one of its tests, or a whole command.
    """
    command = ["redis-benchmark", "-p", str(port), "-c", "50", "-P", str(depth), "-d", "100", "-r", "100000"]
    before_s = cpu_s(pids)
    what = test.split() if " " in test else ["-t", test.lower()]
    words = [*command, *options, "-n", str(requests), *what]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"redis-benchmark failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    took_s = (cpu_s(pids) - before_s) / requests * 1e6
    text = done.stdout.replace("\r", "\n")
    rps = re.search(r"throughput summary: ([\d.]+) requests per second", text)
    if rps is None:
        raise SystemExit(f"redis-benchmark said something unexpected:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    spread = [(float(share), float(ms)) for share, ms in re.findall(r"([\d.]+)% <= ([\d.]+) milliseconds", text)]
    spread = spread[: next((i + 1 for i, (share, _) in enumerate(spread) if share == 100.0), len(spread))]

    def percentile(wanted: float) -> float:
        return next(ms for share, ms in spread if share >= wanted)

    return Figures(float(rps[1]), percentile(50), percentile(99), percentile(99.9), took_s)


def _median(figures: list[Figures], name: str) -> float:
    return statistics.median(getattr(one, name) for one in figures)


def _report(
    results: dict[tuple[str, str, int], list[Figures]], options: argparse.Namespace, names: tuple[str, ...]
) -> None:
    print(
        f"\n{options.rounds} rounds, medians; redis-benchmark -c 50 -d 100 -r 100000; cluster: 3 nodes, N=3 R=2 W=2, "
    )
    print(f"engine {options.engine}, fsync {options.fsync}; CPU: seconds per million operations over all servers\n")
    _print_table(results, TESTS, names)
    for other in names[2:]:
        print(f"\nThis tree by that of {other}, medians of the rounds:\n")
        print("| test | throughput | CPU |\n|---|---|---|")
        for test, depth in TESTS:
            pairs = list(zip(results["dyn", test, depth], results[other, test, depth], strict=True))
            throughput = statistics.median(new.rps / old.rps for new, old in pairs)
            cost = statistics.median(new.cpu_s / old.cpu_s for new, old in pairs)
            print(f"| {test} -P {depth} | {throughput:.2f} | {cost:.2f} |")


def _print_table(
    results: dict[tuple[str, str, int], list[Figures]], tests: Sequence[tuple[str, int]], names: Sequence[str]
) -> None:
    print("| test | server | krps | p50 ms | p99 ms | p99.9 ms | CPU s/M | throughput of redis |")
    print("|---|---|---|---|---|---|---|---|")
    for test, depth in tests:
        for name in names:
            runs = results[name, test, depth]
            # The runs of a round follow each other, so they share the load of the machine.
            pairs = zip(runs, results["redis", test, depth], strict=True)
            ratio = statistics.median(run.rps / redis.rps for run, redis in pairs)
            cells = [f"{_median(runs, 'rps') / 1000:.1f}"]
            cells += [f"{_median(runs, field):.2f}" for field in ("p50_ms", "p99_ms", "p999_ms")]
            cells += [f"{_median(runs, 'cpu_s'):.1f}", f"{ratio:.2f}"]
            print(f"| {test} -P {depth} | {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
