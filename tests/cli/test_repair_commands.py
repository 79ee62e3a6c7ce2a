"""dyn repair and dyn task against a scripted node: what is sent, what is shown, when the commands end and how."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from typer.testing import Result

from dynamo_cli import following
from tests.cli.documents import task
from tests.cli.scripted import Close, Reply, ScriptedNode
from tests.cli.test_app import DYN, on_terminal

Scripted = Callable[[dict[str, Reply]], ScriptedNode]
Dyn = Callable[..., Result]
DONE = task("done", 4)


def one_by_one(replies: Iterable[Reply]) -> Callable[[list[bytes]], Reply]:
    """The replies in turn; the last one again and again."""
    left = list(replies)
    return lambda words: left.pop(0) if len(left) > 1 else left[0]


def repairing(*looks: Reply) -> dict[str, Reply]:
    """The script of a node that starts a repair and then shows it so."""
    return {"DYN.REPAIR START": task("running"), "DYN.TASK SHOW": one_by_one(looks)}


def test_a_repair_is_waited_for_and_shown_in_lines(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted(repairing(task("running", 1), task("running", 3), DONE))
    got = dyn(node, "repair")
    assert (got.exit_code, got.stderr) == (0, "")
    first, *_, last = got.stdout.splitlines()
    assert first == "task t1: 0 of 4 partitions, 0 keys compared, 0 repaired, 0 B sent"
    assert last == "task t1: done, 4 of 4 partitions, 4000 keys compared, 20 repaired, 8.0 KiB sent"
    assert node.calls == [[b"DYN.REPAIR", b"START"], *[[b"DYN.TASK", b"SHOW", b"t1"]] * 3]


def test_json_is_the_last_document_and_nothing_else(scripted: Scripted, dyn: Dyn) -> None:
    got = dyn(scripted(repairing(task("running", 1), DONE)), "repair", "--json")
    assert (got.exit_code, got.stdout, got.stderr) == (0, json.dumps(DONE) + "\n", "")


def test_partitions_and_a_key_are_passed_on(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted(repairing(DONE))
    dyn(node, "repair", "--partition", "3", "--partition", "0", "--key", "\udcff")
    assert node.calls[0] == [b"DYN.REPAIR", b"START", b"PARTITION", b"3", b"PARTITION", b"0", b"KEY", b"\xff"]
    assert dyn(node, "repair", "--partition", "-1").exit_code == 2
    assert dyn(node, "repair", "--partition", "x").exit_code == 2


@pytest.mark.parametrize("state", ["failed", "aborted"])
def test_a_repair_that_ends_badly_fails_and_says_why(scripted: Scripted, dyn: Dyn, state: str) -> None:
    ended = task(state, 2, error="n3 is down")
    got = dyn(scripted(repairing(ended)), "repair")
    assert got.exit_code == 1
    assert got.stdout.splitlines()[-1].startswith(f"task t1: {state}, 2 of 4 partitions")
    assert got.stderr == f"dyn: task t1 {state}: n3 is down\n"
    got = dyn(scripted(repairing(ended)), "repair", "--json")
    assert (got.exit_code, json.loads(got.stdout)) == (1, ended)


def test_no_wait_returns_at_once_and_says_how_to_wait(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted(repairing(DONE))
    got = dyn(node, "repair", "--no-wait")
    assert (got.exit_code, node.calls) == (0, [[b"DYN.REPAIR", b"START"]])
    assert got.stdout == "task t1: running, 0 of 4 partitions, 0 keys compared, 0 repaired, 0 B sent\n"
    assert "dyn task wait t1" in got.stderr
    got = dyn(node, "repair", "--no-wait", "--json")
    assert json.loads(got.stdout) == task("running")


def test_a_repair_that_is_done_at_once_needs_no_look(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted({"DYN.REPAIR START": DONE})
    assert dyn(node, "repair", "--key", "k").exit_code == 0
    got = dyn(node, "repair", "--key", "k", "--no-wait")
    assert (got.exit_code, got.stderr) == (0, "")


@pytest.mark.parametrize("gap", [Close, "-ERR no such task", "-ERR this node is not part of a cluster yet"])
def test_a_node_that_restarts_meanwhile_is_found_again(scripted: Scripted, dyn: Dyn, gap: Reply) -> None:
    node = scripted(repairing(task("running", 1), gap, gap, task("running", 2), DONE))
    got = dyn(node, "repair", "--json")
    assert (got.exit_code, json.loads(got.stdout)) == (0, DONE)
    assert got.stderr.count("trying again") == 1


def test_a_node_that_stays_away_is_given_up(scripted: Scripted, dyn: Dyn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "PATIENCE_S", 0.1)
    got = dyn(scripted(repairing(task("running", 1), Close)), "repair", "--json")
    assert (got.exit_code, got.stdout) == (3, "")
    assert "lost" in got.stderr


def test_no_node_is_status_3_and_a_lost_start_leaves_it_open(scripted: Scripted, dyn: Dyn) -> None:
    got = dyn(scripted({"DYN.REPAIR START": Close}), "repair")
    assert got.exit_code == 3
    assert "may or may not have been carried out" in got.stderr


@pytest.mark.parametrize("words", [("repair",), ("task", "show", "t1"), ("task", "list"), ("task", "abort", "t1")])
@pytest.mark.parametrize("document", [{}, {"task": "t1"}, {"tasks": [{"task": "t1"}]}])
def test_documents_out_of_shape_are_errors(
    scripted: Scripted, dyn: Dyn, words: tuple[str, ...], document: dict[str, Any]
) -> None:
    got = dyn(scripted({"DYN.REPAIR": document, "DYN.TASK": document}), *words)
    assert (got.exit_code, got.stdout) == (1, "")
    assert "is it a dyn node?" in got.stderr


@pytest.mark.parametrize("words", [("repair",), ("task", "wait", "t1")])
def test_ctrl_c_leaves_the_task_running_and_says_how_to_find_it(scripted: Scripted, words: tuple[str, ...]) -> None:
    children: list[subprocess.Popen[str]] = []

    def interrupt(given: list[bytes]) -> Reply:
        if len(node.calls) == 4:
            children[0].send_signal(signal.SIGINT)
        return task("running", 1)

    node = scripted({"DYN.REPAIR START": task("running"), "DYN.TASK SHOW": interrupt})
    program = [*DYN, "--port", str(node.port), *words]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        children.append(child)
        said, complained = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "task t1: 1 of 4 partitions" in said or "task t1: 0 of 4 partitions" in said
    assert complained == (
        "dyn: task t1 goes on without this command: dyn task wait t1 shows it, dyn task abort t1 ends it\n"
    )
    assert not [words for words in node.calls if words[1] == b"ABORT"]


def test_a_terminal_gets_a_bar_that_goes_away(scripted: Scripted) -> None:
    node = scripted(repairing(task("running", 1), task("running", 3), DONE))
    status, shown = on_terminal("--port", str(node.port), "repair")
    assert status == 0
    assert "━" in shown
    assert "3/4 3000 keys compared, 15 repaired, 6.0 KiB sent" in shown
    assert shown.endswith("task t1: done, 4 of 4 partitions, 4000 keys compared, 20 repaired, 8.0 KiB sent\n")


def test_task_list(scripted: Scripted, dyn: Dyn) -> None:
    moving = task("running", 1, task="transfer-5-n4", eta_s=150)
    document = {"tasks": [DONE, task("failed", 2, task="t22", error="n3 is down"), moving]}
    node = scripted({"DYN.TASK LIST": document})
    assert dyn(node, "task", "list").stdout.splitlines() == [
        "TASK           STATE    NODE  DONE  OF  COMPARED  REPAIRED  BYTES   LEFT  BEGAN  ENDED  ERROR",
        "t1             done     n1       4   4      4000        20   8192      -  -      -      -",
        "t22            failed   n1       2   4      2000        10   4096      -  -      -      n3 is down",
        "transfer-5-n4  running  n1       1   4      1000         5   2048  2 min  -      -      -",
    ]
    got = dyn(node, "task", "list", "--json")
    assert (got.exit_code, json.loads(got.stdout)) == (0, document)
    shown = on_terminal("--port", str(node.port), "task", "list")[1].split()
    assert {"transfer-5-n4", "failed", "n3", "is", "down"} <= set(shown), "a narrow terminal shows all of it, too"
    assert dyn(scripted({"DYN.TASK LIST": {"tasks": []}}), "task", "list").stdout == "no tasks\n"


@pytest.mark.parametrize("subcommand", ["list", "pause"])
def test_nodes_that_did_not_answer_are_named(subcommand: str, scripted: Scripted, dyn: Dyn) -> None:
    document = {"tasks": [task("running", 1)], "unanswered": ["n2", "n3"]}
    node = scripted({f"DYN.TASK {subcommand.upper()}": document})
    got = dyn(node, "task", subcommand)
    assert got.exit_code == 0
    assert got.stderr == "note: no answer from n2 n3: what only these nodes know is missing here\n"
    assert json.loads(dyn(node, "task", subcommand, "--json").stdout) == document


def test_task_show(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted({"DYN.TASK SHOW": task("failed", 2, error="n3 is down")})
    got = dyn(node, "task", "show", "t1")
    assert got.exit_code == 0, "it was asked to show, and that it did"
    assert got.stdout.splitlines() == [
        "task        t1",
        "state       failed",
        "node        n1",
        "partitions  2 of 4",
        "compared    2000 keys",
        "repaired    10 keys",
        "sent        4.0 KiB",
        "error       n3 is down",
    ]
    assert json.loads(dyn(node, "task", "show", "t1", "--json").stdout)["error"] == "n3 is down"
    moving = scripted({"DYN.TASK SHOW": task("running", 1, eta_s=40)})
    assert "left        about 40 s" in dyn(moving, "task", "show", "t1").stdout.splitlines()
    assert node.calls == [[b"DYN.TASK", b"SHOW", b"t1"]] * 2


@pytest.mark.parametrize("subcommand", ["show", "wait", "abort"])
def test_an_unknown_task_is_an_error_that_says_where_to_look(scripted: Scripted, dyn: Dyn, subcommand: str) -> None:
    got = dyn(scripted({"DYN.TASK": "-ERR no such task"}), "task", subcommand, "t9")
    assert (got.exit_code, got.stdout) == (1, "")
    assert got.stderr == "dyn: there is no task t9\nhint: dyn task list shows the tasks of all nodes that are up\n"


def test_task_wait_waits_and_ends_as_the_task_does(scripted: Scripted, dyn: Dyn) -> None:
    got = dyn(scripted({"DYN.TASK SHOW": one_by_one([task("running", 1), DONE])}), "task", "wait", "t1", "--json")
    assert (got.exit_code, json.loads(got.stdout)) == (0, DONE)
    got = dyn(scripted({"DYN.TASK SHOW": one_by_one([task("running", 1), task("aborted", 1)])}), "task", "wait", "t1")
    assert (got.exit_code, got.stderr) == (1, "dyn: task t1 aborted\n")


def test_task_abort(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted({"DYN.TASK ABORT": task("aborted", 1)})
    got = dyn(node, "task", "abort", "t1", "--json")
    assert (got.exit_code, json.loads(got.stdout)) == (0, task("aborted", 1))
    assert node.calls == [[b"DYN.TASK", b"ABORT", b"t1"]]
    got = dyn(scripted({"DYN.TASK ABORT": DONE}), "task", "abort", "t1")
    assert (got.exit_code, got.stderr) == (1, "dyn: task t1 had already ended\n")


def test_the_wait_does_not_load_rich() -> None:
    program = "import sys; from dynamo_cli import repair_commands, hints_commands; print('rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_times_of_a_task_are_shown(scripted: Scripted, dyn: Dyn) -> None:
    ended = task("done", 4, started_ms=1_764_494_211_000, ended_ms=1_764_494_271_999)
    node = scripted({"DYN.TASK LIST": {"tasks": [ended, task("running", 1)]}, "DYN.TASK SHOW": ended})
    lines = dyn(node, "task", "list").stdout.splitlines()
    assert lines[1].split()[-3:] == ["2025-11-30T09:16:51Z", "2025-11-30T09:17:51Z", "-"]
    assert lines[2].split()[-3:] == ["-", "-", "-"], "a node of an earlier version tells no times"
    shown = dyn(node, "task", "show", "t1").stdout
    assert "began       2025-11-30T09:16:51Z" in shown and "ended       2025-11-30T09:17:51Z" in shown


def test_a_transfer_is_paused_and_resumed(scripted: Scripted, dyn: Dyn) -> None:
    moving = task("running", 1, task="transfer-5-n4")
    node = scripted({"DYN.TASK PAUSE": {"tasks": [moving | {"paused": True}]}, "DYN.TASK RESUME": {"tasks": [moving]}})
    assert dyn(node, "task", "pause").stdout.startswith("task transfer-5-n4: paused, 1 of 4 partitions")
    assert dyn(node, "task", "resume", "transfer-5-n4").stdout.startswith("task transfer-5-n4: running")
    assert [call[1:] for call in node.calls] == [[b"PAUSE"], [b"RESUME", b"transfer-5-n4"]]
    assert json.loads(dyn(node, "task", "pause", "--json").stdout)["tasks"][0]["paused"]
    none = scripted({"DYN.TASK PAUSE": "-ERR no transfer runs on any node that answers"})
    assert dyn(none, "task", "pause").exit_code == 1
