"""The same seed gives the same run, whatever PYTHONHASHSEED: nowhere does the order of a set decide anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SEED = 56  # many kinds of faults on five nodes


@pytest.fixture(scope="module")
def replays() -> list[str]:
    """The output of the same seed under three hash seeds."""
    command = [sys.executable, "-m", "tests.sim", str(SEED), "--trace"]
    running = [
        subprocess.Popen(
            command, cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed}, stdout=subprocess.PIPE, text=True
        )
        for seed in ("0", "1", "4711")
    ]
    return [process.communicate(timeout=60)[0] for process in running]


def test_a_seed_gives_the_same_trace_under_any_hash_seed(replays: list[str]) -> None:
    assert replays[0].count("\n") > 1000
    assert replays[0] == replays[1] == replays[2]


def test_the_fingerprint_tells_runs_apart(replays: list[str]) -> None:
    other = subprocess.run(
        [sys.executable, "-m", "tests.sim", str(SEED + 1)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert _fingerprint(other.stdout) != _fingerprint(replays[0])


def _fingerprint(output: str) -> str:
    line = next(line for line in output.splitlines() if line.startswith("seed "))
    return line.rpartition("trace ")[2]
