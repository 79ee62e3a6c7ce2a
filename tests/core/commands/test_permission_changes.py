"""What becomes of commands that wait while the rights of their user change: queued, blocked, in a script; and how ACL LOG
tells of it."""

from __future__ import annotations

import pytest

from server.core.node import Node
from server.scripting.runtime import Runtime
from tests.core.commands.talking import CONFIG, Client, finish_turn, make_node

NO_KEY = "NOPERM this user has no permissions to access one of the keys used as arguments"
NO_POP = "NOPERM this user has no permissions to run the 'blpop' command"
CHANGED = (
    "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This command is no "
    "longer allowed for the following reason: "
)
MEMORY_BYTES = 64 << 20
SHA = " script: 5b69fa8e2beb22e86ad825da8c6eefe5e202fbee, on @user_script:1."


@pytest.fixture
def node() -> Node:
    """A node that serves all keys alone, and runs Lua."""
    made = make_node(1, CONFIG)
    made.services.scripts.make_engine = lambda: Runtime(MEMORY_BYTES, lambda: 0.0)
    return made


@pytest.fixture
def admin(node: Node) -> Client:
    """A client that may do everything."""
    return Client(node)


@pytest.fixture
def app(node: Node, admin: Client) -> Client:
    """A client of a user that may do everything with keys app:* and channels app:*."""
    assert admin.ask("ACL SETUSER app on >pw +@all ~app:* resetchannels &app:*") == "OK"
    client = Client(node)
    assert client.ask("AUTH app pw") == "OK"
    return client


def _logged(admin: Client) -> list[tuple[str, str, str, int]]:
    """Reason, context, object and count of the entries of ACL LOG, newest first."""
    rows = [dict(zip(row[::2], row[1::2], strict=True)) for row in admin.ask("ACL LOG")]
    return [(row["reason"], row["context"], row["object"], row["count"]) for row in rows]


@pytest.mark.parametrize(
    ("rules", "error"),
    [("-blpop", NO_POP), ("resetkeys ~other:*", NO_KEY), ("+blpop", ""), ("~other:*", ""), ("off", "")],
)
def test_a_blocked_client_goes_when_its_user_may_not_pop_any_more(
    rules: str, error: str, node: Node, admin: Client, app: Client
) -> None:
    """Redis 7.0 lets it pop; from 7.2 on its command is looked at again, and refused."""
    assert app.raw("BLPOP app:queue 0") == b""
    admin.node.command(admin.session, [b"ACL", b"SETUSER", b"app", *rules.encode().split()], 0)
    outbox = finish_turn(node)
    said = b"".join([data for session, data in outbox.replies if session is app.session])
    assert said == (b"-%b\r\n" % error.encode() if error else b"")
    admin.raw("RPUSH app:queue secret")
    for now_ms in range(2, 10, 2):
        node.wake(node.state.now_ms + now_ms)
        finish_turn(node)
    assert admin.ask("LRANGE app:queue 0 -1") == (["secret"] if error else [])
    assert [row[:2] for row in _logged(admin)] == (
        [("command" if "run" in error else "key", "toplevel")] if error else []
    )


def test_acl_log_tells_whether_a_command_stood_alone_in_a_transaction_or_in_a_script(
    admin: Client, app: Client
) -> None:
    assert app.error("GET other") == NO_KEY
    assert app.ask("MULTI") == "OK"
    assert app.error("GET other") == NO_KEY
    assert app.error("EXEC").startswith("EXECABORT")
    assert app.error("GET other") == NO_KEY
    app.raw_words([b"EVAL", b"return redis.call('get', 'other')", b"0"])
    assert _logged(admin) == [
        ("key", "lua", "other", 1),
        ("key", "toplevel", "other", 2),
        ("key", "multi", "other", 1),
    ]


def test_exec_tells_which_right_has_gone_meanwhile(admin: Client, app: Client) -> None:
    app.raw("MULTI", "GET app:1", "PUBLISH app:c m", "SET app:2 v", "PING")
    assert admin.ask("ACL SETUSER app -get resetchannels resetkeys ~app:1") == "OK"
    command, channel, key, pong = app.ask("EXEC")
    assert str(command) == CHANGED + "no permission to execute the command or subcommand"
    assert str(channel) == CHANGED + "no permission to access one of the channels used as arguments to the command"
    assert str(key) == CHANGED + "no permission to touch the specified keys"
    assert pong == "PONG"
    assert _logged(admin) == [
        ("key", "multi", "app:2", 1),
        ("channel", "multi", "app:c", 1),
        ("command", "multi", "get", 1),
    ]


def test_what_follows_auth_in_a_transaction_runs_as_the_user_who_has_logged_in(admin: Client, app: Client) -> None:
    """The replies are those of redis-server 7.0 (tests/wire/differential has the same)."""
    admin.ask("ACL SETUSER other on >pw ~app:o* +get +set +auth +ping")
    app.raw("MULTI", "SET app:1 v", "AUTH other pw", "GET app:1", "SET app:o w", "ACL WHOAMI", "PING")
    kept, ok, key, other, whoami, pong = app.ask("EXEC")
    assert (kept, ok, other, pong) == ("OK", "OK", "OK", "PONG")
    assert str(key) == CHANGED + "no permission to touch the specified keys"
    assert str(whoami) == CHANGED + "no permission to execute the command or subcommand"
    assert [row[:3] for row in _logged(admin)] == [("command", "multi", "acl|whoami"), ("key", "multi", "app:1")]
    assert app.error("GET app:1") == NO_KEY
    assert admin.ask("MGET app:1 app:o") == ["v", "w"]


def test_a_failed_login_in_a_transaction_changes_no_rights(admin: Client, app: Client) -> None:
    app.raw("MULTI", "AUTH other bad", "SET app:1 v", "GET app:1")
    wrong, done, value = app.ask("EXEC")
    assert str(wrong).startswith("WRONGPASS")
    assert (done, value) == ("OK", "v")


def test_a_login_in_a_transaction_that_has_to_wait_is_answered_there(admin: Client, app: Client) -> None:
    """The host of the client has had many failed logins."""
    admin.ask("ACL SETUSER other on >pw ~* +@all")
    for number in range(40):
        if not app.raw(f"AUTH other bad{number}"):
            break
    else:
        raise AssertionError("no login has to wait")
    late = Client(admin.node)
    late.raw("MULTI", "AUTH other pw", "SET k v")
    assert late.raw("EXEC") == b""
    told = b""
    for now_ms in range(100, 20_000, 100):
        admin.node.wake(now_ms)
        told += b"".join([data for session, data in finish_turn(admin.node).replies if session is late.session])
    assert told == b"*2\r\n+OK\r\n+OK\r\n"


def test_a_script_is_told_that_it_was_a_channel(app: Client) -> None:
    said = app.raw_words([b"EVAL", b"return redis.call('publish','zz','x')", b"0"]).decode()
    assert said == f"-ERR The user executing the script can't publish to the channel mentioned in the command{SHA}\r\n"


def test_a_script_that_asks_what_it_may_do_is_no_intruder(admin: Client, app: Client) -> None:
    for call, allowed in (("'get', 'other'", 0), ("'get', 'app:1'", 1), ("'publish', 'zz', 'm'", 0)):
        script = f"return redis.acl_check_cmd({call}) and 1 or 0"
        assert app.raw_words([b"EVAL", script.encode(), b"0"]) == b":%d\r\n" % allowed
    assert (
        app.raw_words([b"EVAL", b"return redis.acl_check_cmd('sort','app:1','by','x*') and 1 or 0", b"0"]) == b":0\r\n"
    )
    assert _logged(admin) == [] and admin.node.state.statistics.commands_refused == 0


def test_a_script_that_another_user_has_loaded_runs_with_the_rights_of_its_caller(admin: Client, app: Client) -> None:
    admin.ask("SET other v")
    sha = admin.raw_words([b"SCRIPT", b"LOAD", b"return redis.call('get', KEYS[1])"]).split(b"\r\n")[1].decode()
    assert admin.ask(f"EVALSHA {sha} 1 other") == "v"
    assert app.error(f"EVALSHA {sha} 1 other") == NO_KEY
    sha = admin.raw_words([b"SCRIPT", b"LOAD", b"return redis.call('get', 'other')"]).split(b"\r\n")[1].decode()
    assert app.error(f"EVALSHA {sha} 0").startswith(
        "ERR The user executing the script can't access at least one of the keys"
    )


def test_dryrun_of_a_container_misses_an_argument(admin: Client) -> None:
    assert admin.error("ACL DRYRUN default config") == "ERR wrong number of arguments for 'config' command"
    assert admin.error("ACL DRYRUN default config foo") == "ERR Command 'config' not found"
