"""DYN.TRACE runs another command: with the rights of its client, not in a transaction or script, and not in a pause."""

from __future__ import annotations

import pytest

from protocol.databases import UNSWAPPED
from server.core.base.errors import CommandError
from server.core.commands.trace_command import COMMANDS
from server.core.commands.transactions.queued_run import QueuedRun
from server.core.node import Node
from server.scripting.runtime import Runtime
from tests.core.commands.talking import CONFIG, Client, finish_turn, make_node

NO_KEY = "NOPERM this user has no permissions to access one of the keys used as arguments"
LATER_MS = 5000


@pytest.fixture
def node() -> Node:
    """A node that serves all keys alone, and runs Lua."""
    made = make_node(1, CONFIG)
    made.services.scripts.make_engine = lambda: Runtime(64 << 20, lambda: 0.0)
    return made


@pytest.fixture
def app(node: Node) -> Client:
    """A client that may do everything with keys app:*."""
    admin, client = Client(node), Client(node)
    assert admin.ask("SET secret:1 hidden") == "OK"
    assert admin.ask("ACL SETUSER app on >pw +@all ~app:*") == "OK"
    assert client.ask("AUTH app pw") == "OK"
    return client


def test_a_traced_command_needs_the_rights_for_its_keys(app: Client) -> None:
    assert app.error("DYN.TRACE GET secret:1") == NO_KEY
    assert app.raw("DYN.TRACE SET app:1 v") == b"", "it runs: its reply comes once the nodes have told their part"


@pytest.mark.parametrize("before", ["CLIENT TRACKING ON", "SUBSCRIBE app:news"])
def test_a_guard_changes_nothing_about_that(before: str, app: Client) -> None:
    app.raw("HELLO 3")
    app.raw(before)
    assert app.error("DYN.TRACE GET secret:1") == NO_KEY


def test_a_transaction_has_no_traced_command(app: Client) -> None:
    assert app.raw("MULTI") == b"+OK\r\n"
    assert app.error("DYN.TRACE GET secret:1") == "ERR Command not allowed inside a transaction"
    assert app.error("EXEC").startswith("EXECABORT")


def test_a_script_runs_no_traced_command(app: Client) -> None:
    script = b"return redis.call('DYN.TRACE', 'GET', 'secret:1')"
    assert b"not allowed from script" in app.raw_words([b"EVAL", script, b"0"])
    assert b"not allowed from script" in app.raw_words([b"EVAL", script, b"1", b"app:1"])


def test_a_sink_without_rights_of_its_own_traces_nothing(node: Node, app: Client) -> None:
    """Whatever runs it for a client: the rights are with the session of the client."""
    run = QueuedRun(app.session, UNSWAPPED, [], [], lambda replies: None, 1000)
    with pytest.raises(CommandError, match="only commands with keys"):
        COMMANDS[0].handler(node.services, run, 0, [b"DYN.TRACE", b"GET", b"secret:1"])


def test_a_traced_read_of_a_tracking_client_is_not_noted(node: Node) -> None:
    """It would be noted under a number that is not that of the command, and the news of a change would wait for it."""
    client = Client(node)
    client.raw("HELLO 3", "CLIENT TRACKING ON")
    client.raw("GET a")
    client.raw("DYN.TRACE GET k")
    assert list(node.services.tracking.keys) == [b"a"]


def test_a_pause_holds_a_traced_write_and_no_traced_read(node: Node) -> None:
    client, other = Client(node), Client(node)
    other.raw(f"CLIENT PAUSE {LATER_MS} WRITE")
    assert client.raw("DYN.TRACE SET k v") == b"" and client.session.backlog
    assert other.ask("GET k") is None
    reader = Client(node)
    reader.raw("DYN.TRACE GET k")
    assert not reader.session.backlog
    node.wake(LATER_MS)
    finish_turn(node)
    assert other.ask("GET k") == "v"


def test_a_pause_of_all_holds_a_traced_read(node: Node) -> None:
    client = Client(node)
    Client(node).raw(f"CLIENT PAUSE {LATER_MS} ALL")
    assert client.raw("DYN.TRACE GET k") == b"" and client.session.backlog
