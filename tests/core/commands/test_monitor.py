"""MONITOR: who is shown what. What Redis 7.0 shows of the same commands: tests/wire/test_monitoring_tools.py."""

from __future__ import annotations

import re

import pytest

from server.core.pubsub.monitors import LINE_BYTES_MAX, shown_words, without_passwords
from tests.core.commands.talking import ADDRESS, WALL_MS, Client, make_node

OTHER = "10.0.0.9:60000"


def seen(client: Client, watcher: Client, *lines: str) -> list[str]:
    """What the watcher is shown of these commands, without times."""
    client.raw(*lines)
    shown = client.pushed.get(watcher.session, b"").decode()
    return [re.sub(r"^\+[0-9]+\.[0-9]{6} ", "", line) for line in shown.splitlines()]


def watched() -> tuple[Client, Client]:
    node = make_node()
    client, watcher = Client(node, OTHER), Client(node)
    assert watcher.raw("MONITOR") == b"+OK\r\n"
    return client, watcher


def test_each_command_is_shown_with_its_time_database_and_client() -> None:
    client, watcher = watched()
    client.raw("SET a v")
    told = client.pushed[watcher.session]
    assert told == b'+%d.%03d000 [0 %b] "SET" "a" "v"\r\n' % (*divmod(WALL_MS, 1000), OTHER.encode())
    assert seen(client, watcher, "SELECT 3", "get a") == [
        f'[0 {OTHER}] "SELECT" "3"', f'[3 {OTHER}] "get" "a"',
    ]  # fmt: skip
    assert watcher.raw("PING") == b"+PONG\r\n" and b'"PING"' in watcher.pushed[watcher.session]


def test_a_client_that_comes_later_is_shown_too_and_nobody_after_reset() -> None:
    _, watcher = watched()
    late = Client(watcher.node, OTHER)
    assert seen(late, watcher, "GET a") == [f'[0 {OTHER}] "GET" "a"']
    assert watcher.raw("RESET") == b"+RESET\r\n"
    assert seen(late, watcher, "GET a") == []
    assert late.session.access is None, "nobody pays any more"


def test_one_who_has_gone_is_told_nothing_and_the_others_are() -> None:
    client, watcher = watched()
    second = Client(client.node)
    second.raw("MONITOR")
    client.node.close_session(watcher.session)
    client.raw("GET a")
    assert list(client.pushed) == [second.session]
    client.node.close_session(second.session)
    client.raw("GET a")
    assert not client.pushed and client.session.access is None


def test_commands_that_did_not_run_and_those_of_operators_are_not_shown() -> None:
    client, watcher = watched()
    assert seen(client, watcher, "NOSUCH a", "GET", "CONFIG GET port", "ACL SETUSER joe >pw", "CLIENT LIST") == []
    assert seen(client, watcher, "DYN.CLUSTER STATUS", "DYN.GET a") == [f'[0 {OTHER}] "DYN.GET" "a"']


def test_a_transaction_is_shown_when_it_runs() -> None:
    client, watcher = watched()
    shown = seen(client, watcher, "MULTI", "SET a 1", "CONFIG GET port", "GET a")
    assert shown == [f'[0 {OTHER}] "MULTI"']
    shown = seen(client, watcher, "EXEC")
    assert [line.split("] ")[1] for line in shown] == ['"SET" "a" "1"', '"GET" "a"', '"EXEC"']
    shown = seen(client, watcher, "MULTI", "SET a 1", "NOSUCH", "EXEC")
    assert [line.split("] ")[1] for line in shown] == ['"MULTI"', '"EXEC"']


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("auth pw", "auth (redacted)"),
        ("auth joe pw", "auth (redacted) (redacted)"),
        ("hello 3 auth joe pw setname x", "hello 3 auth (redacted) (redacted) setname x"),
        ("hello 3 setname auth", "hello 3 setname auth"),
        ("migrate h 1 k 0 1 auth pw keys k", "migrate h 1 k 0 1 auth (redacted) keys k"),
        ("migrate h 1 k 0 1 auth2 joe pw keys k", "migrate h 1 k 0 1 auth2 (redacted) (redacted) keys k"),
        ("set auth pw", "set auth pw"),
    ],
)
def test_passwords_are_never_shown(line: str, shown: str) -> None:
    words = line.encode().split()
    assert b" ".join(without_passwords(line.split()[0], words)).decode() == shown


def test_a_login_is_shown_without_its_password() -> None:
    client, watcher = watched()
    shown = seen(client, watcher, "AUTH secret1", "HELLO 2 AUTH default secret2")
    assert len(shown) == 2 and "secret" not in "".join(shown)


def test_bytes_are_shown_as_redis_shows_them_and_long_commands_in_part() -> None:
    assert shown_words([b'x\n\r\t\a\b\xff\x00"\\y']) == r'"x\n\r\t\a\b\xff\x00\"\\y"'
    assert shown_words([b"x" * LINE_BYTES_MAX + b"yz"]).endswith('xx... (2 more bytes)"')
    many = shown_words([b"x" * 1000] * 1000)
    assert len(many) < 2 * LINE_BYTES_MAX and many.endswith('more arguments)"')


def test_whoever_monitors_sees_no_keys_and_is_listed() -> None:
    client, watcher = watched()
    assert watcher.raw("GET a") == b"-ERR Replica can't interact with the keyspace\r\n"
    assert f"addr={ADDRESS} " in client.ask("CLIENT LIST")
    row = next(line for line in client.ask("CLIENT LIST").splitlines() if f"addr={ADDRESS} " in line)
    assert " flags=O " in row
