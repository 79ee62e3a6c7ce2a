"""What Merkle repair costs on the wire: `python -m tests.paper.repair_bytes` (Dynamo, section 4.7).

"Merkle trees help in reducing the amount of data that needs to be transferred while checking for inconsistencies among
replicas." Two nodes hold 100,000 keys, and one of them has newer records of some. The table shows the bytes that both
sides send until they are equal, per differing key: as the nodes count them, and as the links see them (frames included).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from server.core.records.records import META, RECORDS_END, storage_key_of
from server.core.records.versions import supersede
from server.core.ring.layout import Layout
from tests.sim.host import Host
from tests.sim.world import World

KEYS = 100_000
DIFFERING = (1, 10, 100, 1_000, 10_000)
VALUE = b"v" * 100
PARTITIONS = 128
LEAF_BITS = 20
WITHIN_MS = 600_000


class Cost(NamedTuple):
    """The cost of a repair."""

    counted_bytes: int
    link_bytes: int
    keys_repaired: int


def measure(keys: int, differing: int, leaf_bits: int = LEAF_BITS) -> Cost:
    """The cost with two nodes that hold `keys` keys; one has newer records of `differing` keys, spread evenly."""
    world = World(1, 2, n=2)
    layout = world.layout
    world.layout = Layout(
        layout.cluster, 1, PARTITIONS, 2, 2, 2, layout.members,
        tuple([layout.owners[partition % len(layout.owners)] for partition in range(PARTITIONS)]),
    )  # fmt: skip
    step = max(1, keys // differing)
    for index, host in enumerate(world.hosts):
        host.config = replace(host.config, tree_leaf_bits=leaf_bits)
        batch: dict[bytes, bytes | None] = {META + b"layout": world.layout.encode()}
        for number in range(keys):
            record = supersede(None, b"actor--a", number + 1, VALUE)
            if index and number % step == 0 and number // step < differing:
                record = supersede(record, b"actor--b", number + 1, VALUE)
            batch[storage_key_of(b"key:%d" % number)] = record
        host.disk.commit(batch)
        host.disk.sync(1)
    world.log.clear()
    world.start()
    link_bytes = _count_link_bytes(world)
    n1, n2 = world.hosts
    assert world.run_until(WITHIN_MS, lambda: _compared(world) and _records(n1) == _records(n2))
    counted = [host.running.state.statistics for host in world.hosts]
    return Cost(
        sum(statistics.repair_bytes_sent for statistics in counted),
        sum(link_bytes),
        sum(statistics.keys_repaired for statistics in counted),
    )


def _compared(world: World) -> bool:
    return any(host.running.state.statistics.trees_compared for host in world.hosts)


def _records(host: Host) -> dict[bytes, bytes]:
    return {key: record for key, record in host.disk.data.items() if key < RECORDS_END}


def _count_link_bytes(world: World) -> list[int]:
    """The sizes of all writes to the links from now on: of the repair, and of the gossip of two idle nodes."""
    sizes: list[int] = []
    for host in world.hosts:
        for link in host.links.links:

            def counting(data: bytes, large: Sequence[bytes] = (), write: Any = link.write) -> None:
                sizes.append(len(data) + sum(map(len, large)))
                write(data, large)

            link.write = counting  # type: ignore[method-assign]
    return sizes


def main() -> None:
    """Prints the table."""
    keys = int(sys.argv[1]) if len(sys.argv) > 1 else KEYS
    print(f"{keys} keys on two nodes, values of {len(VALUE)} bytes, {PARTITIONS} partitions")
    print(f"{'differing':>10} {'repaired':>9} {'bytes sent':>11} {'per key':>8} {'on the links':>13} {'per key':>8}")
    for differing in DIFFERING:
        if differing <= keys:
            cost = measure(keys, differing)
            print(
                f"{differing:>10} {cost.keys_repaired:>9} {cost.counted_bytes:>11} "
                f"{cost.counted_bytes // differing:>8} {cost.link_bytes:>13} {cost.link_bytes // differing:>8}"
            )


if __name__ == "__main__":
    main()
