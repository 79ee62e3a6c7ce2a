"""dyn export: each key is in the file once, whatever SCAN answers; and what a node refuses that only notices swaps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from dynamo_cli.moving.rdb_reader import RdbFile
from tests.cli.scripted import Close, Reply, ScriptedNode

PAGES = {b"0": [b"7", [b"a", b"b", b"a", b"s"]], b"7": [b"9", [b"b", b"c", b"s"]], b"9": [b"0", [b"a"]]}
DUMP = b"\x00\x01v" + b"\x0a\x00" + bytes(8)


def _repeating(scripted: Callable[..., ScriptedNode]) -> ScriptedNode:
    """A node whose SCAN answers keys more than once, in one page and in several, with which redis-server loads no file."""

    def scan(words: list[bytes]) -> Reply:
        return PAGES[words[1]]

    def dump(words: list[bytes]) -> Reply:
        return None if words[1] == b"s" else DUMP  # s is deleted meanwhile

    words = {
        "PING": "PONG",
        "SELECT": "OK",
        "WATCH": "OK",
        "MULTI": "OK",
        "EXEC": [],
        "INFO": b"# Keyspace\r\ndb0:keys=4\r\n",
    }
    return scripted({**words, "DBSIZE": 4, "SCAN": scan, "PEXPIRETIME": -1, "DUMP": dump})


def test_each_key_is_exported_once(
    dyn: Callable[..., Result], scripted: Callable[..., ScriptedNode], tmp_path: Path
) -> None:
    file = tmp_path / "dump.rdb"
    done = dyn(_repeating(scripted), "export", str(file), "--db", "0", "--db", "1", "--db", "0", "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["keys"] == 6
    found = [(entry.database, entry.key) for entry in RdbFile(file).keys(0)]
    assert found == [(database, key) for database in (0, 1) for key in (b"a", b"b", b"c")]


def test_dbsize_is_asked_only_of_databases_of_which_the_node_has_no_key(
    dyn: Callable[..., Result], scripted: Callable[..., ScriptedNode], tmp_path: Path
) -> None:
    """It reads all keys of a partition in which some expire, which may take longer than a command may take."""
    node = _repeating(scripted)
    assert dyn(node, "export", str(tmp_path / "dump.rdb"), "--json").exit_code == 0
    assert sum(words[0] == b"DBSIZE" for words in node.calls) == 15


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("WATCH", "-ERR member n3 has not told yet whether it knows transactions"),
        ("MULTI", "-NOPERM this user has no permissions to run the 'multi' command"),
        ("EXEC", "-NOQUORUM 1 of 2 replicas answered"),
        ("EXEC", Close),
    ],
)
def test_an_export_that_cannot_notice_swaps_says_so_and_makes_the_file(
    dyn: Callable[..., Result], scripted: Callable[..., ScriptedNode], tmp_path: Path, name: str, error: Reply
) -> None:
    """A member that is down is a reason to export."""
    node, file = _repeating(scripted), tmp_path / "dump.rdb"
    node.script[name] = error
    done = dyn(node, "export", str(file), "--db", "0", "--db", "1", "--json")
    assert done.exit_code == 0, done.stderr
    assert [entry.key for entry in RdbFile(file).keys(0)] == [b"a", b"b", b"c"] * 2
    [line] = [line for line in done.stderr.splitlines() if "swapped" in line]
    assert line.startswith("if databases are swapped meanwhile, this is not noticed: ")
    assert error is Close or line.endswith(f"{node.address} answered: {error[1:]}")
    watches = sum(words[0] == b"WATCH" for words in node.calls)
    assert sum(words[0] == b"EXEC" for words in node.calls) == (2 if name == "EXEC" else 0) and watches == 2


def test_a_swap_that_one_database_notices_is_told_though_another_one_cannot(
    dyn: Callable[..., Result], scripted: Callable[..., ScriptedNode], tmp_path: Path
) -> None:
    node, replies = _repeating(scripted), iter(["-TIMEOUT no answer in time", None])
    node.script["EXEC"] = lambda words: next(replies)
    done = dyn(node, "export", str(tmp_path / "dump.rdb"), "--db", "0", "--db", "1")
    assert done.exit_code == 1 and "databases were swapped meanwhile" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_user_without_info_exports_by_dbsize(
    dyn: Callable[..., Result], scripted: Callable[..., ScriptedNode], tmp_path: Path
) -> None:
    node = _repeating(scripted)
    node.script["INFO"] = "-NOPERM this user has no permissions to run the 'info' command"
    done = dyn(node, "export", str(tmp_path / "dump.rdb"), "--db", "0", "--json")
    assert json.loads(done.stdout)["keys"] == 3, done.stderr


def test_a_missing_login_is_no_refusal_of_watch(
    dyn: Callable[..., Result], scripted: Callable[..., ScriptedNode], tmp_path: Path
) -> None:
    node = scripted(dict.fromkeys(("WATCH", "INFO", "DBSIZE"), "-NOAUTH Authentication required."))
    done = dyn(node, "export", str(tmp_path / "dump.rdb"), "--db", "0")
    assert done.exit_code == 1 and "swapped" not in done.stderr and "NOAUTH" in done.stderr
    assert [words[0] for words in node.calls] == [b"WATCH"]
