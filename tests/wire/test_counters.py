"""Counters under kill -9 and freezes: no acknowledged increment is lost, and none that was sent once counts twice.

The clients do not repeat a command whose outcome they don't know. So the final value is the number of acknowledged
increments, or above it by at most the number of unknown outcomes.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import redis

from tests.wire.cluster import Client, WireCluster, connect, wait_for
from tests.wire.repairs import stop_and_compare, wait_delivered

COUNTERS = 5
# Each adds one.
INCREMENTS = (
    "INCR counter{0}", "DECRBY down{0} -1", "INCRBYFLOAT float{0} 1.0", "HINCRBY hash{0} field 1",
    "HINCRBYFLOAT hash{0} float 1.0", "ZINCRBY scores{0} 1 member",
)  # fmt: skip
READS = (
    "GET counter{0}", "GET down{0}", "GET float{0}", "HGET hash{0} field", "HGET hash{0} float",
    "ZSCORE scores{0} member",
)  # fmt: skip


class Tally:
    """What the clients were told, by counter."""

    def __init__(self) -> None:
        self.acknowledged: dict[str, int] = {}
        self.unknown: dict[str, int] = {}
        self.total = 0
        self._lock = threading.Lock()

    def count(self, counters: dict[str, int], line: str) -> None:
        """Counts one outcome of an increment."""
        with self._lock:
            counters[line] = counters.get(line, 0) + 1
            self.total += 1


def _increment(port: int, seed: int, tally: Tally, ending: threading.Event) -> None:
    rng = random.Random(seed)
    client: Client | None = None
    while not ending.is_set():
        line = rng.choice(INCREMENTS).format(rng.randrange(COUNTERS))
        try:
            client = client or connect(port, single_connection_client=True)
            client.execute_command(*line.split())
        except (redis.ConnectionError, redis.TimeoutError):
            client = None
            tally.count(tally.unknown, line)  # it may have been sent
        except redis.ResponseError as error:
            if "outcome=unwritten" not in str(error) and "-CLUSTERDOWN" not in str(error):
                tally.count(tally.unknown, line)
        else:
            tally.count(tally.acknowledged, line)


def test_no_acknowledged_increment_is_lost(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster()
    tally, ending = Tally(), threading.Event()
    threads = [
        threading.Thread(target=_increment, args=(port, seed, tally, ending), daemon=True)
        for seed, port in enumerate(cluster.ports * 2)
    ]
    for thread in threads:
        thread.start()

    def more(count: int) -> None:
        goal = tally.total + count
        wait_for(lambda: tally.total >= goal, f"{count} more increments")

    more(300)
    for victim in cluster.nodes[:2]:
        victim.kill()
        more(300)
        victim.start()
        cluster.wait_healthy()
    with cluster.nodes[2].frozen():
        more(300)
    more(100)
    ending.set()
    for thread in threads:
        thread.join(30)
    cluster.wait_healthy()
    wait_delivered(cluster)
    _check(cluster, tally)
    stop_and_compare(cluster)


def _check(cluster: WireCluster, tally: Tally) -> None:
    for increment, read in zip(INCREMENTS, READS, strict=True):
        for number in range(COUNTERS):
            line = increment.format(number)
            least = tally.acknowledged.get(line, 0)
            most = least + tally.unknown.get(line, 0)
            for node in cluster.nodes:
                with node.client() as client:
                    value = float(client.execute_command(*read.format(number).split()) or 0)
                assert least <= value <= most, (line, node.name, value, least, most)
