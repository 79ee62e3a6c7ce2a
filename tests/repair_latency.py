"""`make bench-repair`: what a repair of many keys costs those who read meanwhile, against reads without it, in one run.

Reads are due at an even pace through all nodes (foreground.py). The disk of one node is wiped, so that each key has to be
brought there; the reads without a repair are those before it and those after it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from tests.foreground import ask_while, report, value_of
from tests.wire.cluster import WireCluster, WireNode, dyn, wait_for
from tests.wire.repairs import hints, wipe, write


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
    values = {f"key:{number}": value_of(number) for number in range(keys)}
    write(cluster.nodes, values)
    wait_for(lambda: hints(cluster.nodes[0])["total"] == 0, "the writes have settled")
    _say(f"{keys} keys are there; reads of {rate}/s without a repair")
    before = ask_while(cluster.ports, keys, rate, lambda began_s: _passes(cluster.nodes[0], began_s + seconds))
    wiped = cluster.nodes[2]
    wiped.kill()
    wipe(wiped)
    wiped.start()
    wait_for(wiped.serves, "the wiped node serves")
    wait_for(lambda: set(cluster.nodes[0].states().values()) == {"up"}, "it is up")
    began_s = time.monotonic()
    task = json.loads(dyn("repair", "--no-wait", "--json", port=cluster.ports[0]).stdout)["task"]
    _say(f"the disk of {wiped.name} was wiped; reads while task {task} repairs it")
    during = ask_while(cluster.ports, keys, rate, lambda _: _is_running(cluster.nodes[0], task))
    took_s = time.monotonic() - began_s
    document = cluster.nodes[0].document("DYN.TASK", "SHOW", task)
    _say(f"task {task}: {document}; reads without a repair")
    after = ask_while(cluster.ports, keys, rate, lambda began_s: _passes(cluster.nodes[0], began_s + seconds))
    report("repair", keys, took_s, {"before": before, "during": during, "after": after})


def _passes(node: WireNode, end_s: float) -> bool:
    node.document("DYN.TASK", "LIST")
    return time.monotonic() < end_s


def _is_running(node: WireNode, task: str) -> bool:
    return bool(node.document("DYN.TASK", "SHOW", task)["state"] == "running")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
