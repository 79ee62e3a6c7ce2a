"""`make bench-repair`: what a repair of many keys costs those who read meanwhile, against reads without it, in one run.

What is measured is the time from the moment at which a read was due to its answer, so that a read that has to wait for its
predecessor counts that, too. Reads are due at an even pace through all nodes. The disk of one node is wiped, so that each
key has to be brought there; the reads without a repair are those before it and those after it. Machines are noisy, so only
the ratio within one run means anything. Nothing here asserts but that every read is answered, and rightly.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.wire.cluster import WireCluster, WireNode, connect, dyn, wait_for
from tests.wire.repairs import hints, wipe, write

READERS = 48  # so many that one which waits holds up few of the reads to come
VALUE_BYTES = 100
LOOK_S = 1.0  # how often the cluster is asked how it is, in all phases alike: the asking takes the readers' time, too
WARM_UP_S = 1.0  # so many connections at once are a burst of their own


def main() -> None:
    """Runs the phases and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.repair_latency", description=__doc__)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--rate", type=int, default=1000, help="reads a second")
    parser.add_argument("--seconds", type=float, default=15, help="of reads before the repair, and after it")
    parser.add_argument("--config", default="", help="settings of the nodes, as TOML: 'background_keys_per_s = 2000'")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        cluster = WireCluster(Path(scratch) / "cluster", config=options.config)
        try:
            cluster.form()
            _measure(cluster, options.keys, options.rate, options.seconds)
        finally:
            for node in cluster.nodes:
                node.dispose()


def _measure(cluster: WireCluster, keys: int, rate: int, seconds: float) -> None:
    values = {f"key:{number}": _value(number) for number in range(keys)}
    write(cluster.nodes, values)
    wait_for(lambda: hints(cluster.nodes[0])["total"] == 0, "the writes have settled")
    _say(f"{keys} keys are there; reads of {rate}/s without a repair")
    before = read_while(cluster.ports, keys, rate, lambda began_s: _passes(cluster.nodes[0], began_s + seconds))
    wiped = cluster.nodes[2]
    wiped.kill()
    wipe(wiped)
    wiped.start()
    wait_for(wiped.serves, "the wiped node serves")
    wait_for(lambda: set(cluster.nodes[0].states().values()) == {"up"}, "it is up")
    began_s = time.monotonic()
    task = json.loads(dyn("repair", "--no-wait", "--json", port=cluster.ports[0]).stdout)["task"]
    _say(f"the disk of {wiped.name} was wiped; reads while task {task} repairs it")
    during = read_while(cluster.ports, keys, rate, lambda _: _is_running(cluster.nodes[0], task))
    took_s = time.monotonic() - began_s
    document = cluster.nodes[0].document("DYN.TASK", "SHOW", task)
    _say(f"task {task}: {document}; reads without a repair")
    after = read_while(cluster.ports, keys, rate, lambda began_s: _passes(cluster.nodes[0], began_s + seconds))
    _report(keys, took_s, {"before": before, "during": during, "after": after})


def _value(number: int) -> bytes:
    return (b"%d:" % number).ljust(VALUE_BYTES, b"x")


def _passes(node: WireNode, end_s: float) -> bool:
    node.document("DYN.TASK", "LIST")
    return time.monotonic() < end_s


def _is_running(node: WireNode, task: str) -> bool:
    return bool(node.document("DYN.TASK", "SHOW", task)["state"] == "running")


def read_while(ports: Sequence[int], keys: int, rate: int, goes_on: Callable[[float], bool]) -> list[float]:
    """Reads at an even pace while `goes_on` (asked now and then, with the time of the beginning); the latencies in ms."""
    ended = threading.Event()
    readers = [Reader(ports[place % len(ports)], place, keys, rate / READERS, ended) for place in range(READERS)]
    began_s = time.monotonic()
    for reader in readers:
        reader.start()
    try:
        while goes_on(began_s):
            ended.wait(LOOK_S)
    finally:
        ended.set()
    for reader in readers:
        reader.join()
        if reader.failure:
            raise SystemExit(f"a read failed: {reader.failure}")
    return sorted(latency for reader in readers for latency in reader.latencies_ms)


class Reader(threading.Thread):
    """One connection that reads a key whenever one is due."""

    def __init__(self, port: int, place: int, keys: int, rate: float, ended: threading.Event) -> None:
        super().__init__(daemon=True)
        self.latencies_ms: list[float] = []
        self.failure = ""
        self._client = connect(port)
        self._random = random.Random(place)
        self._keys = keys
        self._interval_s = 1 / rate
        self._ended = ended

    def run(self) -> None:
        due_s = time.monotonic() + self._random.random() * self._interval_s
        counted_s = due_s + WARM_UP_S
        while not self._ended.wait(max(0.0, due_s - time.monotonic())):
            number = self._random.randrange(self._keys)
            found = self._client.get(f"key:{number}")
            if due_s >= counted_s:
                self.latencies_ms.append((time.monotonic() - due_s) * 1000)
            if found != _value(number):
                self.failure = f"key:{number} answered {found!r}"
                return
            due_s += self._interval_s
        self._client.close()


def _report(keys: int, took_s: float, phases: dict[str, list[float]]) -> None:
    print(f"a repair of {keys} keys: {took_s:.1f} s, {keys / took_s:.0f} keys/s\n")
    print("| reads | count | p50 ms | p99 ms | p99.9 ms |\n|---|---|---|---|---|")
    for name, latencies in phases.items():
        figures = " | ".join(f"{_percentile(latencies, share):.2f}" for share in (0.5, 0.99, 0.999))
        print(f"| {name} | {len(latencies)} | {figures} |")
    without = _percentile(sorted(phases["before"] + phases["after"]), 0.99)
    print(f"\np99 during the repair over p99 without it: {_percentile(phases['during'], 0.99) / without:.2f}")


def _percentile(latencies: Sequence[float], share: float) -> float:
    return latencies[min(len(latencies) - 1, int(len(latencies) * share))]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
