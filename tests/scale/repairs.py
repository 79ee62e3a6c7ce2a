"""What repairs cost, in keys per CPU second, and what they cost clients: the latency before and during.

Two of the nodes, n1 and n2, answer an open loop of `--rate` requests a second, or nobody asks anything. The CPU of a job
is that of all nodes while it runs, less what the same load took before it for so long.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

from tests.scale.clusters import SCRUBBING, addresses, fill, formed, pids, scrub, settle
from tests.scale.figures import Table, in_ms, say, shown
from tests.scale.generator import Samples, ask, loading, pass_s
from tests.scale.requests import READ, WRITE, Mix, Work
from tests.servers import cpu_s
from tests.wire.cluster import WireCluster, wait_for
from tests.wire.repairs import hints, keys, repair, wipe
from tests.wire.ring_changes import change, wait_settled

COLUMNS = (
    "job", "requests/s", "keys", "s", "keys/s", "CPU s", "keys per CPU s", "p99 ms before", "p99 during", "p99.9", "worst",
)  # fmt: skip
MIX = Mix(0.7)
WITHIN_S = 1800.0


@dataclass(frozen=True)
class Job:
    """`prepare` makes the work that is to be done; `run` returns how many keys were done when it is done."""

    name: str
    run: Callable[[WireCluster, int], int]
    prepare: Callable[[WireCluster, int], None] = lambda cluster, count: None
    config: str = ""


def _measure(table: Table, job: Job, options: argparse.Namespace, rate: float) -> None:
    count = options.some_keys
    with formed(config=job.config) as cluster:
        fill(addresses(cluster.nodes)[0], count)
        settle(cluster, count)
        say(f"{job.name}, {rate:,.0f} requests/s")
        work = Work(addresses(cluster.nodes[:2]), count, MIX, rate, connections=32)
        with loading(work) if rate else nullcontext(Samples()) as samples:
            began_s = time.monotonic()
            spent = _spent(cluster)
            pass_s(options.seconds)
            usual = (_spent(cluster) - spent) / (time.monotonic() - began_s)
            prepared_s = time.monotonic()
            job.prepare(cluster, count)
            known, spent, run_s = pids(cluster), _spent(cluster), time.monotonic()
            done = job.run(cluster, count)
            end_s = time.monotonic()
            took_s = end_s - run_s
            cpu = cpu_s([pid for pid in pids(cluster) if pid in known]) - spent
            cpu += cpu_s([pid for pid in pids(cluster) if pid not in known]) - usual * took_s
    before, during = (
        samples.between(from_s, to_s, READ, WRITE) for from_s, to_s in ((began_s + 1, prepared_s), (run_s, end_s))
    )
    if samples.errors or samples.unanswered:
        say(f"errors: {samples.errors}; unanswered: {samples.unanswered}")
    table.add(
        job.name, shown(rate, 0), f"{done:,}", shown(took_s), shown(done / took_s, 0), shown(cpu),
        shown(done / cpu, 0) if cpu > 0.02 else "", *in_ms(before, 99), *in_ms(during, 99, 99.9, 100),
    )  # fmt: skip


def _spent(cluster: WireCluster) -> float:
    return cpu_s(pids(cluster))


def _table(name: str, options: argparse.Namespace, *jobs: Job) -> Table:
    """Each job with and without requests beside it."""
    table = Table(f"scale-{name}", COLUMNS, f"{options.some_keys:,} keys of 100 B, three nodes, 70 % GET")
    for job in jobs:
        for rate in (0, options.rate):
            _measure(table, job, options, rate)
    return table


# --- repair and scrub


def _repair(cluster: WireCluster, count: int) -> int:
    return int(repair(cluster.nodes[0])["keys_compared"])


def _make_differ(cluster: WireCluster, count: int) -> None:
    """n3 misses new values of one key in ten, and nobody keeps a hint."""
    node, others = cluster.nodes[2], addresses(cluster.nodes[:2])
    for place in others:
        ask(place, b"CONFIG", b"SET", b"hints_bytes_max", b"1")
    node.kill()
    fill(others[0], count // 10)
    node.start()
    wait_for(node.serves, f"{node.name} serves")


def _repair_differences(cluster: WireCluster, count: int) -> int:
    repair(cluster.nodes[0])
    return count // 10


def measure_repair(options: argparse.Namespace) -> Table:
    """Repair of owners that are equal, and that differ; the scrub."""
    return _table(
        "repair", options,
        Job("repair, nothing differs", _repair),
        Job("repair, n3 lacks one in ten", _repair_differences, _make_differ),
        Job("scrub of all nodes", scrub, config=SCRUBBING),
    )  # fmt: skip


# --- whole nodes


def _lose_disk(cluster: WireCluster, count: int) -> None:
    node = cluster.nodes[2]
    node.kill()
    wipe(node)
    node.start()
    wait_for(node.serves, f"{node.name} serves")


def _refill(cluster: WireCluster, count: int) -> int:
    node = cluster.nodes[2]
    wait_for(lambda: keys(node) >= count, "the wiped node has all keys", WITHIN_S)
    return count


def measure_refill(options: argparse.Namespace) -> Table:
    """A wiped node gets everything from the others."""
    return _table("refill", options, Job("refill of a wiped node", _refill, _lose_disk))


def _join(cluster: WireCluster, count: int) -> int:
    plan = change(cluster.nodes, ("join", f"127.0.0.1:{cluster.nodes[3].port}"))
    wait_settled(cluster.nodes, plan["epoch"])
    return keys(cluster.nodes[3])


def measure_transfer(options: argparse.Namespace) -> Table:
    """A fourth node joins, and fetches its share."""
    return _table("transfer", options, Job("transfer to a new node", _join, lambda cluster, count: _add(cluster)))


def _add(cluster: WireCluster) -> None:
    cluster.add()


# --- hints


def _miss(cluster: WireCluster, count: int) -> None:
    """n3 is down while all keys are written anew, and comes back."""
    node = cluster.nodes[2]
    node.kill()
    fill(addresses(cluster.nodes)[0], count)
    node.start()


def _replay(cluster: WireCluster, count: int) -> int:
    node = cluster.nodes[2]
    wait_for(node.serves, f"{node.name} serves")
    wait_for(lambda: hints(cluster.nodes[0])["total"] == 0, "all hints are delivered", WITHIN_S)
    return count


def measure_hints(options: argparse.Namespace) -> Table:
    """Hints of all keys are delivered to a node that was down."""
    return _table("hints", options, Job("hints for a node that was down", _replay, _miss))
