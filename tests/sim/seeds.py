"""Which seeds of a test CI runs, and which only `make soak` does."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest

_ROOT = Path(__file__).parents[2]


def seeds(always: int, soaking: int) -> list[Any]:
    """The seeds from 0 on for `parametrize`: the first ones always, the others, up to `soaking`, with the soaks."""
    return [*range(always), *[pytest.param(seed, marks=pytest.mark.soak) for seed in range(always, soaking)]]


def untried(kind: str, number: int) -> int:
    """A seed that nobody has tried with the code as it is now: each change of the code draws others, and the same code
    always the same ones. So a failure is there again when the tests are repeated, whoever repeats them."""
    return Random(f"{kind} {number} {_code()}").randrange(1000, 1 << 32)


@lru_cache(maxsize=1)
def _code() -> str:
    """A checksum of the nodes' code and of the simulator."""
    digest = sha256()
    for folder in ("server", "protocol", "tests/sim"):
        for path in sorted((_ROOT / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
