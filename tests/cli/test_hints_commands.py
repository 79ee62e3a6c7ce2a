"""dyn hints list and dyn hints replay against a scripted node."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import Result

from dynamo_cli import hints_commands
from tests.cli.documents import hints, status
from tests.cli.scripted import Reply, ScriptedNode, Silence
from tests.cli.test_app import on_terminal
from tests.cli.test_repair_commands import one_by_one

Scripted = Callable[[dict[str, Reply]], ScriptedNode]
Dyn = Callable[..., Result]


def test_hints_list(scripted: Scripted, dyn: Dyn) -> None:
    document = hints(("n1", "n3", 80), ("n2", "n3", 10))
    node = scripted({"DYN.HINTS LIST": document})
    got = dyn(node, "hints", "list")
    assert (got.exit_code, got.stderr) == (0, "")
    assert got.stdout.splitlines() == [
        "HOLDER  OWNER  COUNT  BYTES  OLDEST",
        "n1      n3        80   8000     12s",
        "n2      n3        10   1000     12s",
    ]
    got = dyn(node, "hints", "list", "--json")
    assert (got.exit_code, json.loads(got.stdout)) == (0, document)
    assert "8000" in on_terminal("--port", str(node.port), "hints", "list")[1]
    assert dyn(scripted({"DYN.HINTS LIST": hints()}), "hints", "list").stdout == "no hints\n"


def test_who_missed_writes_without_a_hint_is_named(scripted: Scripted, dyn: Dyn) -> None:
    got = dyn(scripted({"DYN.HINTS LIST": hints(behind=("n2", "n3"))}), "hints", "list")
    assert (got.exit_code, got.stdout) == (0, "no hints\n")
    assert got.stderr.startswith("note: n2 n3 missed writes")
    assert "dyn repair" in got.stderr


def test_nodes_that_did_not_answer_are_named(scripted: Scripted, dyn: Dyn) -> None:
    document = hints(("n1", "n2", 80)) | {"unanswered": ["n3"]}
    got = dyn(scripted({"DYN.HINTS LIST": document}), "hints", "list")
    assert got.exit_code == 0
    assert got.stderr == "note: no answer from n3: what only these nodes know is missing here\n"


def test_replay_ends_when_nothing_is_left(scripted: Scripted, dyn: Dyn) -> None:
    looks = [hints(("n1", "n3", 80), ("n2", "n3", 10)), hints(("n1", "n3", 40)), hints()]
    node = scripted({"DYN.HINTS LIST": one_by_one(looks), "DYN.HINTS REPLAY": Silence})
    got = dyn(node, "hints", "replay")
    assert (got.exit_code, got.stderr) == (0, "")
    assert got.stdout.splitlines() == [
        "hints: 0 of 90 delivered, left for n3 90",
        "delivered 90 hints, 0 remain",
    ]
    assert sorted(words[1] for words in node.calls) == [b"LIST", b"LIST", b"LIST", b"REPLAY"]


def test_replay_json(scripted: Scripted, dyn: Dyn) -> None:
    looks = [hints(("n1", "n3", 90)), hints(("n1", "n3", 40)), hints()]
    got = dyn(scripted({"DYN.HINTS LIST": one_by_one(looks), "DYN.HINTS REPLAY": Silence}), "hints", "replay", "--json")
    assert (got.exit_code, json.loads(got.stdout), got.stderr) == (0, {"delivered": 90, "remaining": 0}, "")


def test_replay_of_nothing(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted({"DYN.HINTS LIST": hints(), "DYN.HINTS REPLAY": Silence})
    assert json.loads(dyn(node, "hints", "replay", "--json").stdout) == {"delivered": 0, "remaining": 0}


@pytest.mark.parametrize("as_document", [False, True])
def test_replay_names_the_owner_that_does_not_take_its_hints(
    scripted: Scripted, dyn: Dyn, monkeypatch: pytest.MonkeyPatch, as_document: bool
) -> None:
    monkeypatch.setattr(hints_commands, "STALL_S", 0.1)
    looks = [
        hints(("n1", "n2", 80), ("n1", "n3", 10)),
        hints(("n1", "n2", 60), ("n1", "n3", 10)),
        hints(("n1", "n3", 10)),
    ]
    node = scripted(
        {
            "DYN.HINTS LIST": one_by_one(looks),
            "DYN.HINTS REPLAY": Silence,
            "DYN.CLUSTER STATUS": status("degraded", "up", "up", "down"),
        }
    )
    got = dyn(node, "hints", "replay", *(["--json"] if as_document else []))
    assert got.exit_code == 4
    if as_document:
        assert json.loads(got.stdout) == {"delivered": 80, "remaining": 10}
    else:
        assert got.stdout.splitlines()[-1] == "delivered 80 hints, 10 remain"
    assert got.stderr == "dyn: hints are left for n3 (down) 10; they are delivered when their owner accepts them\n"


def test_hints_that_only_grow_in_number_do_not_move(
    scripted: Scripted, dyn: Dyn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints_commands, "STALL_S", 0.1)
    looks = [hints(("n1", "n3", count)) for count in range(90, 10_000)]
    script = {"DYN.HINTS LIST": one_by_one(looks), "DYN.HINTS REPLAY": Silence}
    got = dyn(scripted({**script, "DYN.CLUSTER STATUS": status("degraded", "up")}), "hints", "replay", "--json")
    assert got.exit_code == 4
    assert json.loads(got.stdout)["delivered"] == 0


@pytest.mark.parametrize("subcommand", ["list", "replay"])
@pytest.mark.parametrize("document", [{}, {"total": 1, "hints": [{"holder": "n1"}]}, {"total": 1, "hints": [1]}])
def test_documents_out_of_shape_are_errors(
    scripted: Scripted, dyn: Dyn, subcommand: str, document: dict[str, Any]
) -> None:
    got = dyn(scripted({"DYN.HINTS": document}), "hints", subcommand)
    assert (got.exit_code, got.stdout) == (1, "")
    assert "is it a dyn node?" in got.stderr


def test_a_terminal_gets_a_bar(scripted: Scripted) -> None:
    looks = [hints(("n1", "n3", 90)), hints(("n1", "n3", 40)), hints()]
    node = scripted({"DYN.HINTS LIST": one_by_one(looks), "DYN.HINTS REPLAY": Silence})
    exit_status, shown = on_terminal("--port", str(node.port), "hints", "replay")
    assert exit_status == 0
    assert "50/90 left for n3 40" in shown
    assert shown.endswith("delivered 90 hints, 0 remain\n")
