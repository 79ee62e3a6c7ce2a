"""Users on one node: logging in, what a user may do, and ACL LOG."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from protocol.peer_versions import USERS
from server.core.base.config import Config
from server.core.node import Node
from server.core.users.document import Document
from server.core.users.rules import hashed
from tests.core.commands.talking import CONFIG, Client, finish_turn, go_by_own_clock, make_node, member

NOAUTH = "NOAUTH Authentication required."
NO_KEY = "NOPERM this user has no permissions to access one of the keys used as arguments"


def _no_command(name: str) -> str:
    return f"NOPERM this user has no permissions to run the '{name}' command"


@pytest.fixture
def node() -> Node:
    """A node that serves all keys alone."""
    return make_node(1)


@pytest.fixture
def admin(node: Node) -> Client:
    """A client that may do everything."""
    return Client(node)


def _logged_in(node: Node, admin: Client, *rules: str) -> Client:
    """A new user with these rules, and a client that has logged in."""
    assert admin.ask(f"ACL SETUSER app on >pw {' '.join(rules)}") == "OK"
    client = Client(node, "10.0.0.7:1")
    assert client.ask("AUTH app pw") == "OK"
    return client


def test_a_user_that_may_only_get_keys_of_the_application(node: Node, admin: Client) -> None:
    admin.raw("SET app:1 one", "SET other 2")
    app = _logged_in(node, admin, "~app:*", "+get")
    assert app.ask("GET app:1") == "one"
    assert app.ask("get app:1") == "one"
    assert app.error("GET other") == NO_KEY
    assert app.error("SET app:1 x") == _no_command("set")
    assert app.error("FLUSHALL CONFIRM") == _no_command("flushall")
    assert app.error("CONFIG GET *") == _no_command("config|get")
    assert app.error("DYN.CLUSTER STATUS") == _no_command("dyn.cluster|status")
    assert app.error("KEYS *") == _no_command("keys")
    assert app.error("FOO") == "ERR unknown command 'FOO', with args beginning with: "
    assert app.error("GET") == "ERR wrong number of arguments for 'get' command"
    assert admin.ask("GET app:1") == "one"


@pytest.mark.parametrize("pattern", ["~app:*", "~app:[0-9]", "~app:?", "~*:1", "%R~app:*", "(~app:* +get)"])
def test_patterns_of_all_forms_decide_alike_on_both_ways(pattern: str, node: Node, admin: Client) -> None:
    """A lone command takes the short way, and one behind others of its key the long one."""
    admin.raw("SET app:1 one", "SET other one")
    app = _logged_in(node, admin, *([pattern] if pattern.startswith("(") else ["+get", pattern]))
    assert app.raw("GET app:1", "GET other", "GET app:1") == b"$3\r\none\r\n-" + NO_KEY.encode() + b"\r\n$3\r\none\r\n"


def test_a_login_counts_for_what_follows_it_in_the_same_pipeline(node: Node, admin: Client) -> None:
    """Each user has a table of commands, and a pipeline changes from one to the other in the middle."""
    admin.raw("SET app:1 one", "SET other 2", "ACL SETUSER app on >pw ~app:* +get +auth")
    denied = b"-" + NO_KEY.encode() + b"\r\n"
    assert Client(node).raw("AUTH app pw", "GET other", "GET app:1") == b"+OK\r\n" + denied + b"$3\r\none\r\n"
    app = _logged_in(node, admin)
    assert app.raw("AUTH default any", "GET app:1", "GET other") == b"+OK\r\n$3\r\none\r\n$1\r\n2\r\n"


def test_reading_and_writing_are_told_apart_by_the_key_specifications(node: Node, admin: Client) -> None:
    app = _logged_in(node, admin, "+@all", "-@dangerous", "%R~r*", "%W~w*", "~b*")
    for line in ("GET r", "SET w 1", "GETDEL b", "EXISTS r", "EXISTS w", "MGET r1 r2 b", "SET w 1 EX 5", "COPY r w",
                 "ZUNIONSTORE w 2 r1 r2", "SINTERCARD 2 r1 r2"):  # fmt: skip
        assert not app.raw(line).startswith(b"-NOPERM"), line
    for line in ("GET w", "SET r 1", "GETDEL r", "GETDEL w", "MGET r1 w", "SET w 1 GET", "COPY w r", "COPY r r2",
                 "ZUNIONSTORE w 2 r1 w2", "SINTERCARD 2 r1 w2", "BITFIELD r SET u8 0 1",
                 "GEORADIUS r 1 1 1 m STORE r", "GEORADIUS r 1 1 1 m STORE w STORE r"):  # fmt: skip
        assert app.error(line) == NO_KEY, line
    assert not app.raw("BITFIELD r GET u8 0").startswith(b"-NOPERM")


def test_sort_reads_no_keys_that_the_user_may_not_read(node: Node, admin: Client) -> None:
    app = _logged_in(node, admin, "+sort", "~l")
    assert app.ask("SORT l BY nosort") == []
    for option, line in (("BY", "SORT l BY x*"), ("GET", "SORT l GET secret"), ("GET", "SORT l ALPHA LIMIT 0 1 GET #")):
        assert app.error(line) == f"ERR {option} option of SORT denied due to insufficient ACL permissions."


def test_a_pipeline_is_checked_by_the_user_of_each_command(node: Node, admin: Client) -> None:
    admin.ask("ACL SETUSER app on >pw ~app:* +get +ping")
    admin.raw("SET app:1 one", "SET x 2")
    client = Client(node)
    replies = client.raw("GET x", "AUTH app pw", "GET x", "GET app:1", "PING", "RESET", "GET x")
    expected = b"$1\r\n2\r\n+OK\r\n-%b\r\n$3\r\none\r\n+PONG\r\n+RESET\r\n$1\r\n2\r\n" % NO_KEY.encode()
    assert replies == expected


def test_a_client_that_has_not_logged_in_can_do_nothing_but_log_in_and_go(node: Node, admin: Client) -> None:
    assert admin.ask("CONFIG SET requirepass secret") == "OK"
    assert admin.ask("PING") == "PONG", "who was there before stays"
    client = Client(node)
    for line in ("GET x", "PING", "DYN.CLUSTER STATUS", "ACL WHOAMI", "INFO", "COMMAND", "ASKING"):
        assert client.error(line) == NOAUTH, line
    assert client.error("HELLO 3").startswith("NOAUTH HELLO must be called with the client already authenticated")
    assert client.error("AUTH wrong") == "WRONGPASS invalid username-password pair or user is disabled."
    assert client.error("HELLO 3 AUTH default wrong") == "WRONGPASS invalid username-password pair or user is disabled."
    assert client.session.resp3 is False
    assert client.ask("AUTH secret") == "OK"
    assert client.ask("ACL WHOAMI") == "default"
    assert client.ask("RESET") == "RESET"
    assert client.error("PING") == NOAUTH
    assert client.ask("QUIT") == "OK"


def test_the_setting_requirepass_is_the_password_until_the_user_is_changed() -> None:
    node = make_node(1, replace(CONFIG, requirepass="first"))
    client = Client(node)
    assert client.error("PING") == NOAUTH
    assert client.ask("AUTH first") == "OK"
    assert client.ask("CONFIG SET requirepass second") == "OK"
    other = Client(node)
    assert other.error("AUTH first").startswith("WRONGPASS")
    assert other.ask("AUTH default second") == "OK"
    digest = "16367aacb67a4a017c8da8ab95682ccb390863780f7114dda0a0e0c55644c7c4"
    assert other.ask("CONFIG GET requirepass") == ["requirepass", f"#{digest}"]
    assert "first" not in str(other.ask("CONFIG GET *"))
    assert other.raw_words([b"CONFIG", b"SET", b"requirepass", b""]) == b"+OK\r\n"
    assert Client(node).ask("PING") == "PONG"


def test_deleting_a_user_ends_its_sessions_and_switching_it_off_does_not(node: Node, admin: Client) -> None:
    app = _logged_in(node, admin, "+ping")
    assert admin.ask("ACL SETUSER app off") == "OK"
    assert app.ask("PING") == "PONG"
    assert Client(node).error("AUTH app pw").startswith("WRONGPASS")
    admin.ask("ACL SETUSER app -ping")
    assert app.error("PING") == _no_command("ping"), "rules are in force at once"
    assert admin.ask("ACL DELUSER app nobody") == 1
    assert admin.closing == [app.session]
    assert app.raw("PING") == b""


def test_a_user_that_deletes_itself_gets_its_answer_first(node: Node, admin: Client) -> None:
    app = _logged_in(node, admin, "+@all", "~*")
    assert app.raw("ACL DELUSER app", "PING") == b":1\r\n"
    assert app.closing == [app.session]


def test_a_user_that_is_made_again_gets_no_sessions_of_the_former_one(node: Node, admin: Client) -> None:
    app = _logged_in(node, admin, "+ping")
    admin.raw("ACL DELUSER app", "ACL SETUSER app on >other +@all ~*")
    assert app.raw("PING") == b""


def test_nor_does_one_that_was_made_again_on_another_node(node: Node, admin: Client) -> None:
    """Of the deletion and the creation there only the latter arrives here."""
    app = _logged_in(node, admin, "+ping")
    users = node.services.users
    here = users._document.entries[b"app"]
    changed_there = replace(here, counter=here.counter + 1, node="n2")
    users.received("n2", Document({b"app": changed_there}))
    assert app.ask("PING") == "PONG", "a change leaves the sessions"
    made_there = replace(here, counter=here.counter + 9, born=here.counter + 9, node="n2")
    users.received("n2", Document({b"app": made_there}))
    assert app.raw("PING") == b""


def test_acl_log_tells_what_was_refused(node: Node, admin: Client) -> None:
    app = _logged_in(node, admin, "+get", "~app:*")
    app.raw("GET x", "SET a b", "GET x")
    Client(node, "10.0.0.8:5").raw("AUTH app no")
    rows = [dict(zip(row[::2], row[1::2], strict=True)) for row in admin.ask("ACL LOG")]
    told = [(row["reason"], row["object"], row["username"], row["count"], row["context"]) for row in rows]
    assert told == [
        ("auth", "AUTH", "app", 1, "toplevel"),
        ("key", "x", "app", 2, "toplevel"),
        ("command", "set", "app", 1, "toplevel"),
    ]
    assert "addr=10.0.0.7:1 " in rows[1]["client-info"] and " user=app " in rows[1]["client-info"]
    assert [row["entry-id"] for row in rows] == [2, 0, 1]
    assert admin.ask("ACL LOG 1") == admin.ask("ACL LOG")[:1]
    assert admin.ask("ACL LOG RESET") == "OK" and admin.ask("ACL LOG") == []


def test_client_list_and_kill_know_users(node: Node, admin: Client) -> None:
    app = _logged_in(node, admin, "+ping")
    lines = admin.ask("CLIENT LIST").splitlines()
    assert [line.split(" user=")[1].split()[0] for line in lines] == ["default", "app"]
    assert admin.ask("CLIENT KILL USER app") == 1 and admin.closing == [app.session]
    assert admin.error("CLIENT KILL USER nobody") == "ERR No such user 'nobody'"


def test_the_lines_of_the_log_can_be_neither_forged_nor_flooded(node: Node) -> None:
    client = Client(node, "10.0.0.8:5")
    for number in range(50):
        client.raw_words([b"AUTH", b"a\r\nforged %d" % (number % 20) + b"x" * 1000, b"pw"])
        client.now_ms += 10_000
        node.tick(client.now_ms, client.now_ms)
    for number in range(50):
        node.services.users.log.login_refused(client.session, b"user%d" % (number % 20))
    refused, more = node.services.users.log.drain_refused()
    assert len(refused) == 8 and all("\n" not in user and len(user) < 200 for _, user in refused)
    assert sum(refused.values()) + more == 58, "50, and 8 that were not delayed"
    assert node.services.users.log.drain_refused() == ({}, 0)


def test_users_survive_a_restart_and_limits_refuse_more(node: Node) -> None:
    small = make_node(1, replace(CONFIG, users_max=2, users_bytes_max=2000))
    admin = Client(small)
    assert admin.ask("ACL SETUSER a on >x +get ~a*") == "OK"
    assert admin.ask("ACL SETUSER b off") == "OK"
    assert admin.error("ACL SETUSER c on") == "ERR there are users_max=2 users: delete some first"
    assert (
        admin.error(f"ACL SETUSER a ~{'k' * 2000}") == "ERR the rules of all users together exceed users_bytes_max=2000"
    )
    too_many = "rules are more than user_rules_max=1000"
    assert too_many in admin.error("ACL SETUSER a " + " ".join([f"~{place}" for place in range(1001)]))
    assert too_many in admin.error(f"ACL SETUSER a ({' '.join(['~x' + str(place) for place in range(999)])}) (+get)")
    again = _reopened(small)
    assert Client(again).ask("ACL LIST") == admin.ask("ACL LIST")


def _reopened(node: Node) -> Node:
    """A new process on the same store."""
    return Node(member(1), b"actor--2", 2, Config(engine="memory", tree_leaf_bits=14), node.state.records._store,
                random.Random(2), 1_700_000_000_000)  # fmt: skip


def test_damaged_users_lock_everybody_out_until_another_node_sends_them(node: Node, admin: Client) -> None:
    admin.ask("ACL SETUSER app on >pw +ping")
    document = node.services.users._document
    node.state.records.put_document(b"users", b'{"users": {')
    finish_turn(node)
    broken = _reopened(node)
    assert Client(broken).error("PING") == NOAUTH
    assert Client(broken).error("AUTH app pw").startswith("WRONGPASS")
    broken.services.users.received("n2", document)
    assert Client(broken).ask("AUTH app pw") == "OK"
    assert Client(broken).ask("PING") == "PONG"


def test_the_local_operator_may_do_everything_and_is_no_user(node: Node, admin: Client) -> None:
    assert Client(node).error("AUTH dyn.local x").startswith("WRONGPASS")
    node.services.users.local_password = hashed(b"x")
    admin.ask("ACL SETUSER default off")
    local = Client(node)
    assert local.error("PING") == NOAUTH
    assert local.ask("AUTH dyn.local x") == "OK"
    assert local.ask("ACL USERS") == ["default"]
    assert local.ask("SET a b") == "OK"
    assert "reserved" in local.error("ACL SETUSER dyn.local on")
    assert local.ask("ACL SETUSER default on") == "OK"
    assert local.ask("PING") == "PONG", "a change of users leaves it alone"


def test_another_node_may_ask_what_nodes_ask_and_nothing_else(node: Node, admin: Client) -> None:
    admin.ask("ACL SETUSER default off")
    other = Client(node)
    node.services.users.admit_node(other.session)
    assert '"name"' in other.ask("DYN.CLUSTER MYSELF")
    assert other.error("DYN.CLUSTER LEAVE n1") == _no_command("dyn.cluster|leave")
    assert other.error("GET x") == _no_command("get")
    admin.ask("ACL SETUSER default on")
    assert other.error("GET x") == _no_command("get"), "a change of users gives it nothing"
    assert "reserved" in admin.error("ACL SETUSER dyn.node on")


def test_operators_are_logged_with_their_names_and_no_secret(node: Node, admin: Client) -> None:
    ops = _logged_in(node, admin, "+@all", "~*")
    node.services.audit.drain()
    ops.raw("ACL SETUSER x on >secret", "CONFIG SET requirepass secret", "ACL DELUSER x")
    notes, _ = node.services.audit.drain()
    assert [who for _, _, who, _ in notes] == ["user 'app' at 10.0.0.7:1"] * 3
    assert "secret" not in str(notes) and "x" in notes[0][1]


def test_dryrun_answers_as_redis_does(admin: Client) -> None:
    admin.ask("ACL SETUSER app +get +config|get ~a* %R~r*")
    for line, answer in (
        ("app GET a1", "OK"),
        ("app GET x", "This user has no permissions to access the 'x' key"),
        ("app SET r 1", "This user has no permissions to run the 'set' command"),
        ("app CONFIG SET a b", "This user has no permissions to run the 'config|set' command"),
        ("default FLUSHALL", "OK"),
    ):
        assert admin.ask(f"ACL DRYRUN {line}") == answer
    assert admin.error("ACL DRYRUN nobody GET a") == "ERR User 'nobody' not found"
    assert admin.error("ACL DRYRUN app FOO") == "ERR Command 'FOO' not found"
    assert admin.error("ACL DRYRUN app GET") == "ERR wrong number of arguments for 'get' command"


def test_operators_commands_are_a_category_and_dangerous(node: Node, admin: Client) -> None:
    found = set(admin.ask("ACL CAT dyn"))
    assert {
        "dyn.cluster",
        "dyn.cluster|commit",
        "dyn.ring|show",
        "dyn.hints|replay",
        "dyn.repair|start",
        "dyn.stats",
    } <= found
    assert not found & {"dyn.get", "dyn.set", "dyn.del", "dyn.quorum"}
    assert found <= set(admin.ask("ACL CAT dangerous")) & set(admin.ask("ACL CAT admin"))
    assert not found & (
        set(admin.ask("ACL CAT read")) | set(admin.ask("ACL CAT write")) | set(admin.ask("ACL CAT fast"))
    )
    data = _logged_in(node, admin, "+@read", "+@write", "~*")
    for line in ("DYN.CLUSTER REMOVE n1", "DYN.RING SHOW", "DYN.SIBLINGS SHOW a"):
        assert data.error(line).startswith("NOPERM"), line
    assert not data.raw("DYN.SET k v").startswith(b"-") and not data.raw("DYN.GET k").startswith(b"-")
    app = _logged_in(node, admin, "resetkeys", "+@all", "-@dangerous", "~*")
    assert app.error("DYN.CLUSTER STATUS") == _no_command("dyn.cluster|status")
    assert app.ask("DYN.GET j") == [None, []]


def test_a_change_goes_to_the_members_that_have_users_and_the_log_names_the_others() -> None:
    node = make_node(3)
    node.connected(member(2).id, 0, (USERS,))
    node.connected(member(3).id, 0, (b"orderly",))
    go_by_own_clock(node)
    first = finish_turn(node).messages
    assert first[member(2).id].index(b"USERS") < first[member(2).id].index(b"LAYOUT"), (
        "a fresh node learns its users first"
    )
    assert b"USERS" not in first[member(3).id]
    admin = Client(node)
    node.command(admin.session, [b"ACL", b"SETUSER", b"ann", b"on"], 0)
    sent = finish_turn(node).messages
    assert b"USERS" in sent[member(2).id] and b'"ann"' in sent[member(2).id]
    assert b"ann" not in sent.get(member(3).id, b"")
    warnings = [line for is_warning, line in node.services.users.log.drain_lines() if is_warning]
    assert warnings == ["nodes n3 run a version without users and let everybody in: upgrade them"]


def test_nodes_whose_documents_differ_send_them_to_each_other() -> None:
    node = make_node(3)
    node.connected(member(2).id, 0, (USERS,))
    go_by_own_clock(node)
    finish_turn(node)
    users = node.services.users
    users.sharing.digest_received(member(2).id, users.sharing.digest())
    assert b"USERS\r\n" not in finish_turn(node).messages.get(member(2).id, b"")
    users.sharing.digest_received(member(2).id, b"0" * 32)
    assert b"USERS\r\n" in finish_turn(node).messages[member(2).id]


def test_what_another_node_sends_is_stored_and_in_force(node: Node, admin: Client) -> None:
    other = make_node(1)
    assert Client(other).ask("ACL SETUSER app on >pw +ping") == "OK"
    node.services.users.received("n2", other.services.users._document)
    finish_turn(node)
    assert Client(node).ask("AUTH app pw") == "OK"
    assert node.services.users.sharing.digest() == other.services.users.sharing.digest()
    assert Client(_reopened(node)).ask("AUTH app pw") == "OK"


def test_a_writer_may_flush_unless_it_is_forbidden_what_is_dangerous(node: Node, admin: Client) -> None:
    """As in Redis, where FLUSHALL is @write, too. The word CONFIRM guards against mistakes, not against users."""
    admin.ask("ACL SETUSER writer on nopass ~* +@write")
    assert admin.ask("ACL DRYRUN writer FLUSHALL CONFIRM") == "OK"
    admin.ask("ACL SETUSER writer -@dangerous")
    for name in ("flushall", "flushdb"):
        assert f"no permissions to run the '{name}' command" in str(admin.ask(f"ACL DRYRUN writer {name} CONFIRM"))
    assert admin.ask("ACL DRYRUN writer SET k v") == "OK"
