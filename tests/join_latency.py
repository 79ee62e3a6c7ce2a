"""`make bench-join`: what a join costs clients, compared with requests without a join, in one run.

Reads and writes are due at an even pace through the three old nodes (foreground.py), while a fourth node joins and
fetches its share of the keys. The requests without a join are those before it and after it.
"""

from __future__ import annotations

import time

from tests.foreground import ask_while, measure, report, say
from tests.wire.cluster import WireCluster, WireNode
from tests.wire.ring_changes import change, is_settled

WRITES = 0.3  # the share of SETs


def main() -> None:
    """Runs the phases and prints the table."""
    measure("join", __doc__, _phases)


def _phases(cluster: WireCluster, keys: int, rate: int, seconds: float) -> None:
    first = cluster.nodes[0]
    ports = cluster.ports
    before = ask_while(ports, keys, rate, lambda began_s: _passes(first, began_s + seconds), WRITES)
    joining = cluster.add()
    began_s = time.monotonic()
    plan = change(cluster.nodes, ("join", f"127.0.0.1:{joining.port}"))
    say(f"{joining.name} joins, and fetches {sum(move['bytes'] for move in plan['moves'])} bytes; the same requests")
    during = ask_while(ports, keys, rate, lambda _: not is_settled(first, plan["epoch"], 4), WRITES)
    took_s = time.monotonic() - began_s
    say("it is settled; the same requests without a join")
    after = ask_while(ports, keys, rate, lambda began_s: _passes(first, began_s + seconds), WRITES)
    report("join", keys * 3 // 4, took_s, {"before": before, "during": during, "after": after})


def _passes(node: WireNode, end_s: float) -> bool:
    node.document("DYN.CLUSTER", "STATUS")
    return time.monotonic() < end_s


if __name__ == "__main__":
    main()
