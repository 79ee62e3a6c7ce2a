"""`make bench-join`: what a join costs those who are served meanwhile, against requests without it, in one run.

Reads and writes are due at an even pace through the three old nodes (foreground.py), while a fourth joins and fetches its
share of the keys; the requests without a join are those before it and those after it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.foreground import ask_while, report, value_of
from tests.wire.cluster import WireCluster, WireNode, wait_for
from tests.wire.repairs import hints, write
from tests.wire.ring_changes import change, is_settled

WRITES = 0.3  # the share of SETs


def main() -> None:
    """Runs the phases and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.join_latency", description=__doc__)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--rate", type=int, default=1000, help="requests a second")
    parser.add_argument("--seconds", type=float, default=15, help="of requests before the join, and after it")
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
    first = cluster.nodes[0]
    ports = cluster.ports
    write(cluster.nodes, {f"key:{number}": value_of(number) for number in range(keys)})
    wait_for(lambda: hints(first)["total"] == 0, "the writes have settled")
    _say(f"{keys} keys are there; {rate} requests a second without a join")
    before = ask_while(ports, keys, rate, lambda began_s: _passes(first, began_s + seconds), WRITES)
    joining = cluster.add()
    began_s = time.monotonic()
    plan = change(cluster.nodes, ("join", f"127.0.0.1:{joining.port}"))
    _say(f"{joining.name} joins, and fetches {sum(move['bytes'] for move in plan['moves'])} bytes; the same requests")
    during = ask_while(ports, keys, rate, lambda _: not is_settled(first, plan["epoch"], 4), WRITES)
    took_s = time.monotonic() - began_s
    _say("it is settled; the same requests without a join")
    after = ask_while(ports, keys, rate, lambda began_s: _passes(first, began_s + seconds), WRITES)
    report("join", keys * 3 // 4, took_s, {"before": before, "during": during, "after": after})


def _passes(node: WireNode, end_s: float) -> bool:
    node.document("DYN.CLUSTER", "STATUS")
    return time.monotonic() < end_s


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
