"""`make bench-keys`: KEYS, SCAN and commands of many keys over a million keys, compared with a redis-server in one run.

Both servers have the same keys and are asked in turn, over one connection. A second connection sends PING all the while;
its worst time says what a long command costs other clients. Each figure is the median over the rounds. Nothing here
asserts.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import redis

from tests.servers import dyn_cluster, redis_server

BATCH_KEYS = 1000
SCAN_COUNTS = (10, 1000)
SOME_KEYS = 10_000


def main() -> None:
    """Fills both, runs the rounds and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.listing_rates", description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", type=Path, help="where the cluster keeps its data (default: a temporary directory)")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(dir=options.dir) as scratch,
        redis_server(Path(scratch)) as bare,
        dyn_cluster(Path(scratch)) as cluster,
    ):
        servers = {"redis": bare.port, "dyn": cluster.port}
        for name, port in servers.items():
            print(f"filling {name} with {options.keys} keys", file=sys.stderr, flush=True)
            _fill(port, options.keys)
        results: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for number in range(options.rounds):
            for test, (ask, count) in _tests(options.keys).items():
                for name, port in servers.items():
                    print(f"round {number + 1}: {name} {test}", file=sys.stderr, flush=True)
                    results.setdefault((name, test), []).append(_measure(port, ask, count))
    _report(results, options)


def _key(number: int) -> str:
    return f"user:{number:08d}"


def _fill(port: int, keys: int) -> None:
    with contextlib.closing(redis.Redis(port=port, socket_timeout=60)) as client:
        for first in range(0, keys, BATCH_KEYS):
            client.mset({_key(number): "x" * 100 for number in range(first, min(first + BATCH_KEYS, keys))})


def _tests(keys: int) -> dict[str, tuple[Callable[[redis.Redis], int], int]]:
    """The tests by name: what is called, and how many keys or commands that is."""
    names = [_key(number) for number in range(0, keys, max(1, keys // SOME_KEYS))]

    def pages(client: redis.Redis, count: int, limit: int) -> int:
        return sum(1 for _, _ in zip(range(limit), client.scan_iter(count=count), strict=False))

    tests: dict[str, tuple[Callable[[redis.Redis], int], int]] = {
        "KEYS *": (lambda client: len(client.keys("*")), keys),
        "KEYS user:*99": (lambda client: len(client.keys("user:*99")), keys),
    }
    for count in SCAN_COUNTS:
        limit = keys if count > 10 else min(keys, SOME_KEYS)
        tests[f"SCAN COUNT {count}"] = (lambda client, count=count, limit=limit: pages(client, count, limit), limit)
    tests["DBSIZE"] = (lambda client: client.dbsize(), 1)
    tests["RANDOMKEY x 100"] = (lambda client: sum(client.randomkey() is not None for _ in range(100)), 100)
    tests[f"MGET of {len(names)}"] = (lambda client: len(client.mget(names)), len(names))
    tests[f"EXISTS of {len(names)}"] = (lambda client: client.exists(*names), len(names))
    return tests


def _measure(port: int, ask: Callable[[redis.Redis], int], count: int) -> tuple[float, float]:
    """The duration in seconds, and the worst PING of another client meanwhile, in seconds."""
    with contextlib.closing(redis.Redis(port=port, socket_timeout=600)) as client, _probing(port) as waits:
        client.ping()
        began_s = time.perf_counter()
        ask(client)
        took_s = time.perf_counter() - began_s
    return took_s, max(waits)


@contextlib.contextmanager
def _probing(port: int) -> Iterator[list[float]]:
    waits = [0.0]
    ended = threading.Event()

    def probe() -> None:
        with contextlib.closing(redis.Redis(port=port, socket_timeout=60)) as client:
            while not ended.wait(0.002):
                began_s = time.perf_counter()
                client.ping()
                waits.append(time.perf_counter() - began_s)

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        yield waits
    finally:
        ended.set()
        thread.join()


def _report(results: dict[tuple[str, str], list[tuple[float, float]]], options: argparse.Namespace) -> None:
    print(
        f"\n{options.rounds} rounds, medians; {options.keys} keys of 13 bytes with values of 100; 3 nodes, N=3 R=2 W=2\n"
    )
    print("| command | redis s | dyn s | dyn / redis | thousand a second, redis / dyn | worst PING ms, redis / dyn |")
    print("|---|---|---|---|---|---|")
    for test, (_, count) in _tests(options.keys).items():
        redis_s, dyn_s = (statistics.median(took_s for took_s, _ in results[name, test]) for name in ("redis", "dyn"))
        waits = [max(wait_s for _, wait_s in results[name, test]) * 1000 for name in ("redis", "dyn")]
        rates = [count / took_s / 1000 for took_s in (redis_s, dyn_s)]
        print(
            f"| {test} | {redis_s:.3f} | {dyn_s:.3f} | {dyn_s / redis_s:.1f} | {rates[0]:.0f} / {rates[1]:.0f} "
            f"| {waits[0]:.0f} / {waits[1]:.0f} |"
        )


if __name__ == "__main__":
    main()
