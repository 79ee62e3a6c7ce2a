"""MULTI, EXEC, DISCARD, WATCH and UNWATCH of one node: Redis' replies, one slot and several, and what refuses a whole."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocol.resp import items_of
from server.core.node import Node
from tests.core.commands.talking import CONFIG, Client, finish_turn, make_node

ABORTED = "EXECABORT Transaction discarded because of previous errors."


@pytest.fixture
def node() -> Node:
    return make_node()


@pytest.fixture
def client(node: Node) -> Client:
    return Client(node)


def told_all(client: Client, *lines: str) -> bytes:
    """What the client is told in this turn and the next ones."""
    told = client.raw(*lines)
    for _ in range(9):
        told += b"".join([data for session, data in finish_turn(client.node).replies if session is client.session])
    return told


@pytest.mark.parametrize("other", ["{a}b", "b"])
def test_a_pipeline_in_one_write_is_answered_in_order(client: Client, other: str) -> None:
    first = ("SET a 0", "MULTI", "SET a 1", "INCR a", f"SET {other} x", "GET a", "EXEC")
    told = told_all(client, *first, "GET a", "MULTI", f"GET {other}", "EXEC")
    assert told == (
        b"+OK\r\n+OK\r\n" + 4 * b"+QUEUED\r\n" + b"*4\r\n+OK\r\n:2\r\n+OK\r\n$1\r\n2\r\n$1\r\n2\r\n"
        b"+OK\r\n+QUEUED\r\n*1\r\n$1\r\nx\r\n"
    )


def test_what_is_pipelined_behind_exec_waits_for_it(client: Client) -> None:
    assert told_all(client, "MULTI", "INCR a", "EXEC", "INCR a", "SET a 9", "GET a") == (
        b"+OK\r\n+QUEUED\r\n*1\r\n:1\r\n:2\r\n+OK\r\n$1\r\n9\r\n"
    )


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (["EXEC"], "ERR EXEC without MULTI"),
        (["DISCARD"], "ERR DISCARD without MULTI"),
        (["MULTI", "MULTI"], "ERR MULTI calls can not be nested"),
        (["MULTI", "WATCH a"], "ERR WATCH inside MULTI is not allowed"),
        (["MULTI", "NOSUCH x"], "ERR unknown command 'NOSUCH', with args beginning with: 'x' "),
        (["MULTI", "GET"], "ERR wrong number of arguments for 'get' command"),
        (["MULTI", "CLIENT NOSUCH"], "ERR unknown subcommand 'NOSUCH'. Try CLIENT HELP."),
        (["MULTI", "SET a 1", "NOSUCH", "EXEC"], ABORTED),
        (["MULTI", "SET a 1", "DISCARD x", "EXEC"], ABORTED),
        (["EXEC x"], "EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command"),
        (["MULTI", "SET a 1", "EXEC x", "EXEC"], "ERR EXEC without MULTI"),
        (["MULTI x"], "ERR wrong number of arguments for 'multi' command"),
    ],
)
def test_errors_have_the_words_of_redis(client: Client, lines: list[str], error: str) -> None:
    for line in lines[:-1]:
        client.ask(line)
    assert client.error(lines[-1]) == error.rstrip("\r\n")
    assert client.ask("EXISTS a") in (0, "QUEUED")


def test_a_refused_transaction_runs_nothing_and_ends_with_exec(client: Client) -> None:
    for line in ("MULTI", "SET a 1"):
        client.ask(line)
    client.error("GET")
    assert client.ask("SET b 1") == "QUEUED"
    assert client.error("EXEC") == ABORTED
    assert client.ask("MGET a b") == [None, None]
    assert client.error("EXEC") == "ERR EXEC without MULTI"


@pytest.mark.parametrize("end", ["DISCARD", "RESET"])
def test_discard_and_reset_forget_the_commands_and_the_watches(client: Client, end: str) -> None:
    for line in ("WATCH a", "SET a 1", "MULTI", "SET a 2"):
        client.ask(line)
    assert client.ask(end) in ("OK", "RESET")
    assert client.ask("GET a") == "1"
    assert client.ask("MULTI") == "OK"
    assert client.ask("EXEC") == []


def test_an_error_of_one_command_is_its_item_and_the_others_run(client: Client) -> None:
    for line in ("MULTI", "SET a x", "LPUSH a 1", "INCR a", "APPEND a y"):
        client.ask(line)
    ok, wrong, number, length = client.ask("EXEC")
    assert (ok, length) == ("OK", 2)
    assert str(wrong).startswith("WRONGTYPE")
    assert str(number) == "ERR value is not an integer or out of range"


def test_commands_without_keys_run_in_their_place(client: Client) -> None:
    for line in ("MULTI", "PING x", "SET a 1", "CLIENT SETNAME me", "ECHO y", "INCR a", "CLIENT GETNAME", "EXEC"):
        told = client.ask(line)
    assert told == ["x", "OK", "OK", "y", 2, "me"]
    assert client.ask("CLIENT GETNAME") == "me"


def test_a_message_is_published_once_the_run_is_done(node: Node) -> None:
    client, other = (
        Client(
            node,
        ),
        Client(node),
    )
    other.raw("SUBSCRIBE done")
    for line in ("MULTI", "PUBLISH done x", "SET a 1", "SPUBLISH a y"):
        client.ask(line)
    node.command(client.session, [b"EXEC"], 0)
    told = {session.id: data for session, data in finish_turn(node).replies}
    assert told[client.session.id] == b"*3\r\n:1\r\n+OK\r\n:0\r\n"
    assert client.ask("GET a") == "1"


@pytest.mark.parametrize(("multi_slots", "told"), [("relaxed", ["OK", "OK"]), ("strict", None)])
def test_keys_of_several_slots(multi_slots: str, told: list[str] | None) -> None:
    client = Client(make_node(1, replace(CONFIG, multi_slots=multi_slots)))
    for line in ("MULTI", "SET a 1", "SET b 1"):
        client.ask(line)
    if told is None:
        assert client.error("EXEC") == "CROSSSLOT Keys in request don't hash to the same slot"
    else:
        assert client.ask("EXEC") == told
    assert client.ask("MGET a b") == (["1", "1"] if told else [None, None])


def test_a_key_of_another_slot_that_no_argument_shows_makes_it_one_of_several_slots() -> None:
    for multi_slots in ("relaxed", "strict"):
        node = make_node(4, replace(CONFIG, multi_slots=multi_slots))
        client = Client(node)
        lines = ("MULTI", "SET k0 1", "SORT nolist BY other_*", "DBSIZE", "EXEC")
        told = client.raw(*lines)
        assert told.startswith(b"+OK\r\n" + 3 * b"+QUEUED\r\n")
        assert told.endswith(b"-CROSSSLOT Keys in request don't hash to the same slot\r\n") == (multi_slots == "strict")


def test_a_script_is_a_run_of_its_own() -> None:
    client = Client(make_node(1, replace(CONFIG, multi_slots="strict")))
    client.raw("MULTI", "SET a 1")
    client.raw_words([b"EVAL", b"return redis.call('incr', KEYS[1])", b"1", b"a"])
    assert client.error("EXEC") == "CROSSSLOT Keys in request don't hash to the same slot"


# Rights, limits


def test_a_command_that_is_not_permitted_refuses_the_whole(node: Node) -> None:
    admin, client = Client(node), Client(node)
    admin.ask("ACL SETUSER u on nopass ~a* +@all -incr")
    client.ask("AUTH u x")
    client.ask("MULTI")
    assert client.error("INCR a").startswith("NOPERM")
    assert client.error("EXEC") == ABORTED
    client.ask("MULTI")
    assert client.error("SET b 1").startswith("NOPERM")
    assert client.error("EXEC") == ABORTED


def test_a_user_who_may_not_exec_is_told_so_and_leaves_the_transaction(node: Node) -> None:
    admin, client = Client(node), Client(node)
    admin.ask("ACL SETUSER u on nopass ~* +@all -exec")
    client.ask("AUTH u x")
    for line in ("MULTI", "SET a 1"):
        client.ask(line)
    told = "EXECABORT Transaction discarded because of: NOPERM this user has no permissions to run the 'exec' command"
    assert client.error("EXEC") == told
    assert client.ask("GET a") is None


def test_rights_are_looked_up_again_by_exec(node: Node) -> None:
    admin, client = Client(node), Client(node)
    admin.ask("ACL SETUSER u on nopass ~* +@all")
    client.ask("AUTH u x")
    for line in ("MULTI", "SET a 1", "SET b 1", "INCR a", "PING"):
        client.ask(line)
    admin.ask("ACL SETUSER u resetkeys ~a -incr")
    told = client.ask("EXEC")
    assert [str(each) for each in told] == [
        "OK",
        "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This command is "
        "no longer allowed for the following reason: no permission to touch the specified keys",
        "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This command is "
        "no longer allowed for the following reason: no permission to execute the command or subcommand",
        "PONG",
    ]
    assert admin.ask("MGET a b") == ["1", None]


def test_what_is_queued_has_limits() -> None:
    config = replace(CONFIG, transaction_commands_max=2, transaction_bytes_max=300, transaction_keys_max=2)
    client = Client(make_node(1, config))
    for line in ("MULTI", "SET a 1", "SET b 1"):
        client.ask(line)
    assert client.error("SET c 1") == "ERR the transaction has more than transaction_commands_max=2 commands"
    assert client.error("EXEC") == ABORTED
    client.ask("MULTI")
    assert client.error("SET a " + "x" * 200) == "ERR the transaction has more than transaction_bytes_max=300 bytes"
    assert client.error("EXEC") == ABORTED
    assert client.error("WATCH a b c") == "ERR a client may watch transaction_keys_max=2 keys"
    assert client.error("WATCH " + "x" * 301) == "ERR a client may watch keys of transaction_bytes_max=300 bytes"
    client.ask("MULTI")
    client.ask("DEL {a}1 {a}2 {a}3")
    assert client.error("EXEC") == "ERR this needs more than transaction_keys_max=2 keys at once: nothing was written"
    assert client.ask("EXISTS {a}1 {a}2 {a}3 a b") == 0


def test_clients_can_see_who_is_in_a_transaction(client: Client) -> None:
    other = Client(client.node)
    for line in ("MULTI", "SET a 1"):
        client.ask(line)
    assert client.session.queued_bytes() > 0
    assert "flags=x" in other.ask("CLIENT LIST")
    assert " multi=1 " in other.ask("CLIENT LIST")
    client.node.close_session(client.session)
    assert client.session.queued_bytes() == 0


def test_a_long_transaction_takes_several_turns_and_lets_others_be_served(node: Node) -> None:
    client, other = Client(node), Client(node)
    client.ask("MULTI")
    for _ in range(450):
        client.ask("INCR a")
    assert client.raw("EXEC") == b""
    assert other.ask("PING") == "PONG"
    assert other.ask("GET a") is None
    told = b""
    for now_ms in range(2, 20, 2):
        node.wake(now_ms)
        told += b"".join([data for _, data in finish_turn(node).replies])
    assert items_of(told) == [b":%d\r\n" % number for number in range(1, 451)]


def test_a_message_is_no_item_of_the_reply_to_exec(client: Client) -> None:
    told = told_all(client, "MULTI", "SUBSCRIBE ch", "PUBLISH ch m", "UNSUBSCRIBE ch", "EXEC")
    assert told.endswith(
        b"*3\r\n*3\r\n$9\r\nsubscribe\r\n$2\r\nch\r\n:1\r\n:1\r\n*3\r\n$11\r\nunsubscribe\r\n$2\r\nch\r\n:0\r\n"
    )


def test_a_run_that_has_begun_goes_on_when_cluster_time_is_known_again(client: Client) -> None:
    state = client.node.state
    for line in ("MULTI", "INCR a", "INCR b", "EXEC"):
        client.node.command(client.session, line.encode().split(), 0)
    state.has_time = False
    assert told_all(client).count(b"QUEUED") == 2 and client.session.in_flight
    state.has_time = True
    client.node.tick(1, state.wall_ms)
    assert told_all(client) == b"*2\r\n:1\r\n:1\r\n"
