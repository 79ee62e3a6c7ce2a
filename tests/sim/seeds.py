"""Which seeds of a test CI runs, and which only `make soak` does."""

from __future__ import annotations

from typing import Any

import pytest


def seeds(always: int, soaking: int) -> list[Any]:
    """The seeds from 0 on for `parametrize`: the first ones always, the others, up to `soaking`, with the soaks."""
    return [*range(always), *[pytest.param(seed, marks=pytest.mark.soak) for seed in range(always, soaking)]]
