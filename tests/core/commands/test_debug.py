"""DEBUG: behind its setting, and it harms nobody."""

from __future__ import annotations

import pytest

from server.core.base.config import Config, ConfigError
from tests.core.commands.talking import WALL_MS, Client, finish_turn, make_node

LOCAL, REMOTE = "127.0.0.1:5000", "10.0.0.9:5000"


def client_of(setting: str, address: str = LOCAL) -> Client:
    return Client(make_node(1, Config(engine="memory", tree_leaf_bits=14, enable_debug_command=setting)), address)


@pytest.mark.parametrize(
    ("setting", "address", "is_allowed"),
    [
        ("no", LOCAL, False),
        ("no", REMOTE, False),
        ("local", LOCAL, True),
        ("local", REMOTE, False),
        ("yes", LOCAL, True),
        ("yes", REMOTE, True),
    ],
)
@pytest.mark.parametrize("line", ["DEBUG RELOAD", "DEBUG OBJECT a", "DEBUG SLEEP 0", "DEBUG SET-ACTIVE-EXPIRE 1"])
def test_the_setting_says_who_may_use_it(setting: str, address: str, is_allowed: bool, line: str) -> None:
    client = client_of(setting, address)
    client.raw("SET a v")
    assert client.raw(line).startswith(b"-ERR DEBUG command not allowed. ") is not is_allowed


def test_another_word_than_those_of_redis_is_refused() -> None:
    with pytest.raises(ConfigError, match="enable_debug_command"):
        Config.of({"enable_debug_command": "maybe"})


def test_sleep_delays_its_own_connection_only() -> None:
    sleeper, other = client_of("yes"), None
    other = Client(sleeper.node)
    assert sleeper.raw("DEBUG SLEEP 1.5", "PING") == b""
    assert other.raw("PING") == b"+PONG\r\n"
    sleeper.node.tick(1499, WALL_MS + 1499)
    assert not finish_turn(sleeper.node).replies
    sleeper.node.tick(1500, WALL_MS + 1500)
    assert [data for _, data in finish_turn(sleeper.node).replies] == [b"+OK\r\n+PONG\r\n"]


def test_object_tells_of_the_record() -> None:
    client = client_of("yes")
    client.raw("SET a v")
    assert client.raw("DEBUG OBJECT a").startswith(b"+Value at:0x0 refcount:1 encoding:embstr serializedlength:")
    assert client.error("DEBUG OBJECT none") == "ERR no such key"
    assert client.error("DEBUG JMAP").startswith("ERR unknown subcommand")
