"""The background jobs of `make tails`: each runs alone, beside a small load, while the loops of all nodes are watched.

A job is a function that returns when it is done, and says in a few words what was done. RocksDB's own log tells how many
flushes and compactions there were.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.scale.clusters import addresses, fill, scrub, settle
from tests.scale.figures import Table, in_ms, say
from tests.scale.generator import ask, loading, measure, pass_s
from tests.scale.lags import fact, watched
from tests.scale.requests import READ, WRITE, Mix, Work
from tests.wire.cluster import WireCluster
from tests.wire.raw import raw, read_exactly
from tests.wire.repairs import repair
from tests.wire.ring_changes import change, wait_settled

LOAD_PER_S = 200.0
QUEUES, QUEUED = 12, 90_000
FACTS_S = 2.0  # nodes renew their facts once a second
COLUMNS = (
    "job", "p50 ms of requests", "p99", "worst", "p99.9 ms of PING", "worst", "node", "loop_lag_ms", "its own times",
)  # fmt: skip


@dataclass
class Site:
    """Where the jobs run: a cluster with so many keys, and for how long those last that have no end of their own."""

    cluster: WireCluster
    keys: int
    listed_keys: int
    seconds: float

    @property
    def first(self) -> tuple[str, int]:
        """The address of the first node."""
        return addresses(self.cluster.nodes)[0]


def _nothing(site: Site) -> str:
    pass_s(site.seconds)
    return ""


def _collect_garbage(site: Site) -> str:
    """Clients queue a million commands in transactions: each is an object that collections have to look at. Nothing smaller
    makes a node collect: `gc_collections` of a node under load stays 0."""
    with ExitStack() as stack:
        held = [stack.enter_context(raw(site.first[1], 60.0)) for _ in range(QUEUES)]
        for connection in held:
            connection.sendall(b"MULTI\r\n" + QUEUED * b"*2\r\n$4\r\nECHO\r\n$1\r\nx\r\n")
            read_exactly(connection, len(b"+OK\r\n") + QUEUED * len(b"+QUEUED\r\n"))
        pass_s(FACTS_S)
        info: bytes = ask(site.first, b"INFO", b"stats")
    return f"{fact(info.decode(), 'gc_collections')} collections while {QUEUES * QUEUED:,} commands wait"


def _store(site: Site, rate: float, value_bytes: int) -> None:
    measure(Work(addresses(site.cluster.nodes), site.keys, Mix(0), rate, value_bytes=value_bytes), site.seconds)


def _engine_events(site: Site, event: str) -> int:
    logs = [Path(node.directory / "data" / "LOG") for node in site.cluster.nodes]
    return sum([log.read_text(errors="replace").count(f'"event": "{event}"') for log in logs if log.exists()])


def _flush(site: Site) -> str:
    before = _engine_events(site, "flush_finished")
    _store(site, 400, 20_000)
    return f"{_engine_events(site, 'flush_finished') - before} flushes"


def _compact(site: Site) -> str:
    """Stores values until compactions have ended."""
    before = _engine_events(site, "compaction_finished")
    end_s = time.monotonic() + 10 * site.seconds
    while _engine_events(site, "compaction_finished") == before and time.monotonic() < end_s:
        _store(site, 400, 20_000)
    return f"{_engine_events(site, 'compaction_finished') - before} compactions"


def _sync(site: Site) -> str:
    _store(site, 1000, 1000)
    return f"{site.seconds:.0f} syncs a node"


def _repair(site: Site) -> str:
    return f"{repair(site.cluster.nodes[0])['keys_compared']:,} keys"


def _scrub(site: Site) -> str:
    """At the pace of background work."""
    return f"{scrub(site.cluster, site.keys):,} keys"


def _set_config(site: Site) -> str:
    for number in range(500):
        ask(site.first, b"CONFIG", b"SET", b"slowlog_slower_than_us", b"%d" % (10_000 + number % 2))
    return "500 commands"


def _list(site: Site) -> str:
    return f"{len(ask(site.first, b'KEYS', b'*')):,} keys"


def _transfer(site: Site) -> str:
    joining = site.cluster.add()
    plan = change(site.cluster.nodes, ("join", f"127.0.0.1:{joining.port}"))
    wait_settled(site.cluster.nodes, plan["epoch"])
    return f"{sum([move['partitions'] for move in plan['moves']])} partitions"


def _change_layout(site: Site) -> str:
    plan = change(site.cluster.nodes, ("weight", site.cluster.nodes[0].name, "2"))
    wait_settled(site.cluster.nodes, plan["epoch"])
    return f"{sum([move['partitions'] for move in plan['moves']])} partitions"


Jobs = dict[str, Callable[[Site], str]]
JOBS: Jobs = {
    "nothing": _nothing,
    "garbage collection": _collect_garbage,
    "sync": _sync,
    "flush": _flush,
    "compaction": _compact,
    "repair": _repair,
    "CONFIG SET": _set_config,
    "transfer (a node joins)": _transfer,
    "layout change (a weight)": _change_layout,
    "KEYS *": _list,  # the last one: it fills the cluster further
}
SCRUB: Jobs = {"scrub": _scrub}


def run_jobs(site: Site, table: Table, wanted: Callable[[str], bool], jobs: Jobs = JOBS) -> None:
    """Runs the jobs that are wanted, one after the other."""
    for name, job in jobs.items():
        if not wanted(name):
            continue
        say(f"job: {name}")
        if job is _list and site.listed_keys > site.keys:
            fill(site.first, site.listed_keys)
            settle(site.cluster, site.listed_keys)
        pass_s(FACTS_S)  # what was before is not told of this job
        work = Work(addresses(site.cluster.nodes), site.keys, Mix(0.7), LOAD_PER_S)
        with watched(site.cluster) as lags, loading(work) as requests:
            done = job(site)
        times_ms = requests.all(READ, WRITE)
        table.add(f"{name}: {done}" if done else name, *in_ms(times_ms, 50, 99, 100), *lags.cells())
