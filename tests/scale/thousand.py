"""`make thousand`: what a node costs in a cluster of 10 to 1,000, by simulation: messages, processor time, memory.

The nodes run the real core and codec in virtual time (tests/sim/crowd.py); each size runs in a process of its own. In large
clusters some nodes are whole and the others are models (tests/sim/models.py). Counts are exact, and the same in each run.
Processor time is that of the core on this machine, on the sources; sockets and disks come on top. Memory is what a node
without keys allocates once all others are connected to it, without sockets, and the size of a layout beside it.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from server.core.liveness.liveness import PeerState
from server.core.ring.layout import Layout
from tests.scale.figures import Table, publish, say, shown
from tests.sim.crowd import Crowd, Machine, even_owners, members_of

SIZES = [10, 30, 100, 300, 1000]
PARTITIONS = 16_384
WITHIN_MS = 60_000


def layout_of(nodes: int, partitions: int) -> Layout:
    """A layout of so many nodes in three zones, with N=3."""
    members = members_of(nodes)
    return Layout("c" * 40, 1, partitions, 3, 2, 2, members, even_owners(members, partitions))


def average(crowd: Crowd, seconds: float) -> dict[str, float]:
    """What each live whole node has done in a second, on average, and the most of any."""
    meters = [machine.meter for machine in crowd.live()]
    count = len(meters) * seconds
    return {
        "messages": sum(meter.sent for meter in meters) / count,
        "messages_max": max(meter.sent for meter in meters) / seconds,
        "bytes": sum(meter.bytes_sent for meter in meters) / count,
        "cpu_ms": sum(meter.busy_ns for meter in meters) / count / 1e6,
        "turns": sum(meter.turns for meter in meters) / count,
        "longest_ms": max(meter.longest_ns for meter in meters) / 1e6,
    }


def load(crowd: Crowd, rate: int, seconds: float) -> float:
    """Each node gets `rate` commands a second of its clients, SETs and GETs of random keys."""
    rng = random.Random(3)
    for machine in crowd.live():
        session = machine.node.open_session("10.9.9.9:9", "10.9.9.8:8", machine.now_ms())
        for number in range(int(rate * seconds)):
            key = b"key:%d" % rng.randrange(10**9)
            words = [b"SET", key, b"v" * 100] if number % 2 else [b"GET", key]
            crowd.events.after(rng.randrange(int(seconds * 1000)), partial(machine.command, session, words))
    return crowd.run(seconds)


def death(crowd: Crowd, result: dict[str, Any]) -> float:
    """Kills a node. Notes after how many ms no other sends it requests, and all consider it DOWN."""
    gone = crowd.ends[crowd.layout.members[len(crowd.layout.members) // 2 + 1].id]
    crowd.kill(gone)

    def all_know(*states: PeerState) -> bool:
        return all(machine.node.state.liveness.state(gone.id) in states for machine in crowd.live())

    result["suspect_ms"] = crowd.run_until(lambda: all_know(PeerState.SUSPECT, PeerState.DOWN), WITHIN_MS)
    result["down_ms"] = result["suspect_ms"] + crowd.run_until(lambda: all_know(PeerState.DOWN), WITHIN_MS)
    return float(result["down_ms"]) / 1000


def change(crowd: Crowd, result: dict[str, Any]) -> float:
    """One node makes a layout of the next epoch. Notes after how many ms all have adopted it."""
    maker: Machine = crowd.live()[0]
    following = replace(crowd.layout, epoch=crowd.layout.epoch + 1)
    maker.turn(lambda node: node.services.membership.make(following))

    def all_have_it() -> bool:
        layouts = [machine.node.state.layout for machine in crowd.live()]
        return all(layout is not None and layout.epoch == following.epoch for layout in layouts)

    result["adopted_ms"] = crowd.run_until(all_have_it, WITHIN_MS)
    return float(result["adopted_ms"]) / 1000


def measure_layout(nodes: int, partitions: int) -> dict[str, Any]:
    """The sizes of a layout and of a node by it, and the processor time to read and to prepare the layout."""
    document = layout_of(nodes, partitions).encode()
    began = time.process_time()
    Layout.decode(document)
    decoded = time.process_time()
    layout = layout_of(nodes, partitions)
    made = time.process_time()
    layout.preference_list(0)
    times = {"decode_ms": (decoded - began) * 1000, "prepare_ms": (time.process_time() - made) * 1000}
    tracemalloc.start()
    layout = Layout.decode(document)
    layout.preference_list(0)
    layout_bytes = tracemalloc.get_traced_memory()[0]
    machine = Crowd(layout, sample=1).live()[0]
    before_bytes = tracemalloc.get_traced_memory()[0]
    machine.turn(lambda node: node.services.membership.offer(layout))
    for member in layout.members:
        if member.id != machine.id:
            machine.greet(member.id)
            machine.connect(member.id, machine.node.services.membership.views.words())
    node_bytes = tracemalloc.get_traced_memory()[0] - before_bytes
    tracemalloc.stop()
    return {"layout_mb": layout_bytes / 1e6, "document_mb": len(document) / 1e6, "node_mb": node_bytes / 1e6} | times


def measure(nodes: int, partitions: int, settle_s: int, seconds: int, rate: int, whole: int) -> dict[str, Any]:
    """Measures a cluster of one size, of which `whole` nodes are whole, or all of them if that is 0."""
    result: dict[str, Any] = {"nodes": nodes} | measure_layout(nodes, partitions)
    layout = layout_of(nodes, partitions)
    layout.preference_list(0)
    crowd = Crowd(layout, sample=whole)
    result["whole"] = len(crowd.machines)
    gc.collect()
    gc.disable()  # its pauses grow with all nodes of the process, and not with one

    def part(name: str, run: Callable[[], float]) -> None:
        """Runs a part, which returns its seconds, and notes what the nodes have done in it."""
        crowd.reset()
        result[name] = average(crowd, max(0.001, run()))
        say(f"{nodes} nodes, {name}: {result[name]}")

    def start() -> float:
        crowd.start()
        return crowd.run(settle_s)

    part("start", start)
    part("idle", lambda: crowd.run(seconds))
    result["linked"] = min(len(machine.node.state.links) for machine in crowd.live())
    if not crowd.models.all:
        part("load", lambda: load(crowd, rate, seconds))
    part("death", lambda: death(crowd, result))
    part("change", lambda: change(crowd, result))
    return result


def main() -> None:
    """Measures each size in a process of its own, and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale.thousand", description=__doc__)
    parser.add_argument("--nodes", default=",".join(map(str, SIZES)))
    parser.add_argument("--partitions", type=int, default=PARTITIONS)
    parser.add_argument("--whole", type=int, default=8, help="whole nodes of a large cluster; the others are models")
    parser.add_argument("--large", type=int, default=100, help="a cluster of more nodes has models")
    parser.add_argument("--settle", type=int, default=40, help="virtual seconds before the figures")
    parser.add_argument("--seconds", type=int, default=5, help="virtual seconds of a figure")
    parser.add_argument("--rate", type=int, default=2, help="commands a second of the clients of each node")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--markdown", type=Path, help="a file with a place for the table: docs/performance.md")
    options = parser.parse_args()
    if options.one:
        arguments = (options.one, options.partitions, options.settle, options.seconds, options.rate)
        print(json.dumps(measure(*arguments, options.whole if options.one > options.large else 0)))
        return
    results = []
    for nodes in options.nodes.split(","):
        words = [sys.executable, "-m", "tests.scale.thousand", "--one", nodes]
        for name in ("partitions", "settle", "seconds", "rate", "whole", "large"):
            words += [f"--{name}", str(getattr(options, name))]
        results.append(json.loads(subprocess.run(words, stdout=subprocess.PIPE, check=True, text=True).stdout))
    publish([table_of(results, options)], "the sources, not compiled", options.markdown)


def table_of(results: list[dict[str, Any]], options: argparse.Namespace) -> Table:
    """The figures of all sizes: a row for each figure."""
    table = Table("thousand", ["a node, in a cluster of", *[shown(each["nodes"], 0) for each in results]],
                  f"Q={options.partitions}, N=3, three zones, {options.seconds} s of virtual time each")  # fmt: skip

    def row(text: str, *path: str, digits: int = 0) -> None:
        cells = []
        for result in results:
            value: Any = result
            for name in path:
                value = value.get(name, float("nan")) if isinstance(value, dict) else float("nan")
            cells.append(shown(value, digits))
        table.add(text, *cells)

    row("of these, whole", "whole")
    row("idle: messages sent a second", "idle", "messages", digits=1)
    row("the same, the busiest node", "idle", "messages_max", digits=1)
    row("idle: bytes sent a second", "idle", "bytes")
    row("idle: CPU ms a second", "idle", "cpu_ms", digits=1)
    row(f"the first {options.settle} s: messages sent a second", "start", "messages", digits=1)
    row(f"the first {options.settle} s: CPU ms a second", "start", "cpu_ms")
    row(f"{options.rate} commands/s: messages sent a second", "load", "messages", digits=1)
    row("longest turn, idle, ms", "idle", "longest_ms", digits=1)
    row("longest turn during a start, ms", "start", "longest_ms", digits=1)
    row("longest turn while a death is noticed, ms", "death", "longest_ms", digits=1)
    row("longest turn while a layout is adopted, ms", "change", "longest_ms", digits=1)
    row("a death: no node sends it requests after ms", "suspect_ms")
    row("a death: DOWN everywhere after ms", "down_ms")
    row("a new layout: CPU ms to read it", "decode_ms")
    row("a new layout: CPU ms to prepare it", "prepare_ms")
    row("a layout, MB of the document", "document_mb", digits=2)
    row("a layout, MB in memory", "layout_mb", digits=1)
    row("a node without keys and sockets, MB", "node_mb", digits=1)
    return table


if __name__ == "__main__":
    main()
