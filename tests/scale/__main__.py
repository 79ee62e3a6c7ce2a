"""`make scale`: throughput, CPU and memory by the number of keys, the size of values, connections, mixes and nodes.

Each part makes one table, or two. The figures to trust are CPU per operation, over all processes of the servers: machines
are noisy, and throughput is that of one machine on which the clients run, too. A redis-server beside it writes nothing to
disk and replicates nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from tests.scale.clusters import build_of, formed
from tests.scale.figures import Table, publish, say
from tests.scale.repairs import measure_hints, measure_refill, measure_repair, measure_transfer
from tests.scale.shapes import measure_connections, measure_mixes, measure_nodes, measure_values
from tests.scale.sizes import measure_keys, measure_starts

PARTS: dict[str, Callable[[argparse.Namespace], Table]] = {
    "keys": measure_keys,
    "start": measure_starts,
    "values": measure_values,
    "connections": measure_connections,
    "mixes": measure_mixes,
    "nodes": measure_nodes,
    "repair": measure_repair,
    "refill": measure_refill,
    "transfer": measure_transfer,
    "hints": measure_hints,
}


def numbers(text: str) -> list[int]:
    """Whole numbers from `10000,1e6`."""
    return [int(float(word)) for word in text.split(",")]


def main() -> None:
    """Runs the parts and prints their tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale", description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of the parts {', '.join(PARTS)}")
    parser.add_argument("--keys", type=numbers, default=[10_000, 1_000_000], help="keys of 100 B: 10000,1e6,1e7")
    parser.add_argument("--some-keys", type=int, default=100_000, help="keys of all parts but `keys` and `start`")
    parser.add_argument("--requests", type=int, default=200_000, help="of one figure; a fifth of it at -P 1")
    parser.add_argument("--seconds", type=float, default=5, help="of one figure of `mixes` and `nodes`")
    parser.add_argument("--values", type=numbers, default=[10, 1000, 100_000, 1_000_000], help="bytes")
    parser.add_argument("--connections", type=numbers, default=[10, 1000, 10_000])
    parser.add_argument("--nodes", type=numbers, default=[3, 5, 7, 9])
    parser.add_argument("--rate", type=int, default=1000, help="requests a second beside `refill` and `transfer`")
    parser.add_argument("--markdown", type=Path, help="a file with places for the tables: docs/performance.md")
    options = parser.parse_args()
    wanted = options.only.split(",")
    if unknown := [name for name in wanted if name not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}: {', '.join(PARTS)}")
    with formed(nodes=1) as cluster:
        build = build_of(cluster)
    for name in wanted:
        say(f"part {name}")
        publish([PARTS[name](options)], build, options.markdown)


if __name__ == "__main__":
    main()
