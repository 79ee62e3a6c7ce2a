"""Requests by way of any node against requests to the coordinator: `python -m tests.paper.client_coordination` (table 2).

Section 6.4 of the Dynamo paper: a client that knows the ring sends each request to a node of the key's preference list.
It saves the hop from a random node. Here every Redis Cluster client does that: CLUSTER SLOTS names the node that
coordinates a slot. A plain client sends to any node, which relays what it does not own.

Six nodes, N=3, R=W=2; an open loop at a fixed rate, half GETs. Both kinds of clients take turns, in rounds.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean

from tests.scale.clusters import addresses, build_of, cost, fill, formed, pids, settle
from tests.scale.figures import Table, percentile, publish, say, shown
from tests.scale.requests import READ, WRITE, Mix, Work

NODES = 6
CLIENTS = {"any node (server-driven)": False, "the coordinator (client-driven)": True}
PAPER = {
    "Dynamo, server-driven": ("68.9", "68.5", "3.9", "4.02"),
    "Dynamo, client-driven": ("30.4", "30.4", "1.55", "1.9"),
}


def main() -> None:
    """Runs the rounds and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.paper.client_coordination", description=__doc__)
    parser.add_argument("--rate", type=float, default=1000, help="requests a second")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=10, help="of one round of one kind of clients")
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--markdown", type=Path, help="a file with a place for the table: docs/performance.md")
    options = parser.parse_args()
    times: dict[tuple[str, str], list[float]] = {(name, kind): [] for name in CLIENTS for kind in (READ, WRITE)}
    cpu_us: dict[str, list[float]] = {name: [] for name in CLIENTS}
    with formed(NODES) as cluster:
        build = build_of(cluster)
        fill(addresses(cluster.nodes)[0], options.keys)
        settle(cluster, options.keys)
        for number in range(options.rounds):
            for name, is_aware in CLIENTS.items():
                say(f"round {number + 1}: {name}")
                work = Work(
                    addresses(cluster.nodes), options.keys, Mix(0.5), options.rate, connections=36, is_aware=is_aware
                )
                samples, _, spent_us = cost(work, pids(cluster), options.seconds)
                cpu_us[name].append(spent_us)
                for kind in (READ, WRITE):
                    times[name, kind] += samples.all(kind)
    sizes = f"{NODES} nodes, N=3, {options.rate:,.0f} requests/s, {options.rounds} rounds of {options.seconds:g} s each"
    columns = ("requests to", "p99.9 ms of GET", "p99.9 of SET", "mean of GET", "mean of SET", "CPU us")
    table = Table("paper-client-coordination", columns, sizes)
    for name in CLIENTS:
        tails = [shown(percentile(sorted(times[name, kind]), 99.9)) for kind in (READ, WRITE)]
        means = [shown(fmean(times[name, kind]), 2) for kind in (READ, WRITE)]
        table.add(name, *tails, *means, shown(fmean(cpu_us[name])))
    table.rows += [(name, *cells, "") for name, cells in PAPER.items()]
    publish([table], build, options.markdown)


if __name__ == "__main__":
    main()
