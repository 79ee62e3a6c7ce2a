"""dyn import of a server that is gone early, and the file in which it notes its progress: between two scripted nodes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from dynamo_cli.moving import redis_import
from server.core.base.config import LIVE
from tests.cli.scripted import Close, Reply, ScriptedNode

Dyn = Callable[..., Result]
_FOLLOWING: dict[str, Reply] = {
    "CONFIG GET": [b"notify-keyspace-events", b"Kg"],
    "CONFIG SET": "OK",
    "PSUBSCRIBE": [b"psubscribe", b"__keyevent@*__:*", 1],
}


class Requested:
    """A request to stop that has come already. It stands for StopSignals."""

    requested = True

    def __enter__(self) -> Requested:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


@pytest.fixture(autouse=True)
def _stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Following ends at once."""
    monkeypatch.setattr(redis_import, "StopSignals", Requested)
    monkeypatch.setattr(redis_import, "_WAIT_S", 0.0)


@pytest.fixture
def target(scripted: Callable[..., ScriptedNode]) -> ScriptedNode:
    """A node that takes all keys."""
    return scripted({"PING": "PONG", "SET": "OK"})


@pytest.fixture
def source(scripted: Callable[..., ScriptedNode], target: ScriptedNode) -> ScriptedNode:
    """A server with one key and two libraries, which is gone once the target has the key."""
    script: dict[str, Reply] = {
        "PING": "PONG",
        "INFO server": b"run_id:one\r\n",
        "INFO keyspace": b"db0:keys=1,expires=0,avg_ttl=0\r\n",
        "FUNCTION LIST": [[b"library_name", b"a"], [b"library_name", b"b"]],
        "SCAN": [b"0", [b"k"]],
        "PEXPIRETIME": -1,
        "TYPE": "string",
        "GET": b"v",
        **_FOLLOWING,
    }

    def until_copied(reply: Reply) -> Callable[[list[bytes]], Reply]:
        return lambda words: Close if any(call[0] == b"SET" for call in target.calls) else reply

    return scripted({name: until_copied(reply) for name, reply in script.items()})


def _words(source: ScriptedNode, directory: Path, *options: str) -> list[str]:
    path = directory / "progress"
    return ["import", f"redis://{source.address}", "--json", "--no-verify", "--progress-file", str(path), *options]


def _check(done: Result, directory: Path) -> None:
    assert done.exit_code == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert (told["keys"], told["left_out"]) == (1, {"function libraries": 2})
    assert list(directory.iterdir()) == []


def test_a_source_that_is_gone_at_the_end_makes_no_failure(
    dyn: Dyn, source: ScriptedNode, target: ScriptedNode, tmp_path: Path
) -> None:
    _check(dyn(target, *_words(source, tmp_path)), tmp_path)


def test_a_key_that_scan_answers_again_is_copied_and_counted_once(
    dyn: Dyn, source: ScriptedNode, target: ScriptedNode, tmp_path: Path
) -> None:
    """A Redis whose table of keys grows or shrinks meanwhile does that, within a page and in a later one."""
    pages: dict[bytes, Reply] = {b"0": [b"7", [b"k", b"k"]], b"7": [b"9", []], b"9": [b"0", [b"j", b"k"]]}
    source.script |= {"PEXPIRETIME": -1, "TYPE": "string", "GET": b"v", "SCAN": lambda words: pages[words[1]]}
    done = dyn(target, *_words(source, tmp_path))
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["keys"] == 2
    assert [call[1] for call in target.calls if call[0] == b"SET"] == [b"k", b"j"]


def test_a_followed_source_that_is_gone_at_the_end_makes_no_failure(
    dyn: Dyn, source: ScriptedNode, target: ScriptedNode, tmp_path: Path
) -> None:
    """Its setting of notifications may stay, which is said."""
    done = dyn(target, *_words(source, tmp_path, "--follow"))
    _check(done, tmp_path)
    assert "the source may still have notify-keyspace-events AKE, which was 'Kg' before: lost " in done.stderr
    assert source.calls[-1] == [b"CONFIG", b"SET", b"notify-keyspace-events", b"Kg"]


def test_a_followed_source_that_is_lost_in_the_middle_is_told(
    dyn: Dyn, source: ScriptedNode, target: ScriptedNode, tmp_path: Path
) -> None:
    """The failure is that of the copying, and not that of the setting, which comes after it."""
    source.script["SCAN"] = Close
    source.script["CONFIG SET"] = lambda words: Close if [b"SCAN"] in [call[:1] for call in source.calls] else "OK"
    done = dyn(target, *_words(source, tmp_path, "--follow"))
    assert done.exit_code == 3
    assert "the source may still have notify-keyspace-events AKE" in done.stderr
    assert "during SCAN" in done.stderr.splitlines()[-2]
    assert [path.name for path in tmp_path.iterdir()] == ["progress"]


@pytest.mark.parametrize("content", ["the notes of somebody", '{"source": "another", "at": {}}'])
def test_no_file_of_another_is_replaced_by_the_progress(
    dyn: Dyn, source: ScriptedNode, target: ScriptedNode, tmp_path: Path, content: str
) -> None:
    (tmp_path / "progress").write_text(content)
    for options in ([], ["--follow"]):
        refused = dyn(target, *_words(source, tmp_path, *options))
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert "--progress-file" in refused.stderr and (tmp_path / "progress").read_text() == content
    assert not any(call[0] in (b"SCAN", b"SET") for call in source.calls + target.calls)


def test_following_begins_at_the_beginning(
    dyn: Dyn, source: ScriptedNode, target: ScriptedNode, tmp_path: Path
) -> None:
    """What was written between two runs is not known. So the keys that the first one had copied are not left out."""
    at = {"database": 1, "cursor": "0", "counts": {"keys": 1}, "left_out": {}}
    saved = {"source": {"server": source.address, "run_id": "one"}, "at": at}
    (tmp_path / "progress").write_text(json.dumps(saved))
    _check(dyn(target, *_words(source, tmp_path, "--follow")), tmp_path)
    assert [b"SET", b"k", b"v"] in target.calls


@pytest.mark.parametrize("name", ["record_bytes_max", "value_bytes_max", "request_bytes_max"])
def test_who_has_a_key_that_is_too_large_is_told_how_to_raise_the_limit(
    dyn: Dyn, source: ScriptedNode, target: ScriptedNode, tmp_path: Path, name: str
) -> None:
    target.script["SET"] = f"-ERR above {name}"
    done = dyn(target, *_words(source, tmp_path))
    assert done.exit_code == 1
    assert f"refused in database 0: 'k': ERR above {name}" in done.stderr
    assert "dyn config set for record_bytes_max" in done.stderr
    assert "for the others the settings file and a restart" in done.stderr
    assert ("record_bytes_max" in LIVE) and not LIVE & {"value_bytes_max", "request_bytes_max"}
