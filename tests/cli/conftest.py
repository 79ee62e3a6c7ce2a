"""A scripted node for the commands to talk to, and the commands themselves, run as a user would."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from typer.testing import CliRunner, Result

from dynamo_cli.commands import app
from tests.cli.scripted import Reply, ScriptedNode


@pytest.fixture
def scripted() -> Iterator[Callable[..., ScriptedNode]]:
    """Makes scripted nodes that live as long as the test."""
    nodes: list[ScriptedNode] = []

    def make(script: dict[str, Reply]) -> ScriptedNode:
        nodes.append(ScriptedNode(script))
        return nodes[-1]

    yield make
    for node in nodes:
        node.close()


@pytest.fixture
def dyn(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs `dyn` in this process, in a pipe: `dyn(node, "get", "k")` talks to `node`; None leaves the address out."""
    monkeypatch.delenv("DYN_URL", raising=False)

    def run(node: ScriptedNode | None, *words: str, stdin: bytes = b"", timeout_s: float = 5) -> Result:
        where = [] if node is None else ["--port", str(node.port), "--timeout", str(timeout_s)]
        return CliRunner().invoke(app, [*where, *words], input=stdin, prog_name="dyn", catch_exceptions=False)

    return run
