"""The global options before and behind a command, and the node that is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dynamo_cli.commands import app
from tests.cli.scripted import Reply, ScriptedNode, Silence
from tests.ports import free_ports

Scripted = Callable[[dict[str, Reply]], ScriptedNode]
GET = {"DYN.GET": [b"token", [b"value"]], "PING": "PONG"}
HINTS = {"DYN.HINTS LIST": {"total": 0, "hints": [], "behind": []}}


def run(*words: str) -> Result:
    return CliRunner().invoke(app, words, prog_name="dyn", catch_exceptions=False)


def test_an_option_means_the_same_before_and_behind_the_command(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DYN_URL", raising=False)
    node, other = scripted(GET | HINTS), str(free_ports(1))
    port = str(node.port)
    for words in (
        ("--port", port, "get", "k"),
        ("get", "k", "--port", port),
        ("get", "--port", port, "k"),
        ("--port", other, "get", "k", "--port", port),
        ("--host", "127.0.0.1", "get", "k", "--port", port, "--timeout", "5"),
        ("hints", "--port", port, "list"),
        ("--port", other, "hints", "list", "--port", port),
    ):
        assert run(*words).exit_code == 0, words
    assert run("get", "k", "--port", "abc").exit_code == run("get", "k", "--prot", "7001").exit_code == 2
    assert "--port" not in run("get", "--help").stdout, "the help of each command would be longer than itself"


@pytest.mark.parametrize("command", ["up", "node start --dir d"])
def test_a_command_that_starts_nodes_refuses_the_options_that_name_one(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words, path = command.split(), f"dyn {command.split(' --')[0]}"
    for option in ("--port=7002", "--password-file=p", "--timeout=3"):
        for given in ((*words, option), (option, *words)):
            refused = run(*given)
            name = option.partition("=")[0]
            assert (refused.exit_code, list(tmp_path.iterdir())) == (2, []), (given, refused.output)
            assert f"{path} asks no node, so {name} has no effect" in refused.stderr


def test_a_login_behind_the_command(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYN_PASSWORD", "secret")
    node = scripted({**GET, "AUTH": "OK"})
    assert run("get", "k", "--user", "ann", "--port", str(node.port)).exit_code == 0
    assert node.calls[0] == [b"AUTH", b"ann", b"secret"]


def test_of_several_nodes_the_first_that_answers_is_asked(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    frozen, well, spare = scripted({"PING": Silence}), scripted(GET), scripted(GET)
    dead = f"127.0.0.1:{free_ports(1)}"
    monkeypatch.setenv("DYN_URL", f"redis://{dead},{frozen.address},{well.address},{spare.address}")
    got = run("--timeout", "2", "get", "k")
    assert (got.exit_code, got.stdout) == (0, "value\n")
    assert [call[0] for call in frozen.calls] == [b"PING"] and not spare.calls
    monkeypatch.setenv("DYN_URL", f"redis://{dead},redis://{dead}")
    refused = run("get", "k")
    assert refused.exit_code == 3 and refused.stderr.count(dead) == 2


def test_a_node_that_wants_a_login_answers(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = scripted({"PING": "-NOAUTH Authentication required.", "DYN.GET": "-NOAUTH Authentication required."})
    monkeypatch.setenv("DYN_URL", f"redis://{locked.address},127.0.0.1:{free_ports(1)}")
    assert "NOAUTH" in run("get", "k").stderr
