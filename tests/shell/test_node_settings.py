"""The settings of a node: which source wins, what is said about it, and how a running node reads and writes its file."""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from server.core.base.config import ConfigError
from server.shell.directory import DirectoryError, refuse_hidden_store
from server.shell.options import parser
from server.shell.process import given_settings, remembered
from server.shell.settings import Given, SettingsFile, read_environment, read_given, resolve
from server.shell.settings_text import lines_of, with_settings, write_file
from tests.core.commands.talking import Client, make_node

TEXT = """# the settings of n1
siblings_max = 7  # few

"hint_after_ms" = 900
fsync = "always" # not 'no'
metrics = "" # "#"
"""


def given(
    path: Path | None, *words: str, saved: Mapping[str, str] | None = None, environment: Mapping[str, str] | None = None
) -> Given:
    options = parser().parse_args(["--dir", "d", *(word for each in words for word in ("--set", each))])
    return read_given(path, dict(options.set), saved or {}, environment or {})


def test_the_strongest_source_wins_and_each_is_known(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text("siblings_max = 1\nhint_after_ms = 1\nkey_bytes_max = 100\n")
    environment = {"DYN_SIBLINGS_MAX": "2", "DYN_KEY_BYTES_MAX": "200", "DYN_FLUSHALL": "yes", "DYN_URL": "x"}
    config, known = resolve(
        given(path, "siblings_max=3", "siblings_max=4", saved={"engine": "memory"}, environment=environment)
    )
    assert (config.siblings_max, known.sources["siblings_max"]) == (4, "option")
    assert (config.key_bytes_max, known.sources["key_bytes_max"]) == (200, "environment")
    assert (config.flushall, known.sources["flushall"]) == (True, "environment")
    assert (config.hint_after_ms, known.sources["hint_after_ms"]) == (1, "file")
    assert (config.engine, known.sources["engine"]) == ("memory", "directory")
    assert known.sources["block_cache_bytes"] == "machine" and "users_max" not in known.sources
    assert known.file == str(path)


@pytest.mark.parametrize("source", ["file", "environment"])
def test_what_a_directory_remembers_gives_way_and_the_log_says_so(
    tmp_path: Path, source: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An old `--fsync no` beat the `always` of the file, and nobody was told."""
    path = tmp_path / "s.toml"
    path.write_text("\nfsync = 'always'\n" if source == "file" else "")
    environment = {"DYN_FSYNC": "always"} if source == "environment" else {}
    saved = {"fsync": "no", "engine": "rocksdb"}
    found = given(path, saved=saved, environment=environment)
    config, known = resolve(found)
    assert (config.fsync, known.sources["fsync"]) == ("always", source)
    with caplog.at_level(logging.INFO, "dyn"):
        assert remembered(found, dict(saved)) == {"engine": "rocksdb"}
    place = f"line 2 of {path}" if source == "file" else "environment variable DYN_FSYNC"
    assert caplog.messages == [f"fsync is always by {place}: no of an earlier start counts no more"]


def test_an_option_beats_the_file_and_is_remembered(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text("fsync = 'always'\n")
    options = parser().parse_args(["--dir", "d", "--config", str(path), "--fsync", "no"])
    found = given_settings(options, str(path), {"fsync": "no", "engine": "memory"})
    assert resolve(found)[0].fsync == "no"
    assert remembered(found, {"fsync": "no", "engine": "memory"}) == {"fsync": "no", "engine": "memory"}


@pytest.mark.parametrize(
    ("text", "words", "environment", "error"),
    [
        ("", ["flushall=maybe"], {}, "'flushall' must be true or false.*an option of this start"),
        ("", ["siblings_max=1.5"], {}, "'siblings_max' must be a whole number"),
        ("\nsibling_max = 1", [], {}, r"'sibling_max': did you mean 'siblings_max'\? \(line 2 of .*s\.toml\)"),
        ("fsync = 'x'", [], {}, r"'fsync' must be always, everysec or no.*line 1 of"),
        ("[node]\nx = 1", [], {}, "unknown setting 'node'"),
        ("a b", [], {}, r"s\.toml is not TOML: .*line 1"),
        ("", [], {"DYN_SIBLINGS_MAX": "many"}, "environment variable DYN_SIBLINGS_MAX: .* 'many'"),
        ("", [], {"DYN_FSYNC": "many"}, "'fsync' must be .*environment variable DYN_FSYNC"),
    ],
)
def test_a_wrong_setting_is_named_with_its_place(
    tmp_path: Path, text: str, words: list[str], environment: dict[str, str], error: str
) -> None:
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=error):
        resolve(given(path, *words, environment=environment))


@pytest.mark.parametrize("source", ["file", "environment", "option"])
def test_a_setting_of_an_earlier_version_is_ignored_and_told_once(
    tmp_path: Path, source: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An upgrade must not keep a node from starting, or from reading its file again."""
    path = tmp_path / "s.toml"
    path.write_text("siblings_max = 7\n" + ("relay_retry_ms = 250\n" if source == "file" else ""))
    environment = {"DYN_RELAY_RETRY_MS": "250"} if source == "environment" else {}
    with caplog.at_level(logging.INFO, "dyn"):
        found = given(path, *(["relay_retry_ms=250"] if source == "option" else []), environment=environment)
    config, known = resolve(found)
    assert config.siblings_max == 7 and "relay_retry_ms" not in known.sources
    [line] = caplog.messages
    assert line.startswith("relay_retry_ms is given and is ignored: it is no setting any more, and commands wait")


def test_sighup_and_rewrite_ignore_a_setting_of_an_earlier_version(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = START + "relay_retry_ms = 250\n"
    running = Running(tmp_path / "s.toml", old + "siblings_max = 5\n")
    running.read_again(old + "siblings_max = 6\n")
    assert running.node.state.config.siblings_max == 6
    assert running.client.ask("CONFIG SET siblings_max 8") == "OK"
    assert running.client.ask("CONFIG REWRITE") == "OK"
    assert "relay_retry_ms = 250\n" in running.path.read_text(), "a rewrite removes nothing"
    caplog.clear()
    running.read_again(running.path.read_text() + "users_max = 4\n")
    assert (running.node.state.config.siblings_max, running.node.state.config.users_max) == (8, 4)
    assert not [line for line in caplog.messages if "stay as they were" in line]
    assert "it is no setting any more" in str(running.client.ask("CONFIG SET relay_retry_ms 9"))


def test_a_file_that_is_no_text_or_is_gone_is_named(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_bytes(b"metrics = '\xff'\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_given(path, {}, {}, {})
    with pytest.raises(ConfigError, match="this directory remembers of an earlier --config"):
        read_given(tmp_path / "gone", {}, {}, {}, True)


def test_a_variable_that_is_nearly_a_setting_is_told_and_others_are_not(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "dyn"):
        assert read_environment({"DYN_PORT": "tcp://10.0.0.1:7001", "DYN_SIBLING_MAX": "1", "PATH": "/"}) == {}
    assert caplog.messages == [
        "environment variable DYN_SIBLING_MAX is no setting and is ignored: is it meant to be DYN_SIBLINGS_MAX?"
    ]


def test_what_kubernetes_names_after_a_service_keeps_no_node_from_starting(caplog: pytest.LogCaptureFixture) -> None:
    environment = {
        "DYN_TLS_PORT": "tcp://10.0.0.1:443",
        "DYN_TLS_PORT_443_TCP": "tcp://10.0.0.1:443",
        "DYN_TLS_SERVICE_PORT": "443",
        "DYN_METRICS": "tcp://10.0.0.1:9121",
        "DYN_USERS_MAX": "4",
    }
    with caplog.at_level(logging.INFO, "dyn"):
        assert read_environment(environment) == {"metrics": "tcp://10.0.0.1:9121", "users_max": 4}, (
            "text stays as it is"
        )
    assert caplog.messages == [
        "environment variable DYN_TLS_PORT is an address, which tls_port cannot be: it is ignored, as Kubernetes makes "
        "such names"
    ]


def test_engine_memory_does_not_hide_the_data_of_a_directory(tmp_path: Path) -> None:
    refuse_hidden_store(tmp_path / "data", "memory", "an option of this start")
    (tmp_path / "data").mkdir()
    refuse_hidden_store(tmp_path / "data", "memory", "an option of this start")
    (tmp_path / "data" / "CURRENT").touch()
    refuse_hidden_store(tmp_path / "data", "rocksdb", "")
    with pytest.raises(
        DirectoryError, match=r"holds the data of this node, and engine memory \(an option of this start"
    ):
        refuse_hidden_store(tmp_path / "data", "memory", "an option of this start")


def test_what_is_no_setting_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["--dir", "d", "--set", "flushall"])
    assert "'flushall' is not NAME=VALUE" in capsys.readouterr().err


def test_a_setting_is_changed_in_its_line_and_everything_else_stays() -> None:
    assert lines_of(TEXT) == {"siblings_max": 2, "hint_after_ms": 4, "fsync": 5, "metrics": 6}
    changed = with_settings(
        TEXT, {"siblings_max": 9, "hint_after_ms": 1, "fsync": "no", "metrics": "h:1", "flushall": True}
    )
    assert changed.split("\n") == [
        "# the settings of n1",
        "siblings_max = 9  # few",
        "",
        "hint_after_ms = 1",
        "fsync = \"no\" # not 'no'",
        'metrics = "h:1" # "#"',
        "flushall = true",
        "",
    ]
    assert with_settings("", {"flushall": True}) == "flushall = true\n"


@pytest.mark.parametrize("text", ['metrics = """\nsiblings_max = 1\n"""\n', "[table]\n", "siblings_max = \\\n"])
def test_a_file_that_cannot_be_changed_by_lines_is_left_alone(text: str) -> None:
    with pytest.raises(ValueError, match=r"change it by hand|Invalid"):
        with_settings(text, {"siblings_max": 2})


def test_a_file_keeps_its_mode_and_a_link_stays_a_link(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text("")
    path.chmod(0o640)
    (tmp_path / "link").symlink_to(path)
    write_file(tmp_path / "link", "flushall = true\n")
    assert path.read_text() == "flushall = true\n" and path.stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "link").is_symlink() and len(list(tmp_path.iterdir())) == 2


class Running:
    """A node with a file of settings."""

    def __init__(self, path: Path, text: str, *words: str) -> None:
        path.write_text(text)
        found = given(path, *words)
        config, known = resolve(found)
        self.path = path
        self.node = make_node(config=config)
        self.file = SettingsFile(found, known)
        self.file.attach(self.node.services)
        self.client = Client(self.node)

    def read_again(self, text: str) -> None:
        self.path.write_text(text)
        self.node.services.process.settings.read_again()


START = "tree_leaf_bits = 14\nengine = 'memory'\n"


def test_sighup_applies_what_has_changed_in_the_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "s.toml"
    running = Running(path, START + "siblings_max = 5\nhint_after_ms = 900\n", "relay_stale_ms=3")
    running.client.ask("CONFIG SET users_max 4")
    with caplog.at_level(logging.INFO, "dyn"):
        running.read_again(START + "siblings_max = 6\npeers_max = 3\nrelay_stale_ms = 4\n")
    config = running.node.state.config
    assert (config.siblings_max, config.hint_after_ms, config.relay_stale_ms, config.users_max) == (6, 1500, 3, 4)
    assert config.peers_max != 3
    assert caplog.messages == [
        f"settings that have changed in {path} are in force: hint_after_ms=1500, siblings_max=6",
        f"settings that have changed in {path} and need a restart of the node: peers_max",
    ]
    sources = running.node.services.process.settings.sources
    assert (sources["siblings_max"], sources["users_max"], "hint_after_ms" in sources) == ("file", "command", False)


def test_a_line_that_is_gone_takes_no_source_from_a_value_that_stays(tmp_path: Path) -> None:
    """CONFIG told then that such a value was a default."""
    others = "siblings_max = 5\npeers_max = 30\nflushall = false\nnotify_keyspace_events = 'KA'\nusers_max = 9\n"
    running = Running(tmp_path / "s.toml", START + others, "siblings_max=7")
    running.client.ask("CONFIG SET flushall no")
    running.read_again(START)
    sources, config = running.node.services.process.settings.sources, running.node.state.config
    kept = ("siblings_max", "peers_max", "flushall", "notify_keyspace_events", "users_max")
    assert [sources.get(name) for name in kept] == ["option", "file", "command", "file", None]
    assert (config.siblings_max, config.peers_max, config.notify_keyspace_events) == (7, 30, "KA")


def test_a_file_that_wants_more_clients_than_files_allow_gets_as_many_as_they_allow(tmp_path: Path) -> None:
    running = Running(tmp_path / "s.toml", START)
    running.node.services.process.room_for_clients = lambda wanted: min(wanted, 900)
    running.read_again(START + "clients_max = 2000\n")
    assert running.node.state.config.clients_max == 900
    running.read_again(START + "clients_max = 20\n")
    assert running.node.state.config.clients_max == 20
    assert "'clients_max' can be 900" in running.client.error("CONFIG SET maxclients 901")
    running.client.ask("CONFIG SET maxclients 900")
    assert running.client.ask("CONFIG GET maxclients") == ["maxclients", "900"]


@pytest.mark.parametrize("text", ["siblings_max = 0.5", "siblings_max = 9\nsibling_max = 1", "a b"])
def test_a_wrong_file_changes_nothing_on_sighup(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    running = Running(tmp_path / "s.toml", START + "siblings_max = 5\n")
    running.read_again(START + text)
    assert running.node.state.config.siblings_max == 5
    assert caplog.messages[0].startswith("the settings stay as they were: ")


def test_config_rewrite_writes_what_config_set_has_changed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "s.toml"
    running = Running(path, START + "siblings_max = 5 # few\n", "users_max=9")
    running.client.ask("CONFIG SET siblings_max 6 flushall yes users_max 8")
    assert running.client.ask("CONFIG REWRITE") == "OK"
    assert path.read_text() == START + "siblings_max = 6 # few\nflushall = true\nusers_max = 8\n"
    assert caplog.messages == [
        f"users_max is in {path} now, but at the next start an option of this start counts, if it is still given"
    ]
    running.read_again(path.read_text() + "\n")
    assert running.node.state.config.siblings_max == 6


def test_config_rewrite_replaces_no_device(tmp_path: Path) -> None:
    """A node that was started with `--config /dev/null` has a file without settings. A pipe would block it, too."""
    path = tmp_path / "s.toml"
    running = Running(path, START)
    running.client.ask("CONFIG SET siblings_max 6")
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
    assert "it is no regular file: start the node with one" in running.client.error("CONFIG REWRITE")
    assert path.is_socket()
