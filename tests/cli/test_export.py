"""dyn export: each key is in the file once, whatever SCAN answers. redis-server does not load a file with a key twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

from dynamo_cli.moving.rdb_reader import RdbFile
from tests.cli.scripted import Reply, ScriptedNode

PAGES = {b"0": [b"7", [b"a", b"b", b"a", b"s"]], b"7": [b"9", [b"b", b"c", b"s"]], b"9": [b"0", [b"a"]]}
DUMP = b"\x00\x01v" + b"\x0a\x00" + bytes(8)


def _repeating(scripted: Callable[..., ScriptedNode]) -> ScriptedNode:
    """A node whose SCAN answers keys more than once, in one page and in several."""

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
