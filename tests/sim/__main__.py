"""Replays a seed: `python -m tests.sim SEED [--nodes N] [--trace]`. Exit status 1 if a promise was broken."""

from __future__ import annotations

import argparse
import sys

from tests.sim.runs import profile_of, run


def main() -> int:
    """Runs the seed and prints the trace, if asked for, and the verdict."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description="Replays a seed of the simulator.")
    parser.add_argument("seed", type=int)
    parser.add_argument(
        "--nodes", type=int, choices=range(1, 10), help="instead of the number that the seed stands for"
    )
    parser.add_argument("--trace", action="store_true", help="print what happened")
    options = parser.parse_args()
    verdict = run(options.seed, profile_of(options.seed, options.nodes), keep_trace=options.trace)
    for line in verdict.world.trace_lines:
        print(line)
    print(verdict.summary())
    for fault in verdict.faults:
        print(f"BROKEN: {fault}")
    print("all promises held" if not verdict.faults else f"{len(verdict.faults)} faults")
    return 1 if verdict.faults else 0


if __name__ == "__main__":
    sys.exit(main())
