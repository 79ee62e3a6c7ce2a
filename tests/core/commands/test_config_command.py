"""CONFIG and DYN.CONFIG: one table of settings, of which a running node follows some."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from server.core.base.config import DEFAULTS, LIVE, Config
from server.core.commands.config_command import _FIXED, _REDIS_NAMES
from server.core.services import live_settings
from tests.core.commands.talking import Client, make_node

SERVER = Path(__file__).parent.parent.parent.parent / "server"


def rows_of(client: Client) -> dict[str, dict[str, Any]]:
    document = json.loads(client.ask("DYN.CONFIG SHOW"))
    return {row["name"]: row for row in document["settings"]}


def test_show_is_the_table_of_config_get() -> None:
    client = Client(make_node())
    shown, got = rows_of(client), client.ask("CONFIG GET *")
    assert set(shown) == set(DEFAULTS) <= set(got)
    assert {name for name, row in shown.items() if row["live"]} == LIVE
    assert shown["siblings_max"] == {
        "name": "siblings_max", "value": 100, "default": 100, "source": "default", "live": True,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["background_keys_per_s", "background-keys-per-s", "Background_Keys_Per_S"])
def test_a_live_setting_changes_in_the_one_config(name: str) -> None:
    node = make_node()
    client = Client(node)
    assert client.ask(f"CONFIG SET {name} 77 hints_bytes_max 1 slowlog-max-len 3 timeout 2 flushall yes") == "OK"
    assert client.ask("CONFIG GET background_keys_per_s") == ["background_keys_per_s", "77"]
    config = node.state.config
    assert (config.background_keys_per_s, config.idle_timeout_ms, config.flushall) == (77, 2000, True)
    assert node.state.hints.bytes_max == 1 and node.services.latencies.slow.maxlen == 3
    row = rows_of(client)["background_keys_per_s"]
    assert (row["value"], row["source"], row["default"]) == (77, "command", 1000)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("siblings_max -1", "must not be negative"),
        ("siblings_max x", "couldn't be parsed"),
        ("background_keys_per_s 0", "must be positive"),
        ("maxclients 0", "must be positive"),
        ("multi_slots often", "must be relaxed or strict"),
        ("flushall perhaps", "'yes' or 'no'"),
        ("record_bytes_max 100", "as 'value_bytes_max' is"),
        ("peers_max 5", "the node takes it from its config file when it starts"),
        ("nosuch 5", "is not supported"),
        ("siblings_max 7 siblings-max 7", "(possibly related to argument 'siblings-max') - duplicate parameter"),
        ("timeout 7 idle_timeout_ms x", "(possibly related to argument 'idle_timeout_ms') - duplicate parameter"),
        ("slowlog-max-len 7 SLOWLOG-max-len 7", "(possibly related to argument 'SLOWLOG-max-len') - duplicate"),
        ("flushall yes flushall yes", "(possibly related to argument 'flushall') - duplicate parameter"),
        ("requirepass x requirepass y", "(possibly related to argument 'requirepass') - duplicate parameter"),
        ("port 7", "(possibly related to argument 'port') - can't set immutable config: start the node with another"),
    ],
)
def test_a_refused_value_changes_nothing_beside_it(line: str, error: str) -> None:
    node = make_node()
    client = Client(node)
    assert error in client.error(f"CONFIG SET hint_after_ms 9 {line}")
    assert node.state.config == make_node().state.config


def test_what_config_get_shows_is_no_unknown_setting() -> None:
    """Each is set, or refused as Redis refuses what is fixed, with what to do instead."""
    node = make_node()
    node.services.process.facts |= {"bind": "127.0.0.1", "dir": "/data", "port": "7001"}
    client = Client(node)
    for name in client.ask("CONFIG GET *")[::2]:
        ours = _REDIS_NAMES.get(name, "idle_timeout_ms" if name == "timeout" else name)
        error = "" if ours in LIVE else client.error(f"CONFIG SET {name} 1")
        assert error == "" or f"related to argument '{name}') - can't set immutable config: " in error
        assert error == "" or name not in _FIXED or error.endswith(_FIXED[name])


@pytest.mark.parametrize(
    "words",
    [
        [b"save", b""],
        [b"SAVE", b""],
        [b"maxmemory", b"0", b"save", b"", b"maxmemory-policy", b"NoEviction"],
        [b"databases", b"16", b"appendonly", b"no"],
    ],
)
def test_a_fixed_setting_may_be_set_to_the_value_that_it_has(words: list[bytes]) -> None:
    """Test suites of client libraries and tools turn snapshots off first."""
    node = make_node()
    client = Client(node)
    before = client.ask("CONFIG GET *")
    assert client.raw_words([b"CONFIG", b"SET", *words, b"hint_after_ms", b"9"]) == b"+OK\r\n"
    after = client.ask("CONFIG GET *")
    known = list(zip(before[::2], before[1::2], strict=True))
    changed = [pair for pair in zip(after[::2], after[1::2], strict=True) if pair not in known]
    assert changed == [("hint_after_ms", "9")]


@pytest.mark.parametrize("line", ["save 900", "maxmemory 1mb", "maxmemory 0\0", "databases 17", "dir /"])
def test_another_value_of_a_fixed_setting_is_refused(line: str) -> None:
    assert "can't set immutable config" in Client(make_node()).error(f"CONFIG SET {line}")


def test_rewrite_gives_the_file_what_has_changed_here_and_nothing_of_the_cluster() -> None:
    node = make_node()
    client, written = Client(node), []

    def write(changes: Mapping[str, object]) -> None:
        written.append(dict(changes))

    assert client.error("CONFIG REWRITE").startswith("ERR The server is running without a config file")
    node.services.process.settings.file, node.services.process.settings.write = "/etc/dyn.toml", write
    client.ask("CONFIG SET hint_after_ms 9 notify-keyspace-events KEA requirepass x")
    client.ask("AUTH x")
    assert client.ask("CONFIG REWRITE") == "OK"
    assert written == [{"hint_after_ms": 9}]

    def refuse(changes: Mapping[str, object]) -> None:
        raise PermissionError(13, "Permission denied")

    node.services.process.settings.write = refuse
    assert "/etc/dyn.toml: [Errno 13] Permission denied" in client.error("CONFIG REWRITE")


def _reads(path: Path) -> list[tuple[str, str]]:
    """The settings that a file reads while an object is made, each with the function that reads it."""
    found = []
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef) and function.name.startswith(("__init__", "build_")):
            names = [node.attr for node in ast.walk(function) if isinstance(node, ast.Attribute)
                     and ast.unparse(node.value).split(".")[-1].lstrip("_") == "config"]  # fmt: skip
            found += [(name, f"{path.relative_to(SERVER)}:{function.name}") for name in names]
    return found


def test_nobody_keeps_a_copy_of_a_setting_that_changes() -> None:
    """What an object copies when it is made would stay as it was: such settings need an entry in `_APPLY`."""
    one_request = ("core/commands/scripting/run.py",)  # objects that live no longer than one
    copied = [each for path in sorted(SERVER.rglob("*.py")) if "compiled" not in path.parts for each in _reads(path)
              if not each[1].startswith(one_request)]  # fmt: skip
    assert len(copied) > 20, "this test looks at something"
    followed = set(live_settings._APPLY) | {"notify_keyspace_events", "requirepass"}
    assert [(name, where) for name, where in copied if name in LIVE - followed] == []


def test_every_setting_that_is_applied_is_live() -> None:
    assert set(live_settings._APPLY) <= LIVE <= set(DEFAULTS)
    assert set(DEFAULTS) == set(live_settings.values(Config()))


def test_what_is_set_with_a_refused_password_is_not_set_either() -> None:
    client = Client(make_node())
    client.ask("CONFIG SET users_bytes_max 1")
    assert "users_bytes_max" in client.error("CONFIG SET siblings_max 7 requirepass x")
    assert client.ask("CONFIG GET siblings_max") == ["siblings_max", "100"]


@pytest.mark.parametrize("line", ["scan_page_keys 0", "request_timeout_ms 0", "request_timeout_ms 9", "n 2"])
def test_what_would_stop_requests_is_refused(line: str) -> None:
    client = Client(make_node())
    assert client.error(f"CONFIG SET {line}").startswith("ERR CONFIG SET")
