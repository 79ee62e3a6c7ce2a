"""Programs of Node.js: rounds.js runs rounds of a stack, bullmq.js is a queue, tls_*.js use clients over TLS.

`make stacks` installs what they need."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


def node_program(name: str, *words: str) -> list[str]:
    """The command of a program. Skips the test without Node.js, or without what the program needs."""
    node = shutil.which("node")
    if node is None or not (FOLDER / "node_modules").exists():
        pytest.skip("Node.js, or what the programs need, is not installed: make stacks does it")
    return [node, str(FOLDER / name), *words]
