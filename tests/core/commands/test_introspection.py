"""What a node tells of itself is well-formed for the clients that read it, and true."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis._parsers.helpers import parse_command, parse_info

from server.core.base.config import Config
from server.core.commands.command_arguments import Argument, parse_usage, shown_usage
from server.core.commands.command_docs import categories_of, flags_of, usage_of
from server.core.commands.spec import CommandSpec
from server.core.commands.table import COMMANDS
from tests.core.commands.talking import WALL_MS, Client, finish_turn, make_node, reach

# Taken from redis-server 7.0.15, byte for byte.
GET_INFO_RESP2 = (
    b"*1\r\n*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n*3\r\n+@read\r\n+@string\r\n+@fast\r\n"
    b"*0\r\n*1\r\n*6\r\n$5\r\nflags\r\n*2\r\n+RO\r\n+access\r\n$12\r\nbegin_search\r\n*4\r\n$4\r\ntype\r\n$5\r\nindex\r\n"
    b"$4\r\nspec\r\n*2\r\n$5\r\nindex\r\n:1\r\n$9\r\nfind_keys\r\n*4\r\n$4\r\ntype\r\n$5\r\nrange\r\n$4\r\nspec\r\n*6\r\n"
    b"$7\r\nlastkey\r\n:0\r\n$7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0\r\n*0\r\n"
)
GET_INFO_RESP3 = (
    b"*1\r\n*10\r\n$3\r\nget\r\n:2\r\n~2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n~3\r\n+@read\r\n+@string\r\n+@fast\r\n"
    b"~0\r\n~1\r\n%3\r\n$5\r\nflags\r\n~2\r\n+RO\r\n+access\r\n$12\r\nbegin_search\r\n%2\r\n$4\r\ntype\r\n$5\r\nindex\r\n"
    b"$4\r\nspec\r\n%1\r\n$5\r\nindex\r\n:1\r\n$9\r\nfind_keys\r\n%2\r\n$4\r\ntype\r\n$5\r\nrange\r\n$4\r\nspec\r\n%3\r\n"
    b"$7\r\nlastkey\r\n:0\r\n$7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0\r\n~0\r\n"
)
SYNTAX = b"-ERR syntax error\r\n"
FACTS = {
    "COMMAND INFO get": GET_INFO_RESP2,
    "COMMAND INFO foo get|x": b"*2\r\n$-1\r\n$-1\r\n",
    "COMMAND FOO": b"-ERR unknown subcommand 'FOO'. Try COMMAND HELP.\r\n",
    "COMMAND COUNT x": b"-ERR wrong number of arguments for 'command|count' command\r\n",
    "COMMAND DOCS foo": b"*0\r\n",
    "COMMAND LIST FILTERBY ACLCAT foo": b"*0\r\n",
    "COMMAND LIST FILTERBY MODULE foo": b"*0\r\n",
    "COMMAND LIST FILTERBY FOO foo": SYNTAX,
    "COMMAND LIST FILTERBY": SYNTAX,
    "COMMAND LIST FOO": SYNTAX,
    "COMMAND GETKEYS": b"-ERR wrong number of arguments for 'command|getkeys' command\r\n",
    "COMMAND GETKEYS get a": b"*1\r\n$1\r\na\r\n",
    "COMMAND GETKEYS get a b": b"-ERR Invalid number of arguments specified for command\r\n",
    "COMMAND GETKEYS mset a b c d": b"*2\r\n$1\r\na\r\n$1\r\nc\r\n",
    "COMMAND GETKEYS mget a b c": b"*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n",
    "COMMAND GETKEYS client list": b"-ERR The command has no key arguments\r\n",
    "COMMAND GETKEYS foo bar": b"-ERR Invalid command specified\r\n",
    "CONFIG": b"-ERR wrong number of arguments for 'config' command\r\n",
    "CONFIG FOO": b"-ERR unknown subcommand 'FOO'. Try CONFIG HELP.\r\n",
    "CONFIG GET": b"-ERR wrong number of arguments for 'config|get' command\r\n",
    "COMMAND GETKEYSANDFLAGS set a b": b"*1\r\n*2\r\n$1\r\na\r\n*2\r\n+OW\r\n+update\r\n",
    "COMMAND GETKEYSANDFLAGS set a b get": b"*1\r\n*2\r\n$1\r\na\r\n*3\r\n+RW\r\n+access\r\n+update\r\n",
    "COMMAND GETKEYSANDFLAGS exists a": b"*1\r\n*2\r\n$1\r\na\r\n*1\r\n+RO\r\n",
    "COMMAND GETKEYSANDFLAGS ping a": b"-ERR The command has no key arguments\r\n",
    "CONFIG GET MAXMEMORY maxmemory": b"*2\r\n$9\r\nMAXMEMORY\r\n$1\r\n0\r\n",
    "CONFIG GET m?xmemory MaxMemory": b"*2\r\n$9\r\nmaxmemory\r\n$1\r\n0\r\n",
    "CONFIG GET requirepass": b"*2\r\n$11\r\nrequirepass\r\n$0\r\n\r\n",
    "CONFIG GET hz": b"*2\r\n$2\r\nhz\r\n$2\r\n10\r\n",
    "CONFIG GET slowlog-log-slower-than": b"*2\r\n$23\r\nslowlog-log-slower-than\r\n$5\r\n10000\r\n",
    "CONFIG GET notify-keyspace-events": b"*2\r\n$22\r\nnotify-keyspace-events\r\n$0\r\n\r\n",
    "CONFIG GET save": b"*2\r\n$4\r\nsave\r\n$0\r\n\r\n",
    "CONFIG GET nosuch": b"*0\r\n",
    "CONFIG GET timeout TIME*": b"*2\r\n$7\r\ntimeout\r\n$1\r\n0\r\n",
    "CONFIG SET timeout": b"-ERR wrong number of arguments for 'config|set' command\r\n",
    "CONFIG RESETSTAT": b"+OK\r\n",
    "INFO foo": b"$0\r\n\r\n",
    "INFO keyspace": b"$12\r\n# Keyspace\r\n\r\n",
    "TIME x": b"-ERR wrong number of arguments for 'time' command\r\n",
}


@pytest.mark.parametrize("line", FACTS)
def test_a_new_connection_is_answered_as_redis_answers_it(line: str) -> None:
    assert Client(make_node()).raw(line) == FACTS[line]


def test_resp3_has_maps_and_sets_where_redis_has_them() -> None:
    client = Client(make_node())
    client.raw("HELLO 3")
    assert client.raw("COMMAND INFO get") == GET_INFO_RESP3
    assert client.raw("COMMAND INFO foo") == b"*1\r\n_\r\n"
    assert client.raw("COMMAND DOCS foo") == b"%0\r\n"
    assert client.raw("CONFIG GET save") == b"%1\r\n$4\r\nsave\r\n$0\r\n\r\n"
    assert client.raw("INFO keyspace") == b"=16\r\ntxt:# Keyspace\r\n\r\n"


# COMMAND

EVERY_SPEC = [spec for top in COMMANDS for spec in (top, *top.subcommands)]


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_reads_the_whole_table(protocol: int) -> None:
    client = Client(make_node())
    client.raw(f"HELLO {protocol}")
    read = parse_command(client.ask("COMMAND"))
    assert list(read) == [spec.name for spec in COMMANDS]
    assert client.ask("COMMAND INFO") == client.ask("COMMAND")
    assert client.ask("COMMAND COUNT") == len(COMMANDS)
    assert (read["mset"]["first_key_pos"], read["mset"]["last_key_pos"], read["mset"]["step_count"]) == (1, -1, 2)
    assert read["client"]["subcommands"][0][0] == "client|id"


def test_names_are_found_in_any_case_and_in_the_order_asked_for() -> None:
    entries = Client(make_node()).ask("COMMAND INFO SET nosuch Client|List")
    assert [entry and entry[0] for entry in entries] == ["set", None, "client|list"]
    assert entries[2][1:3] == [-2, ["admin", "noscript", "loading", "stale"]]
    assert entries[2][6] == ["@admin", "@slow", "@dangerous", "@connection"]


def test_categories_are_what_redis_derives_and_no_category_passes_for_a_flag() -> None:
    by_name = {spec.name: spec for spec in EVERY_SPEC}
    assert categories_of(by_name["keys"]) == ["keyspace", "read", "slow", "dangerous"]
    assert categories_of(by_name["flushall"]) == ["keyspace", "write", "slow", "dangerous"]
    assert categories_of(by_name["info"]) == ["slow", "dangerous"]
    assert categories_of(by_name["ping"]) == ["fast", "connection"]
    assert categories_of(by_name["config"]) == ["slow"]
    assert flags_of(by_name["keys"]) == ["readonly"]


def test_docs_tell_how_to_use_a_command() -> None:
    client = Client(make_node())
    client.raw("HELLO 3")
    docs = client.ask("COMMAND DOCS echo client|kill client")
    assert list(docs) == ["echo", "client|kill", "client"]
    assert docs["echo"] == {
        "summary": "Returns the message.",
        "since": "1.0.0",
        "group": "connection",
        "complexity": "O(1)",
        "arguments": [{"name": "message", "type": "string"}],
    }
    assert docs["client"]["subcommands"]["client|kill"] == docs["client|kill"]


def test_docs_of_everything_are_those_of_each() -> None:
    client = Client(make_node())
    client.raw("HELLO 3")
    everything = client.ask("COMMAND DOCS")
    assert list(everything) == [spec.name for spec in COMMANDS]
    for name, docs in everything.items():
        assert client.ask(f"COMMAND DOCS {name}") == {name: docs}


def test_list_filters_by_name_and_by_category() -> None:
    client = Client(make_node())
    assert client.ask("COMMAND LIST") == [spec.name for spec in EVERY_SPEC]
    assert client.ask("COMMAND LIST FILTERBY PATTERN CLIENT|?et*") == [
        "client|setname", "client|getname", "client|setinfo", "client|getredir",
    ]  # fmt: skip
    assert "ping" in client.ask("command list filterby aclcat connection")
    assert "get" not in client.ask("COMMAND LIST FILTERBY ACLCAT connection")


# Usage lines


@pytest.mark.parametrize("spec", EVERY_SPEC, ids=lambda spec: spec.name)
def test_every_usage_line_can_be_parsed(spec: CommandSpec) -> None:
    assert bool(parse_usage(usage_of(spec))) == bool(usage_of(spec))


def shown(argument: Argument) -> str:
    """How redis-cli 7.0 shows an argument (cliAddArgument in its redis-cli.c)."""
    joint = "|" if argument.type == "oneof" else " "
    value = joint.join(shown(part) for part in argument.parts) if argument.parts else argument.name
    line = argument.token if argument.type == "pure-token" else f"{argument.token} {value}".strip()
    if argument.multiple:
        line += f" [{value} ...]"
    return f"[{line}]" if argument.optional else line


@pytest.mark.parametrize(
    ("usage", "hint"),
    [
        ("key value [CONTEXT token] [W n]", "key value [CONTEXT token] [W n]"),
        ("key [NX|XX] [GET] [EX seconds|KEEPTTL]", "key [NX|XX] [GET] [EX seconds|KEEPTTL]"),
        ("key [key ...]", "key [key ...]"),
        ("key value [key value ...]", "key value [key value ...]"),
        ("[ID client-id [client-id ...]]", "[ID client-id [client-id ...]]"),
        ("(ON|OFF)", "ON|OFF"),
        ("[WEIGHTS weight [weight ...]]", "[WEIGHTS weight [weight ...]]"),
        ("[TYPE (normal|master)]", "[TYPE normal|master]"),
        ("[a [B c]]", "[a [B c]]"),
    ],
)
def test_a_usage_line_comes_out_of_redis_cli_as_it_is_meant(usage: str, hint: str) -> None:
    assert " ".join(shown(argument) for argument in parse_usage(usage)) == hint


@pytest.mark.parametrize("usage", ["[key", "key]", "(a|b", "a|b", "[]", "[a)", "a [b ...]"])
def test_a_usage_line_that_makes_no_sense_is_refused(usage: str) -> None:
    with pytest.raises(ValueError):
        parse_usage(usage)


def test_a_placeholder_has_the_type_of_its_name_or_the_one_that_is_said() -> None:
    usage = "key score:integer member increment:double [LIMIT offset count] [min:string|max] numkeys score"
    assert _types(parse_usage(usage)) == [
        "key", "integer", "string", "double", ["integer", "integer"], ["string", "string"], "integer", "double",
    ]  # fmt: skip
    assert shown_usage(usage) == "key score member increment [LIMIT offset count] [min|max] numkeys score"
    assert shown_usage("[ADDR ip:port] [a:keys]") == "[ADDR ip:port] [a:keys]"


def _types(arguments: tuple[Argument, ...]) -> list[Any]:
    return [_types(argument.parts) if argument.parts else argument.type for argument in arguments]


def test_each_key_belongs_to_its_key_specification() -> None:
    def indexes(arguments: tuple[Argument, ...]) -> list[Any]:
        return [
            indexes(each.parts) if each.parts else each.key_spec
            for each in arguments
            if each.parts or each.type == "key"
        ]

    assert indexes(parse_usage("destination numkeys key [key ...] [WEIGHTS weight]", [0, 1])) == [0, 1]
    assert indexes(parse_usage("key [STORE key|STOREDIST key]", [0, 1, 2])) == [0, [1, 2]]
    assert indexes(parse_usage("key1 key2", [0])) == [0, 0]
    assert [each.type for each in parse_usage("key", [])] == ["string"]


def test_the_patterns_of_sort_belong_to_a_key_specification_of_their_own() -> None:
    arguments = parse_usage("key [BY pattern] [GET pattern [GET pattern ...]] [STORE destination]", [0, 2], 1)
    assert [each.key_spec for each in arguments] == [0, 1, 1, 2]
    assert [each.multiple_token for each in arguments] == [False, False, True, False]


ARGUMENTS = st.recursive(
    st.sampled_from(["key", "value", "NX", "EX seconds", "[MATCH pattern]"]),
    lambda inner: (
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"[{' '.join(parts)}]")
        | st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"[{'|'.join(parts)}]")
    ),
    max_leaves=8,
)


@settings(max_examples=25)
@given(st.lists(ARGUMENTS, max_size=4).map(" ".join))
def test_what_redis_cli_shows_is_what_was_written(usage: str) -> None:
    assert " ".join(shown(argument) for argument in parse_usage(usage)) == usage


# INFO

TITLES = [
    "Server", "Clients", "Memory", "Persistence", "Stats", "Replication", "CPU", "Modules", "Errorstats", "Cluster",
    "Keyspace", "Dyn",
]  # fmt: skip


def titles_of(text: str) -> list[str]:
    return [line[2:] for line in text.split("\r\n") if line.startswith("# ")]


def test_info_has_each_section_once_in_their_order() -> None:
    client = Client(make_node())
    for line in ("INFO", "INFO default cpu"):
        assert titles_of(client.ask(line)) == TITLES
    for line in ("INFO all", "INFO Everything"):
        assert titles_of(client.ask(line)) == [*TITLES, "Commandstats", "Latencystats"]
    assert titles_of(client.ask("INFO dyn SERVER nosuch dyn")) == ["Server", "Dyn"]


def test_redis_py_reads_info() -> None:
    node = make_node(3)
    reach(node, 2)
    node.services.process.facts = {
        "process_id": "4711",
        "used_memory": "1048576",
        "used_cpu_sys": "0.25",
        "unheard_of": "1",
    }
    client = Client(node, now_ms=90_061_000)
    read = parse_info(client.ask("INFO"))
    wanted = {
        "redis_version": "7.4.0",
        "redis_mode": "standalone",
        "tcp_port": 7001,
        "process_id": 4711,
        "uptime_in_seconds": 90_061,
        "uptime_in_days": 1,
        "connected_clients": 1,
        "used_memory": 1_048_576,
        "used_cpu_sys": 0.25,
        "role": "master",
        "cluster_enabled": 0,
        "aof_enabled": 0,
        "node_name": "n1",
        "layout_epoch": 7,
        "members": 3,
        "live_peers": 1,
        "n": 3,
        "r": 2,
        "w": 2,
    }
    assert {name: read[name] for name in wanted} == wanted
    assert "unheard_of" not in read and "used_memory_rss" not in read
    assert len(read["run_id"]) == 40


def test_info_counts_and_resetstat_counts_anew() -> None:
    node = make_node()
    client = Client(node)
    client.raw("SET a 1", "SET b 2", "GET a")
    read = parse_info(client.ask("INFO"))
    assert read["db0"] == {"keys": 2, "expires": 0, "avg_ttl": 0}
    assert (read["total_commands_processed"], read["reads"], read["writes"], read["records"]) == (3, 1, 2, 2)
    turn = node.state.turn
    client.raw("CONFIG RESETSTAT")
    assert node.state.turn > turn, "turns are numbered on: what is on the disk is told by their numbers"
    read = parse_info(client.ask("INFO"))
    assert (read["reads"], read["writes"], read["total_connections_received"], read["records"]) == (0, 0, 0, 2)


def test_a_node_without_a_layout_tells_what_it_can() -> None:
    read = parse_info(Client(make_node(0)).ask("INFO"))
    assert read["node_name"] == "n1"
    assert "layout_epoch" not in read


# CONFIG, TIME


def test_config_get_knows_the_settings_and_what_tools_ask_for() -> None:
    config = Config(engine="rocksdb", fsync="always", idle_timeout_ms=5000, clients_max=7, flushall=True)
    client = Client(make_node(config=config))
    client.raw("HELLO 3")
    assert client.ask("CONFIG GET fsync append* maxclients flushall timeout databases") == {
        "fsync": "always",
        "flushall": "yes",
        "appendfsync": "always",
        "appendonly": "yes",
        "databases": "16",
        "maxclients": "7",
        "timeout": "5",
    }
    everything = client.ask("CONFIG GET *")
    assert everything["key_bytes_max"] == "65536" and everything["maxmemory"] == "0"


@pytest.mark.parametrize("line", ["CONFIG SET peers_max 5", "CONFIG REWRITE"])
def test_settings_that_come_from_a_file_do_not_change(line: str) -> None:
    assert "config file" in Client(make_node()).error(line)


def test_time_is_that_of_the_clock_by_which_keys_expire() -> None:
    node = make_node()
    client = Client(node)
    node.tick(0, WALL_MS + 1_234)
    finish_turn(node)
    assert client.ask("TIME") == [str(WALL_MS // 1000 + 1), "234000"]
