"""Writes that wait for a disk against writes that do not: `python -m tests.paper.buffered_writes` (Dynamo, figure 5).

Section 6.1: Dynamo may keep writes in the memory of storage nodes, and write them to the disk a little later. That lowered
the 99.9th percentile of latencies by a factor of 5 during peak traffic, for an object buffer of a thousand; a server that
crashes may lose what was in its buffer, and so one of the N replicas writes durably.

Here it is the setting `fsync`. With `everysec` a write is in the kernel's buffers when it is acknowledged: a crash of the
process loses nothing, a power loss on W nodes at once up to a second. With `always` it is synced first. Two clusters with
N=3, R=W=2 take turns, so that both share the noise of the machine. The load is an open loop of SETs at a fixed rate.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from tests.paper.plots import Axes
from tests.scale.clusters import addresses, build_of, fill, formed, settle
from tests.scale.figures import Table, in_ms, percentile, publish, say, shown
from tests.scale.generator import measure
from tests.scale.requests import Mix, Work

PLOT = Path(__file__).parent / "buffered_writes.svg"
POLICIES = {"buffered (fsync everysec)": "everysec", "not buffered (fsync always)": "always"}


def main() -> None:
    """Runs the rounds, prints the table and writes the plot."""
    parser = argparse.ArgumentParser(prog="python -m tests.paper.buffered_writes", description=__doc__)
    parser.add_argument("--rate", type=float, default=1000, help="SETs a second")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=10, help="of one round of one cluster")
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--markdown", type=Path, help="a file with a place for the table: docs/performance.md")
    parser.add_argument("--plot", type=Path, default=PLOT)
    options = parser.parse_args()
    times: dict[str, list[list[float]]] = {name: [] for name in POLICIES}
    with ExitStack() as stack:
        clusters = {name: stack.enter_context(formed(fsync=fsync)) for name, fsync in POLICIES.items()}
        build = build_of(next(iter(clusters.values())))
        for cluster in clusters.values():
            fill(addresses(cluster.nodes)[0], options.keys)
            settle(cluster, options.keys)
        for number in range(options.rounds):
            for name, cluster in clusters.items():
                work = Work(addresses(cluster.nodes), options.keys, Mix(0), options.rate, connections=30)
                times[name].append(measure(work, options.seconds)[0].all())
                say(f"round {number + 1}, {name}: p99.9 {percentile(times[name][-1], 99.9):.1f} ms")
    publish([_table(times, options)], build, options.markdown)
    options.plot.write_text(_plot(times, options.seconds))


def _table(times: dict[str, list[list[float]]], options: argparse.Namespace) -> Table:
    sizes = f"{options.rate:,.0f} SETs/s of 100 B, {options.rounds} rounds of {options.seconds:g} s each, in turn"
    table = Table("paper-buffered-writes", ("writes", "p50 ms", "p99", "p99.9", "worst", "p99.9, buffered = 1"), sizes)
    together = {name: sorted([each for one in rounds for each in one]) for name, rounds in times.items()}
    base = percentile(next(iter(together.values())), 99.9)
    for name, times_ms in together.items():
        table.add(name, *in_ms(times_ms, 50, 99, 99.9, 100), shown(percentile(times_ms, 99.9) / base))
    table.rows.append(("Dynamo, buffered", "", "", "", "", "1.0"))
    table.rows.append(("Dynamo, not buffered", "", "", "", "", "5 (at the peak)"))
    return table


def _plot(times: dict[str, list[list[float]]], seconds: float) -> str:
    curves = {
        name: [((number + 1) * seconds, percentile(one, 99.9)) for number, one in enumerate(rounds)]
        for name, rounds in times.items()
    }
    top = max(value for curve in curves.values() for _, value in curve)
    step = max(1, round(top / 5 + 0.5))
    end_s = max(x for curve in curves.values() for x, _ in curve)
    axes = Axes(
        "99.9th percentile of SETs in ms (Dynamo, figure 5)", "seconds of load of each cluster", end_s,
        max(1, round(end_s / 6)), [str(step * number) for number in range(7)], (end_s * 0.6, step * 5.8),
    )  # fmt: skip
    return axes.draw(curves)


if __name__ == "__main__":
    main()
