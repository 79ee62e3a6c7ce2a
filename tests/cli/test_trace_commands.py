"""dyn trace against a scripted node."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import Result

from tests.cli.scripted import Raw, Reply, ScriptedNode
from tests.cli.test_app import on_terminal

Scripted = Callable[[dict[str, Reply]], ScriptedNode]
Dyn = Callable[..., Result]
Document = dict[str, Any]


def _turn(begun_us: int, received: list[Any], sent: list[tuple[str, str]], answered_us: int | None = None) -> Document:
    """A turn that ends 100 us after its begin, and is committed 50 us and sent 60 us after that."""
    return {
        "begun_us": begun_us,
        "received": [{"message": kind, "from": node, "at_us": at_us} for kind, node, at_us in received],
        "answered_us": answered_us,
        "ended_us": begun_us + 100, "committed_us": begun_us + 150, "sent_us": begun_us + 160,
        "sent": [{"message": kind, "to": node} for kind, node in sent],
    }  # fmt: skip


def _row(
    node: str, role: str, parent: str | None, offset_us: int, network_us: int | None, *turns: Document
) -> Document:
    return {
        "node": node, "role": role, "parent": parent, "offset_us": offset_us, "network_us": network_us,
        "took_us": turns[-1]["sent_us"], "turns": list(turns),
    }  # fmt: skip


TRACED: Document = {
    "trace": "0a" * 16, "command": "SET", "reply": "OK", "took_us": 12_060,
    "nodes": [
        _row("n1", "relay", None, 0, None,
             _turn(0, [], [("RELAY", "n2")]), _turn(11_900, [("RELAYED", "n2", 11_900)], [], 11_950)),
        _row("n2", "coordinator", "n1", 400, 800, _turn(0, [("RELAY", "n1", 0)], [("STORE", "n3")]),
             _turn(2000, [("STORED", "n3", 2000)], [("RELAYED", "n1")])),
        _row("n3", "replica", "n2", 900, 500, _turn(0, [("STORE", "n2", 0)], [("STORED", "n2")])),
    ],
    "without_trace": [{"node": "n4", "why": "its version does not trace"}],
}  # fmt: skip


def test_a_pipe_gets_a_line_for_each_step_with_times(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted({"DYN.TRACE SET": TRACED})
    got = dyn(node, "trace", "SET", "k", "v")
    assert (got.exit_code, got.stderr) == (0, 'reply: "OK"\n')
    assert node.calls[-1] == [b"DYN.TRACE", b"SET", b"k", b"v"]
    assert got.stdout.isascii()
    lines = got.stdout.splitlines()
    assert lines[0] == f"SET  12.1 ms  trace {'0a' * 16}"
    assert lines[1].strip() == "0 us  n1  relay  12.1 ms"
    assert lines[2].strip() == "0 us  n1  received the command"
    assert "      400 us  n2  coordinator, asked by n1  2160 us, network 800 us there and back" in lines
    assert "      560 us  n2  sent STORE to n3" in lines
    assert "     2400 us  n2  received STORED from n3" in lines
    assert "     1050 us  n3  committed" in lines
    assert "    11950 us  n1  has the reply" in lines
    assert "    12060 us  n1  sent the reply" in lines
    assert lines[-1] == "n4: no trace, its version does not trace"


def test_a_terminal_gets_a_tree_with_bars(scripted: Scripted) -> None:
    node = scripted({"DYN.TRACE SET": TRACED})
    exit_status, shown = on_terminal("--port", str(node.port), "trace", "SET", "k", "v")
    assert exit_status == 0
    lines = shown.splitlines()
    assert all(len(line) <= 80 for line in lines)
    relay, coordinator, replica = (next(line for line in lines if f"{name}  {role}" in line) for name, role in (
        ("n1", "relay"), ("n2", "coordinator"), ("n3", "replica"),
    ))  # fmt: skip
    assert relay.index("n1") < coordinator.index("n2") < replica.index("n3"), "each stands under whoever asked it"
    bars = [line.count("█") for line in lines if "█" in line]
    assert bars == sorted(bars, reverse=True)
    assert bars[0] == 40
    assert "n4: no trace, its version does not trace" in lines


def test_json_is_the_document(scripted: Scripted, dyn: Dyn) -> None:
    got = dyn(scripted({"DYN.TRACE SET": TRACED}), "trace", "SET", "k", "v", "--json")
    assert (got.exit_code, json.loads(got.stdout), got.stderr) == (0, TRACED, "")


@pytest.mark.parametrize(
    ("error", "status"),
    [("ERR value is not an integer", 1), ("NOQUORUM write: got=1", 6), ("TIMEOUT write: got=1", 6)],
)
def test_an_error_of_the_command_is_shown_and_is_the_exit_status(
    scripted: Scripted, dyn: Dyn, error: str, status: int
) -> None:
    got = dyn(scripted({"DYN.TRACE INCR": {**TRACED, "reply": {"error": error}}}), "trace", "INCR", "k")
    assert (got.exit_code, got.stderr) == (status, f"reply: {error}\n")
    assert "n1  relay" in got.stdout


def test_a_command_without_a_key_is_wrong_usage(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted({"DYN.TRACE": TRACED})
    got = dyn(node, "trace", "GET")
    assert (got.exit_code, got.stdout) == (2, "") and not node.calls
    assert "dyn trace wants a command and its key, such as GET KEY" in got.stderr


def test_no_time_on_the_network_is_not_shown(scripted: Scripted, dyn: Dyn) -> None:
    rows = [{**row, "network_us": 0} for row in TRACED["nodes"]]
    got = dyn(scripted({"DYN.TRACE SET": {**TRACED, "nodes": rows}}), "trace", "SET", "k", "v")
    assert got.exit_code == 0 and "network" not in got.stdout


def test_a_node_that_does_not_know_it_says_so(scripted: Scripted, dyn: Dyn) -> None:
    got = dyn(scripted({"DYN.TRACE GET": Raw(b"-ERR unknown command 'DYN.TRACE'\r\n")}), "trace", "GET", "k")
    assert (got.exit_code, got.stdout) == (1, "")
    assert "unknown command" in got.stderr


def test_a_document_of_another_release_is_no_traceback(scripted: Scripted, dyn: Dyn) -> None:
    wrong = {**TRACED, "nodes": [{"node": "n1"}]}
    got = dyn(scripted({"DYN.TRACE GET": wrong}), "trace", "GET", "k")
    assert (got.exit_code, got.stdout) == (1, "")
    assert "without role" in got.stderr
