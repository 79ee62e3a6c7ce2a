"""`make tails`: how late answers are while all is well, while an owner is slow, frozen or dead, and beside background jobs.

The load is an open loop at half of the knee (generator.py). It uses two of three nodes, n1 and n2: a client of a frozen
node waits for that node, whatever the others do. n3 is the one that is hurt. It owns every key, and coordinates a third
of them.

    slow      what other nodes send to n3 arrives 100 ms late (delays.py)
    frozen    SIGSTOP
    killed    SIGKILL
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.ports import free_ports
from tests.scale.clusters import SCRUBBING, addresses, build_of, fill, formed, half_of_the_knee, made, settle
from tests.scale.delays import delaying
from tests.scale.figures import Table, in_ms, percentile, publish, say, shown
from tests.scale.generator import Samples, loading, pass_s
from tests.scale.jobs import COLUMNS, JOBS, LOAD_PER_S, SCRUB, Site, run_jobs
from tests.scale.requests import READ, WRITE, Mix, Work
from tests.wire.cluster import WireCluster, WireNode, wait_for

MIX = Mix(0.7)
DELAY_S = 0.1
FIRST_S = 2.0
CONNECTIONS = 400  # so many that most requests find one without another request in flight
FAULTS = ("well", "slow", "frozen", "killed")


def main() -> None:
    """Runs the faults and the jobs, and prints the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale.tails", description=__doc__)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--listed-keys", type=int, default=1_000_000, help="keys that KEYS * lists")
    parser.add_argument("--seconds", type=float, default=10, help="before a fault, and of jobs without an end")
    parser.add_argument("--fault-seconds", type=float, default=10, help="how long a fault lasts")
    parser.add_argument("--rate", type=float, default=0, help="requests a second (default: half of the knee)")
    parser.add_argument("--config", default="", help="settings of the nodes, as TOML: 'relay_silence_ms = 450'")
    parser.add_argument(
        "--only", default="", help=f"some of: {', '.join([*FAULTS, *JOBS, *SCRUB])}; by their first words"
    )
    parser.add_argument("--markdown", type=Path, help="a file with places for the tables: docs/performance.md")
    options = parser.parse_args()
    chosen = [word for word in options.only.split(",") if word]

    def wanted(name: str) -> bool:
        return not chosen or any(name.startswith(word) for word in chosen)

    tables: list[Table] = []
    with formed(config=options.config) as cluster:
        build = build_of(cluster)
        fill(addresses(cluster.nodes)[0], options.keys)
        settle(cluster, options.keys)
        if any(map(wanted, FAULTS)):
            tables.append(_faults(cluster, options, wanted))
        if any(map(wanted, [*JOBS, *SCRUB])):
            tables.append(_jobs(cluster, options, wanted))
    publish(tables, build, options.markdown)


def _jobs(cluster: WireCluster, options: argparse.Namespace, wanted: Callable[[str], bool]) -> Table:
    sizes = f"{options.keys:,} keys of 100 B, {LOAD_PER_S:.0f} requests/s beside each job, through all nodes"
    table = Table("tails-jobs", COLUMNS, sizes)
    run_jobs(Site(cluster, options.keys, options.listed_keys, options.seconds), table, wanted)
    if any(map(wanted, SCRUB)):
        with formed(config=SCRUBBING) as scrubbing:
            fill(addresses(scrubbing.nodes)[0], options.keys)
            run_jobs(Site(scrubbing, options.keys, 0, options.seconds), table, wanted, SCRUB)
    return table


def _faults(cluster: WireCluster, options: argparse.Namespace, wanted: Callable[[str], bool]) -> Table:
    rate = options.rate or half_of_the_knee(addresses(cluster.nodes[:2]), options.keys, 2.0, MIX)
    columns = (
        "n3 is",
        "commands",
        "p50 ms before",
        "p99",
        "p99.9",
        "p50 in the first 2 s",
        "p99",
        "p50 then",
        "p99",
        "worst",
    )
    sizes = f"{options.keys:,} keys of 100 B, {rate:,.0f} requests/s, 70 % GET, fsync everysec"
    table = Table("tails", columns, sizes)
    if wanted("well"):
        _measure(table, "well", cluster, rate, options, _nothing)
    if wanted("slow"):
        _slow(table, rate, options)
    if wanted("frozen"):
        _measure(table, "frozen", cluster, rate, options, WireNode.frozen)
    if wanted("killed"):
        _measure(table, "killed", cluster, rate, options, _killed)
    return table


def _measure(
    table: Table,
    what: str,
    cluster: WireCluster,
    rate: float,
    options: argparse.Namespace,
    hurt: Callable[[WireNode], AbstractContextManager[None]],
) -> None:
    """Loads n1 and n2 and hurts n3, and lets the cluster become healthy again."""
    say(f"n3 is {what}: {rate:,.0f} requests/s")
    work = Work(addresses(cluster.nodes[:2]), options.keys, MIX, rate, connections=CONNECTIONS)
    with loading(work) as samples:
        began_s = time.monotonic()
        pass_s(options.seconds)
        hurt_s = time.monotonic()
        with hurt(cluster.nodes[2]):
            pass_s(options.fault_seconds)
            end_s = time.monotonic()
    _add_rows(table, what, samples, began_s, hurt_s, end_s)
    cluster.wait_healthy()


def _add_rows(table: Table, what: str, samples: Samples, began_s: float, hurt_s: float, end_s: float) -> None:
    warm_s = began_s + min(1.0, (hurt_s - began_s) / 2)  # opening the connections is a burst
    for kind in (READ, WRITE):
        before, first, later = (
            samples.between(from_s, to_s, kind)
            for from_s, to_s in ((warm_s, hurt_s), (hurt_s, hurt_s + FIRST_S), (hurt_s + FIRST_S, end_s))
        )
        worst = shown(percentile(samples.between(hurt_s, end_s, kind), 100))
        table.add(what, kind, *in_ms(before, 50, 99, 99.9), *in_ms(first, 50, 99), *in_ms(later, 50, 99), worst)
    late_ms = percentile(sorted(samples.sent_late_ms), 99)
    say(f"the generator was late by {late_ms:.2f} ms (p99); unanswered: {samples.unanswered}; errors: {samples.errors}")
    if samples.errors or samples.unanswered:
        failed = sum(samples.errors.values())
        table.add(what, f"{failed:,} errors, {samples.unanswered:,} unanswered", *[""] * 8)


@contextmanager
def _nothing(_: WireNode) -> Iterator[None]:
    yield


@contextmanager
def _killed(node: WireNode) -> Iterator[None]:
    node.kill()
    yield
    node.start()
    wait_for(node.serves, f"{node.name} serves")


def _slow(table: Table, rate: float, options: argparse.Namespace) -> None:
    """In a cluster of its own, in which others reach n3 by a process that can hold back what they send."""
    port = free_ports(1)
    with made(config=options.config, advertised={2: port}) as cluster, delaying(port, cluster.nodes[2].port) as delay:

        @contextmanager
        def delayed(_: WireNode) -> Iterator[None]:
            delay.send(DELAY_S)
            yield
            delay.send(0.0)

        cluster.form()
        fill(addresses(cluster.nodes)[0], options.keys)
        settle(cluster, options.keys)
        _measure(table, "slow by 100 ms", cluster, rate, options, delayed)


if __name__ == "__main__":
    main()
