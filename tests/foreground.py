"""Measures what background work costs clients: requests at an even pace, and the latency of each.

A latency is the time from the moment at which a request was due to its answer. So it includes the wait for the request
before it. Machines are noisy, so only the ratio within one run means anything. Nothing here asserts except that every
request is answered correctly.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.wire.cluster import WireCluster, connect, wait_for
from tests.wire.repairs import hints, write

CLIENTS = 48  # so many that one client that waits delays few of the later requests
VALUE_BYTES = 100
POLL_S = 1.0  # from one status request to the next, in all phases alike: these requests cost time, too
WARM_UP_S = 1.0  # opening so many connections at once is a burst, which is not counted


def measure(what: str, description: str | None, phases: Callable[[WireCluster, int, int, float], None]) -> None:
    """Forms a cluster of three, stores the keys and runs the `phases`: (cluster, keys, requests a second, seconds)."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--rate", type=int, default=1000, help="requests a second")
    parser.add_argument("--seconds", type=float, default=15, help=f"of requests before the {what}, and after it")
    parser.add_argument("--config", default="", help="settings of the nodes, as TOML: 'background_keys_per_s = 2000'")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        cluster = WireCluster(Path(scratch) / "cluster", config=options.config)
        try:
            cluster.form()
            write(cluster.nodes, {f"key:{number}": value_of(number) for number in range(options.keys)})
            wait_for(lambda: hints(cluster.nodes[0])["total"] == 0, "the writes have settled")
            say(f"{options.keys} keys are there; {options.rate} requests a second without a {what}")
            phases(cluster, options.keys, options.rate, options.seconds)
        finally:
            for node in cluster.nodes:
                node.dispose()


def say(text: str) -> None:
    """Prints a line about the progress to stderr."""
    print(text, file=sys.stderr, flush=True)


def value_of(number: int) -> bytes:
    """The value of key `number`, which never changes."""
    return (b"%d:" % number).ljust(VALUE_BYTES, b"x")


def ask_while(
    ports: Sequence[int], keys: int, rate: int, goes_on: Callable[[float], bool], writes: float = 0.0
) -> list[float]:
    """Sends requests at an even pace while `goes_on` is true; returns the sorted latencies in ms.

    `goes_on` is called once in `POLL_S` with the time of the beginning. `writes` is the share of SETs.
    """
    ended = threading.Event()
    clients = [Client(ports[at % len(ports)], at, keys, rate / CLIENTS, ended, writes) for at in range(CLIENTS)]
    began_s = time.monotonic()
    for client in clients:
        client.start()
    try:
        while goes_on(began_s):
            ended.wait(POLL_S)
    finally:
        ended.set()
    for client in clients:
        client.join()
        if client.failure:
            raise SystemExit(f"a request failed: {client.failure}")
    return sorted(latency for client in clients for latency in client.latencies_ms)


class Client(threading.Thread):
    """One connection that sends a request whenever one is due."""

    def __init__(self, port: int, place: int, keys: int, rate: float, ended: threading.Event, writes: float) -> None:
        super().__init__(daemon=True)
        self.latencies_ms: list[float] = []
        self.failure = ""
        self._client = connect(port)
        self._random = random.Random(place)
        self._keys = keys
        self._interval_s = 1 / rate
        self._ended = ended
        self._writes = writes

    def run(self) -> None:
        due_s = time.monotonic() + self._random.random() * self._interval_s
        counted_s = due_s + WARM_UP_S
        while not self._ended.wait(max(0.0, due_s - time.monotonic())):
            number = self._random.randrange(self._keys)
            if self._random.random() < self._writes:
                self._client.set(f"key:{number}", value_of(number))
            elif (found := self._client.get(f"key:{number}")) != value_of(number):
                self.failure = f"key:{number} answered {found!r}"
                return
            if due_s >= counted_s:
                self.latencies_ms.append((time.monotonic() - due_s) * 1000)
            due_s += self._interval_s
        self._client.close()


def report(what: str, keys: int, took_s: float, phases: dict[str, list[float]]) -> None:
    """Prints the table of the phases "before", "during" and "after"."""
    print(f"a {what} of {keys} keys: {took_s:.1f} s, {keys / took_s:.0f} keys/s\n")
    print("| requests | count | p50 ms | p99 ms | p99.9 ms |\n|---|---|---|---|---|")
    for name, latencies in phases.items():
        figures = " | ".join(f"{_percentile(latencies, share):.2f}" for share in (0.5, 0.99, 0.999))
        print(f"| {name} | {len(latencies)} | {figures} |")
    without = _percentile(sorted(phases["before"] + phases["after"]), 0.99)
    print(f"\np99 during the {what} over p99 without it: {_percentile(phases['during'], 0.99) / without:.2f}")


def _percentile(latencies: Sequence[float], share: float) -> float:
    return latencies[min(len(latencies) - 1, int(len(latencies) * share))]
