"""The commands about a connection answer as Redis does: the facts here were taken from redis-server 7.0.15."""

from __future__ import annotations

import re

import pytest

from tests.core.commands.talking import ADDRESS, LOCAL_ADDRESS, Client, finish_turn, make_node, reach

WRONG_USER = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
NO_CLIENT = b"-ERR No such client\r\n"
BAD_ID = b"-ERR client-id should be greater than 0\r\n"
SYNTAX = b"-ERR syntax error\r\n"
BAD_NAME = b"-ERR Client names cannot contain spaces, newlines or special characters.\r\n"


def wrong_count(command: str) -> bytes:
    return f"-ERR wrong number of arguments for '{command}' command\r\n".encode()


FACTS = {
    "PING": b"+PONG\r\n",
    "ping hello": b"$5\r\nhello\r\n",
    "PING a b": wrong_count("ping"),
    "ECHO x": b"$1\r\nx\r\n",
    "ECHO": wrong_count("echo"),
    "HELLO 4": b"-NOPROTO unsupported protocol version\r\n",
    "HELLO 1": b"-NOPROTO unsupported protocol version\r\n",
    "HELLO abc": b"-ERR Protocol version is not an integer or out of range\r\n",
    "HELLO 9999999999999999999999": b"-ERR Protocol version is not an integer or out of range\r\n",
    "HELLO 3 AUTH": b"-ERR Syntax error in HELLO option 'AUTH'\r\n",
    "HELLO 3 AUTH a b": WRONG_USER,
    "HELLO 3 foo": b"-ERR Syntax error in HELLO option 'foo'\r\n",
    "HELLO 3 SETNAME \x01": BAD_NAME,
    "AUTH x": b"-ERR AUTH <password> called without any password configured for the default user. "
    b"Are you sure your configuration is correct?\r\n",
    "AUTH default x": b"+OK\r\n",
    "AUTH foo x": WRONG_USER,
    "AUTH a b c": SYNTAX,
    "AUTH": wrong_count("auth"),
    "SELECT 0": b"+OK\r\n",
    "SELECT 99": b"-ERR DB index is out of range\r\n",
    "SELECT -1": b"-ERR DB index is out of range\r\n",
    "SELECT abc": b"-ERR value is not an integer or out of range\r\n",
    "READONLY": b"+OK\r\n",
    "READONLY x": wrong_count("readonly"),
    "READWRITE": b"+OK\r\n",
    "ASKING": b"+OK\r\n",
    "RESET": b"+RESET\r\n",
    "RESET x": wrong_count("reset"),
    "ACL WHOAMI": b"$7\r\ndefault\r\n",
    "ACL FOO": b"-ERR unknown subcommand 'FOO'. Try ACL HELP.\r\n",
    "CLIENT": wrong_count("client"),
    "CLIENT FOO": b"-ERR unknown subcommand 'FOO'. Try CLIENT HELP.\r\n",
    "CLIENT ID": b":1\r\n",
    "CLIENT ID x": wrong_count("client|id"),
    "CLIENT GETNAME": b"$-1\r\n",
    "CLIENT SETNAME \x7f": BAD_NAME,
    "CLIENT SETINFO LIB-NAME foo": b"+OK\r\n",
    "CLIENT SETINFO foo bar": b"-ERR Unrecognized option 'foo'\r\n",
    "CLIENT SETINFO lib-ver \x01": b"-ERR lib-ver cannot contain spaces, newlines or special characters.\r\n",
    "CLIENT LIST ID 77": b"$0\r\n\r\n",
    "CLIENT LIST ID 0 -1": b"$0\r\n\r\n",
    "CLIENT LIST ID": SYNTAX,
    "CLIENT LIST ID abc": b"-ERR Invalid client ID\r\n",
    "CLIENT LIST TYPE pubsub": b"$0\r\n\r\n",
    "CLIENT LIST TYPE foo": b"-ERR Unknown client type 'foo'\r\n",
    "CLIENT LIST TYPE": SYNTAX,
    "CLIENT LIST TYPE normal x": SYNTAX,
    "CLIENT LIST FOO bar": SYNTAX,
    "CLIENT NO-EVICT on": b"+OK\r\n",
    "CLIENT NO-EVICT foo": SYNTAX,
    "CLIENT NO-EVICT": wrong_count("client|no-evict"),
    "CLIENT KILL": wrong_count("client|kill"),
    "CLIENT KILL 1.2.3.4:5": NO_CLIENT,
    "CLIENT KILL ID": NO_CLIENT,
    "CLIENT KILL ID 99999": b":0\r\n",
    "CLIENT KILL ID abc": BAD_ID,
    "CLIENT KILL ID 0": BAD_ID,
    "CLIENT KILL ID 5 FOO": SYNTAX,
    "CLIENT KILL TYPE foo": b"-ERR Unknown client type 'foo'\r\n",
    "CLIENT KILL TYPE replica": b":0\r\n",
    "CLIENT KILL USER nobody": b"-ERR No such user 'nobody'\r\n",
    "CLIENT KILL USER default": b":0\r\n",
    "CLIENT KILL SKIPME maybe": SYNTAX,
    "CLIENT KILL FOO bar": SYNTAX,
    "CLIENT KILL MAXAGE 0": b"-ERR maxage should be greater than 0\r\n",
    "CLIENT REPLY ON": b"+OK\r\n",
    "CLIENT REPLY foo": SYNTAX,
    "CLIENT TRACKING OFF": b"+OK\r\n",
    "CLIENT TRACKING foo": SYNTAX,
    "CLIENT GETREDIR": b":-1\r\n",
}


@pytest.mark.parametrize("line", FACTS)
def test_a_new_connection_is_answered_as_redis_answers_it(line: str) -> None:
    assert Client(make_node()).raw(line) == FACTS[line]


# What CLIENT REPLY leaves of the replies to a pipeline, as redis-server leaves it.
MUTED = {
    "CLIENT REPLY ON|ECHO a": "OK a",
    "CLIENT REPLY OFF|ECHO a|ECHO b": "",
    "ECHO a|CLIENT REPLY OFF|ECHO b|CLIENT REPLY ON|ECHO c": "a OK c",
    "CLIENT REPLY SKIP|ECHO a|ECHO b": "b",
    "CLIENT REPLY SKIP|CLIENT REPLY SKIP|ECHO a|ECHO b": "b",
    "CLIENT REPLY SKIP|CLIENT REPLY ON|ECHO a": "OK a",
    "CLIENT REPLY OFF|CLIENT REPLY SKIP|ECHO a|CLIENT REPLY ON": "OK",
    "CLIENT REPLY OFF|RESET|ECHO a": "RESET a",
}


@pytest.mark.parametrize("lines", MUTED)
@pytest.mark.parametrize("together", [True, False])
def test_client_reply_drops_replies(lines: str, together: bool) -> None:
    client = Client(make_node())
    said = client.raw(*lines.split("|")) if together else b"".join([client.raw(line) for line in lines.split("|")])
    assert " ".join(re.findall("^[+]?([a-zA-Z]+)\r$", said.decode(), re.MULTILINE)) == MUTED[lines]


def test_a_command_whose_reply_is_dropped_is_run() -> None:
    client = Client(make_node())
    assert client.raw("CLIENT REPLY SKIP", "CLIENT SETNAME me", "CLIENT GETNAME") == b"$2\r\nme\r\n"


def test_a_muted_client_is_written_to_so_that_its_connection_reads_on() -> None:
    client = Client(make_node())
    client.raw("CLIENT REPLY OFF")
    client.node.command(client.session, [b"PING"], 0)
    assert finish_turn(client.node).replies == [(client.session, b"")]


@pytest.mark.parametrize("line", ["POST / HTTP/1.1", "pOsT", "Host: 127.0.0.1:7001", "host:"])
def test_http_ends_the_connection_and_what_follows_is_not_run(line: str) -> None:
    node = make_node()
    client = Client(node)
    assert client.raw("PING", line, "CLIENT SETNAME pwned", "PING") == b"+PONG\r\n"
    assert client.closing == [client.session]
    assert client.session.name == b""
    assert (node.state.statistics.http_refused, node.services.process.http_refused_from) == (1, client.session.address)
    assert Client(node).ask("COMMAND INFO post host:") == [None, None]


GREETING = {
    "server": "redis",
    "version": "7.4.0",
    "id": 1,
    "mode": "standalone",
    "role": "master",
    "modules": [],
}


def test_hello_changes_the_protocol_from_its_own_reply_on() -> None:
    client = Client(make_node())
    assert client.raw("HELLO").startswith(b"*14\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n")
    assert client.raw("HELLO 3").startswith(b"%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n")
    assert client.ask("HELLO") == GREETING | {"proto": 3}
    assert client.raw("CLIENT GETNAME") == b"_\r\n"
    assert client.raw("HELLO 2").startswith(b"*14\r\n")
    assert client.raw("CLIENT GETNAME") == b"$-1\r\n"


def test_hello_takes_its_options_in_any_order_and_all_or_none() -> None:
    client = Client(make_node())
    assert client.ask("HELLO 3 setname me AUTH default any")["proto"] == 3
    assert client.ask("CLIENT GETNAME") == "me"
    client.error("HELLO 2 SETNAME you AUTH nobody x")
    assert client.raw("CLIENT GETNAME") == b"$2\r\nme\r\n"
    assert client.ask("HELLO")["proto"] == 3


def test_replies_to_commands_before_a_hello_keep_their_protocol() -> None:
    client = Client(make_node())
    replies = client.raw("GET missing", "HELLO 3", "GET missing")
    assert replies.startswith(b"$-1\r\n%7\r\n") and replies.endswith(b"_\r\n")


def test_quit_closes_after_the_replies_to_the_commands_before_it() -> None:
    client = Client(make_node())
    assert client.raw("SET k v", "GET k", "QUIT now") == b"+OK\r\n$1\r\nv\r\n+OK\r\n"
    assert client.closing == [client.session]


def test_quit_waits_for_a_quorum_that_is_out() -> None:
    node = make_node(3)
    reach(node, 2)
    reach(node, 3)
    client = Client(node)
    assert client.raw("GET k", "QUIT") == b""
    assert client.closing == []
    replies, closing = b"", []
    for now_ms in range(0, 4000, 500):
        node.tick(now_ms, now_ms)
        outbox = node.end_turn()
        replies += b"".join([data for _, data in outbox.replies])
        closing += outbox.closing
    assert re.fullmatch(rb"-(NOQUORUM|TIMEOUT) [^\r]*\r\n\+OK\r\n", replies)
    assert closing == [client.session]


def test_reset_makes_the_connection_as_new() -> None:
    client = Client(make_node())
    for line in ("HELLO 3 SETNAME me", "CLIENT NO-EVICT ON", "CLIENT NO-TOUCH ON", "DYN.QUORUM R 1 W 1"):
        client.raw(line)
    client.raw("CLIENT SETINFO LIB-NAME lib")
    assert client.raw("RESET") == b"+RESET\r\n"
    session = client.session
    assert (session.name, session.resp3, session.no_evict, session.no_touch) == (b"", False, False, False)
    assert (session.read_quorum, session.write_quorum) == (0, 0)
    assert session.library_name == b"lib"


LINE = (
    "id=1 addr={} laddr={} fd=-1 name={} age={} idle={} flags={} db=0 sub=0 psub=0 ssub=0 multi=-1 qbuf=0 qbuf-free=0 "
    "argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd={} user=default redir=-1 resp={} "
    "lib-name={} lib-ver={}\n"
)


def test_a_line_of_client_list_has_the_fields_of_redis_in_their_order() -> None:
    client = Client(make_node())
    assert client.ask("CLIENT LIST") == LINE.format(ADDRESS, LOCAL_ADDRESS, "", 0, 0, "N", "client|list", 2, "", "")


def test_commands_that_wait_behind_a_blocking_one_are_counted() -> None:
    node = make_node()
    client = Client(node)
    node.commands(client.session, [b"BLPOP q 0".split(), [b"SET", b"k", b"x" * 5000]], client.now_ms)
    node.end_turn()
    line = Client(node).ask("CLIENT LIST").splitlines()[0]
    assert " argv-mem=5004 " in line and " tot-mem=5004 " in line and " cmd=blpop " in line


def test_client_info_knows_what_the_connection_has_said_of_itself() -> None:
    client = Client(make_node())
    client.raw("HELLO 3 SETNAME me", "CLIENT SETINFO LIB-NAME lib", "CLIENT SETINFO LIB-VER 1.2", "CLIENT NO-EVICT ON")
    client.raw("CLIENT NO-TOUCH ON")
    client.now_ms = 12_999
    told = LINE.format(ADDRESS, LOCAL_ADDRESS, "me", 12, 0, "eT", "client|info", 3, "lib", "1.2")
    assert client.raw("CLIENT INFO") == b"=%d\r\ntxt:%b\r\n" % (len(told) + 4, told.encode())


def test_an_idle_connection_is_seen_to_be_idle() -> None:
    node = make_node()
    Client(node)
    other = Client(node, now_ms=30_000)
    assert "age=30 idle=30 flags=N" in other.ask("CLIENT LIST ID 1")
    assert "cmd=NULL" in other.ask("CLIENT LIST ID 1")


def test_client_list_shows_those_that_were_asked_for() -> None:
    node = make_node()
    clients = [Client(node) for _ in range(3)]
    assert re.findall(r"^id=(\d+)", clients[0].ask("CLIENT LIST"), re.MULTILINE) == ["1", "2", "3"]
    assert re.findall(r"^id=(\d+)", clients[0].ask("CLIENT LIST ID 3 9 1"), re.MULTILINE) == ["3", "1"]
    assert re.findall(r"^id=(\d+)", clients[0].ask("client list type NORMAL"), re.MULTILINE) == ["1", "2", "3"]
    node.close_session(clients[1].session)
    assert re.findall(r"^id=(\d+)", clients[0].ask("CLIENT LIST"), re.MULTILINE) == ["1", "3"]


@pytest.mark.parametrize(
    ("line", "killed"),
    [
        ("CLIENT KILL ID 2", [2]),
        ("CLIENT KILL ADDR 1.1.1.1:2", [2]),
        ("CLIENT KILL LADDR 10.0.0.1:7001", [2, 3]),
        ("CLIENT KILL TYPE normal SKIPME no", [1, 2, 3]),
        ("CLIENT KILL SKIPME yes", [2, 3]),
        ("CLIENT KILL USER default ID 3", [3]),
        ("CLIENT KILL ID 2 ADDR 1.1.1.1:3", []),
        ("CLIENT KILL ID 1", []),
        ("CLIENT KILL ID 1 SKIPME no", [1]),
        ("CLIENT KILL MAXAGE 5", [2]),
    ],
)
def test_client_kill_closes_those_that_match_every_filter(line: str, killed: list[int]) -> None:
    node = make_node()
    client = Client(node, "1.1.1.1:1", now_ms=9000)
    Client(node, "1.1.1.1:2", now_ms=4000)
    Client(node, "1.1.1.1:3", now_ms=4001)
    assert client.ask(line) == len(killed)
    assert [session.id for session in client.closing] == killed


def test_the_old_form_of_client_kill_spares_nobody() -> None:
    node = make_node()
    client = Client(node, "1.1.1.1:1")
    Client(node, "1.1.1.1:2")
    assert client.raw("CLIENT KILL 1.1.1.1:2", "CLIENT KILL 1.1.1.1:1") == b"+OK\r\n+OK\r\n"
    assert [session.id for session in client.closing] == [2, 1]


def test_a_connection_is_killed_once_and_not_listed_any_more() -> None:
    node = make_node()
    client, other = Client(node), Client(node)
    assert client.raw("CLIENT KILL ID 2", "CLIENT KILL ID 2", "CLIENT LIST ID 2") == b":1\r\n:0\r\n$0\r\n\r\n"
    assert client.closing == [other.session]


def test_help_lists_the_subcommands() -> None:
    told = Client(make_node()).ask("CLIENT HELP")
    assert told[:2] == ["CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:", "ID"]
    assert told[-2:] == ["HELP", "    Prints this help."]
