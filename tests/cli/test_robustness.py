"""No command ends in a traceback: generated from the app, each command with closed, full and foreign streams.

Every command is run against a node that answers, in each condition of `forked`. What it may say is bounded by three
sentences: the exit status is one of those that are documented; stderr shows neither a traceback nor a bug; where stdout
takes everything, its bytes are what the command has to say, in the encoding of the stream.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from dynamo_cli.commands import app
from dynamo_cli.failures import ExitStatus
from dynamo_cli.global_options import copies_for
from dynamo_cli.pages import ManPage, walk
from tests.cli.documents import LOCATION, PLAN, hints, ring, status, task
from tests.cli.forked import CONDITIONS
from tests.cli.scripted import ScriptedNode

ROOT = get_command(app)
PAGES = list(walk(ROOT, ("dyn",)))[1:]
STAGED = {"staged": {"change": "leave", "node": "n1"}, "epoch": 5, "changes": 1}
SIBLINGS = {"cursor": 0, "examined": 1, "unlisted": [], "keys": [
    {"key": "k", "type": "string", "siblings": 2, "deletions": 0, "hidden": {}, "partition": 5}]}  # fmt: skip
DONE = task("done", 4, error="zu spät … ●")
DONE_LIST = {"tasks": [DONE, task("failed", 1, error="n3 ist weg: ±é●")]}
SUMMARY = {**status("degraded", "up", "down"), "summary": "n2 fällt aus … ●", "clock_bound_ms": 3}
SCRIPT: dict[str, Any] = {
    "PING": "PONG", "DYN.GET": [b"token", [b"value", b"\xff\xfe"]],
    "DYN.SET": [b"token", 2, 0], "DYN.DEL": [b"token", 2, 0],
    "DYN.CLUSTER STATUS": SUMMARY, "DYN.CLUSTER PLAN": PLAN, "DYN.CLUSTER COMMIT": {"epoch": 5, "changes": 1},
    "DYN.CLUSTER ABORT": {"aborted": 1}, "DYN.CLUSTER READDRESS": {"nodes": []}, "DYN.RING SHOW": ring(16),
    **{f"DYN.CLUSTER {word}": STAGED for word in ("JOIN", "LEAVE", "REMOVE", "REPLACE", "WEIGHT", "ZONE")},
    "DYN.CLUSTER MYSELF": {"id": "i", "name": "n", "address": "h:1", "zone": "z", "weight": 1, "epoch": 1, "cluster": "c"},
    "DYN.RING LOCATE": LOCATION, "DYN.HINTS LIST": hints(), "DYN.HINTS REPLAY": {"delivered": 0, "remaining": 0},
    "DYN.REPAIR START": DONE, "DYN.TASK LIST": DONE_LIST, "DYN.TASK PAUSE": DONE_LIST, "DYN.TASK RESUME": DONE_LIST,
    **{f"DYN.TASK {word}": DONE for word in ("SHOW", "ABORT")}, "DYN.SIBLINGS LIST": SIBLINGS,
}  # fmt: skip
ALSO = {
    "latin-1": "--json",
    "ascii": "--json",
    "no stdout": "--help",
    "full stdout": "--help",
}  # a second run of each command
Results = list[tuple[dict[str, Any], dict[str, Any]]]
EXTRA = {"dyn-up": ["--config", "/nonexistent/file"], "dyn-node-start": ["--set", "flushall"]}


def words_of(page: ManPage, scratch: Path, node: ScriptedNode, text: str) -> Iterator[str]:
    """The words of a command with everything that it needs."""
    yield from page.words[1:]
    for parameter in page.command.params:
        shape = parameter.metavar or ""
        directory = shape == "DIR"
        if not parameter.required and not directory:
            continue
        if parameter.param_type_name == "option":
            yield parameter.opts[0]
        if shape in ("FILE", "FILE...", "DIR"):
            yield str(scratch / "made")
        elif "HOST:PORT" in shape or shape == "NEW":
            yield node.address
        elif shape in ("E", "WEIGHT"):
            yield "2"
        else:
            yield "redis://127.0.0.1:1" if shape == "SOURCE" else text
    yield from EXTRA.get(page.name, [])


@pytest.fixture(scope="module")
def results_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Results]]:
    """Returns the cases of a condition and their results; they are run once."""
    node, known = ScriptedNode(SCRIPT), dict[str, Results]()

    def results(condition: str) -> Results:
        if condition not in known:
            cases = _cases(condition, tmp_path_factory, node)
            known[condition] = list(zip(cases, run_all(cases, tmp_path_factory.mktemp("cases")), strict=True))
        return known[condition]

    yield results
    node.close()


def run_all(cases: list[dict[str, Any]], scratch: Path) -> list[dict[str, Any]]:
    """The results of the cases."""
    file = scratch / "cases.json"
    file.write_text(json.dumps(cases))
    words = [sys.executable, "-m", "tests.cli.forked", str(file)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr
    results: list[dict[str, Any]] = json.loads(done.stdout)
    return results


def _cases(condition: str, tmp_path_factory: pytest.TempPathFactory, node: ScriptedNode) -> list[dict[str, Any]]:
    cases = []
    also = ALSO.get(condition)
    for page in PAGES:
        has_json = any("--json" in parameter.opts for parameter in page.command.params)
        for more in ([], *[[also]] * (also == "--help" or (also is not None and has_json))):
            text = "\udcff" if condition == "no bytes of UTF-8" else "k"
            words = [*words_of(page, tmp_path_factory.mktemp("case"), node, text), *more]
            cases.append({"name": page.name, "condition": condition, "words": [*words, "--port", str(node.port)]})
    return cases


def test_most_commands_get_an_answer(results_of: Callable[[str], Results]) -> None:
    """So that they have something to print in the other tests."""
    answered = {case["name"] for case, result in results_of("plain") if result["status"] in (0, 4)}
    assert len(answered) > len(PAGES) // 2


@pytest.mark.parametrize("condition", CONDITIONS)
def test_no_traceback_and_a_documented_status(results_of: Callable[[str], Results], condition: str) -> None:
    tried = results_of(condition)
    assert {case["name"] for case, _ in tried} == {page.name for page in PAGES}
    for case, result in tried:
        assert result["status"] in list(ExitStatus), (case, result)
        for word in ("Traceback", "bug in dyn", "Exception ignored", "Error in"):
            assert word not in result["stderr"], (case, result)


def test_a_full_stdout_is_named(results_of: Callable[[str], Results]) -> None:
    said = {
        case["name"]: result["stderr"] for case, result in results_of("full stdout") if "--help" not in case["words"]
    }
    for name in ("dyn-get", "dyn-cluster-status", "dyn-task-list", "dyn-ring-show"):
        assert said[name].endswith("dyn: stdout: No space left on device\n"), (name, said[name])


@pytest.mark.parametrize("condition", ["no stdin", "no stderr", "full stderr"])
def test_other_streams_change_nothing_on_stdout(results_of: Callable[[str], Results], condition: str) -> None:
    plain = {case["name"]: result for case, result in results_of("plain") if "--json" not in case["words"]}
    for case, result in results_of(condition):
        before = plain[case["name"]]
        if "/case" not in before["stdout"]:  # a file that was made, which has another name each time
            assert (result["status"], result["stdout"]) == (before["status"], before["stdout"]), case


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_what_is_printed_is_in_the_encoding_of_stdout(results_of: Callable[[str], Results], encoding: str) -> None:
    shown = {(case["name"], "--json" in case["words"]): result["stdout"] for case, result in results_of(encoding)}
    words = {"latin-1": "n2 fällt aus ... *", "ascii": r"n2 f\xe4llt aus ... *"}[encoding]
    assert words in shown[("dyn-cluster-status", False)]
    assert json.loads(shown[("dyn-cluster-status", True)])["summary"] == SUMMARY["summary"]
    assert shown[("dyn-get", False)] == "value\n\xff\xfe\n", "values are bytes"


def test_a_closed_stdin_is_no_empty_value(tmp_path: Path) -> None:
    [result] = run_all([{"words": ["set", "k", "-", "--port", "1"], "condition": "no stdin"}], tmp_path)
    assert result["status"] == 2 and "stdin is closed" in result["stderr"]


def test_options_mean_the_same_before_and_behind_every_command() -> None:
    """A command whose own option has the spelling of a global one keeps its own; which these are is known."""
    own = {
        page.name: sorted(
            {option.opts[0] for option in ROOT.params}
            - {option.opts[0] for option in copies_for(ROOT, page.command.params)}
            - {"--version", "--help"}
        )
        for page in PAGES
    }
    assert {name: spellings for name, spellings in own.items() if spellings} == {
        "dyn-up": ["--tls"], "dyn-repair": ["--key"], "dyn-tls-make": ["--host"],
    }  # fmt: skip
