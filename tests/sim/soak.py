"""Thousands of seeds, on all cores: `python -m tests.sim.soak [--seeds N] [--first SEED] [--jobs N] [--ring]`, or
`make soak`. With `--ring` only those in which an operator changes the ring.

Prints how far it is, each seed that breaks a promise, and how to replay it. Exit status 1 if there was one.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import sys
import traceback
from typing import NamedTuple

from tests.sim.runs import changes_ring, run

SEEDS = 2000
TOLD_EACH = 100


class Outcome(NamedTuple):
    """What a process of the pool tells of a seed."""

    seed: int
    summary: str
    faults: list[str]


def judge(seed: int) -> Outcome:
    """Runs a seed; a node that crashes the simulation has broken a promise, too."""
    try:
        verdict = run(seed)
    except Exception:  # noqa: BLE001 - whatever it was, it is this seed's verdict, and the others go on
        return Outcome(seed, f"seed {seed}", [traceback.format_exc()])
    return Outcome(seed, verdict.summary(), verdict.faults)


def main() -> int:
    """Runs the seeds and prints what is wrong with them."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.soak", description="Runs many seeds of the simulator.")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"how many (default {SEEDS})")
    parser.add_argument("--first", type=int, help="the first of them (default: a random one)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: one a core)")
    parser.add_argument("--ring", action="store_true", help="only seeds in which the ring changes")
    options = parser.parse_args()
    first = random.SystemRandom().randrange(10**6, 10**9) if options.first is None else options.first
    print(f"{options.seeds} seeds from {first} on, {options.jobs} at a time", flush=True)
    seeds = [seed for seed in range(first, first + 3 * options.seeds) if changes_ring(seed) or not options.ring]
    broken = 0
    with multiprocessing.Pool(options.jobs) as pool:
        outcomes = pool.imap_unordered(judge, seeds[: options.seeds], chunksize=4)
        for count, outcome in enumerate(outcomes, 1):
            if outcome.faults:
                broken += 1
                _tell(outcome)
            if count % TOLD_EACH == 0 or count == options.seeds:
                print(f"{count} of {options.seeds}: {broken} broken", flush=True)
    return 1 if broken else 0


def _tell(outcome: Outcome) -> None:
    print(f"BROKEN {outcome.summary}")
    for fault in outcome.faults[:5]:
        print(f"  {fault}")
    print(f"  replay: python -m tests.sim {outcome.seed} --trace", flush=True)


if __name__ == "__main__":
    sys.exit(main())
