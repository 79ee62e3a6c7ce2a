"""CLIENT PAUSE: which commands wait, in which order they go on, and what goes on meanwhile."""

from __future__ import annotations

import pytest

from tests.core.commands.talking import Client, finish_turn, make_node

UNTIL_MS = 5000


def paused(mode: str = "ALL") -> Client:
    client = Client(make_node())
    client.raw("SET a 1")
    assert client.raw(f"CLIENT PAUSE {UNTIL_MS} {mode}") == b"+OK\r\n"
    return client


def later(client: Client, now_ms: int) -> bytes:
    """What the client gets once that time has come."""
    client.now_ms = now_ms
    client.node.wake(now_ms)
    return b"".join([data for session, data in finish_turn(client.node).replies if session is client.session])


@pytest.mark.parametrize(
    "line",
    ["SET a 2", "DEL a", "EVAL return 0", "PUBLISH c m", "DYN.SET a 2", "HSET h f v", "BLPOP list 1", "SORT a STORE b"],
)
def test_writes_wait_for_the_end_of_a_pause_of_writes(line: str) -> None:
    client = paused("WRITE")
    assert client.raw(line) == b"" and client.session.backlog
    assert later(client, UNTIL_MS - 1) == b""
    assert later(client, UNTIL_MS) != b"" or client.session.blocked


def test_reads_do_not_wait_for_a_pause_of_writes() -> None:
    client = paused("WRITE")
    assert client.raw("GET a", "PING", "MULTI", "GET a", "EXEC") == (
        b"$1\r\n1\r\n+PONG\r\n+OK\r\n+QUEUED\r\n*1\r\n$1\r\n1\r\n"
    )


def test_commands_behind_one_that_is_held_wait_too_and_keep_their_order() -> None:
    client = paused("WRITE")
    assert client.raw("SET a 2", "GET a", "INCR a", "PING") == b""
    assert client.raw("GET a") == b""
    assert later(client, UNTIL_MS) == b"+OK\r\n$1\r\n2\r\n:3\r\n+PONG\r\n$1\r\n3\r\n"


def test_a_transaction_that_writes_waits_at_exec_at_the_latest() -> None:
    client = Client(make_node())
    client.raw("MULTI", "SET a 1")
    other = Client(client.node)
    other.raw(f"CLIENT PAUSE {UNTIL_MS} WRITE")
    assert client.raw("EXEC") == b""
    assert later(client, UNTIL_MS) == b"*1\r\n+OK\r\n"


def test_all_holds_everything_but_logins_and_operators() -> None:
    client = paused()
    other = Client(client.node)
    assert client.raw("GET a") == client.raw("PING") == b""
    assert other.raw("HELLO 2").startswith(b"*") and b"healthy" in other.raw("DYN.CLUSTER STATUS")
    assert other.raw("CLIENT UNPAUSE") == b"+OK\r\n"
    assert client.raw() == b"" and client.raw("PING") == b"+PONG\r\n"


def test_unpause_lets_all_clients_go_on_in_the_same_turn() -> None:
    client = paused()
    client.raw("GET a")
    other = Client(client.node)
    other.node.command(other.session, [b"CLIENT", b"UNPAUSE"], 0)
    sent = dict(finish_turn(client.node).replies)
    assert sent == {other.session: b"+OK\r\n", client.session: b"$1\r\n1\r\n"}
    assert later(client, UNTIL_MS) == b"" and client.raw("GET a") == b"$1\r\n1\r\n"


def test_the_stricter_mode_and_the_later_end_hold() -> None:
    client = paused()
    Client(client.node).raw("CLIENT PAUSE 10 WRITE")
    assert client.raw("GET a") == b"" and later(client, 20) == b""
    assert later(client, UNTIL_MS) == b"$1\r\n1\r\n"
    assert client.raw("CLIENT PAUSE 0") == b"+OK\r\n"


def test_a_node_that_stops_holds_nobody() -> None:
    client = paused()
    client.raw("SET a 2")
    client.node.services.shutdown.begin()
    assert client.raw() == b"+OK\r\n"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("CLIENT PAUSE x", "ERR timeout is not an integer or out of range"),
        ("CLIENT PAUSE -1", "ERR timeout is negative"),
        ("CLIENT PAUSE 10 FOO", "ERR CLIENT PAUSE mode must be WRITE or ALL"),
        ("CLIENT PAUSE 1 ALL x", "ERR unknown subcommand or wrong number of arguments for 'PAUSE'. Try CLIENT HELP."),
    ],
)
def test_refusals_are_those_of_redis(line: str, error: str) -> None:
    assert Client(make_node()).error(line) == error
