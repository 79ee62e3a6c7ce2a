"""Whoever guesses passwords has to wait, and nobody else."""

from __future__ import annotations

import pytest

from server.core.node import Node
from server.core.services import guesses
from server.core.users.rules import hashed
from tests.core.commands.talking import Client, finish_turn, make_node


@pytest.fixture
def node() -> Node:
    """A node that serves all keys alone."""
    return make_node(1)


@pytest.fixture
def admin(node: Node) -> Client:
    """A client that may do everything."""
    return Client(node)


def test_whoever_guesses_has_to_wait_and_nobody_else(node: Node, admin: Client) -> None:
    admin.ask("ACL SETUSER app on >pw +ping")
    guesser = Client(node, "10.6.6.6:1")
    for _ in range(guesses.FREE):
        assert guesser.error("AUTH app no").startswith("WRONGPASS")
    assert guesser.raw("AUTH app no", "PING") == b"", "looked at later, and so is what follows"
    node.services.users.local_password = hashed(b"local")
    assert Client(node, "10.6.6.6:3").ask("AUTH dyn.local local") == "OK", "its secret cannot be guessed"
    right = Client(node, "10.6.6.6:2")
    assert right.raw("AUTH app pw") == b"", "the right password of that host waits, too"
    assert Client(node, "10.7.7.7:1").ask("AUTH app pw") == "OK"
    assert admin.ask("PING") == "PONG"
    node.wake(guesses.DELAY_MS_FIRST - 1)
    assert not finish_turn(node).replies
    node.wake(guesses.DELAY_MS_FIRST)
    replies = {session.id: data for session, data in finish_turn(node).replies}
    assert replies[right.session.id] == b"+OK\r\n"
    assert replies[guesser.session.id].startswith(b"-WRONGPASS") and replies[guesser.session.id].endswith(b"+PONG\r\n")
    assert right.session.user == b"app"


def test_many_connections_of_one_host_guess_no_faster(node: Node) -> None:
    for number in range(guesses.FREE):
        Client(node, f"10.6.6.6:{number}").raw("AUTH a b")
    crowd = [Client(node, f"10.6.6.6:{100 + number}") for number in range(guesses.WAITING_MAX + 5)]
    replies = [client.raw("AUTH a b") for client in crowd]
    assert [reply == b"" for reply in replies] == [True] * guesses.WAITING_MAX + [False] * 5
    assert replies[-1] == b"-ERR too many failed logins from your address: try again later\r\n"
    node.wake(guesses.DELAY_MS_MAX)
    assert len(finish_turn(node).replies) == guesses.WAITING_MAX
    late = Client(node, "10.6.6.6:999", guesses.DELAY_MS_MAX + guesses.FORGET_MS)
    assert late.error("AUTH a b").startswith("WRONGPASS"), "after a while it is forgotten"


def test_the_table_of_hosts_is_bounded(node: Node) -> None:
    table = node.services.users.guesses
    for number in range(guesses.HOSTS_MAX + 100):
        table.failed(f"10.0.{number // 256}.{number % 256}", number)
    assert len(table._hosts) == guesses.HOSTS_MAX


LONG = "0123456789abcdef"


def _flood(node: Node, host: str) -> None:
    """A guesser on that host, until logins from it are refused."""
    for number in range(guesses.FREE + guesses.WAITING_MAX + 5):
        Client(node, f"{host}:{number}").raw("AUTH app guess")
    assert Client(node, f"{host}:900").error("AUTH app guess").startswith("ERR too many failed logins")


def test_a_long_password_that_was_right_from_a_host_is_not_shut_out_by_a_guesser_there(
    node: Node, admin: Client
) -> None:
    admin.ask(f"ACL SETUSER app on >{LONG} +ping +auth")
    admin.ask(f"ACL SETUSER other on >{LONG} +ping")
    assert Client(node, "10.6.6.6:901").ask(f"AUTH app {LONG}") == "OK"
    _flood(node, "10.6.6.6")
    assert Client(node, "10.6.6.6:902").ask(f"AUTH app {LONG}") == "OK"
    assert Client(node, "10.6.6.6:903").ask(f"AUTH app {LONG}") == "OK", "again and again"
    assert Client(node, "10.6.6.6:904").error(f"AUTH app {LONG}x").startswith("ERR too many"), "only what was right"
    assert Client(node, "10.6.6.6:905").error(f"AUTH other {LONG}").startswith("ERR too many"), "of that user"
    _flood(node, "10.7.7.7")
    assert Client(node, "10.7.7.7:906").error(f"AUTH app {LONG}").startswith("ERR too many"), "from that host"


def test_a_short_password_tells_a_guesser_nothing_at_once(node: Node, admin: Client) -> None:
    short = LONG[: guesses.LONG_BYTES - 1]
    admin.ask(f"ACL SETUSER app on >{short} +ping")
    assert Client(node, "10.6.6.6:901").ask(f"AUTH app {short}") == "OK"
    _flood(node, "10.6.6.6")
    assert Client(node, "10.6.6.6:902").error(f"AUTH app {short}").startswith("ERR too many")


def test_a_password_that_is_not_valid_any_more_is_refused_and_counts(node: Node, admin: Client) -> None:
    admin.ask(f"ACL SETUSER app on >{LONG} +ping")
    assert Client(node, "10.6.6.6:901").ask(f"AUTH app {LONG}") == "OK"
    _flood(node, "10.6.6.6")
    admin.ask("ACL SETUSER app resetpass >another")
    assert Client(node, "10.6.6.6:902").error(f"AUTH app {LONG}").startswith("WRONGPASS")


def test_what_is_remembered_is_bounded() -> None:
    table = guesses.Guesses()
    for number in range(guesses.PROVEN_MAX + 10):
        table.succeeded("h", b"%d" % number, LONG.encode())
    assert len(table._proven) == guesses.PROVEN_MAX
    for _ in range(guesses.FREE):
        table.failed("h", 0)
    assert table.delay_ms("h", b"9", LONG.encode(), 0) == guesses.DELAY_MS_FIRST, "the oldest went"
    assert table.delay_ms("h", b"10", LONG.encode(), 0) == 0
