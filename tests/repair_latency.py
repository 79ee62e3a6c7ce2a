"""`make bench-repair`: what a repair of many keys costs clients, compared with reads without it, in one run.

Reads are due at an even pace through all nodes (foreground.py). The disk of one node is wiped, so that every key has to
be sent to it. The reads without a repair are those before it and after it.
"""

from __future__ import annotations

import json
import time

from tests.foreground import ask_while, measure, report, say
from tests.wire.cluster import WireCluster, WireNode, dyn, wait_for
from tests.wire.repairs import wipe


def main() -> None:
    """Runs the phases and prints the table."""
    measure("repair", __doc__, _phases)


def _phases(cluster: WireCluster, keys: int, rate: int, seconds: float) -> None:
    before = ask_while(cluster.ports, keys, rate, lambda began_s: _passes(cluster.nodes[0], began_s + seconds))
    wiped = cluster.nodes[2]
    wiped.kill()
    wipe(wiped)
    wiped.start()
    wait_for(wiped.serves, "the wiped node serves")
    wait_for(lambda: set(cluster.nodes[0].states().values()) == {"up"}, "it is up")
    began_s = time.monotonic()
    task = json.loads(dyn("repair", "--no-wait", "--json", port=cluster.ports[0]).stdout)["task"]
    say(f"the disk of {wiped.name} was wiped; reads while task {task} repairs it")
    during = ask_while(cluster.ports, keys, rate, lambda _: _is_running(cluster.nodes[0], task))
    took_s = time.monotonic() - began_s
    document = cluster.nodes[0].document("DYN.TASK", "SHOW", task)
    say(f"task {task}: {document}; reads without a repair")
    after = ask_while(cluster.ports, keys, rate, lambda began_s: _passes(cluster.nodes[0], began_s + seconds))
    report("repair", keys, took_s, {"before": before, "during": during, "after": after})


def _passes(node: WireNode, end_s: float) -> bool:
    node.document("DYN.TASK", "LIST")
    return time.monotonic() < end_s


def _is_running(node: WireNode, task: str) -> bool:
    return bool(node.document("DYN.TASK", "SHOW", task)["state"] == "running")


if __name__ == "__main__":
    main()
