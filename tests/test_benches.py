"""The programs of the make targets that `make test` does not run can at least be imported."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

MODULES = sorted(set(re.findall(r"-m (tests\.[\w.]+)", (Path(__file__).parent.parent / "Makefile").read_text())))


@pytest.mark.parametrize("name", MODULES)
def test_the_program_of_a_make_target_can_be_imported(name: str) -> None:
    importlib.import_module(name)
